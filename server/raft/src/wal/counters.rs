//! What the log did since it was opened, for metrics.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What the log did since it was opened.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counters { $($(#[$doc])* pub $name: u64,)* }

        #[derive(Default)]
        pub(super) struct Counting { $(pub $name: AtomicU64,)* }

        impl Counting {
            pub(super) fn read(&self) -> Counters {
                Counters { $($name: self.$name.load(Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Syncs of a batch.
    fsyncs,
    /// Batches written.
    batches,
    /// Bytes written, padding included.
    bytes,
    /// Segments made of zeros.
    segments_created,
    /// Segments given a new number after a purge.
    segments_recycled,
    /// Purge marks made durable.
    purges,
}
