//! How far the store is, asked once for all who want to know at the same time. Whoever comes while a question is under way waits for the next:
//! the answer to the one before may be older than what it wants to see.

use bytes::Bytes;
use keystead_seeded::{Bug, planted};

use super::follow::Follower;
use crate::client::Client;
use crate::error::Result;
use crate::key_range::KeyRange;
use crate::kv::range::Range;
use crate::locks::Mutex;

/// The questions of one cache.
#[derive(Default)]
pub(super) struct Fence {
    /// Held by the one who asks; the others stand behind it.
    turn: tokio::sync::Mutex<()>,
    newest: Mutex<Newest>,
}

#[derive(Default)]
struct Newest {
    /// How many questions were begun.
    begun: u64,
    /// What the last of them brought, and which it was.
    word: Option<(u64, Word)>,
}

/// The store's word.
#[derive(Clone, Copy, Debug)]
pub(super) struct Word {
    /// How far the store is.
    pub revision: i64,
    /// How far the cache was before the question.
    before: i64,
    /// How often the cluster had been restored by then.
    pub restores: u64,
}

impl Word {
    /// The store is behind what it had shown.
    pub(super) fn behind(&self) -> bool {
        self.revision < self.before
    }
}

impl Fence {
    /// The answer to a question that was begun after this was called. It asks for progress, too, where the cache is behind.
    ///
    /// # Errors
    /// Those of the read, for the one who asked; the others ask again.
    pub(super) async fn ask(&self, client: &Client, follower: &Follower) -> Result<Word> {
        let came = self.newest.lock().begun;
        let _turn = self.turn.lock().await;
        let number = {
            let mut newest = self.newest.lock();
            if let Some((number, word)) = newest.word
                && (number > came || planted(Bug::ShareOlderWord))
            {
                return Ok(word);
            }
            newest.begun += 1;
            newest.begun
        };
        let before = follower.kept().reached();
        let read = client
            .range(one_key(&follower.watcher().watch().keys))
            .await?;
        let word = Word {
            revision: read.header.revision,
            before: before.revision,
            restores: before.restores,
        };
        if follower.kept().reached().revision < word.revision {
            follower.watcher().nudge();
        }
        self.newest.lock().word = Some((number, word));
        Ok(word)
    }
}

/// The least that the user may read.
fn one_key(keys: &KeyRange) -> Range {
    // A cache may begin at the empty key, a range may not.
    let first = if keys.key.is_empty() {
        Bytes::from_static(&[0])
    } else {
        keys.key.clone()
    };
    Range {
        keys_only: true,
        ..Range::new(KeyRange::key(first))
    }
}
