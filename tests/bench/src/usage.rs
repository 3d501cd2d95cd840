//! What a process has used so far, read from /proc; the difference of two readings is what a run cost.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// The kernel reports CPU time in ticks of 1/100 s to user space on every Linux that matters.
const TICKS_PER_SEC: u64 = 100;

/// CPU time and bytes sent to the disk.
#[derive(Clone, Copy, Default)]
pub struct Usage {
    pub cpu: Duration,
    pub written_bytes: u64,
}

impl Usage {
    /// Reads a process's usage since it started.
    pub fn of(pid: u32) -> Result<Usage> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))
            .with_context(|| format!("no process {pid}"))?;
        // The program's name may hold spaces: fields count from the closing parenthesis, where "state" is the first.
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        let ticks = |index: usize| {
            fields
                .get(index)
                .and_then(|field| field.parse::<u64>().ok())
                .unwrap_or(0)
        };
        let cpu = Duration::from_millis((ticks(11) + ticks(12)) * 1000 / TICKS_PER_SEC);
        let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
        let written_bytes = io
            .lines()
            .find_map(|line| line.strip_prefix("write_bytes: "))
            .and_then(|bytes| bytes.parse().ok())
            .unwrap_or(0);
        Ok(Usage { cpu, written_bytes })
    }

    /// What several processes have used together; `None` of none.
    pub fn of_all(pids: &[u32]) -> Result<Option<Usage>> {
        let mut sum: Option<Usage> = None;
        for pid in pids {
            let one = Usage::of(*pid)?;
            let before = sum.unwrap_or_default();
            sum = Some(Usage {
                cpu: before.cpu + one.cpu,
                written_bytes: before.written_bytes + one.written_bytes,
            });
        }
        Ok(sum)
    }

    /// This process's own usage.
    pub fn own() -> Result<Usage> {
        Usage::of(std::process::id())
    }

    /// What was used since `earlier`.
    pub fn since(&self, earlier: &Usage) -> Usage {
        Usage {
            cpu: self.cpu.saturating_sub(earlier.cpu),
            written_bytes: self.written_bytes.saturating_sub(earlier.written_bytes),
        }
    }
}
