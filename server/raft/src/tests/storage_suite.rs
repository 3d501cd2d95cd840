//! openraft's own suite for stores, over our log and our state machine.

use std::sync::Arc;

use keystead_state::Limits;
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use tempfile::TempDir;

use super::{Nobody, config};
use crate::bootstrap::{self, Parts};
use crate::flusher::{self, Flushing, Surroundings};
use crate::log_storage::LogStorage;
use crate::machine::Machine;
use crate::standing::Standing;
use crate::type_config::TypeConfig;

struct Builder;

/// What must outlive a store of the suite.
struct Guard {
    _dir: TempDir,
    _flushing: Flushing,
    _data_dir: crate::data_dir::DataDir,
}

impl StoreBuilder<TypeConfig, LogStorage, Machine, Guard> for Builder {
    async fn build(&self) -> Result<(Guard, LogStorage, Machine), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        let config = crate::Config {
            limits: Limits::default(),
            ..config(dir.path())
        };
        let Parts {
            data_dir,
            wal,
            recovered,
            store,
            flusher,
            flushed,
            state,
            note,
            ..
        } = bootstrap::open(&config).unwrap();
        let standing = Arc::new(Standing::default());
        let log = LogStorage::new(wal.clone(), &recovered, standing.clone()).unwrap();
        let surroundings = Surroundings {
            standing: standing.clone(),
            store: store.clone(),
            // The suite applies what it never appends.
            synced: Arc::new(|| u64::MAX),
            log_bytes: Arc::new(|| 0),
        };
        let flushing =
            flusher::start(flusher, flushed, note.clone(), &config, surroundings).unwrap();
        let handle = flushing.handle.clone();
        let machine = Machine::new(
            state,
            store,
            note.unwrap_or_default(),
            Arc::new(Nobody),
            standing,
            handle,
            wal,
        );
        Ok((
            Guard {
                _dir: dir,
                _flushing: flushing,
                _data_dir: data_dir,
            },
            log,
            machine,
        ))
    }
}

#[tokio::test]
async fn log_and_state_machine_pass_openrafts_suite() {
    Suite::test_all(Builder).await.unwrap();
}
