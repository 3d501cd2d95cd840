use super::*;

/// Keys that OpenSSL made for these tests and nothing else.
macro_rules! key {
    ($name:literal) => {
        Some(include_bytes!(concat!("test_keys/", $name, ".pem")) as &[u8])
    };
}

type Pem = Option<&'static [u8]>;

const TTL: Duration = Duration::from_secs(300);
const NOW_SECS: f64 = 1_800_000_000.0;

fn jwt(method: &str, private: Pem, public: Pem) -> Result<Jwt, KeyError> {
    let algorithm = Algorithm::named(method).expect("it is one of those that are known");
    Jwt::new(algorithm, private, public, TTL)
}

fn claims(user: &str, revision: u64) -> Option<Claims> {
    let user = user.to_owned();
    Some(Claims { user, revision })
}

/// Every method with a private key and what verifies its tokens elsewhere.
const PAIRS: [(&str, Pem, Pem); 14] = [
    ("HS256", Some(b"secret"), None),
    ("HS384", Some(b"secret"), None),
    ("HS512", Some(b"secret"), None),
    ("RS256", key!("rsa-pkcs1"), key!("rsa-public")),
    ("RS384", key!("rsa-pkcs8"), key!("rsa-certificate")),
    ("RS512", key!("rsa-pkcs8"), key!("rsa-public")),
    ("PS256", key!("rsa-pkcs1"), key!("rsa-public")),
    ("PS384", key!("rsa-pkcs1"), key!("rsa-certificate")),
    ("PS512", key!("rsa-pkcs8"), key!("rsa-public")),
    ("ES256", key!("p256-sec1"), key!("p256-public")),
    ("ES256", key!("p256-pkcs8"), key!("p256-certificate")),
    ("ES384", key!("p384-sec1"), key!("p384-public")),
    ("EdDSA", key!("ed25519"), key!("ed25519-public")),
    ("EdDSA", key!("ed25519"), None),
];

#[test]
fn a_token_says_whose_it_is_to_whoever_has_the_key() {
    for (method, private, public) in PAIRS {
        let signer = jwt(method, private, public).expect(method);
        let token = signer.sign_at(NOW_SECS, "alice", 7).expect(method);
        assert_eq!(
            signer.read_at(NOW_SECS, &token),
            claims("alice", 7),
            "{method}"
        );
        if public.is_some() {
            let verifier = jwt(method, None, public).expect(method);
            assert_eq!(
                verifier.read_at(NOW_SECS, &token),
                claims("alice", 7),
                "{method}"
            );
            assert_eq!(
                verifier.sign_at(NOW_SECS, "alice", 7),
                Err(VerifyOnly),
                "{method}"
            );
        }
    }
}

#[test]
fn a_token_that_was_changed_anywhere_is_none() {
    for (method, private, public) in PAIRS {
        let jwt = jwt(method, private, public).expect(method);
        let token = jwt.sign_at(NOW_SECS, "alice", 7).expect(method);
        for at in [
            0,
            token.find('.').expect("a dot") + 2,
            token.rfind('.').expect("a dot") + 5,
        ] {
            let mut other = token.clone().into_bytes();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            let other = String::from_utf8(other).expect("letters");
            assert_eq!(jwt.read_at(NOW_SECS, &other), None, "{method} at {at}");
        }
    }
    let jwt = jwt("HS256", Some(b"secret"), None).expect("it has a key");
    for nonsense in ["", ".", "..", "a.b.c", "a.b", "a.b.c.d"] {
        assert_eq!(jwt.read_at(NOW_SECS, nonsense), None, "{nonsense}");
    }
}

#[test]
fn a_token_holds_for_its_time_and_not_a_second_more() {
    let jwt = jwt("HS256", Some(b"secret"), None).expect("it has a key");
    let token = jwt.sign_at(NOW_SECS, "alice", 7).expect("it signs");
    assert_eq!(jwt.read_at(NOW_SECS + 299.9, &token), claims("alice", 7));
    assert_eq!(jwt.read_at(NOW_SECS + 300.0, &token), None);
}

#[test]
fn claims_of_others_are_read_as_etcd_reads_them() {
    let jwt = jwt("HS256", Some(b"secret"), None).expect("it has a key");
    for (told, holds) in [
        (json!({"username": "alice", "revision": 7}), true),
        (
            json!({"username": "alice", "revision": 7.9, "aud": "x", "iat": 2e9}),
            true,
        ),
        (
            json!({"username": "alice", "revision": 7, "nbf": NOW_SECS}),
            true,
        ),
        (
            json!({"username": "alice", "revision": 7, "nbf": NOW_SECS + 1.0}),
            false,
        ),
        (
            json!({"username": "alice", "revision": 7, "exp": "2100-01-01"}),
            false,
        ),
        (json!({"username": "alice", "revision": "7"}), false),
        (json!({"username": 5, "revision": 7}), false),
        (json!({"revision": 7}), false),
        (json!([]), false),
    ] {
        let header = json!({"alg": "HS256"}).to_string();
        let signed = format!("{}.{}", encode(header), encode(told.to_string()));
        let signature = jwt.signature(signed.as_bytes()).expect("it signs");
        let token = format!("{signed}.{}", encode(signature));
        let expected = holds.then(|| claims("alice", 7)).flatten();
        assert_eq!(jwt.read_at(NOW_SECS, &token), expected, "{told}");
    }
}

#[test]
fn a_token_of_another_method_is_none() {
    // What is public must not verify as a shared secret.
    let public = key!("rsa-public");
    let forger = jwt("HS256", public, None).expect("any bytes are a secret");
    let token = forger.sign_at(NOW_SECS, "root", 7).expect("it signs");
    let verifier = jwt("RS256", None, public).expect("it has a key");
    assert_eq!(verifier.read_at(NOW_SECS, &token), None);
    let padded = jwt("PS256", key!("rsa-pkcs1"), None).expect("it has a key");
    let token = padded.sign_at(NOW_SECS, "root", 7).expect("it signs");
    assert_eq!(verifier.read_at(NOW_SECS, &token), None);
    for header in [json!({"alg": "none"}), json!({})] {
        let claims = json!({"username": "root", "revision": 7});
        let token = format!(
            "{}.{}.",
            encode(header.to_string()),
            encode(claims.to_string())
        );
        assert_eq!(verifier.read_at(NOW_SECS, &token), None, "{header}");
    }
}

#[test]
fn keys_that_do_not_fit_are_refused_at_once() {
    let cases: [(&str, Pem, Pem, KeyError); 14] = [
        ("HS256", None, key!("rsa-public"), KeyError::Missing),
        ("HS256", Some(b""), None, KeyError::Missing),
        ("RS256", Some(b""), Some(b""), KeyError::Missing),
        ("RS256", None, None, KeyError::Missing),
        ("EdDSA", None, None, KeyError::Missing),
        ("RS256", Some(b"no PEM"), None, KeyError::NoPem),
        ("RS256", None, Some(b"no PEM"), KeyError::NoPem),
        ("RS256", key!("p256-sec1"), None, KeyError::Unfit),
        ("RS256", None, key!("p256-public"), KeyError::Unfit),
        ("RS256", None, key!("rsa-pkcs1"), KeyError::NoPem),
        ("ES256", key!("p384-sec1"), None, KeyError::Unfit),
        ("ES256", None, key!("p384-public"), KeyError::Unfit),
        (
            "ES256",
            key!("p256-sec1"),
            key!("p256-public-of-another"),
            KeyError::Mismatch,
        ),
        ("EdDSA", key!("p256-pkcs8"), None, KeyError::Unfit),
    ];
    for (method, private, public, error) in cases {
        let refused = jwt(method, private, public).map(drop);
        assert_eq!(refused, Err(error), "{method}");
    }
    assert!(Algorithm::named("none").is_none() && Algorithm::named("rs256").is_none());
}
