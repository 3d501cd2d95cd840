//! Leases: keys that go when whoever wrote them does.
//!
//! With a member on port 2379, or where `ETCDCTL_ENDPOINTS` points: `cargo run -p keystead-examples --bin lease`

use std::time::Duration;

use keystead_client::{Client, ConnectOptions, Loss, Put, Result};

const TTL: Duration = Duration::from_secs(6);

#[tokio::main]
async fn main() -> Result<()> {
    let client = Client::connect(ConnectOptions::from_env()).await?;
    let client = client.namespace("examples/lease/");

    // A bare lease ends by itself unless somebody renews it.
    let lease = client.grant(TTL).await?.lease;
    let put = Put {
        lease,
        ..Put::new("ticket", "valid")
    };
    client.put_with(put).await?;
    println!("renewed for {:?}", client.keep_alive_once(lease).await?);
    let told = client.time_to_live_with_keys(lease).await?;
    println!("its keys: {:?}", told.keys);
    client.revoke(lease).await?;
    println!(
        "the ticket is there: {}",
        client.get("ticket").await?.is_some()
    );

    // A session renews its lease for as long as it lives, and says when it is lost, and why.
    let session = client.session(TTL).await?;
    session.put_ephemeral("worker", "at work").await?;
    println!("the session is {:?}", session.state());
    client.revoke(session.lease()).await?;
    match session.lost().await {
        Loss::Revoked => println!("somebody revoked it"),
        other => println!("this can't be: {other:?}"),
    }
    println!(
        "the worker is there: {}",
        client.get("worker").await?.is_some()
    );
    Ok(())
}
