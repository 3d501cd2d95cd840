//! Transactions: money moves from one account to the other, all of it or none, and never more than there is.
//!
//! With a member on port 2379, or where `ETCDCTL_ENDPOINTS` points: `cargo run -p keystead-examples --bin txn`

use keystead_client::{Client, Compare, ConnectOptions, KeyValue, Op, Put, Relation, Result, Txn};

#[tokio::main]
async fn main() -> Result<()> {
    let client = Client::connect(ConnectOptions::from_env()).await?;
    let client = client.namespace("examples/txn/");
    client.put("alice", "10").await?;
    client.put("bob", "0").await?;

    for amount in [7, 2, 5] {
        match transfer(&client, "alice", "bob", amount).await? {
            Some(whole) => println!("{amount} moved in one step: {whole}"),
            None => println!("{amount} is more than there is"),
        }
    }
    for name in ["alice", "bob"] {
        println!("{name} has {}", balance(client.get(name).await?.as_ref()));
    }
    Ok(())
}

/// Moves `amount`; `None` when there is less.
async fn transfer(
    client: &Client,
    from: &'static str,
    to: &'static str,
    amount: i64,
) -> Result<Option<bool>> {
    loop {
        let (source, target) = (client.get(from).await?, client.get(to).await?);
        let left = balance(source.as_ref()) - amount;
        if left < 0 {
            return Ok(None);
        }
        // Nobody else has touched either account since they were read.
        let unchanged = |key, kv: &Option<KeyValue>| {
            let revision = kv.as_ref().map_or(0, |kv| kv.mod_revision);
            Compare::mod_revision(key, Relation::Equal, revision)
        };
        let more = balance(target.as_ref()) + amount;
        let txn = Txn::when([unchanged(from, &source), unchanged(to, &target)]).then([
            Op::Put(Put::new(from, left.to_string())),
            Op::Put(Put::new(to, more.to_string())),
        ]);
        let done = client.txn(txn).await?;
        if done.succeeded {
            return Ok(Some(done.succeeded));
        }
    }
}

fn balance(kv: Option<&KeyValue>) -> i64 {
    let text = kv.map(|kv| String::from_utf8_lossy(&kv.value));
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}
