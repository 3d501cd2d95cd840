//! kill -9 while the flusher is at work: a process of its own flushes one entry after another until it is killed.

use std::env;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use keystead_mvcc::{KeyValueRef, Opened, Options, Query, Read, Store};

use crate::bench::tiny;

/// Where the process that is to be killed finds its store. Without it, the test in its role has nothing to do.
const DIR: &str = "KEYSTEAD_TEST_FLUSHES_IN";
const VICTIM: &str = "kill::the_process_that_flushes_until_it_is_killed";
const KEYS: u64 = 7;
const KILLS: u32 = 24;

/// Entry n writes its number to `last` and to one of a few keys, and is flushed alone.
#[test]
fn the_process_that_flushes_until_it_is_killed() {
    let Some(dir) = env::var_os(DIR).map(PathBuf::from) else {
        return;
    };
    let Opened {
        mut writer,
        mut flusher,
        position,
        ..
    } = open(&dir);
    // The test's runner leaves a line unfinished.
    println!();
    for position in position + 1.. {
        let number = position.to_be_bytes();
        let mut txn = writer.begin();
        txn.put(b"last", &number, 0);
        txn.put(&key(position), &number, 0);
        txn.commit();
        writer.seal(position, number.to_vec().into());
        flusher.flush(position).expect("flushed");
        println!("flushed {position}");
    }
}

#[test]
fn a_store_killed_while_it_flushes_opens_with_every_row_its_applied_id_tells_of() {
    let dir = tempfile::tempdir().expect("a directory");
    for round in 0..KILLS {
        let told = kill_at(f64::from(round) / f64::from(KILLS), dir.path());
        let opened = open(dir.path());
        let Opened {
            store, position, ..
        } = &opened;
        assert!(*position >= told, "{position} after {told} was flushed");
        assert_eq!(opened.applied.as_deref(), Some(&position.to_be_bytes()[..]));
        assert_eq!(store.current(), 1 + *position as i64, "round {round}");
        assert_eq!(value(store, b"last"), *position);
        for number in position.saturating_sub(KEYS - 1).max(1)..=*position {
            assert_eq!(value(store, &key(number)), number);
        }
    }
}

fn open(dir: &Path) -> Opened {
    let options = Options {
        // So that each start reads the whole history.
        checkpoint_min_rows: u64::MAX,
        ..tiny()
    };
    Store::open(dir, &options).expect("the store opens")
}

/// Kills the process when that share of its third flush has passed, as long as the second took. Answers how far it had
/// flushed for certain.
fn kill_at(share: f64, dir: &Path) -> u64 {
    let mut victim = Command::new(env::current_exe().expect("this test's own file"))
        .args(["--exact", "--nocapture", VICTIM])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let lines = BufReader::new(victim.stdout.take().expect("piped")).lines();
    let mut flushed = lines
        .map_while(Result::ok)
        .filter_map(|line| line.strip_prefix("flushed ")?.parse().ok());
    flushed.next();
    let began = Instant::now();
    let told = flushed.next();
    thread::sleep(began.elapsed().mul_f64(share));
    victim.kill().expect("killed");
    victim.wait().expect("ended");
    told.expect("the process flushes until it is killed")
}

fn key(number: u64) -> [u8; 1] {
    [b'a' + (number % KEYS) as u8]
}

fn value(store: &Store, key: &[u8]) -> u64 {
    let page = store.read(&Query {
        key,
        ..Query::default()
    });
    let page = page.expect("readable");
    let row = page.rows.first().expect("there");
    let stored = KeyValueRef::decode(&row.payload).expect("a KeyValue").value;
    u64::from_be_bytes(stored.try_into().expect("a number"))
}
