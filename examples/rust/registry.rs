//! A registry: services say where they are, clients find them, and whoever dies or leaves is found no longer.
//!
//! With a member on port 2379, or where `ETCDCTL_ENDPOINTS` points: `cargo run -p keystead-examples --bin registry`

use keystead_client::serde_json::json;
use keystead_client::{
    Client, ConnectOptions, Endpoint, KeyRange, Pick, Range, RegistrationState, Result,
};

#[tokio::main]
async fn main() -> Result<()> {
    let client = Client::connect(ConnectOptions::from_env()).await?;
    let client = client.namespace("examples/registry/");
    let api = client.resolve("api").await?;

    // Registered for as long as this process lives, and withdrawn when what is given here is dropped.
    let first = Endpoint {
        metadata: json!({"zone": "a"}),
        ..Endpoint::new("10.0.0.1:80")
    };
    let first = client.register("api", first).await?;
    let second = client.register("api", Endpoint::new("10.0.0.2:80")).await?;
    let mut known = api.endpoints()?;
    while known.len() < 2 {
        known = api.changed(&known).await?;
    }
    for endpoint in known.iter() {
        println!("{} {}", endpoint.address, endpoint.metadata);
    }
    for _ in 0..3 {
        let next = api.pick(Pick::RoundRobin)?.expect("there are two");
        println!("ask {}", next.address);
    }

    // An operator takes the lease away. Both are registered again by themselves, with another one.
    let seen = first.state();
    let leased = client.range(Range::new(KeyRange::prefix("api/")));
    client.revoke(leased.await?.kvs[0].lease).await?;
    let mut state = first.changed(seen).await?;
    while let RegistrationState::Lost(_) = state {
        state = first.changed(state).await?;
    }
    if let RegistrationState::Registered { after, .. } = state {
        println!("registered again after {after:?}");
    }

    first.withdraw().await?;
    second.withdraw().await?;
    let mut known = api.endpoints()?;
    while !known.is_empty() {
        known = api.changed(&known).await?;
    }
    println!("found now: {:?}", api.pick(Pick::Random)?);
    Ok(())
}
