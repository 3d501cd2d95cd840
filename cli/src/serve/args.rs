//! Reads the words after `serve` and the `ETCD_*` variables into one set of values, as Go's flag package and etcd do.
//! Called by `serve`; it knows the table of flags and not what their values mean.

use std::collections::BTreeMap;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::serve::flags::{self, CONFIG_FILE, FLAGS, Kind, REPORTED_VERSION, VERSION};
use crate::serve::given::{self, Given, Origin, Refusal, variable};
use crate::serve::{file, value};

/// Why nothing is to be started.
#[derive(Debug)]
pub enum Unusable {
    /// The help was asked for; this is it.
    Help(clap::Error),
    /// The arguments were not taken.
    Refused(Refusal),
}

/// The help and grammar of `serve` under the given program name.
pub fn command(program: &'static str) -> Command {
    let mut command = Command::new(program)
        .about("Runs one member: etcd's v3 API on Raft, with the data in one directory")
        .after_help(
            "Every flag can be given as an environment variable: ETCD_ and its name in capitals, with _ for -.\n\
             Flags of etcd that change nothing here are taken with a warning; flags for what is not here are refused.\n\
             Example: serve --name m1 --data-dir /var/lib/keystead --listen-client-urls http://127.0.0.1:2379 \
             --advertise-client-urls http://127.0.0.1:2379",
        )
        .disable_version_flag(true)
        .args_override_self(true);
    for (name, kind, _) in flags::every() {
        let flag = FLAGS.iter().find(|flag| flag.name == name);
        command = command.arg(match flag {
            Some(flag) => arg(name, kind)
                .help(help(flag.help, flag.default))
                .help_heading(flag.group),
            None => arg(name, kind).hide(true),
        });
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
        Kind::Switch | Kind::Ignored => arg
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .value_name("true|false"),
        Kind::Text | Kind::List | Kind::Urls => arg.value_name("TEXT").allow_hyphen_values(true),
        Kind::Unsigned | Kind::Integer => arg.value_name("N").allow_hyphen_values(true),
        Kind::Duration => arg.value_name("DURATION").allow_hyphen_values(true),
    }
}

/// Reads `words` (without the program's name) and `environment`, or the configuration file that they name.
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
        .map_err(unusable)?;
    let mut variables: BTreeMap<String, String> = environment
        .filter(|(name, value)| name.starts_with("ETCD_") && !value.is_empty())
        .collect();
    // A variable of this name is usual where somebody built an image; it is no wish to see the version.
    variables.remove(&variable(VERSION));
    read_all(&matches, variables).map_err(Unusable::Refused)
}

fn read_all(
    matches: &ArgMatches,
    mut variables: BTreeMap<String, String>,
) -> Result<Given, Refusal> {
    let flags: Vec<(&str, &str)> = flags::every()
        .filter_map(|(name, ..)| Some((name, matches.get_one::<String>(name)?.as_str())))
        .collect();
    // Every flag must have a value that can be read, whatever comes of it: Go's flag package knows nothing of a file.
    for (name, text) in &flags {
        given::check(name, text, Origin::Flag)?;
    }
    let last = |wanted| flags.iter().find(|(name, _)| *name == wanted);
    let mut given = Given::default();
    if last(VERSION).is_some_and(|(_, text)| value::switch(text) == Ok(true)) {
        given.version = true;
        let told = last(REPORTED_VERSION).map(|(_, text)| (*text).to_owned());
        if let Some(text) = told.or_else(|| variables.remove(&variable(REPORTED_VERSION))) {
            given.take(REPORTED_VERSION, &text, Origin::Flag)?;
        }
        return Ok(given);
    }
    let file = last(CONFIG_FILE).map(|(_, path)| (*path).to_owned());
    if let Some(path) = file.or_else(|| variables.remove(&variable(CONFIG_FILE))) {
        return file::read(&path);
    }
    for (name, text) in flags {
        given.take(name, text, Origin::Flag)?;
    }
    read_variables(&mut given, matches, variables)?;
    Ok(given)
}

/// Refuses a variable that stands for a flag that was given too, as etcd does.
fn read_variables(
    given: &mut Given,
    matches: &ArgMatches,
    mut variables: BTreeMap<String, String>,
) -> Result<(), Refusal> {
    for (name, ..) in flags::every() {
        let variable = variable(name);
        let Some(text) = variables.remove(&variable) else {
            continue;
        };
        if matches.contains_id(name) {
            return Err(Refusal::Invalid(format!(
                "conflicting environment variable \"{variable}\" is shadowed by corresponding command-line flag \
                 (either unset environment variable or disable flag): {variable}={text}"
            )));
        }
        given.take(name, &text, Origin::Variable)?;
    }
    let unknown = variables.into_keys();
    given
        .warnings
        .extend(unknown.map(|name| format!("unrecognized environment variable {name}")));
    Ok(())
}

/// Says in Go's words what clap found wrong.
fn unusable(error: clap::Error) -> Unusable {
    let named = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    // `--name <TEXT>` or `--name=x`, as it was written or as the help has it.
    let argument = named(ContextKind::InvalidArg);
    let flag = argument
        .trim_start_matches('-')
        .split(['=', ' ', '['])
        .next()
        .unwrap_or_default();
    match error.kind() {
        ErrorKind::DisplayHelp => Unusable::Help(error),
        ErrorKind::UnknownArgument if !argument.starts_with('-') || argument == "-" => {
            Unusable::Refused(Refusal::Invalid(format!(
                "{argument:?} is not a valid flag"
            )))
        }
        ErrorKind::UnknownArgument => Unusable::Refused(Refusal::Usage(format!(
            "flag provided but not defined: -{flag}"
        ))),
        ErrorKind::InvalidValue => {
            Unusable::Refused(Refusal::Usage(format!("flag needs an argument: -{flag}")))
        }
        _ => Unusable::Refused(Refusal::Usage(error.to_string())),
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

    fn given(words: &[&str], variables: &[(&str, &str)]) -> Result<Given, Refusal> {
        let read = read(
            "serve",
            words.iter().map(|word| (*word).to_owned()),
            variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        );
        read.map_err(|unusable| match unusable {
            Unusable::Refused(refusal) => refusal,
            Unusable::Help(_) => panic!("nobody asked for help"),
        })
    }

    fn usage(sentence: &str) -> Result<(), Refusal> {
        Err(Refusal::Usage(sentence.to_owned()))
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
            matches!(given(&["--name", "a"], &[("ETCD_NAME", "b")]), Err(Refusal::Invalid(text)) if text.contains("ETCD_NAME"))
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
    fn what_go_would_not_read_is_refused_in_its_words() {
        for (words, sentence) in [
            (
                &["--no-such-flag"][..],
                "flag provided but not defined: -no-such-flag",
            ),
            (&["-nope=5"], "flag provided but not defined: -nope"),
            (&["--name"], "flag needs an argument: -name"),
            (
                &["--max-txn-ops", "many", "--config-file", "none.yml"],
                "invalid value \"many\" for flag -max-txn-ops: parse error",
            ),
        ] {
            assert_eq!(given(words, &[]).map(drop), usage(sentence), "{words:?}");
        }
        for words in [&["word"][..], &["-"], &["--pre-vote", "true"]] {
            let word = words[words.len() - 1];
            let sentence = format!("{word:?} is not a valid flag");
            assert_eq!(
                given(words, &[]).map(drop),
                Err(Refusal::Invalid(sentence)),
                "{words:?}"
            );
        }
    }

    #[test]
    fn a_variable_that_cannot_be_read_names_itself() {
        assert_eq!(
            given(&[], &[("ETCD_MAX_TXN_OPS", "many")]).map(drop),
            Err(Refusal::Invalid(
                "invalid value \"many\" for ETCD_MAX_TXN_OPS: parse error".to_owned()
            ))
        );
    }

    #[test]
    fn the_version_is_told_whatever_else_is_asked_for() {
        let words = ["--version", "--auto-tls", "--config-file", "none.yml"];
        assert!(given(&words, &[]).expect("taken").version);
        assert!(!given(&["--version=false"], &[]).expect("taken").version);
        assert!(!given(&[], &[("ETCD_VERSION", "3")]).expect("taken").version);
    }

    #[test]
    fn a_file_stands_for_all_flags_and_variables() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(&file, "max-txn-ops: 9").expect("written");
        let path = file.path().to_str().expect("a name of text");
        let words = ["--name", "m1", "--auto-tls"];
        let variables = [("ETCD_CONFIG_FILE", path), ("ETCD_NAME", "m2")];
        let given = given(&words, &variables).expect("taken");
        assert_eq!(
            (given.get("name"), given.get("max-txn-ops")),
            (None, Some("9"))
        );
        assert_eq!(given.file.as_deref(), Some(path));
    }

    #[test]
    fn both_spellings_of_a_renamed_flag_are_taken() {
        let given =
            given(&["--experimental-watch-progress-notify-interval=5s"], &[]).expect("taken");
        assert_eq!(given.get("watch-progress-notify-interval"), Some("5s"));
    }
}
