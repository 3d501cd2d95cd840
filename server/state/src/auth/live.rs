//! Where the present users and roles are found. One writer, the applier; any thread reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use keystead_mvcc::Store;

use super::view::Auth;
use crate::OpenError;

/// The present users and roles.
pub(crate) struct Live {
    /// What `auth` says, for those who need no more: every write asks.
    enabled: AtomicBool,
    auth: ArcSwap<Auth>,
}

impl Live {
    pub(crate) fn load(store: &Store) -> Result<Self, OpenError> {
        let auth = Auth::load(store)?;
        Ok(Self {
            enabled: AtomicBool::new(auth.enabled()),
            auth: ArcSwap::from_pointee(auth),
        })
    }

    /// Takes over all of `other`.
    pub(crate) fn replace(&self, other: Self) {
        self.publish(other.auth.into_inner());
    }

    pub(crate) fn enabled(&self) -> bool {
        self.enabled.load(Ordering::Acquire)
    }

    pub(crate) fn now(&self) -> Arc<Auth> {
        self.auth.load_full()
    }

    /// Who sees the flag finds what it was set with, or what came after.
    pub(super) fn publish(&self, auth: Arc<Auth>) {
        let enabled = auth.enabled();
        self.auth.store(auth);
        self.enabled.store(enabled, Ordering::Release);
    }
}
