//! What the task of a line doubts: a stream that has fallen silent, a member that is behind what was shown, and one of another cluster.

use std::sync::Arc;

use bytes::Bytes;
use keystead_proto::etcdserverpb::RangeRequest;
use tokio::time::Instant;

use super::Line;
use super::conductor::{Conductor, End};
use super::stream::{Check, Stream};
use crate::channel::{Effect, Failure, rpc};
use crate::error::{Error, Result};
use crate::header::Header;
use crate::watch::notice::ResetCause;

impl Conductor {
    /// A member was behind what was shown. That is nothing when it lags, and a loss when the whole cluster is.
    pub(super) async fn verify(&mut self) {
        let shown = self.slots.values().map(|slot| slot.feed.shown()).max();
        let Some(key) = self.slots.values().next().map(|slot| slot.feed.key()) else {
            return;
        };
        match read(self.line.clone(), key.clone()).await {
            Ok(header) if header.cluster_id != self.cluster => {
                self.failed(stranger(header.cluster_id, ""));
            }
            Ok(header) => {
                if header.revision < shown.unwrap_or(0) || header.raft_term < self.term {
                    self.restored(header);
                }
                self.lenient = true;
            }
            Err(error) => self.failed(error),
        }
    }

    fn restored(&mut self, header: Header) {
        tracing::warn!(
            revision = header.revision,
            "the cluster is behind what was shown: it was restored"
        );
        self.term = header.raft_term;
        for slot in self.slots.values() {
            slot.feed.gap(ResetCause::Restored);
        }
        self.queue.retain(|number| {
            self.slots
                .get(number)
                .is_some_and(|slot| slot.feed.wants_stream())
        });
        for slot in self.slots.values_mut() {
            slot.queued &= slot.feed.wants_stream();
        }
    }

    /// A member of another cluster is left. When every endpoint speaks for the same other one, ours is no more: it was restored.
    pub(super) fn met(&mut self, stream: &Stream, cluster: u64) {
        let endpoint = stream.answers.endpoint();
        self.strangers.insert(endpoint.to_owned(), cluster);
        let agreeing = self.strangers.values().filter(|&&id| id == cluster);
        if agreeing.count() < self.line.channel.endpoints() {
            stream.answers.blame();
            self.failed(stranger(cluster, endpoint));
            return;
        }
        self.strangers.clear();
        self.cluster = cluster;
        self.take_off(None);
        self.restored(Header::default());
        self.lenient = true;
    }

    /// The timer has fired: what is due, and when to look again.
    pub(super) fn overdue(&self, stream: &mut Stream) -> Result<Instant, End> {
        let now = Instant::now();
        let patience = self.line.patience;
        if stream.check.is_some() {
            return Ok(now + patience.silence);
        }
        if stream.is_owed() {
            let due = stream.owing + self.line.call.deadline;
            if now < due {
                return Ok(due.min(now + patience.silence));
            }
            return Err(hung(stream));
        }
        if stream.ids.is_empty() {
            return Ok(now + patience.silence);
        }
        let Some(asked) = stream.asked else {
            let due = stream.heard + patience.silence;
            if now < due {
                return Ok(due);
            }
            stream.ask();
            return Ok(now + patience.progress);
        };
        let due = asked + patience.progress;
        if now < due {
            return Ok(due);
        }
        // No answer may mean that a watch begins above the store's revision, as every watch of an idle store does once it
        // has resumed. Then there is nothing to tell, which the store can say.
        if let Some(slot) = self.slots.values().find(|slot| slot.on.is_some()) {
            let read = read(self.line.clone(), slot.feed.key().clone());
            stream.check = Some(Check {
                sent: now,
                read: Box::pin(read),
            });
        }
        Ok(now + patience.silence)
    }

    /// The store has said how far it is, while the stream said nothing.
    pub(super) fn checked(&mut self, stream: &mut Stream, checked: Result<Header>) -> Option<End> {
        let sent = stream.check.take()?.sent;
        let silent = stream.asked.take().is_some();
        let header = checked.ok()?;
        if !silent || header.cluster_id != self.cluster {
            return None;
        }
        let mut idle = false;
        for slot in self.slots.values().filter(|slot| slot.on.is_some()) {
            slot.feed.prove(header.revision, sent);
            let next = slot.feed.next_revision();
            idle |= next.is_none_or(|next| next > header.revision);
        }
        stream.heard = Instant::now();
        (!idle).then(|| hung(stream))
    }
}

/// A stream that should have said something and did not.
fn hung(stream: &Stream) -> End {
    stream.answers.blame();
    let failure = Failure::Broken("the watch stream has fallen silent".to_owned());
    End::Broken(Error::new(failure, Effect::Read, stream.answers.endpoint()))
}

fn stranger(cluster: u64, endpoint: &str) -> Error {
    let text = format!("the member belongs to another cluster, {cluster:x}");
    Error::new(Failure::Unreachable(text), Effect::Read, endpoint)
}

/// How far the cluster is, by a linearizable read of a key that the user may read.
async fn read(line: Arc<Line>, key: Bytes) -> Result<Header> {
    let request = RangeRequest {
        // A watch may begin at the empty key, a range may not.
        key: if key.is_empty() {
            Bytes::from_static(b"\0")
        } else {
            key
        },
        limit: 1,
        keys_only: true,
        ..Default::default()
    };
    let answer = line.channel.call(&rpc::RANGE, &request, &line.call).await?;
    Ok(answer.header.into())
}
