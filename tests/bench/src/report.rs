//! What one run measured, and its two forms: a line for people, a JSON object for `compare`.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::usage::Usage;

/// No call takes longer; what does is recorded as this.
const LONGEST_US: u64 = 600_000_000;

/// Latencies of one thread or one run, in microseconds with three significant digits.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_US, 3)
        .expect("the bounds and digits are within the histogram's range")
}

/// One workload's result. An operation is one call, or one delivered event for `watch`.
pub struct Report {
    pub workload: String,
    pub clients: usize,
    pub connections: usize,
    pub operations: u64,
    /// Calls made in all, the warm-up's too (what the server's counters saw).
    pub calls: u64,
    pub errors: u64,
    pub elapsed: Duration,
    pub latency: Histogram<u64>,
    /// Used by the generator itself in the measured time.
    pub own: Usage,
    /// Used by the processes that `--pid` names.
    pub server: Option<Usage>,
}

impl Report {
    fn rate(&self) -> f64 {
        self.operations as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    fn per_operation(&self, amount: f64) -> f64 {
        amount / self.operations.max(1) as f64
    }

    fn cpu_us(&self, usage: &Usage) -> f64 {
        self.per_operation(usage.cpu.as_secs_f64() * 1e6)
    }

    fn milliseconds(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64 / 1e3
    }

    /// One line, units after each number.
    pub fn line(&self) -> String {
        let server = self.server.as_ref().map_or(String::new(), |usage| {
            format!(
                "  server {:.1} us/op {:.0} B written/op",
                self.cpu_us(usage),
                self.per_operation(usage.written_bytes as f64)
            )
        });
        format!(
            "{:<14} clients {:<5} {:>9.0}/s  p50 {:.3} ms  p99 {:.3} ms  max {:.3} ms  own {:.1} us/op{server}  errors {}",
            self.workload,
            self.clients,
            self.rate(),
            self.milliseconds(0.5),
            self.milliseconds(0.99),
            self.milliseconds(1.0),
            self.cpu_us(&self.own),
            self.errors,
        )
    }

    /// The same as JSON.
    pub fn json(&self) -> Value {
        json!({
            "workload": self.workload,
            "clients": self.clients,
            "connections": self.connections,
            "operations": self.operations,
            "calls": self.calls,
            "errors": self.errors,
            "elapsed_secs": self.elapsed.as_secs_f64(),
            "rate": self.rate(),
            "p50_ms": self.milliseconds(0.5),
            "p99_ms": self.milliseconds(0.99),
            "max_ms": self.milliseconds(1.0),
            "own_cpu_us": self.cpu_us(&self.own),
            "server_cpu_us": self.server.as_ref().map(|usage| self.cpu_us(usage)),
            "server_written_bytes": self.server.as_ref().map(|usage| self.per_operation(usage.written_bytes as f64)),
        })
    }
}
