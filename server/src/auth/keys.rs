//! The keys that sign tokens, out of the PEM files that OpenSSL and Go write: PKCS #1, PKCS #8 and SEC 1, and for what only
//! verifies a public key or a certificate. Called by `jwt.rs`.

use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{
    self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RsaEncoding,
    RsaKeyPair, UnparsedPublicKey, VerificationAlgorithm,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, SubjectPublicKeyInfoDer};

use super::algorithm::{self, Algorithm, Family};

/// Why there is no key, in etcd's words where it has any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No key was given that the method could use.
    #[error("auth: missing key data")]
    Missing,
    /// The two keys are not of one pair.
    #[error("auth: public and private keys don't match")]
    Mismatch,
    /// A file holds no key.
    #[error("invalid key: Key must be a PEM encoded PKCS1 or PKCS8 key")]
    NoPem,
    /// A file holds a key that the method has no use for.
    #[error(
        "key is not a valid one for the sign-method; RSA keys have 2048 bits or more, EC keys are of the method's curve"
    )]
    Unfit,
}

/// What verifies tokens, and perhaps signs them.
pub(super) enum Keys {
    Shared(hmac::Key),
    Pair {
        /// None where only the public key was given.
        signer: Option<Signer>,
        public: UnparsedPublicKey<Vec<u8>>,
    },
}

pub(super) enum Signer {
    Rsa(Box<RsaKeyPair>, &'static dyn RsaEncoding),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Keys {
    /// Reads the contents of the key files. A public key beside a private one must be of its pair. As in etcd a file without
    /// contents is none: an empty secret is one that everybody knows.
    pub(super) fn read(
        algorithm: Algorithm,
        private: Option<&[u8]>,
        public: Option<&[u8]>,
    ) -> Result<Self, KeyError> {
        let private = private.filter(|contents| !contents.is_empty());
        let public = public.filter(|contents| !contents.is_empty());
        match algorithm.family {
            Family::Hmac(hash) => {
                let secret = private.ok_or(KeyError::Missing)?;
                Ok(Self::Shared(hmac::Key::new(hash, secret)))
            }
            Family::Rsa { sign, verify } => {
                let signer = private.map(|pem| Ok(Signer::Rsa(Box::new(rsa(pem)?), sign)));
                Self::pair(signer, public, algorithm::RSA, verify)
            }
            Family::Ecdsa {
                sign,
                verify,
                curve,
            } => {
                let signer = private.map(|pem| ecdsa(pem, sign).map(Signer::Ecdsa));
                Self::pair(signer, public, curve, verify)
            }
            Family::Ed25519 => {
                let signer = private.map(|pem| ed25519(pem).map(Signer::Ed25519));
                Self::pair(signer, public, algorithm::ED25519, &signature::ED25519)
            }
        }
    }

    fn pair(
        signer: Option<Result<Signer, KeyError>>,
        public: Option<&[u8]>,
        kind: &[u8],
        verify: &'static dyn VerificationAlgorithm,
    ) -> Result<Self, KeyError> {
        let signer = signer.transpose()?;
        let public = public.map(|pem| public_key(pem, kind)).transpose()?;
        let public = match (signer.as_ref().map(Signer::public_key), public) {
            (None, None) => return Err(KeyError::Missing),
            (Some(derived), Some(given)) if derived != given => return Err(KeyError::Mismatch),
            (Some(key), _) | (None, Some(key)) => key,
        };
        let public = UnparsedPublicKey::new(verify, public);
        Ok(Self::Pair { signer, public })
    }
}

impl Signer {
    fn public_key(&self) -> Vec<u8> {
        match self {
            Self::Rsa(pair, _) => pair.public_key().as_ref().to_vec(),
            Self::Ecdsa(pair) => pair.public_key().as_ref().to_vec(),
            Self::Ed25519(pair) => pair.public_key().as_ref().to_vec(),
        }
    }
}

fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, KeyError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| KeyError::NoPem)
}

fn rsa(pem: &[u8]) -> Result<RsaKeyPair, KeyError> {
    match private_key(pem)? {
        PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
        PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
        _ => return Err(KeyError::Unfit),
    }
    .map_err(|_| KeyError::Unfit)
}

fn ecdsa(pem: &[u8], method: &'static EcdsaSigningAlgorithm) -> Result<EcdsaKeyPair, KeyError> {
    let random = SystemRandom::new();
    match private_key(pem)? {
        PrivateKeyDer::Sec1(der) => {
            let (private, public) = Der(der.secret_sec1_der()).sec1().ok_or(KeyError::Unfit)?;
            EcdsaKeyPair::from_private_key_and_public_key(method, private, public, &random)
        }
        PrivateKeyDer::Pkcs8(der) => {
            EcdsaKeyPair::from_pkcs8(method, der.secret_pkcs8_der(), &random)
        }
        _ => return Err(KeyError::Unfit),
    }
    .map_err(|_| KeyError::Unfit)
}

fn ed25519(pem: &[u8]) -> Result<Ed25519KeyPair, KeyError> {
    match private_key(pem)? {
        PrivateKeyDer::Pkcs8(der) => {
            Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der())
        }
        _ => return Err(KeyError::Unfit),
    }
    .map_err(|_| KeyError::Unfit)
}

/// The bits of a public key of a kind, which a file has by itself or in a certificate.
fn public_key(pem: &[u8], kind: &[u8]) -> Result<Vec<u8>, KeyError> {
    let (found, bits) = match SubjectPublicKeyInfoDer::from_pem_slice(pem) {
        Ok(info) => Der(&info).public_key().map(own),
        Err(_) => {
            let certificate = CertificateDer::from_pem_slice(pem).map_err(|_| KeyError::NoPem)?;
            Der(&certificate).certified_key().map(own)
        }
    }
    .ok_or(KeyError::Unfit)?;
    Some(bits)
        .filter(|_| found.starts_with(kind))
        .ok_or(KeyError::Unfit)
}

fn own((kind, bits): (&[u8], &[u8])) -> (Vec<u8>, Vec<u8>) {
    (kind.to_vec(), bits.to_vec())
}

/// A run of DER's elements: tag, length, contents.
struct Der<'a>(&'a [u8]);

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const SEQUENCE: u8 = 0x30;
const FIRST: u8 = 0xa0;
const SECOND: u8 = 0xa1;

impl<'a> Der<'a> {
    /// The next element's tag and contents.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, short], rest) = self.0.split_first_chunk()?;
        let (length, rest) = if short < 0x80 {
            (usize::from(short), rest)
        } else {
            let (bytes, rest) = rest.split_at_checked(usize::from(short & 0x7f))?;
            let length = bytes.iter().try_fold(0usize, |sum, byte| {
                Some(sum.checked_mul(256)? + usize::from(*byte))
            })?;
            (length, rest)
        };
        let (contents, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, contents))
    }

    /// The contents of the next element, which must have the tag.
    fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next()
            .filter(|(found, _)| *found == tag)
            .map(|(_, contents)| contents)
    }

    /// SEC 1's `ECPrivateKey`: the private key and the public one, which OpenSSL and Go always write.
    fn sec1(mut self) -> Option<(&'a [u8], &'a [u8])> {
        let mut key = Der(self.take(SEQUENCE)?);
        key.take(INTEGER)?;
        let private = key.take(OCTET_STRING)?;
        loop {
            match key.next()? {
                (FIRST, _curve) => {}
                (SECOND, public) => return Some((private, Der(public).bits()?)),
                _ => return None,
            }
        }
    }

    /// X.509's `SubjectPublicKeyInfo`: the algorithm and the key.
    fn public_key(mut self) -> Option<(&'a [u8], &'a [u8])> {
        let mut info = Der(self.take(SEQUENCE)?);
        Some((info.take(SEQUENCE)?, info.bits()?))
    }

    /// The key of an X.509 `Certificate`.
    fn certified_key(mut self) -> Option<(&'a [u8], &'a [u8])> {
        let mut certificate = Der(self.take(SEQUENCE)?);
        let mut signed = Der(certificate.take(SEQUENCE)?);
        // The version is only written where it is not the first; behind it come serial number, signature algorithm, issuer,
        // validity and subject.
        let versioned = signed.next()?.0 == FIRST;
        for _ in 0..4 + usize::from(versioned) {
            signed.next()?;
        }
        signed.public_key()
    }

    /// A bit string of whole bytes.
    fn bits(&mut self) -> Option<&'a [u8]> {
        self.take(BIT_STRING)?.strip_prefix(&[0])
    }
}
