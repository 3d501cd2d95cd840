//! What `--auth-token`, `--auth-token-ttl` and `--bcrypt-cost` ask for, with etcd's sentences for what can't be. Called by the builder of the
//! configuration; reads the files of keys.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use keystead_server::auth::{
    Algorithm, DEFAULT_BCRYPT_COST, Jwt, MAX_BCRYPT_COST, MIN_BCRYPT_COST, TokenKind,
};
use keystead_server::config::DEFAULT_TOKEN_TTL;

use crate::duration;
use crate::serve::given::{Given, Refusal};
use crate::serve::value;

/// How long a signed token holds unless told.
const JWT_TTL: Duration = Duration::from_secs(300);

/// What stands for a password once it was given.
///
/// # Errors
/// The value is none that etcd takes, a file can't be read, or is no key for the method.
pub fn of(given: &Given) -> Result<TokenKind, Refusal> {
    let ttl = match given.read("auth-token-ttl", 0, value::unsigned)? {
        0 => DEFAULT_TOKEN_TTL,
        seconds => Duration::from_secs(seconds),
    };
    let text = given.get("auth-token").unwrap_or("simple");
    let unusable = |why: String| Refusal::Invalid(format!("--auth-token={text}: {why}"));
    let (kind, options) = decompose(text).map_err(unusable)?;
    match kind {
        "simple" => Ok(TokenKind::Simple { ttl }),
        "jwt" => jwt(&options)
            .map(|jwt| TokenKind::Jwt(Arc::new(jwt)))
            .map_err(unusable),
        "" => Ok(TokenKind::None),
        _ => Err(unusable(invalid("the token type is simple or jwt"))),
    }
}

/// What hashing a password costs. As in etcd a cost that bcrypt does not have is the default.
///
/// # Errors
/// It is no number.
pub fn bcrypt_cost(given: &Given) -> Result<u32, Refusal> {
    let cost = given.read(
        "bcrypt-cost",
        u64::from(DEFAULT_BCRYPT_COST),
        value::unsigned,
    )?;
    let costs = MIN_BCRYPT_COST..=MAX_BCRYPT_COST;
    let known = u32::try_from(cost).ok().filter(|cost| costs.contains(cost));
    Ok(known.unwrap_or(DEFAULT_BCRYPT_COST))
}

/// The type before the first comma, and the options behind it.
fn decompose(text: &str) -> Result<(&str, BTreeMap<&str, &str>), String> {
    let mut parts = text.split(',');
    let kind = parts.next().unwrap_or_default();
    let mut options = BTreeMap::new();
    for part in parts {
        let pair = part
            .split_once('=')
            .filter(|(_, value)| !value.contains('='));
        let (name, value) = pair.ok_or_else(|| invalid("an option is name=value"))?;
        if options.insert(name, value).is_some() {
            return Err(invalid(&format!("{name} is given twice")));
        }
    }
    Ok((kind, options))
}

fn jwt(options: &BTreeMap<&str, &str>) -> Result<Jwt, String> {
    let option = |name: &str| options.get(name).copied().filter(|value| !value.is_empty());
    let ttl = match option("ttl") {
        Some(text) => duration::parse(text).map_err(|why| invalid(&why))?,
        None => JWT_TTL,
    };
    let file = |name: &str| {
        let read = |path| fs::read(path).map_err(|error| invalid(&format!("open {path}: {error}")));
        option(name).map(read).transpose()
    };
    let (public, private) = (file("pub-key")?, file("priv-key")?);
    let method = option("sign-method").unwrap_or_default();
    let algorithm = Algorithm::named(method).ok_or_else(|| {
        invalid("auth: invalid auth signature method: HS, RS or PS with 256, 384 or 512, ES256, ES384 or EdDSA")
    })?;
    Jwt::new(algorithm, private.as_deref(), public.as_deref(), ttl).map_err(|why| why.to_string())
}

fn invalid(why: &str) -> String {
    format!("auth: invalid auth options ({why})")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::given::Origin;

    fn given(values: &[(&str, &str)]) -> Given {
        let mut given = Given::default();
        for (name, text) in values {
            assert_eq!(given.take(name, text, Origin::Flag), Ok(true), "{name}");
        }
        given
    }

    fn token(text: &str) -> Result<TokenKind, Refusal> {
        of(&given(&[("auth-token", text)]))
    }

    #[test]
    fn tokens_are_simple_ones_of_five_minutes_unless_told() {
        for (values, seconds) in [
            (&[][..], 300),
            (&[("auth-token-ttl", "0")], 300),
            (&[("auth-token-ttl", "7"), ("auth-token", "simple")], 7),
            (&[("auth-token", "simple,any=thing")], 300),
        ] {
            match of(&given(values)) {
                Ok(TokenKind::Simple { ttl }) => assert_eq!(ttl.as_secs(), seconds, "{values:?}"),
                other => panic!("{values:?}: {other:?}"),
            }
        }
        assert!(matches!(token(""), Ok(TokenKind::None)));
    }

    #[test]
    fn a_signed_token_needs_a_method_and_its_key() {
        let key = tempfile::NamedTempFile::new().expect("a file");
        fs::write(&key, "a secret").expect("written");
        let path = key.path().display();
        for (text, part) in [
            (
                format!("jwt,sign-method=HS256,priv-key={path},ttl=1m,what=ever"),
                None,
            ),
            (
                format!("jwt,priv-key={path}"),
                Some("auth: invalid auth signature method"),
            ),
            (
                format!("jwt,sign-method=none,priv-key={path}"),
                Some("auth: invalid auth signature method"),
            ),
            (
                "jwt,sign-method=HS256".to_owned(),
                Some("auth: missing key data"),
            ),
            (
                format!("jwt,sign-method=HS256,pub-key={path}"),
                Some("auth: missing key data"),
            ),
            (
                format!("jwt,sign-method=RS256,pub-key={path}"),
                Some("invalid key: Key must be a PEM encoded"),
            ),
            (
                "jwt,sign-method=HS256,priv-key=/no/such".to_owned(),
                Some("open /no/such: "),
            ),
            (
                format!("jwt,sign-method=HS256,priv-key={path},ttl=x"),
                Some("time: invalid duration"),
            ),
            ("jwt,a=b,a=c".to_owned(), Some("auth: invalid auth options")),
            ("simple,a".to_owned(), Some("auth: invalid auth options")),
            (
                "simple,a=b=c".to_owned(),
                Some("auth: invalid auth options"),
            ),
            ("other".to_owned(), Some("auth: invalid auth options")),
        ] {
            match (token(&text), part) {
                (Ok(TokenKind::Jwt(_)), None) => {}
                (Err(Refusal::Invalid(sentence)), Some(part)) => {
                    assert!(sentence.contains(part), "{text}: {sentence}");
                }
                (other, _) => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_cost_that_bcrypt_does_not_have_is_etcds_default() {
        for (text, cost) in [
            ("4", 4),
            ("31", 31),
            ("3", 10),
            ("32", 10),
            ("99999999999", 10),
        ] {
            assert_eq!(
                bcrypt_cost(&given(&[("bcrypt-cost", text)])),
                Ok(cost),
                "{text}"
            );
        }
        assert_eq!(bcrypt_cost(&Given::default()), Ok(10));
    }
}
