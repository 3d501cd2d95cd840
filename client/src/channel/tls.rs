//! TLS: whom the client trusts and who it is. The files are read again for every connection, so that certificates can be
//! exchanged under a client that runs; when they cannot be read, or do not fit each other, what was read last is used.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::task::spawn_blocking;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
};

use crate::locks::Mutex;
use crate::options::Tls;

/// Makes TLS of a socket.
pub(super) struct Encryption {
    options: Tls,
    /// What was read last without an error.
    last: Mutex<Option<Arc<ClientConfig>>>,
}

impl Encryption {
    pub(super) fn new(options: Tls) -> Encryption {
        Encryption {
            options,
            last: Mutex::new(None),
        }
    }

    /// Greets the server at `host` and sees that it is the one.
    ///
    /// # Errors
    /// It is not, or does not trust us, or there is nothing to trust it with.
    pub(super) async fn wrap(
        &self,
        host: &str,
        socket: TcpStream,
    ) -> io::Result<TlsStream<TcpStream>> {
        let name = self.options.server_name.as_deref().unwrap_or(host);
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let config = self.config().await?;
        TlsConnector::from(config).connect(name, socket).await
    }

    async fn config(&self) -> io::Result<Arc<ClientConfig>> {
        let options = self.options.clone();
        let read = spawn_blocking(move || read(&options)).await;
        match read.map_err(io::Error::other).flatten() {
            Ok(config) => {
                let config = Arc::new(config);
                *self.last.lock() = Some(config.clone());
                Ok(config)
            }
            Err(error) => {
                let last = self.last.lock().clone();
                let last = last.ok_or_else(|| io::Error::new(error.kind(), error.to_string()))?;
                tracing::warn!(%error, "the TLS files cannot be used; those read last are");
                Ok(last)
            }
        }
    }
}

fn read(options: &Tls) -> io::Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let builder = if options.dangerously_skip_verify {
        let anybody = Arc::new(Anybody(provider));
        builder
            .dangerous()
            .with_custom_certificate_verifier(anybody)
    } else {
        builder.with_root_certificates(roots(options.ca.as_deref())?)
    };
    let mut config = match &options.identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let chain = certificates(&identity.certificate)?;
            let key = named(
                &identity.key,
                PrivateKeyDer::from_pem_slice(&file(&identity.key)?),
            )?;
            named(
                &identity.certificate,
                builder.with_client_auth_cert(chain, key),
            )?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// Takes every certificate for the right one. That the server has its key is still seen.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Those of the file; those of this system where there is none.
fn roots(ca: Option<&Path>) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            for certificate in certificates(path)? {
                named(path, roots.add(certificate))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    Ok(roots)
}

fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let pem = file(path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let all = named(path, all)?;
    if all.is_empty() {
        return Err(io::Error::other(format!(
            "{}: there is no certificate in it",
            path.display()
        )));
    }
    Ok(all)
}

fn file(path: &Path) -> io::Result<Vec<u8>> {
    named(path, fs::read(path))
}

/// An error says which file it is about.
fn named<T, E: std::fmt::Display>(path: &Path, result: Result<T, E>) -> io::Result<T> {
    result.map_err(|error| io::Error::other(format!("{}: {error}", path.display())))
}
