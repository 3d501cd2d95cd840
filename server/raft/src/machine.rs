//! openraft's state machine over the replicated state: reads an entry's records once, applies them, hands the outcomes
//! to who proposed them.
//!
//! Runs on the core thread, save that an entry of which the counts say that it takes long is applied on another one while
//! the core goes on. It never waits for a disk: what it applies is made durable later, by the flusher. An entry that it
//! can't read, or a state that can't go on, is an error to openraft, which ends the member.

use std::io;
use std::sync::Arc;

use futures::{Stream, StreamExt as _};
use keystead_mvcc::Store;
use keystead_seeded::{Bug, planted};
use keystead_state::{Applied, Outcome, Reader, Requests, State};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{OptionalSend, RaftSnapshotBuilder};
use parking_lot::Mutex;

use crate::blocking::{aside, drop_aside};
use crate::flusher;
use crate::forwards::Forwards;
use crate::log_storage::entry_id;
use crate::node::members_of;
use crate::sink::Observer;
use crate::snapshot::{self, Snapshot, SnapshotData};
use crate::standing::{Standing, position_after};
use crate::stored::{self, Note};
use crate::type_config::{Entry, LogId, Payload, SnapshotMeta, StoredMembership, TypeConfig};
use crate::wal::Wal;

/// An entry that goes through more keys than this takes a millisecond or more, and is applied aside.
const KEYS_ON_CORE: u64 = 500;

/// See the file's head.
pub(crate) struct Machine {
    /// Taken by one at a time: this, or the thread that applies an entry aside, for which this waits.
    state: Arc<Mutex<State>>,
    store: Store,
    note: Note,
    wal: Arc<Wal>,
    told: Told,
}

/// Who hears of what was applied.
pub(crate) struct Told {
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) standing: Arc<Standing>,
    pub(crate) flusher: flusher::Handle,
    pub(crate) reader: Reader,
    pub(crate) forwards: Arc<Forwards>,
}

impl Machine {
    /// `note` is that of the store's last flush: what the state was opened with.
    pub(crate) fn new(state: State, store: Store, note: Note, wal: Arc<Wal>, told: Told) -> Self {
        if let Some(last) = &note.last {
            told.standing.set_applied(last);
        }
        Self {
            state: Arc::new(Mutex::new(state)),
            store,
            note,
            wal,
            told,
        }
    }

    async fn apply_entry(&mut self, entry: Entry) -> io::Result<Vec<Outcome>> {
        let mut origins = Vec::new();
        let requests = match entry.payload {
            Payload::Normal(proposal) => {
                let read = stored::entry(proposal.stored).map_err(io::Error::other)?;
                origins = read.origins;
                Requests::read(&read.records).map_err(io::Error::other)?
            }
            Payload::Blank => Requests::default(),
            Payload::Membership(membership) => {
                let requests = Requests::membership(members_of(&membership));
                let membership = StoredMembership::new(Some(entry.log_id), membership);
                self.note = Note::new(None, membership);
                requests
            }
        };
        self.note.last = Some(entry.log_id);
        let position = position_after(entry.log_id.index);
        let (note, state) = (self.note.encode(), self.state.clone());
        let keys = state.lock().keys_of(&requests);
        let apply = move || state.lock().apply(position, note, requests);
        let long = keys > KEYS_ON_CORE;
        let applied = if long { aside(apply).await? } else { apply() };
        let applied = applied.map_err(io::Error::other)?;
        // Who waits for the entry finds all that it brought: tokens and leases, too.
        self.told
            .observer
            .applied(entry_id(&entry.log_id), &applied);
        self.told.standing.set_applied(&entry.log_id);
        self.tell_flusher(&applied);
        let Applied {
            mut outcomes,
            sealed,
            ..
        } = applied;
        self.told.forwards.applied(&origins, &mut outcomes);
        if long {
            // To give back a million rows takes long, too.
            drop_aside(sealed);
        }
        Ok(outcomes)
    }

    /// Returns when all that went into the log so far is on its disk.
    async fn barrier(&self) -> io::Result<()> {
        let (done, reached) = tokio::sync::oneshot::channel();
        self.wal
            .barrier(Box::new(move |result| drop(done.send(result))))?;
        reached.await.map_err(io::Error::other)?
    }

    fn tell_flusher(&self, applied: &Applied) {
        let unflushed = self.store.sizes().unflushed_bytes;
        self.told.standing.set_unflushed_bytes(unflushed);
        self.told.flusher.applied(unflushed);
        if applied.compacted.is_some() {
            self.told.flusher.compact();
        }
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.note.last, self.note.membership().clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            let outcomes = self.apply_entry(entry).await?;
            if let Some(responder) = responder {
                responder.send(outcomes);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            store: self.store.clone(),
            flusher: self.told.flusher.clone(),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        data: SnapshotData,
    ) -> io::Result<()> {
        // The store must never hold what the log on disk does not lead to.
        self.barrier().await?;
        let (imported, note) = match data {
            SnapshotData::Received(imported, note) => (*imported, note),
            SnapshotData::Here(store) => {
                let import = self.told.flusher.begin_import().await?;
                let building = aside(move || snapshot::build_aside(&store, import));
                let (note, imported) = building.await??;
                (imported, note)
            }
        };
        let promised = Note::new(meta.last_log_id, meta.last_membership.clone());
        if note != promised && !planted(Bug::TakeAnySnapshot) {
            let mismatch = format!("a snapshot of {note:?} came as one of {promised:?}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, mismatch));
        }
        self.told.flusher.install(imported, note.clone()).await?;
        let (state, store) = (self.state.clone(), self.store.clone());
        let reloaded = aside(move || state.lock().reload(&store)).await?;
        reloaded.map_err(io::Error::other)?;
        self.told
            .standing
            .set_membership(note.membership().membership());
        if let Some(last) = &note.last {
            self.told.standing.set_applied(last);
            let position = position_after(last.index);
            tracing::info!(position, "a snapshot is in the store's place");
        }
        self.note = note;
        self.told.observer.restored(&self.told.reader);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        Ok(self
            .told
            .flusher
            .last_flush()
            .map(|note| snapshot::of(&self.store, &note)))
    }
}

/// Makes the store's last flush known as a snapshot, after one more flush.
pub(crate) struct Builder {
    store: Store,
    flusher: flusher::Handle,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let note = match (self.flusher.flush().await, self.flusher.last_flush()) {
            // A full disk: the flush before is a snapshot too.
            (Err(error), Some(last)) if error.kind() == io::ErrorKind::StorageFull => last,
            (flushed, _) => flushed?,
        };
        Ok(snapshot::of(&self.store, &note))
    }
}
