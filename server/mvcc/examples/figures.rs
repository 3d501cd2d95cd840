//! What the store costs with a million keys. Prints figures and judges nothing:
//! `cargo run --release -p keystead-mvcc --example figures`.

use std::time::{Duration, Instant};

use bytes::Bytes;
use keystead_mvcc::{Opened, Options, Query, Read, Store};

const KEYS: u64 = 1_000_000;
const OVERWRITES: u64 = 500_000;
const RECORDS_PER_ENTRY: u64 = 64;

fn key(n: u64) -> Vec<u8> {
    let scattered = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    format!("/registry/pods/namespace-{}/{scattered:016x}", n % 50).into_bytes()
}

fn report(what: &str, took: Duration, per: u64) {
    let each_us = took.as_secs_f64() * 1e6 / per.max(1) as f64;
    println!(
        "{what:<44} {:>9.1} ms  {each_us:>9.3} us each",
        took.as_secs_f64() * 1e3
    );
}

fn timed<T>(what: &str, per: u64, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let done = work();
    report(what, start.elapsed(), per);
    done
}

fn main() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = Options::default();
    let opened = Store::open(dir.path(), &options).expect("opens");
    let Opened {
        store,
        mut writer,
        mut flusher,
        ..
    } = opened;
    let value = [7; 256];
    let mut position = 0;
    let (mut putting, mut sealing, mut flushing) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    let mut keys: Vec<Vec<u8>> = (0..KEYS).map(key).collect();
    keys.extend((0..OVERWRITES).map(|n| key(n * 7 % KEYS)));
    for (n, keys) in keys.chunks(RECORDS_PER_ENTRY as usize).enumerate() {
        let start = Instant::now();
        for key in keys {
            let mut txn = writer.begin();
            txn.put(key, &value, 0);
            txn.commit();
        }
        putting += start.elapsed();
        let start = Instant::now();
        position += 1;
        drop(writer.seal(position, Bytes::new()));
        sealing += start.elapsed();
        if n % 512 == 511 {
            let start = Instant::now();
            flusher.flush(position).expect("flushed");
            flushing += start.elapsed();
        }
    }
    report("put", putting, KEYS + OVERWRITES);
    report("seal, a record", sealing, KEYS + OVERWRITES);
    flusher.flush(position).expect("flushed");
    report("flush, a row", flushing, KEYS + OVERWRITES);
    let all = Query {
        key: b"/registry/",
        end: b"/registry0",
        ..Query::default()
    };
    for (what, query) in [
        (
            "read one key from disk",
            Query {
                key: &keys[12345],
                ..Query::default()
            },
        ),
        ("read limit 1 of all", Query { limit: 1, ..all }),
        ("read limit 500 of all", Query { limit: 500, ..all }),
        (
            "count all",
            Query {
                count_only: true,
                ..all
            },
        ),
        (
            "count all, 1000 revisions back",
            Query {
                count_only: true,
                revision: store.current() - 1000,
                ..all
            },
        ),
    ] {
        timed(what, 100, || {
            (0..100).for_each(|_| drop(store.read(&query).expect("read")))
        });
    }
    timed("read all", KEYS, || store.read(&all).expect("read"));
    timed("metas of all", KEYS, || {
        store.metas_in(b"", b"\0", &mut |_, _| true).expect("read")
    });
    timed("hash_kv, a row", KEYS + OVERWRITES, || {
        store.hash_kv(0).expect("hashed")
    });
    timed("checkpoint", KEYS, || {
        flusher.checkpoint().expect("written")
    });
    drop((store, writer, flusher));
    let opened = timed("open from the checkpoint", KEYS, || {
        Store::open(dir.path(), &options).expect("opens")
    });
    drop(opened);
    std::fs::remove_file(dir.path().join("index")).expect("removed");
    let opened = timed("open from the history", KEYS + OVERWRITES, || {
        Store::open(dir.path(), &options).expect("opens")
    });
    let Opened {
        store,
        mut writer,
        mut flusher,
        ..
    } = opened;
    writer.compact(store.current()).expect("compacted");
    writer.seal(position + 1, Bytes::new());
    flusher.flush(position + 1).expect("flushed");
    timed("physical compaction, a row removed", OVERWRITES, || {
        while !flusher.compact_step().expect("a step").done {}
    });
    println!("{:?}\n{:?}", store.sizes(), store.counters());
    println!(
        "{:?}",
        timed("defragmentation", 1, || flusher
            .defragment()
            .expect("swapped"))
    );
}
