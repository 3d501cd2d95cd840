//! Durations as Go writes them (`100ms`, `1h30m`, `1.5h`), for etcd's flags. Called by the flag reader only.

use std::time::Duration;

/// Parses a Go duration. A sign is accepted where Go accepts it, but a negative duration is refused: no flag here takes one.
///
/// # Errors
/// The sentence Go's users know: `time: invalid duration "…"`, or what is missing.
pub fn parse(text: &str) -> Result<Duration, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() || rest.starts_with('-') {
        return Err(invalid());
    }
    let mut total_nanos = 0f64;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let amount: f64 = rest[..digits].parse().map_err(|_| invalid())?;
        rest = &rest[digits..];
        let letters = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let nanos_per_unit = match &rest[..letters] {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            "" => return Err(format!("time: missing unit in duration {text:?}")),
            unit => return Err(format!("time: unknown unit {unit:?} in duration {text:?}")),
        };
        rest = &rest[letters..];
        total_nanos += amount * nanos_per_unit;
    }
    // Go keeps durations in an int64 of nanoseconds.
    if total_nanos >= i64::MAX as f64 {
        return Err(invalid());
    }
    Ok(Duration::from_nanos(total_nanos.round() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_go_reads_them() {
        for (text, millis) in [
            ("0", 0),
            ("100ms", 100),
            ("1h30m", 5_400_000),
            ("1.5h", 5_400_000),
            ("+2s", 2000),
            ("1m0.5s", 60_500),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_go_refuses_is_refused() {
        for text in [
            "",
            "5",
            "-1s",
            "1x",
            "s",
            ".s",
            "1..5s",
            "9999999h99999999h",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
