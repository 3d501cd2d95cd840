//! The first words on a connection: who speaks to whom, and for what. Both sides check them, and say in their logs what is
//! wrong; nothing of a peer that is not the one it is taken for is ever obeyed.

use std::io;

use bytes::BytesMut;
use keystead_proto::peer::{Hello, Line, Roster, Welcome};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

use super::frame::{self, Frames};
use crate::data_dir::Identity;

/// The protocol that this release writes. There is no other yet.
const VERSION: u32 = 1;

/// Why a connection is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GreetingError {
    /// The listener says why.
    #[error("{0}")]
    Refused(String),
    /// The listener says that this member was removed.
    #[error("the member has been permanently removed from the cluster")]
    Removed,
    /// There was no answer that could be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What the dialling side says, and hears.
pub(crate) async fn greet<R, W>(
    me: Identity,
    to: u64,
    line: Line,
    frames: &mut Frames<R>,
    writer: &mut W,
) -> Result<Option<Roster>, GreetingError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let hello = Hello {
        version: VERSION,
        cluster_id: me.cluster_id,
        from: me.member_id,
        to,
        line: line.into(),
    };
    say(writer, &hello).await?;
    let welcome = frames.next().await?;
    let welcome: Welcome = welcome.ok_or(io::Error::from(io::ErrorKind::UnexpectedEof))?;
    if welcome.removed {
        return Err(GreetingError::Removed);
    }
    if !welcome.refusal.is_empty() {
        return Err(GreetingError::Refused(welcome.refusal));
    }
    if welcome.version != VERSION {
        return Err(GreetingError::Refused(other_version(welcome.version)));
    }
    frames.trust();
    Ok(welcome.roster)
}

/// What the listening side finds in a greeting: nothing, or why it is refused.
pub(crate) fn refusal(hello: &Hello, me: Identity) -> Option<String> {
    if hello.version != VERSION {
        return Some(other_version(hello.version));
    }
    if hello.line() == Line::Inquiry {
        return None;
    }
    if hello.cluster_id != me.cluster_id {
        return Some(format!(
            "cluster ID mismatch: this is a member of cluster {:016x}, and {:016x} was spoken to; do the two have \
             different --initial-cluster or --initial-cluster-token?",
            me.cluster_id, hello.cluster_id
        ));
    }
    if hello.to != me.member_id {
        return Some(format!(
            "member ID mismatch: this is member {:016x}, and {:016x} was spoken to; are the addresses of two members \
             swapped?",
            me.member_id, hello.to
        ));
    }
    if hello.from == me.member_id {
        return Some(format!(
            "member {:016x} speaks to itself: are there two with one data directory?",
            hello.from
        ));
    }
    if hello.line() == Line::Unspecified {
        return Some("a connection for an unknown purpose: run a newer release here".to_owned());
    }
    None
}

fn other_version(found: u32) -> String {
    format!(
        "the members speak version {VERSION} and version {found}: run releases that go together"
    )
}

/// The listener's answer, in all its forms.
pub(crate) fn welcome(refusal: Option<String>) -> Welcome {
    Welcome {
        version: VERSION,
        refusal: refusal.unwrap_or_default(),
        ..Welcome::default()
    }
}

/// Writes one message, now.
pub(crate) async fn say<W: AsyncWrite + Unpin>(
    writer: &mut W,
    message: &impl prost::Message,
) -> io::Result<()> {
    let mut out = BytesMut::new();
    frame::put(&mut out, message);
    writer.write_all(&out).await
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: Identity = Identity {
        cluster_id: 0xc1,
        member_id: 2,
    };

    #[test]
    fn whoever_speaks_to_another_cluster_or_member_is_told() {
        let right = Hello {
            version: VERSION,
            cluster_id: 0xc1,
            from: 1,
            to: 2,
            line: Line::Log.into(),
        };
        assert_eq!(refusal(&right, ME), None);
        let inquiry = Hello {
            version: VERSION,
            line: Line::Inquiry.into(),
            ..Hello::default()
        };
        assert_eq!(refusal(&inquiry, ME), None);
        let cases = [
            (
                Hello {
                    cluster_id: 9,
                    ..right
                },
                "cluster ID mismatch",
            ),
            (Hello { to: 3, ..right }, "swapped"),
            (Hello { from: 2, ..right }, "speaks to itself"),
            (
                Hello {
                    version: 2,
                    ..right
                },
                "version 1 and version 2",
            ),
            (Hello { line: 99, ..right }, "unknown purpose"),
        ];
        for (hello, sentence) in cases {
            let said = refusal(&hello, ME).unwrap();
            assert!(said.contains(sentence), "{said}");
        }
    }
}
