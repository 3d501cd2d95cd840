//! The grammar of the command line, and the way from its words to a command that runs. The commands say what they take in their own
//! files; here is what holds for all of them, so that lines written for etcdctl are read as it reads them.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::commands::alarm::Alarm;
use crate::commands::auth::Auth;
use crate::commands::check::Check;
use crate::commands::compaction::Compaction;
use crate::commands::completion::Completion;
use crate::commands::defrag::Defrag;
use crate::commands::del::Del;
use crate::commands::elect::Elect;
use crate::commands::endpoint::Endpoint;
use crate::commands::get::Get;
use crate::commands::lease::Lease;
use crate::commands::lock::Lock;
use crate::commands::member::Member;
use crate::commands::move_leader::MoveLeader;
use crate::commands::put::Put;
use crate::commands::role::Role;
use crate::commands::snapshot::Snapshot;
use crate::commands::txn::Txn;
use crate::commands::user::User;
use crate::commands::watch::Watch;
use crate::context::Context;
use crate::failure::{Exit, Failure, Result};
use crate::{duration, serve, version};

/// A coordination server that etcd's clients can use, and its command line.
#[derive(Parser)]
#[command(
    infer_subcommands = true,
    subcommand_required = true,
    after_help = "Every global option can be given as an environment variable too: ETCDCTL_ and its name in capitals, with _ for -.\n\
                  Example: keystead put greeting hello && keystead get greeting"
)]
struct CommandLine {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

/// What holds for every command.
#[derive(Args)]
#[command(next_help_heading = "Global options")]
pub struct Globals {
    /// Members to ask, divided by commas
    #[arg(
        long,
        global = true,
        value_name = "URL",
        value_delimiter = ',',
        default_value = "127.0.0.1:2379"
    )]
    pub endpoints: Vec<String>,
    /// How to print: simple, json, fields, table, protobuf
    #[arg(
        long,
        short = 'w',
        global = true,
        value_name = "FORM",
        default_value = "simple"
    )]
    pub write_out: String,
    /// Print keys, values and ids in hexadecimal
    #[arg(long, global = true)]
    pub hex: bool,
    /// Who asks: NAME or NAME:PASSWORD; the password is asked for where there is none
    #[arg(long, global = true, value_name = "NAME")]
    pub user: Option<String>,
    /// The user's password
    #[arg(long, global = true)]
    pub password: Option<String>,
    /// The certificates to trust, in PEM
    #[arg(long, global = true, value_name = "FILE")]
    pub cacert: Option<String>,
    /// The certificate to show, in PEM
    #[arg(long, global = true, value_name = "FILE", requires = "key")]
    pub cert: Option<String>,
    /// The key of the certificate to show, in PEM
    #[arg(long, global = true, value_name = "FILE", requires = "cert")]
    pub key: Option<String>,
    /// Take endpoints without a scheme for http; set to false for https
    #[arg(long, global = true, default_value = "true")]
    pub insecure_transport: bool,
    /// Take any server for the right one: for trying things out
    #[arg(long, global = true)]
    pub insecure_skip_tls_verify: bool,
    /// Ask DNS for the members of this domain, in place of --endpoints
    #[arg(
        long,
        short = 'd',
        global = true,
        value_name = "DOMAIN",
        default_value = "",
        hide_default_value = true
    )]
    pub discovery_srv: String,
    /// The name behind `etcd-client-` in the records that DNS is asked for
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    pub discovery_srv_name: String,
    /// Take what DNS has without TLS, too
    #[arg(long, global = true, default_value = "true")]
    pub insecure_discovery: bool,
    /// How long a command may take [default: 5s]
    #[arg(long, global = true, value_parser = duration::parse)]
    pub command_timeout: Option<std::time::Duration>,
    /// How long a member may take to accept a connection
    #[arg(long, global = true, value_parser = duration::parse, default_value = "2s")]
    pub dial_timeout: std::time::Duration,
    /// The least time between two pings of a silent connection
    #[arg(long, global = true, value_parser = duration::parse, default_value = "6s")]
    pub keepalive_time: std::time::Duration,
    /// How long a ping may go unanswered
    #[arg(long, global = true, value_parser = duration::parse, default_value = "3s")]
    pub keepalive_timeout: std::time::Duration,
    /// Taken, and without effect: what a server takes is its own limit
    #[arg(
        long,
        global = true,
        value_name = "N",
        default_value_t = 0,
        hide = true
    )]
    pub max_request_bytes: i64,
    /// Taken, and without effect: there is no limit
    #[arg(
        long,
        global = true,
        value_name = "N",
        default_value_t = 0,
        hide = true
    )]
    pub max_recv_bytes: i64,
    /// Tell on stderr what the client does
    #[arg(long, global = true)]
    pub debug: bool,
}

#[derive(Subcommand)]
enum Command {
    Get(Get),
    Put(Put),
    Del(Del),
    Txn(Txn),
    Watch(Watch),
    Compaction(Compaction),
    #[command(subcommand)]
    Lease(Lease),
    Lock(Lock),
    Elect(Elect),
    #[command(subcommand)]
    Member(Member),
    Endpoint(Endpoint),
    MoveLeader(MoveLeader),
    #[command(subcommand)]
    Snapshot(Snapshot),
    Defrag(Defrag),
    #[command(subcommand)]
    Alarm(Alarm),
    #[command(subcommand)]
    Auth(Auth),
    #[command(subcommand)]
    User(User),
    #[command(subcommand)]
    Role(Role),
    #[command(subcommand)]
    Check(Check),
    /// Prints the version
    #[command(after_help = "Example: keystead version")]
    Version,
    Completion(Completion),
}

/// The whole grammar under the given program name.
pub fn grammar(program: &'static str) -> clap::Command {
    // Where it has an option of the same name as a global one, its own stands: that takes the same id.
    let serve = serve::args::command("serve").mut_args(|arg| {
        let id = arg.get_id().as_str().replace('-', "_");
        arg.id(id)
    });
    as_etcdctl_reads(CommandLine::command())
        .name(program)
        .bin_name(program)
        .subcommand(serve.display_order(0))
}

/// Makes options what they are to Go's pflag: the last one counts, switches may have a value, values may begin with a dash; and gives the
/// global ones their variables, where those hold something.
pub fn as_etcdctl_reads(command: clap::Command) -> clap::Command {
    command
        .args_override_self(true)
        .infer_subcommands(true)
        .mut_args(|arg| {
            let arg = match arg.get_action() {
                ArgAction::SetTrue => switch(arg),
                ArgAction::Set | ArgAction::Append if !arg.is_positional() => {
                    arg.allow_hyphen_values(true)
                }
                _ => return arg,
            };
            if !arg.is_global_set() {
                return arg;
            }
            let name = arg.get_id().as_str().to_ascii_uppercase();
            let variable = format!("ETCDCTL_{name}");
            let set = std::env::var_os(&variable).is_some_and(|value| !value.is_empty());
            arg.env(
                set.then_some(variable)
                    .map_or(Resettable::Reset, |name| Resettable::Value(name.into())),
            )
            .hide_env(true)
        })
        .mut_subcommands(as_etcdctl_reads)
}

/// On without a value, or what the value says in one of Go's spellings.
fn switch(arg: Arg) -> Arg {
    let arg = match arg.get_default_values() {
        [] => arg.default_value("false").hide_default_value(true),
        _ => arg,
    };
    arg.action(ArgAction::Set)
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true")
        .value_parser(serve::value::switch)
        .hide_possible_values(true)
        .value_name("true|false")
}

/// Reads the words, the program's name among them, and does what they say.
pub fn run(program: &'static str, words: Vec<OsString>) -> ExitCode {
    let read = grammar(program)
        .try_get_matches_from(words)
        .and_then(|matches| CommandLine::from_arg_matches(&matches));
    let CommandLine { globals, command } = match read {
        Ok(read) => read,
        Err(error) => return refuse(program, &error),
    };
    match command {
        Command::Version => {
            print!("{}", version::of(program));
            return ExitCode::SUCCESS;
        }
        Command::Completion(completion) => {
            completion.write(program);
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    // Those that DNS names are in the error.
    let endpoints = if globals.discovery_srv.is_empty() {
        globals.endpoints.clone()
    } else {
        Vec::new()
    };
    match run_command(globals, command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(&endpoints),
    }
}

/// Says what is wrong with the line. The exit code is etcdctl's, which is 0 where help was printed: that of a group, too, of which no
/// command was named.
fn refuse(program: &'static str, error: &clap::Error) -> ExitCode {
    let group = match error.get(ContextKind::InvalidSubcommand) {
        Some(ContextValue::String(group)) if error.kind() == ErrorKind::MissingSubcommand => group,
        _ => {
            // Printing to a closed pipe is the only way this fails.
            let _ = error.print();
            return match error.kind() {
                ErrorKind::DisplayHelp => ExitCode::SUCCESS,
                _ => ExitCode::FAILURE,
            };
        }
    };
    let mut grammar = grammar(program);
    grammar.build();
    let mut command = &mut grammar;
    for name in group.split(' ').skip(1) {
        match command.find_subcommand_mut(name) {
            Some(found) => command = found,
            None => return ExitCode::FAILURE,
        }
    }
    match command.print_help() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn run_command(globals: Globals, command: Command) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Error, error.to_string()))?;
    runtime.block_on(async {
        let context = Context::new(globals).await?;
        match command {
            Command::Get(get) => get.run(context).await,
            Command::Put(put) => put.run(context).await,
            Command::Del(del) => del.run(context).await,
            Command::Txn(txn) => txn.run(context).await,
            Command::Watch(watch) => watch.run(context).await,
            Command::Compaction(compaction) => compaction.run(context).await,
            Command::Lease(lease) => lease.run(context).await,
            Command::Lock(lock) => lock.run(context).await,
            Command::Elect(elect) => elect.run(context).await,
            Command::Member(member) => member.run(context).await,
            Command::Endpoint(endpoint) => endpoint.run(context).await,
            Command::MoveLeader(move_leader) => move_leader.run(context).await,
            Command::Snapshot(snapshot) => snapshot.run(context).await,
            Command::Defrag(defrag) => defrag.run(context).await,
            Command::Alarm(alarm) => alarm.run(context).await,
            Command::Auth(auth) => auth.run(context).await,
            Command::User(user) => user.run(context).await,
            Command::Role(role) => role.run(context).await,
            Command::Check(check) => check.run(context).await,
            // They ask no member, and were done before.
            Command::Version | Command::Completion(_) => Ok(()),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> std::result::Result<CommandLine, clap::Error> {
        let words = std::iter::once("keystead").chain(words.iter().copied());
        let matches = grammar("keystead").try_get_matches_from(words)?;
        CommandLine::from_arg_matches(&matches)
    }

    #[test]
    fn the_grammar_has_no_contradictions() {
        grammar("keystead").debug_assert();
    }

    #[test]
    fn options_are_read_as_gos_pflag_reads_them() {
        let Ok(CommandLine {
            command: Command::Get(get),
            globals,
        }) = read(&[
            "get",
            "a",
            "--limit",
            "-1",
            "--prefix=true",
            "--keys-only",
            "--keys-only=false",
            "-w=json",
            "--limit=3",
            "--hex",
        ])
        else {
            panic!("it is a read");
        };
        assert_eq!((get.limit, get.prefix, get.keys_only), (3, true, false));
        assert_eq!((globals.write_out.as_str(), globals.hex), ("json", true));
    }

    #[test]
    fn commands_may_be_shortened_and_global_options_may_stand_anywhere() {
        let line = read(&[
            "--endpoints",
            "a:1,b:2",
            "mem",
            "li",
            "--command-timeout=1m",
        ])
        .expect("it is etcdctl's");
        assert!(matches!(line.command, Command::Member(Member::List { .. })));
        assert_eq!(line.globals.endpoints, ["a:1", "b:2"]);
        assert_eq!(
            line.globals
                .command_timeout
                .map(|timeout| timeout.as_secs()),
            Some(60)
        );
    }

    #[test]
    fn every_command_shows_an_example() {
        fn check(command: &clap::Command) {
            let help = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(help.contains("Example: "), "{}", command.get_name());
            command.get_subcommands().for_each(check);
        }
        check(&grammar("keystead"));
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for words in [
            &["nothing"][..],
            &["get", "k", "--no-such"],
            &["get", "k", "--limit=many"],
            &["lease", "nothing"],
        ] {
            let error = read(words).err().expect("it is refused");
            assert!(error.use_stderr(), "{words:?}");
        }
    }
}
