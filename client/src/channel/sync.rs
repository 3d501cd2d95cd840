//! Learns from the members where they are: now and then, or when the user asks. What they say replaces the endpoints that the client was
//! connected with, as `ring.rs` has it.

use std::time::Duration;

use keystead_proto::etcdserverpb::{MemberListRequest, MemberListResponse};
use tokio::task::AbortHandle;
use tokio::time::sleep;

use super::{Address, Channel, rpc};
use crate::error::Result;
use crate::locks::Mutex;
use crate::options::CallOptions;

/// The task that asks, from the first call on. It ends when this is dropped or the client is closed.
pub(super) struct Syncing {
    interval: Duration,
    options: CallOptions,
    task: Mutex<Option<AbortHandle>>,
}

impl Syncing {
    pub(super) fn new(interval: Duration, options: CallOptions) -> Syncing {
        Syncing {
            interval,
            options,
            task: Mutex::new(None),
        }
    }

    /// Starts the task unless it runs.
    pub(super) fn start(&self, channel: &Channel) {
        let mut task = self.task.lock();
        if task.is_some() {
            return;
        }
        let (interval, options) = (self.interval, self.options);
        // Without this, or the task would keep itself.
        let channel = Channel {
            syncing: None,
            ..channel.clone()
        };
        let running = tokio::spawn(async move {
            while !channel.ring.is_closed() {
                if let Err(error) = sync(&channel, &options).await {
                    tracing::debug!(%error, "the members were not learned");
                }
                sleep(interval).await;
            }
        });
        *task = Some(running.abort_handle());
    }
}

impl Drop for Syncing {
    fn drop(&mut self) {
        if let Some(task) = self.task.get_mut() {
            task.abort();
        }
    }
}

/// Asks the members where clients are to connect, and has calls go there from now on. An answer without any such place changes
/// nothing.
///
/// # Errors
/// Those of every read.
pub(super) async fn sync(channel: &Channel, options: &CallOptions) -> Result<()> {
    let request = MemberListRequest { linearizable: true };
    let answer = channel.call(&rpc::MEMBER_LIST, &request, options);
    channel.ring.learn(places(Box::pin(answer).await?));
    Ok(())
}

/// Of those that have started and vote: a learner serves no clients.
fn places(members: MemberListResponse) -> Vec<Address> {
    let members = members.members.into_iter();
    let serving = members.filter(|member| !member.name.is_empty() && !member.is_learner);
    serving
        .flat_map(|member| member.client_urls)
        .filter_map(|url| Address::parse(&url).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use keystead_proto::etcdserverpb::Member;

    #[test]
    fn clients_are_sent_to_members_that_have_started_and_vote() {
        let member = |name: &str, is_learner, urls: &[&str]| Member {
            name: name.to_owned(),
            is_learner,
            client_urls: urls.iter().map(|&url| url.to_owned()).collect(),
            ..Default::default()
        };
        let members = MemberListResponse {
            members: vec![
                member(
                    "a",
                    false,
                    &["http://a:2379", "nonsense://a", "https://a:2380"],
                ),
                member("", false, &["http://unstarted:2379"]),
                member("c", true, &["http://learner:2379"]),
                member("d", false, &["unix:///run/d"]),
            ],
            ..Default::default()
        };
        let names: Vec<String> = places(members).iter().map(Address::to_string).collect();
        assert_eq!(names, ["http://a:2379", "https://a:2380", "unix:///run/d"]);
    }
}
