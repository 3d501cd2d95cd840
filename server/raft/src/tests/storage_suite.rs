//! openraft's own suite for stores, over our log and our state machine.

use std::sync::Arc;
use std::time::Duration;

use keystead_state::Reader;
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use tempfile::TempDir;

use super::{Nobody, config};
use crate::blocking::drive;
use crate::bootstrap;
use crate::data_dir::DataDir;
use crate::flusher::{self, Flushing, Surroundings};
use crate::forwards::Forwards;
use crate::log_storage::LogStorage;
use crate::machine::{Machine, Told};
use crate::space::Alarm;
use crate::standing::Standing;
use crate::type_config::TypeConfig;

struct Builder;

/// What must outlive a state machine, and shows what is in it.
pub(super) struct Guard {
    pub(super) reader: Reader,
    pub(super) standing: Arc<Standing>,
    pub(super) flushing: Flushing,
    _data_dir: DataDir,
    _dir: TempDir,
}

/// A log and a state machine on a directory of their own, without a core. Flushes when told.
pub(super) fn alone() -> (Guard, LogStorage, Machine) {
    // What is applied here was never appended.
    alone_with(Arc::new(|| u64::MAX))
}

/// The same, with a log that says that so much of it is on its disk.
pub(super) fn alone_with(synced: flusher::Synced) -> (Guard, LogStorage, Machine) {
    let dir = tempfile::tempdir().unwrap();
    let config = crate::Config {
        flush_interval: Duration::from_secs(3600),
        ..config(dir.path())
    };
    let parts = drive(bootstrap::open(&config, None)).unwrap();
    let standing = Arc::new(Standing::of(super::ME.member_id));
    let log = LogStorage::new(
        parts.wal.clone(),
        &parts.recovered,
        standing.clone(),
        parts.installing,
    )
    .unwrap();
    let surroundings = Surroundings {
        standing: standing.clone(),
        store: parts.store.clone(),
        synced,
        log_bytes: Arc::new(|| 0),
        long_before: 0,
        log_wants_space: Arc::new(|| false),
        no_space: Alarm {
            stands: Arc::new(|| false),
            propose: Arc::new(|| ()),
        },
    };
    let flushing = flusher::start(
        parts.flusher,
        parts.flushed,
        parts.note.clone(),
        &config,
        surroundings,
    )
    .unwrap();
    let machine = Machine::new(
        parts.state,
        parts.store,
        parts.note.unwrap_or_default(),
        parts.wal,
        Told {
            observer: Arc::new(Nobody),
            standing: standing.clone(),
            flusher: flushing.handle.clone(),
            reader: parts.reader.clone(),
            forwards: Arc::new(Forwards::of(super::ME.member_id)),
        },
    );
    let guard = Guard {
        reader: parts.reader,
        standing,
        flushing,
        _data_dir: parts.data_dir,
        _dir: dir,
    };
    (guard, log, machine)
}

impl StoreBuilder<TypeConfig, LogStorage, Machine, Guard> for Builder {
    async fn build(&self) -> Result<(Guard, LogStorage, Machine), StorageError<TypeConfig>> {
        Ok(alone())
    }
}

#[tokio::test]
async fn log_and_state_machine_pass_openrafts_suite() {
    Suite::test_all(Builder).await.unwrap();
}
