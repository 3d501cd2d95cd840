//! A watch: the state of some keys, then every change of them, through whatever happens to the connection.
//!
//! With a member on port 2379, or where `ETCDCTL_ENDPOINTS` points: `cargo run -p keystead-examples --bin watch`

use keystead_client::{
    Client, ConnectOptions, Delete, EventKind, KeyRange, Notice, OnGap, Result, Watch,
};

#[tokio::main]
async fn main() -> Result<()> {
    let client = Client::connect(ConnectOptions::from_env()).await?;
    let client = client.namespace("examples/watch/");
    client.delete_with(Delete::new(KeyRange::all())).await?;
    client.put("color", "red").await?;
    client.put("size", "small").await?;

    // Should history be compacted while the watch is cut off, it tells what differs by then: it remembers up to 1000 keys.
    let watcher = client
        .watch(Watch {
            state_first: true,
            on_gap: OnGap::Diff { most_keys: 1000 },
            ..Watch::new(KeyRange::all())
        })
        .await?;

    let mut done = false;
    while !done && let Some(notice) = watcher.next().await? {
        match notice {
            Notice::Reset { kvs, last, .. } => {
                for kv in kvs {
                    println!("at first {:?} is {:?}", kv.key, kv.value);
                }
                if last {
                    client.put("color", "green").await?;
                    client.delete("size").await?;
                    client.put("done", "").await?;
                }
            }
            // All changes of one revision at a time, or those that a gap hid.
            Notice::Events { events, .. } | Notice::Diff { events, .. } => {
                for event in events {
                    match event.kind {
                        EventKind::Put => println!("{:?} is {:?}", event.kv.key, event.kv.value),
                        EventKind::Delete => println!("{:?} is gone", event.kv.key),
                    }
                    done |= event.kv.key == "done";
                }
            }
            Notice::Disconnected { error } => eprintln!("cut off for now: {error}"),
            Notice::Resumed { .. } => eprintln!("back, and nothing was missed"),
            _ => {}
        }
    }
    // Dropping it does the same.
    watcher.cancel();
    client.delete_with(Delete::new(KeyRange::all())).await?;
    Ok(())
}
