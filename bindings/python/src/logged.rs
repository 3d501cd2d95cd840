//! What the client logs, as Python's `logging` counts it.

use std::time::UNIX_EPOCH;

use keystead_facade::records::{LogRecord, Severity};

/// Level, time in seconds, module, message, and how many were lost before it.
pub(crate) type Logged = (u8, f64, &'static str, String, u64);

pub(crate) fn logged(record: LogRecord) -> Logged {
    let level = match record.severity {
        Severity::Debug => 10,
        Severity::Info => 20,
        Severity::Warning => 30,
        Severity::Error => 40,
    };
    let since = record.at.duration_since(UNIX_EPOCH).unwrap_or_default();
    (
        level,
        since.as_secs_f64(),
        record.module,
        record.message,
        record.lost_before,
    )
}
