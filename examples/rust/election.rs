//! An election: one of many leads, what it says is heard, and the next one follows.
//!
//! With a member on port 2379, or where `ETCDCTL_ENDPOINTS` points: `cargo run -p keystead-examples --bin election`

use keystead_client::{Client, ConnectOptions, LeaderEvent, Observer, Result};

#[tokio::main]
async fn main() -> Result<()> {
    let client = Client::connect(ConnectOptions::from_env()).await?;
    let client = client.namespace("examples/election/");
    let election = client.election("scheduler");

    let mut observer = election.observe();
    hear(&mut observer).await?;

    let first = election.campaign("10.0.0.1").await?;
    hear(&mut observer).await?;

    // Whoever leads may write what only the leader may.
    first.put("plan", "made by 10.0.0.1").await?;
    first.proclaim("10.0.0.1, draining").await?;
    hear(&mut observer).await?;

    // The next candidate waits, and leads as soon as the first one steps down.
    let term = first.term();
    let (second, resigned) = tokio::join!(election.campaign("10.0.0.2"), first.resign());
    resigned?;
    let second = second?;
    println!("the next term is later: {}", second.term() > term);
    second.resign().await?;
    println!("somebody leads: {}", election.leader().await?.is_some());
    Ok(())
}

async fn hear(observer: &mut Observer) -> Result<()> {
    match observer.next().await? {
        LeaderEvent::Leader(kv) => println!("{} leads", String::from_utf8_lossy(&kv.value)),
        LeaderEvent::NoLeader => println!("nobody leads"),
        LeaderEvent::Disconnected => println!("nobody knows who leads"),
    }
    Ok(())
}
