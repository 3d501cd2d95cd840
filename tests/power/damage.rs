//! One flipped bit in a file of a stopped member. It refuses to start and names the file, or it refuses the damaged row
//! as lost, or the bit meant nothing: what it answers is right. `KEYSTEAD_FLIPS` says how many bits of each file are tried.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keystead_tests::{Random, Server, TINY_LIMITS};

use super::ledger::{Finding, Ledger};
use super::load::Load;
use super::{seed, times};

const FLIPS: u64 = 40;
const ROUNDS: u64 = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_in_the_log_is_found_or_harmless() {
    flip_and_examine(|data| files_below(&data.join("wal"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_in_the_store_is_found_or_harmless() {
    flip_and_examine(|data| {
        let mut files = Vec::new();
        for part in files_below(&data.join("store")) {
            if part.is_dir() {
                files.push(part.join("data.mdb"));
            }
        }
        files
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_in_the_saved_index_is_found_or_harmless() {
    flip_and_examine(|data| vec![data.join("store/index")]).await;
}

async fn flip_and_examine(files: fn(&Path) -> Vec<PathBuf>) {
    let mut random = Random::new(seed());
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (good, tried) = (
        directory.path().join("good"),
        directory.path().join("tried"),
    );
    let ledger = written(&good, &mut random).await;
    let (mut refused, mut reported, mut harmless, mut crashes) = (0, 0, 0, 0);
    for _ in 0..times("KEYSTEAD_FLIPS", FLIPS) {
        fs::remove_dir_all(&tried).ok();
        copy(&good, &tried);
        let file = random.pick(&files(&tried)).clone();
        let mut content = fs::read(&file).expect("it was copied");
        let bit = random.below(8 * content.len() as u64) as usize;
        content[bit / 8] ^= 1 << (bit % 8);
        fs::write(&file, content).expect("it can be written");
        // Without the saved index a start reads the whole history.
        if random.one_in(2) {
            fs::remove_file(tried.join("store/index")).expect("a clean stop saves it");
        }
        let what = format!("bit {} of byte {} of {}", bit % 8, bit / 8, file.display());
        let mut server = Server::keystead_at(&tried, &TINY_LIMITS);
        let examined = match server.try_restart().await {
            Ok(()) => ledger.examine(&server.channel(), &mut random).await,
            Err(ended) if ended.signal().is_some() => Err("it crashed at once".to_owned()),
            Err(ended) => {
                let log = server.log();
                let names = log.contains(&tried.display().to_string());
                assert!(ended.code() == Some(1) && names, "{what}: {ended}: {log}");
                refused += 1;
                continue;
            }
        };
        match examined {
            Ok(Finding::Harmless) => harmless += 1,
            Ok(Finding::Reported) => reported += 1,
            // LMDB trusts the structure of its pages: a member may crash on a damaged one, and has answered nothing wrong.
            Err(_) if crashed(&mut server) && file.ends_with("data.mdb") => crashes += 1,
            Err(wrong) => panic!("{what}: {wrong}"),
        }
    }
    println!(
        "{refused} refused to start, {reported} reported a loss, {harmless} harmless, {crashes} crashes"
    );
}

fn crashed(server: &mut Server) -> bool {
    let ended = server.ended();
    ended.is_some_and(|ended| ended.signal().is_some())
}

/// A member that was written to, stopped and started a few times, and what it holds.
async fn written(data: &Path, random: &mut Random) -> Ledger {
    let mut ledger = Ledger::default();
    let mut server = Server::keystead_at(data, &TINY_LIMITS);
    server.restart().await;
    for number in 0..ROUNDS {
        let load = Load::start(&server.channel(), number, ledger.leases(), random);
        tokio::time::sleep(Duration::from_millis(200)).await;
        let round = load.stop().await;
        server.terminate();
        server.restart().await;
        ledger.settle(round, &server.channel(), random).await;
    }
    server.terminate();
    // Nothing to examine, and much to copy.
    fs::remove_file(data.join("BALLAST")).ok();
    ledger
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("it is there");
    let mut paths: Vec<_> = entries
        .map(|entry| entry.expect("readable").path())
        .collect();
    paths.sort();
    paths
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("it is not there yet");
    for path in files_below(from) {
        let target = to.join(path.file_name().expect("an entry has a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).expect("it can be read");
        }
    }
}
