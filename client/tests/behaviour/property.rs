//! The promise itself, under scripts that nobody thought of: what is sent again surely did not run. `KEYSTEAD_TEST_LONG` tries
//! more of them.

use std::time::Duration;

use keystead_client::{Client, ConnectOptions, Outcome};

use crate::fake::{Act, CANCEL, Fake, INTERNAL_ERROR, REFUSED_STREAM};

/// Requests that one seed makes, over how many callers.
const REQUESTS: usize = 60;
const CALLERS: usize = 6;
/// Bounds the whole run: no caller waits longer for each of its requests.
const DEADLINE: Duration = Duration::from_millis(400);
/// Seeds of one run, and how many are tried at once.
const SEEDS: u64 = 8;
const LONG_SEEDS: u64 = 400;
const AT_ONCE: u64 = 8;

fn random_act(random: &mut fastrand::Rng) -> Act {
    match random.u8(..18) {
        0 => Act::ResetHead(REFUSED_STREAM),
        1 => Act::Reset(INTERNAL_ERROR),
        2 => Act::Reset(CANCEL),
        3 => Act::GoAwayBefore,
        4 => Act::GoAwayAfter,
        5 => Act::DropAtHead,
        6 => Act::DropAfter,
        7 => Act::DropBeforeStatus,
        8 => Act::Ignore,
        9 => Act::Refuse(14, "etcdserver: no leader"),
        10 => Act::Refuse(2, "etcdserver: too many requests"),
        11 => Act::Refuse(7, "etcdserver: permission denied"),
        12 => Act::Fail(14, "etcdserver: leader changed"),
        13 => Act::Fail(14, "etcdserver: request timed out"),
        _ => Act::Answer,
    }
}

/// How a write ended.
type Ending = Result<(), Outcome>;

async fn run(seed: u64) -> (Vec<Ending>, Vec<bytes::Bytes>) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut script = || {
        (0..REQUESTS)
            .map(|_| random_act(&mut random))
            .collect::<Vec<_>>()
    };
    let fakes = [Fake::start(script()).await, Fake::start(script()).await];
    let options = ConnectOptions::new(fakes.iter().map(Fake::url));
    let client = Client::lazy(options).expect("the URLs are right");
    let client = client.with_deadline(DEADLINE);
    let callers = (0..CALLERS).map(|caller| {
        let client = client.clone();
        async move {
            let mut endings = Vec::new();
            for request in (caller..REQUESTS).step_by(CALLERS) {
                let ended = client.put(request.to_string(), "v").await;
                endings.push((request, ended.map(drop).map_err(|error| error.outcome)));
            }
            endings
        }
    });
    let mut endings: Vec<_> = futures::future::join_all(callers).await.concat();
    endings.sort_by_key(|(request, _)| *request);
    let ran = fakes.iter().flat_map(Fake::ran).collect();
    (endings.into_iter().map(|(_, ending)| ending).collect(), ran)
}

#[tokio::test]
async fn no_write_runs_twice_and_no_outcome_lies() {
    let long = std::env::var_os("KEYSTEAD_TEST_LONG").is_some();
    let seeds = if long { LONG_SEEDS } else { SEEDS };
    for first in (0..seeds).step_by(AT_ONCE as usize) {
        let batch = (first..first + AT_ONCE).map(async |seed| check(seed, run(seed).await));
        futures::future::join_all(batch).await;
    }
}

fn check(seed: u64, (endings, ran): (Vec<Ending>, Vec<bytes::Bytes>)) {
    for (request, ending) in endings.iter().enumerate() {
        let key = request.to_string();
        let times = ran.iter().filter(|ran| **ran == key).count();
        let honest = match ending {
            Ok(()) => times == 1,
            Err(Outcome::NotApplied) => times == 0,
            Err(Outcome::Unknown) => times <= 1,
            Err(Outcome::Applied) => false,
        };
        assert!(
            honest,
            "seed {seed}, write {request}: {ending:?}, ran {times} times"
        );
    }
    let answered = endings.iter().filter(|ending| ending.is_ok()).count();
    assert!(answered > 0, "seed {seed}: none was answered");
}
