//! How a command fails: the sentence, etcdctl's exit code for it, and what to do next. Made by the commands, told in `report`.

use std::io;
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use keystead_client::{Error, Kind, Outcome};

const RED: Style = AnsiColor::Red.on_default().bold();
const BOLD: Style = Style::new().bold();

/// etcd's words for a user or a password that is not right.
const WRONG_PASSWORD: &str = "authentication failed, invalid user ID or password";

/// What the shell is told, as etcdctl does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The call failed, or the line could not be read.
    Error,
    /// No member could be asked.
    BadConnection,
    /// What was read from the standard input makes no transaction and no watch.
    InvalidInput,
    /// A flag has a value that does not exist.
    BadFeature,
    /// It was broken off.
    Interrupted,
    /// The output could not be written.
    Io,
    /// The arguments do not fit the command.
    BadArgs,
    /// That of the program that was run.
    Program(u8),
}

impl Exit {
    fn code(self) -> u8 {
        match self {
            Exit::Error => 1,
            Exit::BadConnection => 2,
            Exit::InvalidInput => 3,
            Exit::BadFeature => 4,
            Exit::Interrupted => 5,
            Exit::Io => 6,
            Exit::BadArgs => 128,
            Exit::Program(code) => code,
        }
    }
}

/// Why a command ended before it was done.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    /// Nothing where all was said already.
    sentence: String,
    /// Where it was a call that failed.
    call: Option<(Kind, Outcome)>,
}

/// What commands give back.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    /// A failure that is no call's.
    pub fn new(exit: Exit, sentence: impl Into<String>) -> Failure {
        Failure {
            exit,
            sentence: sentence.into(),
            call: None,
        }
    }

    /// The arguments do not fit the command.
    pub fn arguments(sentence: impl Into<String>) -> Failure {
        Failure::new(Exit::BadArgs, sentence)
    }

    /// What went wrong was told already.
    pub fn told() -> Failure {
        Failure::new(Exit::Error, "")
    }

    /// The same with another exit code, where etcdctl has one of its own.
    pub fn exit(self, exit: Exit) -> Failure {
        Failure { exit, ..self }
    }

    /// The same with words around it.
    pub fn said(self, around: impl FnOnce(&str) -> String) -> Failure {
        Failure {
            sentence: around(&self.sentence),
            ..self
        }
    }

    /// What went wrong.
    pub fn sentence(&self) -> &str {
        &self.sentence
    }

    /// Tells it on the standard error: etcdctl's line, then what to do.
    pub fn report(self, endpoints: &[String]) -> ExitCode {
        if !self.sentence.is_empty() {
            anstream::eprintln!("{RED}Error:{RED:#} {}", self.sentence);
        }
        for line in self.advice(endpoints) {
            anstream::eprintln!("  {BOLD}->{BOLD:#} {line}");
        }
        ExitCode::from(self.exit.code())
    }

    fn advice(&self, endpoints: &[String]) -> Vec<String> {
        let Some((kind, outcome)) = self.call else {
            let help = "with --help the command tells what it takes, and shows an example";
            let help = (self.exit == Exit::BadArgs).then(|| help.to_owned());
            return help.into_iter().collect();
        };
        let mut lines = Vec::new();
        if outcome == Outcome::Unknown {
            lines
                .push("whether it was applied is not known: look before doing it again".to_owned());
        }
        let advice = match kind {
            Kind::Unavailable | Kind::DeadlineExceeded if endpoints.is_empty() => return lines,
            Kind::Unavailable => {
                let asked = endpoints.join(", ");
                lines.push(format!(
                    "asked: {asked}; others are named with --endpoints or ETCDCTL_ENDPOINTS"
                ));
                "`keystead serve` starts a member on 127.0.0.1:2379"
            }
            Kind::DeadlineExceeded => {
                "more time is given with --command-timeout; `keystead endpoint health --cluster` asks every member"
            }
            Kind::Unauthenticated => {
                "say who you are with --user NAME:PASSWORD, or ETCDCTL_USER and ETCDCTL_PASSWORD"
            }
            Kind::PermissionDenied => {
                "`keystead user get NAME --detail` shows what a user may do; root grants more with `keystead role grant-permission`"
            }
            Kind::NoSpace => {
                "make room with `keystead compaction REVISION` and `keystead defrag`, then `keystead alarm disarm`"
            }
            Kind::Compacted => {
                "older revisions are gone for good: name a newer one with --rev, or none"
            }
            Kind::FutureRevision => {
                "there is no such revision yet: `keystead get KEY -w json` shows the newest in its header"
            }
            Kind::LeaseNotFound => "`keystead lease list` shows the leases that are there",
            Kind::NotLeader => {
                "name the leader's endpoint: `keystead endpoint status --cluster` shows who leads"
            }
            Kind::Unimplemented => {
                "this server does not have the call: `keystead endpoint status` shows its version"
            }
            Kind::TooManyRequests => {
                "the server has more than it can keep up with: try again later"
            }
            _ => return lines,
        };
        lines.push(advice.to_owned());
        lines
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        // A token is had with the connection, as etcdctl sees it.
        let exit = match error.message.contains(WRONG_PASSWORD) {
            true => Exit::BadConnection,
            false => Exit::Error,
        };
        Failure {
            exit,
            sentence: error.message,
            call: Some((error.kind, error.outcome)),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        // Whoever read the output has gone, as `head` does: there is nobody to tell.
        let sentence = match error.kind() {
            io::ErrorKind::BrokenPipe => String::new(),
            _ => error.to_string(),
        };
        Failure::new(Exit::Io, sentence)
    }
}
