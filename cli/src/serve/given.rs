//! What was asked for, by flag name, and where. Filled by the readers of arguments, variables and the configuration file; read when the
//! configuration is built.

use std::collections::BTreeMap;

use crate::serve::flags::{self, Kind, Meaning};
use crate::serve::value;

/// The values that were given, and what is worth telling once the log is up.
#[derive(Debug, Default)]
pub struct Given {
    values: BTreeMap<&'static str, Value>,
    /// Sentences for the log: flags without effect, variables nobody reads.
    pub warnings: Vec<String>,
    /// The configuration file that all values are from.
    pub file: Option<String>,
    /// The version was asked for; nothing is to be started.
    pub version: bool,
}

#[derive(Debug)]
struct Value {
    text: String,
    /// The name that was used, where a flag has several.
    written: &'static str,
    origin: Origin,
}

/// Where a value was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// On the command line.
    Flag,
    /// In an environment variable.
    Variable,
    /// In the configuration file.
    File,
}

/// Why a member is not started, and the exit code that says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The command line can't be read: etcd leaves with 2.
    Usage(String),
    /// It can, and asks for what can't be: etcd leaves with 1.
    Invalid(String),
}

impl From<String> for Refusal {
    fn from(sentence: String) -> Self {
        Self::Invalid(sentence)
    }
}

impl Given {
    /// Takes one value under the name that was used for it: remembers it when it changes something, warns when it does not. False when
    /// there is no such flag.
    ///
    /// # Errors
    /// The text is no value of its kind, asks for what is not here, or the same was given under another name.
    pub fn take(&mut self, name: &str, text: &str, origin: Origin) -> Result<bool, Refusal> {
        let Some((written, kind, meaning)) = flags::find(name) else {
            return Ok(false);
        };
        value::check(kind, text).map_err(|why| unreadable(written, kind, text, origin, &why))?;
        match meaning {
            Meaning::Sets(canonical) => {
                let value = Value {
                    text: text.to_owned(),
                    written,
                    origin,
                };
                match self.values.insert(canonical, value) {
                    Some(other) if other.written != written => Err(Refusal::Invalid(format!(
                        "cannot set --{} and --{written} at the same time, please use --{canonical} only",
                        other.written
                    ))),
                    _ => Ok(true),
                }
            }
            Meaning::ChangesNothing(why) => {
                let warning = format!("--{written} changes nothing here: {why}");
                self.warnings.push(warning);
                Ok(true)
            }
            Meaning::AsksFor { off, what } => {
                let is_off = match kind {
                    Kind::Switch => value::switch(text) == value::switch(off),
                    _ => text == off,
                };
                if is_off {
                    Ok(true)
                } else {
                    Err(Refusal::Invalid(format!(
                        "--{written}={text}: this version has no {what}"
                    )))
                }
            }
        }
    }

    /// The text given for `name`, if any.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|value| value.text.as_str())
    }

    /// The same, with the empty text as none.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|text| !text.is_empty())
    }

    /// What `read` makes of the value of `name`; `default` when there is none.
    ///
    /// # Errors
    /// The reason that `read` gave, with the value and where it was given.
    pub fn read<T>(
        &self,
        name: &str,
        default: T,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, Refusal> {
        let Some(value) = self.values.get(name) else {
            return Ok(default);
        };
        read(&value.text)
            .map_err(|why| unreadable(value.written, Kind::Text, &value.text, value.origin, &why))
    }
}

/// Refuses what is no value for the flag of this name.
///
/// # Errors
/// Go's sentence.
pub fn check(name: &str, text: &str, origin: Origin) -> Result<(), Refusal> {
    let Some((_, kind, _)) = flags::find(name) else {
        return Ok(());
    };
    value::check(kind, text).map_err(|why| unreadable(name, kind, text, origin, &why))
}

/// The variable that stands for a flag.
pub fn variable(name: &str) -> String {
    format!("ETCD_{}", name.to_uppercase().replace('-', "_"))
}

/// Go's sentence for a value that can't be read.
fn unreadable(name: &str, kind: Kind, text: &str, origin: Origin, why: &str) -> Refusal {
    match (origin, kind) {
        (Origin::Flag, Kind::Switch) => {
            Refusal::Usage(format!("invalid boolean value {text:?} for -{name}: {why}"))
        }
        (Origin::Flag, _) => {
            Refusal::Usage(format!("invalid value {text:?} for flag -{name}: {why}"))
        }
        (Origin::Variable, _) => Refusal::Invalid(format!(
            "invalid value {text:?} for {}: {why}",
            variable(name)
        )),
        (Origin::File, _) => Refusal::Invalid(format!("invalid value {text:?} for {name}: {why}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(name: &str, text: &str) -> Result<bool, Refusal> {
        Given::default().take(name, text, Origin::Flag)
    }

    #[test]
    fn what_is_not_here_is_taken_only_when_it_is_off() {
        assert_eq!(taken("auto-tls", "0"), Ok(true));
        assert_eq!(taken("metrics", "basic"), Ok(true));
        assert_eq!(
            taken("auto-tls", "true"),
            Err(Refusal::Invalid(
                "--auto-tls=true: this version has no TLS".into()
            ))
        );
        assert_eq!(taken("no-such-flag", "true"), Ok(false));
    }

    #[test]
    fn a_flag_without_meaning_is_still_read() {
        assert_eq!(
            taken("snapshot-count", "ten"),
            Err(Refusal::Usage(
                "invalid value \"ten\" for flag -snapshot-count: parse error".into()
            ))
        );
        assert_eq!(
            taken("pre-vote", "maybe"),
            Err(Refusal::Usage(
                "invalid boolean value \"maybe\" for -pre-vote: parse error".into()
            ))
        );
    }

    #[test]
    fn one_thing_under_two_names_is_refused() {
        let mut given = Given::default();
        for name in ["watch-progress-notify-interval"; 2] {
            assert_eq!(given.take(name, "5s", Origin::Flag), Ok(true));
        }
        assert!(matches!(
            given.take("experimental-watch-progress-notify-interval", "5s", Origin::Variable),
            Err(Refusal::Invalid(sentence)) if sentence.contains("at the same time")
        ));
    }
}
