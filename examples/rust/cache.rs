//! A cache: keys in memory that follow the store, for reads that cost nothing, and reads that miss nothing.
//!
//! With a member on port 2379, or where `ETCDCTL_ENDPOINTS` points: `cargo run -p keystead-examples --bin cache`

use keystead_client::{
    CacheNotice, Client, ConnectOptions, Delete, EventKind, KeyRange, Result, Subscription,
};

#[tokio::main]
async fn main() -> Result<()> {
    let client = Client::connect(ConnectOptions::from_env()).await?;
    let client = client.namespace("examples/cache/");
    client.delete_with(Delete::new(KeyRange::all())).await?;
    client.put("config/color", "red").await?;
    client.put("config/size", "small").await?;

    let config = client.cache(KeyRange::prefix("config/")).await?;
    println!("{} keys", config.len()?);
    let news = config.subscribe();
    tell(&news).await?;

    // A read asks nobody. After a sync it shows whatever anybody wrote before.
    client.put("config/color", "green").await?;
    config.sync().await?;
    let color = config.get("config/color")?.map(|kv| kv.value);
    println!("the color is {:?}", color.unwrap_or_default());

    // What was written here is there as soon as the cache has reached its revision.
    let deleted = client.delete("config/size").await?;
    config.reach(deleted.header.revision).await?;
    let view = config.range(KeyRange::prefix("config/"))?;
    println!("{} key at one revision", view.kvs.len());
    println!("connected: {}", config.lag().connected);

    tell(&news).await?;
    tell(&news).await?;
    Ok(())
}

/// What a subscriber is told: the state, then each revision that changes it.
async fn tell(news: &Subscription) -> Result<()> {
    match news.next().await? {
        Some(CacheNotice::State(view)) => println!("the state has {} keys", view.kvs.len()),
        Some(CacheNotice::Changes { events, .. }) => {
            for event in events {
                let before = event.prev_kv.map(|kv| kv.value).unwrap_or_default();
                match event.kind {
                    EventKind::Put => println!("{before:?} is {:?}", event.kv.value),
                    EventKind::Delete => println!("{before:?} is gone"),
                }
            }
        }
        _ => {}
    }
    Ok(())
}
