//! How Go's flag package reads the values of flags, with its texts for what it can't read. Called by the readers of arguments and of
//! the configuration file to check what was given, and by the builder of the configuration for what it means.

use std::num::IntErrorKind;

use crate::duration;
use crate::serve::flags::Kind;
use crate::serve::url;

/// Refuses what is not of the kind.
///
/// # Errors
/// Go's reason, to stand behind `invalid value "x" for flag -name: `.
pub fn check(kind: Kind, text: &str) -> Result<(), String> {
    match kind {
        Kind::Text | Kind::List | Kind::Ignored => Ok(()),
        Kind::Switch => switch(text).map(drop),
        Kind::Unsigned => unsigned(text).map(drop),
        Kind::Integer => integer(text).map(drop),
        Kind::Duration => duration(text).map(drop),
        Kind::Urls => url::list(text).map(drop),
    }
}

/// A boolean in one of Go's spellings.
///
/// # Errors
/// `parse error`.
pub fn switch(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("parse error".to_owned()),
    }
}

/// A whole number from zero on, decimal or with Go's prefixes for other bases.
///
/// # Errors
/// `parse error`, or `value out of range`.
pub fn unsigned(text: &str) -> Result<u64, String> {
    magnitude(text)
}

/// A whole number, as [`unsigned`] with a sign.
///
/// # Errors
/// `parse error`, or `value out of range`.
pub fn integer(text: &str) -> Result<i64, String> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let magnitude = i128::from(magnitude(digits)?);
    let value = if negative { -magnitude } else { magnitude };
    i64::try_from(value).map_err(|_| out_of_range())
}

/// A duration in Go's form.
///
/// # Errors
/// `parse error`.
pub fn duration(text: &str) -> Result<std::time::Duration, String> {
    duration::parse(text).map_err(|_| "parse error".to_owned())
}

/// Digits behind Go's prefixes `0x`, `0b`, `0o` and `0`; `_` may stand between digits that have a prefix.
fn magnitude(text: &str) -> Result<u64, String> {
    let lower = text.to_ascii_lowercase();
    let (digits, radix) = match lower.as_bytes() {
        [b'0', b'x', ..] => (&lower[2..], 16),
        [b'0', b'b', ..] => (&lower[2..], 2),
        [b'0', b'o', ..] => (&lower[2..], 8),
        [b'0', _, ..] => (&lower[1..], 8),
        _ => (lower.as_str(), 10),
    };
    let plain = if radix == 10 {
        digits.to_owned()
    } else {
        digits.replace('_', "")
    };
    if plain.starts_with(['+', '-']) {
        return Err("parse error".to_owned());
    }
    u64::from_str_radix(&plain, radix).map_err(|error| match error.kind() {
        IntErrorKind::PosOverflow => out_of_range(),
        _ => "parse error".to_owned(),
    })
}

fn out_of_range() -> String {
    "value out of range".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_go_reads_them() {
        for (text, value) in [
            ("128", 128),
            ("0x10", 16),
            ("0X1f", 31),
            ("0b11", 3),
            ("0o17", 15),
            ("017", 15),
            ("0x1_000", 4096),
            ("0", 0),
        ] {
            assert_eq!(unsigned(text), Ok(value), "{text}");
        }
        for text in ["", "-1", "+1", "1.5", "many", "1_000", "0x", "0x-1", "09"] {
            assert_eq!(unsigned(text), Err("parse error".to_owned()), "{text}");
        }
        assert_eq!(
            unsigned("18446744073709551616"),
            Err("value out of range".to_owned())
        );
        assert_eq!(integer("-5"), Ok(-5));
        assert_eq!(integer("-9223372036854775808"), Ok(i64::MIN));
        assert_eq!(
            integer("9223372036854775808"),
            Err("value out of range".to_owned())
        );
    }

    #[test]
    fn switches_read_as_go_reads_them() {
        assert_eq!(switch("T"), Ok(true));
        assert_eq!(switch("0"), Ok(false));
        assert_eq!(switch("yes"), Err("parse error".to_owned()));
    }
}
