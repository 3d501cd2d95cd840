//! What a member keeps when the power goes, when the disk fails and when its files rot: every acknowledged write with its
//! revision, or a refusal in words; never a wrong answer.
//!
//! `cuts` and `faults` put the whole data directory, log and store, on a file system that forgets what was not synced
//! (`lossyfs`); `damage` flips bits in the files of a stopped member. `load` writes, `model` says what the writes mean,
//! `ledger` compares. `KEYSTEAD_SEED` replays a run's choices; `KEYSTEAD_TEST_LONG` makes it an order of magnitude longer.

mod cuts;
mod damage;
pub mod disk;
mod faults;
mod ledger;
mod load;
mod model;

use std::env;
use std::time::{SystemTime, UNIX_EPOCH};

/// The run's seed, printed so that it can be given again.
fn seed() -> u64 {
    let clock = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("the clock is past 1970");
    let given = env::var("KEYSTEAD_SEED").ok();
    let given = given.map(|text| text.parse().expect("KEYSTEAD_SEED is a number"));
    let seed = given.unwrap_or(clock.as_millis() as u64);
    println!("KEYSTEAD_SEED={seed}");
    seed
}

/// How many times: `usual`, ten times as often in a long run, or what the variable says.
fn times(variable: &str, usual: u64) -> u64 {
    let given = env::var(variable).ok();
    let long = env::var_os("KEYSTEAD_TEST_LONG").is_some();
    given
        .map(|text| text.parse().expect("a count is a number"))
        .unwrap_or(if long { 10 * usual } else { usual })
}
