//! Tokens that say themselves whose they are, until when and under which revision of users and roles: JSON Web Tokens (RFC
//! 7519) in their compact form, with etcd's claims. Any member with the key can read them, and nothing can take one back but
//! its end, or a change of users and roles.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::rand::SystemRandom;
use serde_json::{Map, Value, json};

use super::algorithm::Algorithm;
use super::keys::{KeyError, Keys, Signer};

/// Signs and verifies tokens.
pub struct Jwt {
    algorithm: Algorithm,
    keys: Keys,
    ttl: Duration,
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claims {
    pub(crate) user: String,
    /// Of users and roles, when it was signed.
    pub(crate) revision: u64,
}

/// This member has the public key alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct VerifyOnly;

impl Jwt {
    /// Takes the contents of key files, in PEM but for the secret of HS256 and its kin. Without a private key tokens are only
    /// verified. Those that are signed hold for `ttl`.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn new(
        algorithm: Algorithm,
        private_key: Option<&[u8]>,
        public_key: Option<&[u8]>,
        ttl: Duration,
    ) -> Result<Self, KeyError> {
        Ok(Self {
            keys: Keys::read(algorithm, private_key, public_key)?,
            algorithm,
            ttl,
        })
    }

    /// A token for a user.
    pub(crate) fn sign(&self, user: &str, revision: u64) -> Result<String, VerifyOnly> {
        self.sign_at(now_secs(), user, revision)
    }

    /// What a token says that is genuine and holds now.
    pub(crate) fn read(&self, token: &str) -> Option<Claims> {
        self.read_at(now_secs(), token)
    }

    fn sign_at(&self, now_secs: f64, user: &str, revision: u64) -> Result<String, VerifyOnly> {
        let header = json!({"alg": self.algorithm.name(), "typ": "JWT"});
        let end = (now_secs + self.ttl.as_secs_f64()) as u64;
        let claims = json!({"exp": end, "revision": revision, "username": user});
        let signed = format!(
            "{}.{}",
            encode(header.to_string()),
            encode(claims.to_string())
        );
        let signature = self.signature(signed.as_bytes())?;
        Ok(format!("{signed}.{}", encode(signature)))
    }

    fn signature(&self, message: &[u8]) -> Result<Vec<u8>, VerifyOnly> {
        let signer = match &self.keys {
            Keys::Shared(key) => return Ok(hmac::sign(key, message).as_ref().to_vec()),
            Keys::Pair { signer, .. } => signer.as_ref().ok_or(VerifyOnly)?,
        };
        let random = SystemRandom::new();
        Ok(match signer {
            Signer::Rsa(pair, encoding) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(*encoding, &random, message, &mut signature)
                    .expect(
                        "the buffer is as long as the modulus, and the system has random numbers",
                    );
                signature
            }
            Signer::Ecdsa(pair) => pair
                .sign(&random, message)
                .expect("the system has random numbers")
                .as_ref()
                .to_vec(),
            Signer::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
        })
    }

    fn read_at(&self, now_secs: f64, token: &str) -> Option<Claims> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        // Who names another algorithm may have signed with what is public.
        if object(header)?.get("alg")?.as_str()? != self.algorithm.name()
            || !self.is_genuine(signed.as_bytes(), &decode(signature)?)
        {
            return None;
        }
        let claims = object(claims)?;
        let ended = |end: f64| now_secs >= end;
        let begun = |begin: f64| now_secs >= begin;
        if time(&claims, "exp")?.is_some_and(ended) || !time(&claims, "nbf")?.is_none_or(begun) {
            return None;
        }
        Some(Claims {
            user: claims.get("username")?.as_str()?.to_owned(),
            revision: claims.get("revision")?.as_f64()? as u64,
        })
    }

    fn is_genuine(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.keys {
            Keys::Shared(key) => hmac::verify(key, message, signature).is_ok(),
            Keys::Pair { public, .. } => public.verify(message, signature).is_ok(),
        }
    }
}

impl fmt::Debug for Jwt {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Jwt")
            .field("algorithm", &self.algorithm)
            .field("ttl", &self.ttl)
            .finish_non_exhaustive()
    }
}

/// A claim that is a time in seconds, where there is one; none when it is something else.
fn time(claims: &Map<String, Value>, name: &str) -> Option<Option<f64>> {
    claims
        .get(name)
        .map(Value::as_f64)
        .map_or(Some(None), |time| time.map(Some))
}

fn object(part: &str) -> Option<Map<String, Value>> {
    serde_json::from_slice(&decode(part)?).ok()
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn decode(part: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(part).ok()
}

fn now_secs() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests;
