//! A holder that is stopped for longer than its TTL and goes on as if nothing had happened.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{env, io};

use keystead_client::{Client, ConnectOptions};

use super::{client as connect, on_each};

/// Says in the environment of the holder where the server is.
const SERVER: &str = "KEYSTEAD_TEST_PAUSED_HOLDER";

/// The holder: another process, which runs this test alone.
#[tokio::test(flavor = "multi_thread")]
async fn the_holder_that_is_paused() {
    let Ok(url) = env::var(SERVER) else {
        return;
    };
    let client = Client::lazy(ConnectOptions::new([url])).expect("it is a URL");
    let lock = client.lock("locks/x").with_ttl(Duration::from_secs(5));
    let guard = lock.lock().await.expect("free");
    println!("\nholds {}", guard.held());
    // It is stopped before the line comes, and goes on when there is one.
    let line = tokio::task::spawn_blocking(|| io::stdin().lock().read_line(&mut String::new()));
    line.await.expect("no panic").expect("a line");
    println!("\nthen {} {:?}", guard.held(), guard.state());
    let written = guard.put("data", "stale").await;
    println!("\nwrites {:?}", written.map_err(|error| error.kind));
}

/// Reads until there is a line that begins so, and gives the rest of it.
fn line(output: &mut impl BufRead, begins: &str) -> String {
    loop {
        let mut line = String::new();
        let read = output.read_line(&mut line).expect("it can be read");
        assert!(read > 0, "the holder ended before it said {begins:?}");
        if let Some(rest) = line.trim_end().strip_prefix(begins) {
            return rest.to_owned();
        }
    }
}

fn signal(process: &Child, name: &str) {
    let sent = Command::new("kill")
        .args(["-s", name, &process.id().to_string()])
        .status();
    assert!(sent.expect("kill is part of every system").success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_was_paused_knows_it_before_it_writes() {
    on_each(async |server| {
        let mut holder = Command::new(env::current_exe().expect("the running test has a path"))
            .args([
                "--exact",
                "client::pause::the_holder_that_is_paused",
                "--nocapture",
            ])
            .env(SERVER, format!("http://{}", server.address()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program can be run");
        let mut said = BufReader::new(holder.stdout.take().expect("it is piped"));
        assert_eq!(line(&mut said, "holds "), "true");
        signal(&holder, "STOP");
        let client = connect(server);
        let next = client
            .lock("locks/x")
            .lock()
            .await
            .expect("the lease of the other ends");
        signal(&holder, "CONT");
        let mut input = holder.stdin.take().expect("it is piped");
        input.write_all(b"go on\n").expect("it reads");
        assert_eq!(line(&mut said, "then "), "false Lost(Paused)");
        assert_eq!(line(&mut said, "writes "), "Err(LockLost)");
        assert!(holder.wait().expect("it ends").success());
        assert_eq!(client.get("data").await.expect("a read"), None);
        next.unlock().await.expect("it was held all the time");
    })
    .await;
}
