//! Asking the members of a cluster who they are, before belonging to it. The asker has no id yet, and says nothing of
//! itself; what it hears is what one member knows.

use std::time::Duration;

use keystead_proto::etcdserverpb::Member;
use keystead_proto::peer::Line;
use prost::Message as _;
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::addresses::connect;
use super::frame::{self, Frames};
use super::greeting::{GreetingError, greet};
use crate::data_dir::Identity;

/// Who the members of a cluster are, as one of them knows.
#[derive(Debug, Clone, PartialEq)]
pub struct Roster {
    /// The cluster's id.
    pub cluster_id: u64,
    /// The members, by id; none where the one that was asked has no entry of its log yet.
    pub members: Vec<Member>,
}

/// Asks at all of `peer_urls` at once, and returns the first answer that `fits`; where none does, the first that names any
/// member, for who lags behind may know less than others; none where nobody gives one within `patience`. Blocks for so
/// long at most.
///
/// # Errors
/// The system has no descriptors to give.
pub fn ask_for_members(
    peer_urls: &[String],
    patience: Duration,
    fits: impl Fn(&Roster) -> bool,
) -> std::io::Result<Option<Roster>> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let urls = peer_urls.to_vec();
    let mut found = None;
    let fitting = async {
        let mut asked = JoinSet::new();
        for url in urls {
            asked.spawn(async move {
                let answer = ask(&url).await;
                answer
                    .inspect_err(|error| tracing::debug!(url, %error, "no answer to who is there"))
            });
        }
        while let Some(answer) = asked.join_next().await {
            let Ok(Ok(roster)) = answer else { continue };
            let fits = fits(&roster);
            if fits || (found.is_none() && !roster.members.is_empty()) {
                found = Some(roster);
            }
            if fits {
                return;
            }
        }
    };
    // What was found until then counts.
    runtime
        .block_on(async { timeout(patience, fitting).await })
        .ok();
    // A name that is still being looked up is not waited for.
    runtime.shutdown_background();
    Ok(found)
}

async fn ask(url: &str) -> Result<Roster, GreetingError> {
    let nobody = Identity {
        cluster_id: 0,
        member_id: 0,
    };
    let (reader, mut writer) = tokio::io::split(connect(url).await?);
    let mut frames = Frames::new(reader, frame::MOST_BYTES);
    let roster = greet(nobody, 0, Line::Inquiry, &mut frames, &mut writer).await?;
    let roster = roster.unwrap_or_default();
    let members = roster.members.into_iter().map(Member::decode);
    Ok(Roster {
        cluster_id: roster.cluster_id,
        members: members
            .collect::<Result<_, _>>()
            .map_err(std::io::Error::other)?,
    })
}
