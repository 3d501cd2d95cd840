//! Tokens that mean nothing by themselves: sixteen letters of chance, and the place in the log of the record that gave them
//! to a user. Every member learns of them as it applies that record, and forgets them when they were not used for a while;
//! each by its own clock, as in etcd.
//!
//! How many there are follows from the TTL: each costs a login, of which [`super::Passwords`] does few at once, and is gone a TTL
//! after its last use.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use ring::rand::{SecureRandom, SystemRandom};

/// Letters of chance in a token.
const LETTERS: usize = 16;
const ALPHABET: &[u8; 52] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// The tokens that this member knows. Any thread may ask.
pub(crate) struct SimpleTokens {
    ttl: Duration,
    begin: Instant,
    tokens: RwLock<HashMap<Box<str>, Token>>,
}

struct Token {
    user: Arc<str>,
    /// When it is forgotten, in milliseconds since `begin`. Each use puts it off.
    end_ms: AtomicU64,
}

impl SimpleTokens {
    pub(crate) fn new(ttl: Duration) -> Self {
        Self {
            ttl,
            begin: Instant::now(),
            tokens: RwLock::default(),
        }
    }

    /// What makes a token one that nobody can guess.
    pub(crate) fn draw() -> String {
        let random = SystemRandom::new();
        let mut letters = String::with_capacity(LETTERS);
        while letters.len() < LETTERS {
            let mut bytes = [0; 32];
            random
                .fill(&mut bytes)
                .expect("the system has random numbers");
            // Bytes beyond the last whole alphabet would make its first letters likelier.
            let even = bytes.into_iter().filter(|byte| *byte < 208);
            let letter = even.map(|byte| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()]));
            letters.extend(letter.take(LETTERS - letters.len()));
        }
        letters
    }

    /// Gives a token to a user.
    pub(crate) fn assign(&self, token: &str, user: &str) {
        let token_of = Token {
            user: user.into(),
            end_ms: AtomicU64::new(self.end_ms()),
        };
        self.tokens.write().insert(token.into(), token_of);
    }

    /// Whose a token is, which holds for a whole TTL again.
    pub(crate) fn user_of(&self, token: &str) -> Option<Arc<str>> {
        let tokens = self.tokens.read();
        let found = tokens.get(token)?;
        if found.end_ms.load(Ordering::Relaxed) <= self.now_ms() {
            return None;
        }
        found.end_ms.store(self.end_ms(), Ordering::Relaxed);
        Some(found.user.clone())
    }

    /// Forgets the tokens of a user.
    pub(crate) fn revoke(&self, user: &str) {
        self.tokens.write().retain(|_, token| *token.user != *user);
    }

    /// Forgets all tokens.
    pub(crate) fn clear(&self) {
        self.tokens.write().clear();
    }

    /// Forgets those that were not used for a TTL.
    pub(crate) fn sweep(&self) {
        let now_ms = self.now_ms();
        let ended = |token: &Token| token.end_ms.load(Ordering::Relaxed) <= now_ms;
        if self.tokens.read().values().any(ended) {
            self.tokens.write().retain(|_, token| !ended(token));
        }
    }

    /// The place in the log that a token names; none when it has no such form.
    pub(crate) fn position(token: &str) -> Option<u64> {
        let (letters, position) = token.split_once('.')?;
        let digits = !letters.contains('.') && position.bytes().all(|byte| byte.is_ascii_digit());
        position.parse().ok().filter(|_| digits)
    }

    fn now_ms(&self) -> u64 {
        self.begin.elapsed().as_millis() as u64
    }

    fn end_ms(&self) -> u64 {
        let ttl_ms = u64::try_from(self.ttl.as_millis()).unwrap_or(u64::MAX);
        self.now_ms().saturating_add(ttl_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_drawn_from_all_letters_and_never_twice() {
        let drawn: Vec<String> = (0..200).map(|_| SimpleTokens::draw()).collect();
        for token in &drawn {
            assert!(token.len() == LETTERS && token.bytes().all(|byte| ALPHABET.contains(&byte)));
        }
        let letters: std::collections::BTreeSet<u8> =
            drawn.iter().flat_map(|it| it.bytes()).collect();
        assert_eq!(letters.len(), ALPHABET.len());
        assert_eq!(
            drawn
                .iter()
                .collect::<std::collections::BTreeSet<_>>()
                .len(),
            drawn.len()
        );
    }

    #[test]
    fn a_token_is_its_users_until_it_is_taken_back() {
        let tokens = SimpleTokens::new(Duration::from_secs(60));
        tokens.assign("a.1", "alice");
        tokens.assign("b.2", "bob");
        tokens.assign("c.3", "alice");
        assert_eq!(tokens.user_of("a.1").as_deref(), Some("alice"));
        assert_eq!(tokens.user_of("a.2"), None);
        tokens.revoke("alice");
        assert_eq!((tokens.user_of("a.1"), tokens.user_of("c.3")), (None, None));
        assert_eq!(tokens.user_of("b.2").as_deref(), Some("bob"));
        tokens.clear();
        assert_eq!(tokens.user_of("b.2"), None);
    }

    #[test]
    fn a_token_that_nobody_used_for_its_ttl_is_gone_and_a_use_keeps_it() {
        let mut tokens = SimpleTokens::new(Duration::from_secs(60));
        tokens.assign("kept.1", "alice");
        tokens.assign("left.2", "alice");
        let later = |tokens: &mut SimpleTokens, seconds| {
            tokens.begin = tokens
                .begin
                .checked_sub(Duration::from_secs(seconds))
                .expect("the clock has run for so long");
        };
        later(&mut tokens, 40);
        assert!(tokens.user_of("kept.1").is_some());
        later(&mut tokens, 40);
        assert!(tokens.user_of("kept.1").is_some());
        assert_eq!(tokens.user_of("left.2"), None);
        tokens.sweep();
        assert_eq!(tokens.tokens.read().len(), 1);
        later(&mut tokens, 80);
        tokens.sweep();
        assert_eq!(tokens.tokens.read().len(), 0);
    }

    #[test]
    fn the_longest_ttl_there_is_ends_no_token() {
        let tokens = SimpleTokens::new(Duration::MAX);
        tokens.assign("kept.1", "alice");
        assert!(tokens.user_of("kept.1").is_some());
    }

    #[test]
    fn a_token_names_its_place_in_the_log() {
        for (token, position) in [
            ("abc.17", Some(17)),
            ("abc", None),
            ("abc.", None),
            ("abc.+1", None),
            ("abc.1.2", None),
            ("abc.99999999999999999999", None),
            (".0", Some(0)),
        ] {
            assert_eq!(SimpleTokens::position(token), position, "{token}");
        }
    }
}
