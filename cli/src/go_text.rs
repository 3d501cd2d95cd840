//! How Go writes strings, durations and sizes, and reads quoted words: etcdctl's output and the grammar of its transactions.
//! Pure; called by the forms of output and by the commands that read lines.

use std::str;
use std::time::Duration;

/// `%q`: in double quotes, with whatever cannot be printed escaped.
pub fn quote(bytes: &[u8]) -> String {
    let mut quoted = String::from('"');
    for chunk in bytes.utf8_chunks() {
        chunk.valid().chars().for_each(|c| escape(c, &mut quoted));
        for byte in chunk.invalid() {
            quoted.push_str(&format!("\\x{byte:02x}"));
        }
    }
    quoted.push('"');
    quoted
}

fn escape(c: char, quoted: &mut String) {
    let short = match c {
        '\x07' => 'a',
        '\x08' => 'b',
        '\x0c' => 'f',
        '\n' => 'n',
        '\r' => 'r',
        '\t' => 't',
        '\x0b' => 'v',
        '"' | '\\' => c,
        _ if is_printable(c) => return quoted.push(c),
        _ => {
            let code = u32::from(c);
            quoted.push_str(&match code {
                0..0x80 => format!("\\x{code:02x}"),
                0x80..0x1_0000 => format!("\\u{code:04x}"),
                _ => format!("\\U{code:08x}"),
            });
            return;
        }
    };
    quoted.push('\\');
    quoted.push(short);
}

/// Rust escapes for debugging what Go's `IsPrint` refuses, and marks that would stick to what stands before, which one letter keeps apart.
fn is_printable(c: char) -> bool {
    let pair: String = ['a', c].iter().collect();
    c == '\'' || pair.escape_debug().eq(['a', c])
}

/// Reads a word in double quotes with Go's escapes, or in back quotes, from the front of `text`. Gives the word and the rest.
pub fn unquote(text: &str) -> Option<(Vec<u8>, &str)> {
    if let Some(rest) = text.strip_prefix('`') {
        let (word, rest) = rest.split_once('`')?;
        return Some((word.as_bytes().to_vec(), rest));
    }
    let mut rest = text.strip_prefix('"')?;
    let mut word = Vec::new();
    loop {
        let c = rest.chars().next()?;
        rest = &rest[c.len_utf8()..];
        match c {
            '"' => return Some((word, rest)),
            '\n' => return None,
            '\\' => rest = unescape(rest, &mut word)?,
            _ => word.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// Reads what stands behind a backslash.
fn unescape<'a>(text: &'a str, word: &mut Vec<u8>) -> Option<&'a str> {
    let kind = text.chars().next()?;
    let rest = text.get(1..)?;
    let digits = |count: usize, radix: u32, from: &'a str| {
        let digits = from.get(..count)?;
        let is_digit = |c: char| c.is_digit(radix);
        let number = digits
            .chars()
            .all(is_digit)
            .then(|| u32::from_str_radix(digits, radix));
        Some((number?.ok()?, &from[count..]))
    };
    let (value, rest) = match kind {
        'a' => (7, rest),
        'b' => (8, rest),
        'f' => (12, rest),
        'n' => (10, rest),
        'r' => (13, rest),
        't' => (9, rest),
        'v' => (11, rest),
        '"' | '\\' => (u32::from(kind), rest),
        'x' => digits(2, 16, rest)?,
        '0'..='7' => digits(3, 8, text)?,
        'u' | 'U' => {
            let (code, rest) = digits(if kind == 'u' { 4 } else { 8 }, 16, rest)?;
            let c = char::from_u32(code)?;
            word.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            return Some(rest);
        }
        _ => return None,
    };
    word.push(u8::try_from(value).ok()?);
    Some(rest)
}

/// Divides a line into words as etcdctl does: at white space, except within quotes. `None` where a quoted word has a bad escape.
pub fn words(line: &str) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut rest = line;
    while let Some(c) = rest.chars().next() {
        let quoted = matches!(c, '"' | '\'')
            .then(|| end_of_quoted(rest, c))
            .flatten();
        let end = match quoted {
            Some(end) if c == '"' => {
                words.push(unquote(&rest[..end])?.0);
                end
            }
            Some(end) => {
                words.push(rest.as_bytes()[1..end - 1].to_vec());
                end
            }
            // A quote that is never closed is passed over.
            None if c.is_ascii_whitespace() || matches!(c, '"' | '\'') => 1,
            None => {
                let end = rest
                    .find(|c: char| c.is_ascii_whitespace())
                    .unwrap_or(rest.len());
                words.push(rest.as_bytes()[..end].to_vec());
                end
            }
        };
        rest = &rest[end..];
    }
    Some(words)
}

/// Where the word ends that begins with `quote`, behind the closing one. Double quotes may be escaped, single ones may not.
fn end_of_quoted(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if escaped {
            escaped = false;
        } else if c == '\\' && quote == '"' {
            escaped = true;
        } else if c == quote {
            return Some(at + 1);
        }
    }
    None
}

/// Bytes as `--hex` shows them: `\x66\x6f`.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect()
}

/// A duration as Go prints it: `1.234567ms`, `1m0.5s`.
pub fn duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let (unit_nanos, unit) = match nanos {
        0 => return "0s".to_owned(),
        1..1_000 => (1, "ns"),
        1_000..1_000_000 => (1_000, "µs"),
        1_000_000..1_000_000_000 => (1_000_000, "ms"),
        _ => (1_000_000_000, "s"),
    };
    let secs = duration.as_secs();
    let hours = if secs >= 3600 {
        format!("{}h", secs / 3600)
    } else {
        String::new()
    };
    let minutes = if secs >= 60 {
        format!("{}m", secs / 60 % 60)
    } else {
        String::new()
    };
    let whole = if unit == "s" {
        u128::from(secs % 60)
    } else {
        nanos / unit_nanos
    };
    let width = unit_nanos.ilog10() as usize;
    let fraction = format!("{:0width$}", nanos % unit_nanos);
    let fraction = match fraction.trim_end_matches('0') {
        "" => String::new(),
        digits => format!(".{digits}"),
    };
    format!("{hours}{minutes}{whole}{fraction}{unit}")
}

/// A size as etcdctl's tables show it: `20 kB`, `2.1 MB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let thousands = bytes.ilog10() / 3;
    let value = (bytes as f64 / 1000f64.powi(thousands as i32) * 10.0 + 0.5).floor() / 10.0;
    let unit = UNITS[thousands as usize];
    if value < 10.0 {
        format!("{value:.1} {unit}")
    } else {
        format!("{value:.0} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_quoted_as_go_does() {
        for (bytes, quoted) in [
            (&b"plain"[..], r#""plain""#),
            (b"say \"hi\"\\", r#""say \"hi\"\\""#),
            (b"it's\n\t\x07\x00\x7f", r#""it's\n\t\a\x00\x7f""#),
            (b"\xff\xc3", r#""\xff\xc3""#),
            ("ж é 世".as_bytes(), "\"ж é 世\""),
            (
                "\u{200b}\u{a0}\u{e0001}".as_bytes(),
                r#""\u200b\u00a0\U000e0001""#,
            ),
            ("e\u{301}\u{301}".as_bytes(), "\"e\u{301}\u{301}\""),
        ] {
            assert_eq!(quote(bytes), quoted);
        }
    }

    #[test]
    fn what_is_quoted_is_read_back() {
        for bytes in [
            &b""[..],
            b"a b",
            b"\"'\\`",
            b"\x00\n\xff\xfe",
            "ж\u{200b}\u{e0001}".as_bytes(),
        ] {
            let quoted = format!("{}) rest", quote(bytes));
            assert_eq!(unquote(&quoted), Some((bytes.to_vec(), ") rest")));
        }
        assert_eq!(unquote("`raw\\n`x"), Some((b"raw\\n".to_vec(), "x")));
        assert_eq!(
            unquote(r#""\101\u0416""#),
            Some(("AЖ".as_bytes().to_vec(), ""))
        );
        for bad in [
            "",
            "word",
            "\"open",
            r#""\q""#,
            r#""\x0""#,
            r#""\x+1""#,
            r#""\777""#,
        ] {
            assert_eq!(unquote(bad), None, "{bad}");
        }
    }

    #[test]
    fn lines_are_divided_outside_of_quotes() {
        let divided = |line: &str| -> Vec<String> {
            let words = words(line).expect("good escapes").into_iter();
            words
                .map(|word| String::from_utf8(word).expect("text"))
                .collect()
        };
        assert_eq!(
            divided("put  key1 \"a \\\"b\\\" c\"\t'd \\e'"),
            ["put", "key1", "a \"b\" c", "d \\e"]
        );
        assert_eq!(
            divided("get it's --prefix=\"x\""),
            ["get", "it's", "--prefix=\"x\""]
        );
        assert_eq!(divided("\"open 'quote"), ["open", "quote"]);
        assert_eq!(divided("'a''' "), ["a", ""]);
        assert_eq!(words(r#"put "\q""#), None);
    }

    #[test]
    fn durations_read_as_go_prints_them() {
        for (nanos, text) in [
            (0, "0s"),
            (7, "7ns"),
            (1_500, "1.5µs"),
            (1_234_567, "1.234567ms"),
            (2_000_000_000, "2s"),
            (60_500_000_000, "1m0.5s"),
            (3_600_000_000_000, "1h0m0s"),
        ] {
            assert_eq!(duration(Duration::from_nanos(nanos)), text);
        }
    }

    #[test]
    fn sizes_read_as_etcdctl_prints_them() {
        for (bytes, text) in [
            (0, "0 B"),
            (9, "9 B"),
            (82, "82 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (20_480, "20 kB"),
            (2_147_483_648, "2.1 GB"),
            (u64::MAX, "18 EB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
