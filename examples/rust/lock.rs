//! A lock: one holder at a time, and writes that only the holder can make.
//!
//! With a member on port 2379, or where `ETCDCTL_ENDPOINTS` points: `cargo run -p keystead-examples --bin lock`

use std::time::Duration;

use keystead_client::{Client, ConnectOptions, Kind, Result};

#[tokio::main]
async fn main() -> Result<()> {
    let client = Client::connect(ConnectOptions::from_env()).await?;
    let client = client.namespace("examples/lock/");
    let lock = client.lock("report");

    let guard = lock.lock().await?;
    println!("it is ours: {}", guard.held());
    guard.put("report", "first edition").await?;

    println!("free for another: {}", lock.try_lock().await?.is_some());
    if let Err(error) = lock.lock_within(Duration::from_millis(200)).await {
        println!("after a while of waiting: {:?}", error.kind);
    }

    // An operator breaks the lock, and another one takes it.
    client.delete(guard.key().clone()).await?;
    let next = lock.lock().await?;
    println!(
        "the next token is higher: {}",
        next.fencing_token() > guard.fencing_token()
    );
    next.put("report", "second edition").await?;

    // The first holder does not know yet. Its write is refused by the server, in one step with the question.
    match guard.put("report", "third edition").await {
        Err(error) if error.kind == Kind::LockLost => println!("the first one lost it"),
        other => println!("this can't be: {other:?}"),
    }
    next.unlock().await?;
    let report = client.get("report").await?.map(|kv| kv.value);
    println!("{}", String::from_utf8_lossy(&report.unwrap_or_default()));
    Ok(())
}
