//! A server process on 127.0.0.1, on free ports, with its data in a temporary directory. It is killed when dropped.

use std::ffi::OsString;
use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use keystead_proto::etcdserverpb::RangeRequest;
use keystead_proto::etcdserverpb::kv_client::KvClient;
use rustix::io::retry_on_intr;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

/// How long a server may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(60);
/// The exit code by which tests/oracle/build says that there is nothing to build with.
const SKIPPED: i32 = 77;

/// Which program a [`Server`] runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Real etcd, built by tests/oracle/build.
    Etcd,
    /// The binary under test: `KEYSTEAD_BIN`, or the one beside the running tests.
    Keystead,
}

/// A running member, or one that was stopped and can be started again on the same data.
pub struct Server {
    kind: Kind,
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    /// Most files that it may have open.
    open_files: Option<u32>,
    /// What it reads for `/etc/resolv.conf`.
    resolv_conf: Option<PathBuf>,
    directory: TempDir,
    client: SocketAddr,
    process: Option<Child>,
    /// The number of the running process, 0 while there is none.
    pid: Arc<AtomicU32>,
}

impl Server {
    /// Starts a fresh server with more arguments than the usual; `None` when it is etcd and there is none.
    pub async fn start(
        kind: Kind,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Option<Server> {
        let mut server = Server::prepare(kind, arguments, environment)?;
        server.restart().await;
        Some(server)
    }

    /// The same without starting it.
    pub fn prepare(kind: Kind, arguments: &[&str], environment: &[(&str, &str)]) -> Option<Server> {
        let program = program(kind)?;
        let directory = temporary_directory();
        let data = directory.path().join("data");
        Some(Server::of(
            kind,
            program,
            directory,
            &data,
            arguments,
            environment,
        ))
    }

    /// A Keystead that keeps its data in `data`, not started.
    pub fn keystead_at(data: &Path, arguments: &[&str]) -> Server {
        Server::of(
            Kind::Keystead,
            keystead(),
            temporary_directory(),
            data,
            arguments,
            &[],
        )
    }

    fn of(
        kind: Kind,
        program: PathBuf,
        directory: TempDir,
        data: &Path,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Server {
        let (client, peer) = (free_address(), free_address());
        let peer_url = format!("http://{peer}");
        let mut all = flags("default", data, client, peer, &peer_url);
        all.extend([
            "--initial-cluster".to_owned(),
            format!("default={peer_url}"),
        ]);
        all.extend(arguments.iter().map(|&argument| argument.to_owned()));
        let environment = environment
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Server {
            kind,
            program,
            arguments: all,
            environment,
            open_files: None,
            resolv_conf: None,
            directory,
            client,
            process: None,
            pid: Arc::default(),
        }
    }

    /// One member of a cluster, not started: it listens for peers at `peer` and says that it is reached at `peer_url`. Its
    /// arguments name the cluster. `None` when it is etcd and there is none.
    pub fn member(
        kind: Kind,
        name: &str,
        peer: SocketAddr,
        peer_url: &str,
        arguments: &[String],
    ) -> Option<Server> {
        let program = program(kind)?;
        let directory = temporary_directory();
        let client = free_address();
        let data = directory.path().join("data");
        let mut all = flags(name, &data, client, peer, peer_url);
        all.extend_from_slice(arguments);
        Some(Server {
            kind,
            program,
            arguments: all,
            environment: Vec::new(),
            open_files: None,
            resolv_conf: None,
            directory,
            client,
            process: None,
            pid: Arc::default(),
        })
    }

    /// A fresh etcd with its defaults, or `None`.
    pub async fn etcd() -> Option<Server> {
        Server::start(Kind::Etcd, &[], &[]).await
    }

    /// A fresh Keystead with its defaults.
    pub async fn keystead() -> Server {
        Server::start(Kind::Keystead, &[], &[])
            .await
            .expect("only etcd may be missing")
    }

    /// Which program it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The client address.
    pub fn address(&self) -> SocketAddr {
        self.client
    }

    /// Listens for clients with TLS from the next start on; the arguments have the certificates. Only [`Server::launch`] starts it
    /// then: what waits for an answer asks without TLS.
    pub fn listen_encrypted(&mut self) {
        let (plain, encrypted) = (
            format!("http://{}", self.client),
            format!("https://{}", self.client),
        );
        for argument in self.arguments.iter_mut().filter(|it| **it == plain) {
            argument.clone_from(&encrypted);
        }
    }

    /// The running process.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("the server runs").id()
    }

    /// The number of its process for those who watch it from elsewhere: 0 while none runs.
    pub fn watched_pid(&self) -> Arc<AtomicU32> {
        self.pid.clone()
    }

    /// The value of a flag that it is started with.
    pub fn flag(&self, flag: &str) -> &str {
        let at = self.arguments.iter().position(|it| it == flag);
        &self.arguments[at.expect("it is started with this flag") + 1]
    }

    /// Gives a flag another value from the next start on.
    pub fn set_flag(&mut self, flag: &str, value: &str) {
        match self.arguments.iter().position(|it| it == flag) {
            Some(at) => self.arguments[at + 1] = value.to_owned(),
            None => self.arguments.extend([flag.to_owned(), value.to_owned()]),
        }
    }

    /// Listens for clients at another port from the next start on.
    pub fn move_elsewhere(&mut self) {
        self.client = free_address();
        let url = format!("http://{}", self.client);
        self.set_flag("--listen-client-urls", &url);
        self.set_flag("--advertise-client-urls", &url);
    }

    /// The directory that holds the data directory and the log.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Lets it have no more than so many files open from its next start on.
    pub fn limit_open_files(&mut self, limit: u32) {
        self.open_files = Some(limit);
    }

    /// Lets it read this file for `/etc/resolv.conf` from its next start on.
    pub fn resolve_by(&mut self, resolv_conf: &Path) {
        self.resolv_conf = Some(resolv_conf.to_owned());
    }

    /// Starts the stopped server on the data it has, and waits until it answers a linearizable read.
    pub async fn restart(&mut self) {
        if let Err(ended) = self.try_restart().await {
            panic!(
                "{:?} did not come up ({ended}); its log:\n{}",
                self.kind,
                self.log()
            );
        }
    }

    /// The same, for a server that may refuse to start: how it ended then; its log says why.
    pub async fn try_restart(&mut self) -> Result<(), ExitStatus> {
        self.launch();
        self.answer_or_end().await
    }

    /// Waits until the started server answers a linearizable read, or has ended: how, then.
    pub async fn answer_or_end(&mut self) -> Result<(), ExitStatus> {
        let begin = Instant::now();
        while let Err(status) = self.answers().await {
            if let Some(ended) = self.ended() {
                return Err(ended);
            }
            assert!(
                begin.elapsed() < PATIENCE,
                "{:?} neither answers ({status}) nor ends; its log:\n{}",
                self.kind,
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Starts the stopped server and waits for nothing.
    pub fn launch(&mut self) {
        self.stop_by("KILL");
        let process = self.spawn();
        self.pid.store(process.id(), Relaxed);
        self.process = Some(process);
    }

    /// Whether it was started and not stopped since; it may have ended by itself.
    pub fn is_started(&self) -> bool {
        self.process.is_some()
    }

    /// How the started server ended by itself, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let process = self.process.as_mut()?;
        process.try_wait().expect("its state is readable")
    }

    /// Ends it as a crash would (kill -9) and waits until it is gone.
    pub fn kill(&mut self) {
        self.stop_by("KILL");
    }

    /// Asks it to end (SIGTERM) and gives its exit status.
    pub fn terminate(&mut self) -> ExitStatus {
        self.stop_by("TERM").expect("the server was running")
    }

    /// Stops it where it stands (SIGSTOP): its connections stay, and nobody answers on them.
    pub fn pause(&mut self) {
        self.signal("STOP");
        // A signal is sent before it is followed: a thread that runs goes on until it is told.
        let process = self.process.as_ref().expect("the server was started");
        let pid = WaitId::Pid(Pid::from_child(process));
        let stopped = retry_on_intr(|| waitid(pid.clone(), WaitIdOptions::STOPPED));
        stopped.expect("it is a child, and runs");
    }

    /// Lets it go on after a pause.
    pub fn resume(&mut self) {
        self.signal("CONT");
    }

    /// Removes all that the stopped server has stored.
    pub fn wipe(&mut self) {
        assert!(self.process.is_none(), "only a stopped server is wiped");
        fs::remove_dir_all(self.flag("--data-dir")).expect("it has a data directory");
    }

    /// A connection of its own; connects on first use.
    pub fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.client))
            .expect("an address is a URL")
            .connect_lazy()
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// The program and its arguments.
    pub fn command_line(&self) -> Vec<String> {
        let mut words = vec![self.program.display().to_string()];
        if self.program.file_name().is_some_and(|name| name != "etcd") {
            words.push("serve".to_owned());
        }
        words.extend(self.arguments.iter().cloned());
        words
    }

    fn spawn(&self) -> Child {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .expect("the log can be written");
        // setpriv lets the kernel end the server should the tests be killed before they could.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        if let Some(limit) = self.open_files {
            command.args(["prlimit", &format!("--nofile={limit}:{limit}")]);
        }
        if let Some(resolv_conf) = &self.resolv_conf {
            command.args(resolving_by(resolv_conf));
        }
        command
            .args(self.command_line())
            .envs(self.environment.iter().cloned());
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor"))
            .stderr(log);
        command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", self.program.display()))
    }

    async fn answers(&self) -> Result<(), tonic::Status> {
        let mut client = KvClient::new(self.channel());
        let read = client.range(RangeRequest {
            key: "ready".into(),
            ..Default::default()
        });
        let answer = tokio::time::timeout(Duration::from_secs(2), read).await;
        match answer.unwrap_or_else(|_| Err(tonic::Status::deadline_exceeded("no answer in 2 s"))) {
            // Who wants to know whom it answers has read what it would say.
            Err(status) if status.code() == tonic::Code::InvalidArgument => Ok(()),
            answer => answer.map(|_| ()),
        }
    }

    fn stop_by(&mut self, signal: &str) -> Option<ExitStatus> {
        if self.process.is_some() {
            self.signal(signal);
        }
        self.pid.store(0, Relaxed);
        let mut process = self.process.take()?;
        let begin = Instant::now();
        loop {
            if let Some(status) = process.try_wait().expect("its state is readable") {
                return Some(status);
            }
            assert!(
                begin.elapsed() < PATIENCE,
                "SIG{signal} did not end the server; its log:\n{}",
                self.log()
            );
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Sends a signal, unless the server has ended by itself.
    fn signal(&mut self, signal: &str) {
        let process = self.process.as_mut().expect("the server was started");
        if process.try_wait().expect("its state is readable").is_none() {
            let sent = Command::new("kill")
                .args(["-s", signal, &process.id().to_string()])
                .status();
            sent.expect("kill is part of every system");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
        if thread::panicking() {
            eprintln!(
                "--- the end of {:?}'s log ---\n{}",
                self.kind,
                tail(&self.log())
            );
        }
    }
}

/// What a command begins with that is to read this file for `/etc/resolv.conf`: a mount that nobody else sees. A program of Go's
/// resolves by itself then, as etcd's releases do.
pub fn resolving_by(resolv_conf: &Path) -> Vec<OsString> {
    let script = "mount --bind \"$0\" /etc/resolv.conf && exec env GODEBUG=netdns=go \"$@\"";
    let words = ["unshare", "--mount", "sh", "-c", script].map(OsString::from);
    words.into_iter().chain([resolv_conf.into()]).collect()
}

/// What etcd and Keystead are both started with.
fn flags(
    name: &str,
    data: &Path,
    client: SocketAddr,
    peer: SocketAddr,
    peer_url: &str,
) -> Vec<String> {
    let pairs = [
        ("--name", name.to_owned()),
        ("--data-dir", data.display().to_string()),
        ("--listen-client-urls", format!("http://{client}")),
        ("--advertise-client-urls", format!("http://{client}")),
        ("--listen-peer-urls", format!("http://{peer}")),
        ("--initial-advertise-peer-urls", peer_url.to_owned()),
    ];
    pairs
        .into_iter()
        .flat_map(|(flag, value)| [flag.to_owned(), value])
        .collect()
}

fn temporary_directory() -> TempDir {
    tempfile::Builder::new()
        .prefix("keystead-test-")
        .tempdir()
        .expect("a temporary directory")
}

/// A port below those that the kernel gives to outgoing connections: nobody else takes it while the server that has it is down.
pub(crate) fn free_address() -> SocketAddr {
    const FIRST: u16 = 12_000;
    const PORTS: u16 = 18_000;
    static TRIED: AtomicU16 = AtomicU16::new(0);
    // Test programs that run at the same time begin at different ports.
    let begin = (std::process::id() % u32::from(PORTS)) as u16;
    loop {
        let offset = begin
            .wrapping_mul(37)
            .wrapping_add(TRIED.fetch_add(1, Relaxed));
        let address = SocketAddr::from(([127, 0, 0, 1], FIRST + offset % PORTS));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// `None` when it is etcd and there is none.
fn program(kind: Kind) -> Option<PathBuf> {
    match kind {
        Kind::Etcd => oracle("etcd"),
        Kind::Keystead => Some(keystead()),
    }
}

/// One of the programs that tests/oracle/build makes (on the first call of a process); `None` where it cannot.
pub fn oracle(name: &str) -> Option<PathBuf> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    let program = BUILT.get_or_init(build_oracle).as_ref()?.join(name);
    program.exists().then_some(program)
}

fn build_oracle() -> Option<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("oracle/build");
    let output = Command::new(script)
        .stderr(Stdio::inherit())
        .output()
        .expect("tests/oracle/build can be run");
    if output.status.code() == Some(SKIPPED) {
        return None;
    }
    assert!(output.status.success(), "tests/oracle/build failed");
    Some(PathBuf::from(
        String::from_utf8_lossy(&output.stdout).trim(),
    ))
}

fn keystead() -> PathBuf {
    if let Some(chosen) = env::var_os("KEYSTEAD_BIN") {
        return chosen.into();
    }
    // target/PROFILE/deps/member-HASH: the binary of the same profile, else the release build.
    let here = env::current_exe().expect("the running test has a path");
    let profile = here
        .parent()
        .and_then(Path::parent)
        .expect("tests run from target/PROFILE/deps");
    let candidates = [
        profile.join("keystead"),
        profile.with_file_name("release").join("keystead"),
    ];
    let built = candidates.iter().find(|path| path.exists());
    built.cloned().unwrap_or_else(|| {
        panic!(
            "{} is missing: cargo build -p keystead",
            candidates[0].display()
        )
    })
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}
