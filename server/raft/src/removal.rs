//! The end of a member that was removed from its cluster. It hears of it when it applies the entry, or when another
//! member turns it away; whoever waits for it ends the process.

use tokio::sync::watch;

/// Whether this member was removed.
pub(crate) struct Removal(watch::Sender<bool>);

impl Default for Removal {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl Removal {
    /// This member is none any more. May be said again.
    pub(crate) fn happened(&self) {
        if !self.0.send_replace(true) {
            tracing::warn!("the member has been permanently removed from the cluster");
        }
    }

    /// Returns when it happened.
    pub(crate) async fn wait(&self) {
        let mut told = self.0.subscribe();
        told.wait_for(|removed| *removed)
            .await
            .expect("the sender is here");
    }
}
