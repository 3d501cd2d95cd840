//! What operators ask of a member.

use std::path::PathBuf;

use keystead_client::Alarm;

use crate::answer::Answer;
use crate::call::Call;
use crate::client::Client;

impl Client {
    /// How the member is. Answers `Status`.
    pub fn status(&self) -> Call {
        self.call(
            |client| async move { client.status().await },
            Answer::Status,
        )
    }

    /// Gives unused space back to the file system. Answers `Header`.
    pub fn defragment(&self) -> Call {
        self.call(
            |client| async move { client.defragment().await },
            Answer::Header,
        )
    }

    /// The hash of what is stored up to a revision; 0 for the newest. Answers `Hash`.
    pub fn hash(&self, revision: i64) -> Call {
        self.call(
            move |client| async move { client.hash(revision).await },
            Answer::Hash,
        )
    }

    /// The alarms that are raised. Answers `Alarms`.
    pub fn alarms(&self) -> Call {
        self.call(
            |client| async move { client.alarms().await },
            Answer::Alarms,
        )
    }

    /// Takes an alarm back. Answers `Alarms`: those that were.
    pub fn disarm(&self, alarm: Alarm) -> Call {
        self.call(
            move |client| async move { client.disarm(alarm).await },
            Answer::Alarms,
        )
    }

    /// Has another member lead. Answers `Header`.
    pub fn move_leader(&self, target: u64) -> Call {
        self.call(
            move |client| async move { client.move_leader(target).await },
            Answer::Header,
        )
    }

    /// Saves a snapshot of the member. Answers `Snapshot`.
    pub fn save_snapshot(&self, path: PathBuf) -> Call {
        self.call(
            |client| async move { client.save_snapshot(path, |_| {}).await },
            Answer::Snapshot,
        )
    }
}
