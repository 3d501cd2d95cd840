//! One script's conversation with one server. Every request and its blurred answer is a line of the transcript; a
//! script that ran on etcd and on Keystead passes when the transcripts are equal.

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::server::{Kind, Server};
use crate::unary::Unary;
use crate::watch::WatchStream;

/// No step of a script may take longer.
const STEP_LIMIT: Duration = Duration::from_secs(30);

/// A connection to one server, and what was said over it.
pub struct Session {
    server: Server,
    channel: Channel,
    /// Whose calls they are.
    token: Option<String>,
    transcript: Vec<String>,
}

impl Session {
    /// Takes the server over; it ends with the session.
    pub fn new(server: Server) -> Session {
        let channel = server.channel();
        Session {
            server,
            channel,
            token: None,
            transcript: Vec::new(),
        }
    }

    /// The server.
    pub fn server(&mut self) -> &mut Server {
        &mut self.server
    }

    /// The connection that all calls share.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Calls with this token from now on, or without one.
    pub fn set_token(&mut self, token: Option<String>) {
        self.token = token;
    }

    /// The token of its calls.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Calls an RPC and writes down the answer, or the code and text of the refusal.
    pub async fn call<R: Unary>(&mut self, request: R) -> Result<R::Answer, Status> {
        let asked = brief(&request);
        let answer = request.send_as(self.channel(), self.token.as_deref());
        let answer = within(&asked, answer).await;
        match answer {
            Ok(mut answer) => {
                R::blur(&mut answer);
                self.note(format!("{asked}\n    => {}", brief(&answer)));
                Ok(answer)
            }
            Err(status) => {
                self.refusal(&asked, &status);
                Err(status)
            }
        }
    }

    /// Opens a watch stream.
    pub fn watch(&self) -> WatchStream {
        WatchStream::open_as(self.channel(), self.token())
    }

    /// Writes a line of the script's own.
    pub fn note(&mut self, line: impl Into<String>) {
        self.transcript.push(line.into());
    }

    /// Writes down a refusal that a script met outside [`Session::call`].
    pub fn refusal(&mut self, asked: &str, status: &Status) {
        self.note(format!("{asked}\n    => {}", refusal(status)));
    }
}

/// A refusal as the transcript has it: code and text.
fn refusal(status: &Status) -> String {
    // Which part of an answer a broken connection loses is chance; that it broke is not.
    let text = if status.code() == Code::Unknown && status.message().contains("transport") {
        "the connection broke"
    } else {
        status.message()
    };
    format!("{:?}: {text}", status.code())
}

/// Long values say nothing more than their beginning and length.
fn brief(value: &impl Debug) -> String {
    const SHOWN: usize = 4000;
    let text = format!("{value:?}");
    match text.char_indices().nth(SHOWN) {
        Some((cut, _)) => format!("{}… ({} more)", &text[..cut], text.len() - cut),
        None => text,
    }
}

/// Waits for a step, but not for ever.
pub(crate) async fn within<T>(what: &str, step: impl Future<Output = T>) -> T {
    tokio::time::timeout(STEP_LIMIT, step)
        .await
        .unwrap_or_else(|_| panic!("no answer within {STEP_LIMIT:?}: {what}"))
}

/// Runs a script on a fresh etcd and on a fresh Keystead and compares the transcripts.
///
/// # Panics
/// At the first difference, with the lines before it. Without an etcd it says that it was skipped.
pub async fn on_both(script: impl AsyncFn(&mut Session)) {
    on_both_with(&[], script).await;
}

/// The same with more arguments for both servers.
///
/// # Panics
/// As [`on_both`].
pub async fn on_both_with(arguments: &[&str], script: impl AsyncFn(&mut Session)) {
    let Some(etcd) = Server::start(Kind::Etcd, arguments, &[]).await else {
        println!("skipped: there is no etcd to compare with");
        return;
    };
    let keystead = Server::start(Kind::Keystead, arguments, &[]).await;
    let keystead = keystead.expect("only etcd may be missing");
    let (expected, actual) = tokio::join!(transcript(etcd, &script), transcript(keystead, &script));
    compare(&expected, &actual);
}

async fn transcript(server: Server, script: &impl AsyncFn(&mut Session)) -> Vec<String> {
    let mut session = Session::new(server);
    script(&mut session).await;
    session.transcript
}

fn compare(etcd: &[String], keystead: &[String]) {
    const CONTEXT: usize = 4;
    const SHOWN: usize = 3;
    let length = etcd.len().max(keystead.len());
    let differing: Vec<usize> = (0..length)
        .filter(|&line| etcd.get(line) != keystead.get(line))
        .collect();
    let Some(&first) = differing.first() else {
        return;
    };
    let line = |side: &[String], at: usize| {
        side.get(at)
            .cloned()
            .unwrap_or_else(|| "(nothing)".to_owned())
    };
    let before = etcd[first.saturating_sub(CONTEXT)..first].join("\n");
    let shown: Vec<String> = differing
        .iter()
        .take(SHOWN)
        .map(|&at| {
            format!(
                "--- line {at}, etcd\n{}\n--- keystead\n{}",
                line(etcd, at),
                line(keystead, at)
            )
        })
        .collect();
    panic!(
        "{} of {length} lines differ, after\n{before}\n{}\n",
        differing.len(),
        shown.join("\n")
    );
}
