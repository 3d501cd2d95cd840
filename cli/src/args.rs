//! Reads the words after `serve` and the `ETCD_*` variables into one set of values, as Go's flag package and etcd do.
//! Called by `serve`; it knows the table of flags and not what their values mean.

use std::collections::BTreeMap;

use clap::{Arg, ArgAction, Command};

use crate::flags::{FLAGS, Kind, MOOT};

/// What was asked for, by canonical flag name, and what is worth a warning once the log is up.
#[derive(Debug, Default)]
pub struct Given {
    values: BTreeMap<&'static str, String>,
    /// Sentences for the log: flags without effect, variables nobody reads.
    pub warnings: Vec<String>,
    /// The version was asked for; nothing is to be started.
    pub version: bool,
}

impl Given {
    /// The text given for `name`, if any.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }
}

/// Why the arguments were not taken.
#[derive(Debug)]
pub enum Unusable {
    /// Not a flag, or clap's own help: print and leave with this code.
    Usage(clap::Error),
    /// A flag or variable with a value that can't be: leave with code 1.
    Value(String),
}

/// The help and grammar of `serve` under the given program name.
pub fn command(program: &'static str) -> Command {
    let mut command = Command::new(program)
        .about("Runs one member: etcd's v3 API on Raft, with the data in one directory")
        .after_help(
            "Every flag can be given as an environment variable: ETCD_ and its name in capitals, with _ for -.\n\
             Example: serve --name m1 --data-dir /var/lib/keystead --listen-client-urls http://127.0.0.1:2379 \
             --advertise-client-urls http://127.0.0.1:2379",
        )
        .disable_version_flag(true)
        .args_override_self(true)
        .arg(arg("version", Kind::Switch).help("Prints the version and leaves"));
    for flag in FLAGS {
        let arg = arg(flag.name, flag.kind)
            .help(help(flag.help, flag.default))
            .help_heading(flag.group);
        command = command.arg(arg);
        for alias in flag.aliases {
            command = command.arg(self::arg(alias, flag.kind).hide(true));
        }
    }
    for moot in MOOT {
        command = command.arg(arg(moot.name, moot.kind).hide(true));
    }
    command
}

fn help(text: &str, default: &str) -> String {
    if default.is_empty() {
        text.to_owned()
    } else {
        format!("{text} [default: {default}]")
    }
}

fn arg(name: &'static str, kind: Kind) -> Arg {
    let arg = Arg::new(name).long(name).action(ArgAction::Set);
    match kind {
        Kind::Switch => arg
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .value_parser(["true", "false"])
            .value_name("true|false"),
        Kind::Text => arg.value_name("TEXT").allow_hyphen_values(true),
        Kind::Number => arg.value_name("N").allow_hyphen_values(true),
        Kind::Duration => arg.value_name("DURATION"),
    }
}

/// Reads `words` (without the program's name) and `environment`.
///
/// # Errors
/// [`Unusable`]; nothing has been started.
pub fn read(
    program: &'static str,
    words: impl Iterator<Item = String>,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Given, Unusable> {
    let words = std::iter::once(program.to_owned()).chain(words.map(long_form));
    let matches = command(program)
        .try_get_matches_from(words)
        .map_err(Unusable::Usage)?;
    let mut variables: BTreeMap<String, String> = environment
        .filter(|(name, value)| name.starts_with("ETCD_") && !value.is_empty())
        .collect();
    let asked_version = matches
        .get_one::<String>("version")
        .is_some_and(|text| text == "true");
    let mut given = Given {
        version: asked_version,
        ..Given::default()
    };
    for flag in FLAGS {
        for name in std::iter::once(&flag.name).chain(flag.aliases) {
            if let Some(value) = choose(name, &matches, &mut variables)? {
                given.values.insert(flag.name, value);
            }
        }
    }
    for moot in MOOT {
        if choose(moot.name, &matches, &mut variables)?.is_some() {
            given.warnings.push(format!(
                "--{} changes nothing here: {}",
                moot.name, moot.why
            ));
        }
    }
    variables.remove("ETCD_VERSION");
    given.warnings.extend(
        variables
            .into_keys()
            .map(|name| format!("unrecognized environment variable {name}")),
    );
    Ok(given)
}

/// The value of one flag from the words or from its variable, never from both.
fn choose(
    name: &'static str,
    matches: &clap::ArgMatches,
    variables: &mut BTreeMap<String, String>,
) -> Result<Option<String>, Unusable> {
    let variable = format!("ETCD_{}", name.to_uppercase().replace('-', "_"));
    let word = matches.get_one::<String>(name).cloned();
    match (word, variables.remove(&variable)) {
        (Some(_), Some(value)) => Err(Unusable::Value(format!(
            "conflicting environment variable \"{variable}\" is shadowed by corresponding command-line flag \
             (either unset environment variable or disable flag): {variable}={value}"
        ))),
        (word, value) => Ok(word.or(value)),
    }
}

/// Go's flag package takes `-name` for `--name`.
fn long_form(word: String) -> String {
    let bare = word
        .strip_prefix('-')
        .filter(|rest| rest.len() > 1 && !rest.starts_with('-'));
    match bare {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_alphabetic()) => format!("--{rest}"),
        _ => word,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(words: &[&str], variables: &[(&str, &str)]) -> Result<Given, Unusable> {
        read(
            "serve",
            words.iter().map(|word| (*word).to_owned()),
            variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        )
    }

    #[test]
    fn the_table_makes_a_grammar_without_contradictions() {
        command("serve").debug_assert();
    }

    #[test]
    fn one_dash_two_dashes_and_equals_signs_are_alike() {
        for words in [
            &["-name", "m1"][..],
            &["--name", "m1"],
            &["--name=m1"],
            &["-name=m1"],
            &["--name", "m0", "--name", "m1"],
        ] {
            assert_eq!(
                given(words, &[]).expect("taken").get("name"),
                Some("m1"),
                "{words:?}"
            );
        }
    }

    #[test]
    fn a_variable_stands_in_for_a_flag() {
        let given = given(&[], &[("ETCD_MAX_TXN_OPS", "5"), ("ETCD_NAME", "")]).expect("taken");
        assert_eq!(given.get("max-txn-ops"), Some("5"));
        assert_eq!(given.get("name"), None, "an empty variable is no value");
    }

    #[test]
    fn flag_and_variable_together_are_refused() {
        assert!(
            matches!(given(&["--name", "a"], &[("ETCD_NAME", "b")]), Err(Unusable::Value(text)) if text.contains("ETCD_NAME"))
        );
    }

    #[test]
    fn unknown_variables_and_flags_without_effect_are_warned_of() {
        let given = given(
            &["--snapshot-count=10000"],
            &[("ETCD_SERVICE_HOST", "x"), ("ETCD_VERSION", "y")],
        )
        .expect("taken");
        assert_eq!(given.warnings.len(), 2, "{:?}", given.warnings);
    }

    #[test]
    fn an_unknown_flag_is_a_usage_error() {
        assert!(matches!(
            given(&["--no-such-flag"], &[]),
            Err(Unusable::Usage(_))
        ));
        assert!(matches!(given(&["word"], &[]), Err(Unusable::Usage(_))));
    }

    #[test]
    fn both_spellings_of_a_renamed_flag_are_taken() {
        let given =
            given(&["--experimental-watch-progress-notify-interval=5s"], &[]).expect("taken");
        assert_eq!(given.get("watch-progress-notify-interval"), Some("5s"));
    }
}
