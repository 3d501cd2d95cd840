//! What a command runs with: a client made of the global options, the endpoints as they were named, and the printer. Past this file no
//! option can be wrong.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use keystead_client::bytes::Bytes;
use keystead_client::{
    CallOptions, Client, ConnectOptions, Credentials, Identity, Tls, look_up_endpoints,
};
use tracing_subscriber::filter::LevelFilter;

use crate::command_line::Globals;
use crate::failure::{Exit, Failure, Result};
use crate::output::Printer;
use crate::output::answer::Answer;

/// How long a command may take where the user named nothing, as in etcdctl.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What a command runs with.
pub struct Context {
    /// Asks any of the endpoints. Connects with its first call.
    pub client: Client,
    /// As the user named them, or as DNS does.
    pub endpoints: Vec<String>,
    /// Prints the answers.
    pub printer: Printer,
    /// How long a command may take.
    pub timeout: Duration,
    /// The same where the user named it.
    pub named_timeout: Option<Duration>,
    encrypted: bool,
}

impl Context {
    /// Asks DNS first, if it is to.
    ///
    /// # Errors
    /// An option is not what it must be, the password that was asked for could not be read, or DNS names no member.
    pub async fn new(globals: Globals) -> Result<Context> {
        if globals.debug {
            let subscriber = tracing_subscriber::fmt().with_writer(std::io::stderr);
            subscriber.with_max_level(LevelFilter::DEBUG).init();
        }
        if globals.max_request_bytes != 0 || globals.max_recv_bytes != 0 {
            let sentence = "Warning: --max-request-bytes and --max-recv-bytes have no effect: the server's limits count";
            anstream::eprintln!("{sentence}");
        }
        let timeout = globals.command_timeout.unwrap_or(TIMEOUT);
        let printer = Printer::new(&globals.write_out, globals.hex)?;
        let endpoints = endpoints(&globals).await?;
        let encrypted =
            !globals.insecure_transport || globals.cacert.is_some() || globals.cert.is_some();
        let options = ConnectOptions {
            tls: tls(&globals)?,
            credentials: credentials(&globals)?,
            call: CallOptions {
                deadline: timeout,
                ..CallOptions::default()
            },
            dial_timeout: globals.dial_timeout,
            keepalive_interval: globals.keepalive_time,
            keepalive_timeout: globals.keepalive_timeout,
            ..ConnectOptions::new(endpoints.iter().map(|name| address(name, encrypted)))
        };
        let client = Client::lazy(options)
            .map_err(|error| Failure::from(error).exit(Exit::BadConnection))?;
        Ok(Context {
            client,
            endpoints,
            printer,
            timeout,
            named_timeout: globals.command_timeout,
            encrypted,
        })
    }

    /// Prints one answer.
    ///
    /// # Errors
    /// See [`Printer::print`].
    pub fn print(&self, answer: &Answer) -> Result<()> {
        self.printer.print(answer)
    }

    /// A client of one endpoint alone.
    ///
    /// # Errors
    /// The endpoint cannot be read.
    pub fn at(&self, endpoint: &str) -> Result<Client> {
        Ok(self.client.at(address(endpoint, self.encrypted))?)
    }

    /// The endpoints to ask one by one: those that were named, or with `--cluster` those of all members.
    ///
    /// # Errors
    /// The members could not be asked for.
    pub async fn each_endpoint(&self, cluster: bool) -> Result<Vec<String>> {
        if !cluster {
            return Ok(self.endpoints.clone());
        }
        let members = self.client.members().await.map_err(|error| {
            Failure::from(error).said(|why| {
                format!("failed to fetch endpoints from etcd cluster member list: {why}")
            })
        })?;
        let members = members.members.into_iter();
        Ok(members.flat_map(|member| member.client_urls).collect())
    }
}

async fn endpoints(globals: &Globals) -> Result<Vec<String>> {
    let (domain, name) = (&globals.discovery_srv, &globals.discovery_srv_name);
    if domain.is_empty() {
        let named = globals.endpoints.iter().map(|name| name.trim());
        let named = named.filter(|name| !name.is_empty());
        return Ok(named.map(str::to_owned).collect());
    }
    let path = if name.is_empty() {
        String::new()
    } else {
        format!("/{name}")
    };
    let service = format!("srv://{domain}{path}");
    let options = ConnectOptions {
        dial_timeout: globals.dial_timeout,
        ..ConnectOptions::new([service.as_str()])
    };
    let found = look_up_endpoints(&options).await?;
    let is_taken = |endpoint: &String| {
        let taken = globals.insecure_discovery || endpoint.starts_with("https://");
        if !taken {
            anstream::eprintln!("ignoring discovered insecure endpoint {endpoint:?}");
        }
        taken
    };
    let taken: Vec<_> = found.into_iter().filter(is_taken).collect();
    if taken.is_empty() {
        let sentence = format!("{service} has no endpoint with TLS, and no other is to be taken");
        return Err(Failure::new(Exit::Error, sentence));
    }
    Ok(taken)
}

/// What the client takes for an endpoint: one without a scheme is https where there is something to encrypt with.
fn address(name: &str, encrypted: bool) -> String {
    let bare = !name.contains("://") && !name.starts_with("unix:");
    if bare && encrypted {
        format!("https://{name}")
    } else {
        name.to_owned()
    }
}

fn tls(globals: &Globals) -> Result<Tls> {
    let file = |option: &str, name: &Option<String>| match name.as_deref() {
        Some("") => {
            let sentence = format!("empty string is passed to --{option} option");
            Err(Failure::arguments(sentence))
        }
        name => Ok(name.map(Into::into)),
    };
    let certificate = file("cert", &globals.cert)?;
    let key = file("key", &globals.key)?;
    Ok(Tls {
        ca: file("cacert", &globals.cacert)?,
        identity: certificate
            .zip(key)
            .map(|(certificate, key)| Identity { certificate, key }),
        dangerously_skip_verify: globals.insecure_skip_tls_verify,
        ..Tls::default()
    })
}

fn credentials(globals: &Globals) -> Result<Option<Credentials>> {
    let Some(user) = globals.user.as_deref().filter(|user| !user.is_empty()) else {
        return Ok(None);
    };
    if let Some(password) = globals.password.as_deref().filter(|word| !word.is_empty()) {
        return Ok(Some(Credentials::new(user, password)));
    }
    if let Some((user, password)) = user.split_once(':') {
        return Ok(Some(Credentials::new(user, password)));
    }
    let password = ask_password("Password: ")?;
    Ok(Some(Credentials::new(user, password)))
}

/// Asks at the terminal, without showing what is typed.
///
/// # Errors
/// There is no terminal.
pub fn ask_password(prompt: &str) -> Result<String> {
    rpassword::prompt_password(prompt).map_err(|error| {
        let sentence = format!("no terminal to ask for the password at: {error}");
        Failure::new(Exit::Error, sentence)
    })
}

/// A word of the command line as the bytes that it is.
pub fn bytes(word: &OsStr) -> Bytes {
    word.to_owned().into_vec().into()
}

/// A lease's id, in hexadecimal.
///
/// # Errors
/// It is none.
pub fn lease_id(word: &str) -> Result<i64, String> {
    let digits = word.strip_prefix(['+', '-']).unwrap_or(word);
    match i64::from_str_radix(word, 16) {
        Ok(id) if !digits.starts_with(['+', '-']) => Ok(id),
        _ => Err(format!(
            "strconv.ParseInt: parsing {word:?}: invalid syntax"
        )),
    }
}

/// A member's id, in hexadecimal.
///
/// # Errors
/// It is none.
pub fn member_id(word: &str) -> Result<u64, String> {
    match u64::from_str_radix(word, 16) {
        Ok(id) if !word.starts_with('+') => Ok(id),
        _ => Err(format!(
            "strconv.ParseUint: parsing {word:?}: invalid syntax"
        )),
    }
}

/// Warns of words that are passed over, as etcdctl does in silence.
pub fn warn_of_surplus(words: &[OsString], taken: usize) {
    if let Some(word) = words.get(taken) {
        let word = word.to_string_lossy();
        anstream::eprintln!(
            "Warning: {word:?} and what follows it is ignored; put quotes around words that belong together"
        );
    }
}
