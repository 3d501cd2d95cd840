//! The priority of threads that work for nobody who waits by the millisecond: copies, snapshots, hashes.

/// How far behind the others: a tenth of their share where there is more work than cores, and all that nobody wants
/// where there is not.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

/// Makes the calling thread, and those that it starts from now on, give way to the others. There is no way back: only
/// for threads that are made for one such work. They must hold no lock for long that others wait for.
pub fn give_way() {
    // Elsewhere a priority is the whole process's.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!(%error, "a thread keeps its priority");
    }
}
