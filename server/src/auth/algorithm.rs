//! How a token is signed: the names of RFC 7518, and what the cryptography calls them. Used by `keys.rs` and `jwt.rs`.

use std::fmt;

use ring::hmac;
use ring::signature::{self, EcdsaSigningAlgorithm, RsaEncoding, VerificationAlgorithm};

/// A way to sign tokens, as `--auth-token`'s `sign-method` names it.
#[derive(Clone, Copy)]
pub struct Algorithm {
    name: &'static str,
    pub(super) family: Family,
}

/// What kind of key signs, and how.
#[derive(Clone, Copy)]
pub(super) enum Family {
    /// One secret signs and verifies.
    Hmac(hmac::Algorithm),
    /// RSA, padded one way or the other.
    Rsa {
        sign: &'static dyn RsaEncoding,
        verify: &'static dyn VerificationAlgorithm,
    },
    /// ECDSA on one curve. `curve` is the algorithm identifier of its keys.
    Ecdsa {
        sign: &'static EcdsaSigningAlgorithm,
        verify: &'static dyn VerificationAlgorithm,
        curve: &'static [u8],
    },
    /// Ed25519.
    Ed25519,
}

/// Algorithm identifiers of public keys in DER, as far as they must agree.
pub(super) const RSA: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01";
pub(super) const ED25519: &[u8] = b"\x06\x03\x2b\x65\x70";
const P256: &[u8] = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
const P384: &[u8] = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22";

impl Algorithm {
    /// The algorithm of a name such as `RS256`; none when there is no such one here. etcd's ES512 is not.
    pub fn named(name: &str) -> Option<Self> {
        let (name, family) = match name {
            "HS256" => ("HS256", Family::Hmac(hmac::HMAC_SHA256)),
            "HS384" => ("HS384", Family::Hmac(hmac::HMAC_SHA384)),
            "HS512" => ("HS512", Family::Hmac(hmac::HMAC_SHA512)),
            "RS256" => (
                "RS256",
                Family::Rsa {
                    sign: &signature::RSA_PKCS1_SHA256,
                    verify: &signature::RSA_PKCS1_2048_8192_SHA256,
                },
            ),
            "RS384" => (
                "RS384",
                Family::Rsa {
                    sign: &signature::RSA_PKCS1_SHA384,
                    verify: &signature::RSA_PKCS1_2048_8192_SHA384,
                },
            ),
            "RS512" => (
                "RS512",
                Family::Rsa {
                    sign: &signature::RSA_PKCS1_SHA512,
                    verify: &signature::RSA_PKCS1_2048_8192_SHA512,
                },
            ),
            "PS256" => (
                "PS256",
                Family::Rsa {
                    sign: &signature::RSA_PSS_SHA256,
                    verify: &signature::RSA_PSS_2048_8192_SHA256,
                },
            ),
            "PS384" => (
                "PS384",
                Family::Rsa {
                    sign: &signature::RSA_PSS_SHA384,
                    verify: &signature::RSA_PSS_2048_8192_SHA384,
                },
            ),
            "PS512" => (
                "PS512",
                Family::Rsa {
                    sign: &signature::RSA_PSS_SHA512,
                    verify: &signature::RSA_PSS_2048_8192_SHA512,
                },
            ),
            "ES256" => (
                "ES256",
                Family::Ecdsa {
                    sign: &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
                    verify: &signature::ECDSA_P256_SHA256_FIXED,
                    curve: P256,
                },
            ),
            "ES384" => (
                "ES384",
                Family::Ecdsa {
                    sign: &signature::ECDSA_P384_SHA384_FIXED_SIGNING,
                    verify: &signature::ECDSA_P384_SHA384_FIXED,
                    curve: P384,
                },
            ),
            "EdDSA" => ("EdDSA", Family::Ed25519),
            _ => return None,
        };
        Some(Self { name, family })
    }

    /// As tokens name it.
    pub fn name(self) -> &'static str {
        self.name
    }
}

impl fmt::Debug for Algorithm {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name)
    }
}
