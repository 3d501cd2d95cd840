//! Keys and values: write, read, list, change what is there, and see what an error says.
//!
//! With a member on port 2379, or where `ETCDCTL_ENDPOINTS` points: `cargo run -p keystead-examples --bin kv`

use keystead_client::{Change, Client, ConnectOptions, Delete, KeyRange, Range, Result, Scan};

#[tokio::main]
async fn main() -> Result<()> {
    let client = Client::connect(ConnectOptions::from_env()).await?;
    // Everything below happens within this prefix, and no other key is seen.
    let client = client.namespace("examples/kv/");
    client.delete_with(Delete::new(KeyRange::all())).await?;

    let written = client.put("greeting", "hello").await?;
    client.put("greeting", "good morning").await?;
    let now = client.get("greeting").await?.expect("it was just written");
    println!("greeting is {:?}, version {}", now.value, now.version);

    let before = Range {
        revision: written.header.revision,
        ..Range::new(KeyRange::key("greeting"))
    };
    println!("it was {:?}", client.range(before).await?.kvs[0].value);

    for fruit in ["apple", "banana", "cherry"] {
        client.put(format!("fruit/{fruit}"), "1 kg").await?;
    }
    // A scan reads any number of keys at one revision, a page at a time.
    let mut fruit = client.scan(Scan::new(KeyRange::prefix("fruit/")));
    while let Some(kv) = fruit.next().await? {
        println!("{:?}", kv.key);
    }

    // Read, decide, write if nobody was faster; again until it works.
    client
        .update("visits", |now| {
            let visits = now.map_or(0, |kv| kv.value.len());
            Change::Put("|".repeat(visits + 1).into())
        })
        .await?;

    let tomorrow = Range {
        revision: i64::MAX,
        ..Range::new(KeyRange::key("greeting"))
    };
    let error = client.range(tomorrow).await.expect_err("it is far away");
    println!("{:?}, {:?}: {}", error.kind, error.outcome, error.message);

    let gone = client.delete_with(Delete::new(KeyRange::all())).await?;
    println!("{} keys removed", gone.deleted);
    Ok(())
}
