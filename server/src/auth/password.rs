//! Passwords, which are known by their bcrypt hashes alone. Making or checking one takes tens of milliseconds of a core on
//! purpose, so it is done on threads of its own, a few at a time: a storm of logins must not take the machine from those who
//! are logged in.

use std::sync::Arc;
use std::thread;

use tokio::sync::{Semaphore, TryAcquireError};
use tokio::task::spawn_blocking;

/// bcrypt's costs; etcd's default.
pub const MIN_BCRYPT_COST: u32 = 4;
/// The highest cost.
pub const MAX_BCRYPT_COST: u32 = 31;
/// What hashing a password costs unless told: about 50 ms.
pub const DEFAULT_BCRYPT_COST: u32 = 10;

/// bcrypt takes no more of a password.
const MAX_BYTES: usize = 72;

/// Logins that may wait for their turn: at the default cost half a minute of work for one core, which is longer than any
/// client waits.
const WAITING: usize = 1024;

/// Hashes and checks passwords. One instance a member.
pub(crate) struct Passwords {
    cost: u32,
    /// Everyone who waits or works.
    places: Arc<Semaphore>,
    /// Everyone who works.
    turns: Arc<Semaphore>,
}

/// Why a password was neither hashed nor checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PasswordError {
    /// It is longer than bcrypt takes.
    TooLong,
    /// Too many others wait.
    Busy,
    /// The member is stopping.
    Stopped,
}

impl Passwords {
    /// With a cost from [`MIN_BCRYPT_COST`] to [`MAX_BCRYPT_COST`].
    pub(crate) fn new(cost: u32) -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let at_once = cores.div_ceil(2);
        Self {
            cost,
            places: Arc::new(Semaphore::new(WAITING + at_once)),
            turns: Arc::new(Semaphore::new(at_once)),
        }
    }

    /// The hash of a password, in the form that etcd stores.
    pub(crate) async fn hash(&self, password: String) -> Result<String, PasswordError> {
        if password.len() > MAX_BYTES {
            return Err(PasswordError::TooLong);
        }
        let cost = self.cost;
        let hashed = self.do_aside(move || bcrypt::hash_with_result(password, cost));
        let parts = hashed
            .await?
            .expect("the cost is one of bcrypt's, and the system has random numbers");
        Ok(parts.format_for_version(bcrypt::Version::TwoA))
    }

    /// Whether a password is the one that a hash was made of. What is no hash is of none.
    pub(crate) async fn verify(
        &self,
        password: String,
        hash: Vec<u8>,
    ) -> Result<bool, PasswordError> {
        self.do_aside(move || {
            let hash = str::from_utf8(&hash).unwrap_or_default();
            bcrypt::verify(password, hash).unwrap_or(false)
        })
        .await
    }

    /// Who goes away before its turn leaves its place to others. Work that has begun goes on, and keeps both until it is done:
    /// else calls that are given up at once would have any number of threads at work.
    async fn do_aside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PasswordError> {
        let place = self.places.clone().try_acquire_owned();
        let place = place.map_err(|error| match error {
            TryAcquireError::NoPermits => PasswordError::Busy,
            TryAcquireError::Closed => PasswordError::Stopped,
        })?;
        let turn = self.turns.clone().acquire_owned().await;
        let turn = turn.map_err(|_| PasswordError::Stopped)?;
        let working = spawn_blocking(move || {
            let _kept = (place, turn);
            work()
        });
        // The runtime drops blocking work only when it stops.
        working.await.map_err(|_| PasswordError::Stopped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_is_known_by_its_hash() {
        let passwords = Passwords::new(MIN_BCRYPT_COST);
        let hash = passwords.hash("secret".to_owned()).await.expect("hashed");
        assert!(hash.starts_with("$2a$04$"), "{hash}");
        for (password, right) in [("secret", true), ("Secret", false), ("", false)] {
            let verified = passwords.verify(password.to_owned(), hash.clone().into_bytes());
            assert_eq!(verified.await, Ok(right), "{password}");
        }
        let nonsense = passwords.verify("secret".to_owned(), b"nonsense".to_vec());
        assert_eq!(nonsense.await, Ok(false));
    }

    #[tokio::test]
    async fn a_hash_of_etcds_is_one_of_ours() {
        let passwords = Passwords::new(MIN_BCRYPT_COST);
        let hash = b"$2a$04$m3g1MKJzjr3QfCFUEmf8QuZHSjAGcirFneEphFXZoVc0pteJ4pSPy".to_vec();
        assert_eq!(passwords.verify("rootpw".to_owned(), hash).await, Ok(true));
    }

    #[tokio::test]
    async fn seventy_two_bytes_is_the_longest_password() {
        let passwords = Passwords::new(MIN_BCRYPT_COST);
        let longest = "x".repeat(MAX_BYTES);
        let hash = passwords.hash(longest.clone()).await.expect("hashed");
        assert_eq!(passwords.verify(longest, hash.into_bytes()).await, Ok(true));
        let longer = "x".repeat(MAX_BYTES + 1);
        assert_eq!(passwords.hash(longer).await, Err(PasswordError::TooLong));
    }

    #[tokio::test]
    async fn who_comes_when_everybody_waits_is_sent_away() {
        let passwords = Passwords::new(MIN_BCRYPT_COST);
        let others = passwords
            .places
            .try_acquire_many(passwords.places.available_permits() as u32)
            .expect("all of them");
        let refused = passwords.hash("secret".to_owned()).await;
        assert_eq!(refused, Err(PasswordError::Busy));
        drop(others);
        assert!(passwords.hash("secret".to_owned()).await.is_ok());
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_any_more_keeps_its_turn_until_it_is_done() {
        let passwords = Passwords::new(MIN_BCRYPT_COST);
        let free = passwords.turns.available_permits();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        tokio::select! {
            biased;
            _ = passwords.do_aside(move || ended.recv()) => panic!("it was told to end"),
            () = std::future::ready(()) => {}
        }
        assert_eq!(passwords.turns.available_permits(), free - 1);
        drop(end);
        let all = passwords.turns.acquire_many(free as u32).await;
        assert!(all.is_ok());
    }
}
