//! TLS with certificates on both sides: in front of Keystead, which has none of its own yet, ended by the test; on real etcd, by
//! etcd. And certificates that are exchanged while the client runs.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use keystead_client::{Client, ConnectOptions, Error, Identity, Kind, Outcome, Tls};
use keystead_tests::{Kind as Program, Server};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

/// A certificate authority, and its files.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    der: Vec<u8>,
}

impl Authority {
    fn new(name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        Authority {
            pem: certificate.pem(),
            der: certificate.der().to_vec(),
            issuer: Issuer::new(params, key),
        }
    }

    /// A certificate for 127.0.0.1, and its key, in PEM.
    fn issue(&self) -> (rcgen::Certificate, KeyPair) {
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        (certificate, key)
    }

    /// The same in files.
    fn write(&self, directory: &Path, name: &str) -> Identity {
        let (certificate, key) = self.issue();
        let file = |ending: &str, text: String| {
            let path = directory.join(format!("{name}.{ending}"));
            fs::write(&path, text).expect("it can be written");
            path
        };
        Identity {
            certificate: file("crt", certificate.pem()),
            key: file("key", key.serialize_pem()),
        }
    }

    /// A server that is known by this authority and lets in those that are.
    fn acceptor(&self) -> TlsAcceptor {
        let (certificate, key) = self.issue();
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone().into()).expect("it is one");
        let provider = Arc::new(ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the usual ones")
            .with_client_cert_verifier(verifier.build().expect("there is a root"))
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("they fit");
        config.alpn_protocols = vec![b"h2".to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }
}

/// Ends TLS before a member.
struct Terminator {
    address: SocketAddr,
    acceptor: watch::Sender<TlsAcceptor>,
    accepted: Arc<AtomicUsize>,
    accepting: AbortHandle,
}

impl Terminator {
    async fn before(target: SocketAddr, acceptor: TlsAcceptor) -> Terminator {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (sender, mut acceptors) = watch::channel(acceptor);
        let accepted = Arc::new(AtomicUsize::new(0));
        let counter = accepted.clone();
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let acceptor = acceptors.borrow_and_update().clone();
                tokio::select! {
                    Ok((socket, _)) = listener.accept() => {
                        let counter = counter.clone();
                        connections.spawn(async move {
                            let Ok(mut near) = acceptor.accept(socket).await else { return };
                            counter.fetch_add(1, Relaxed);
                            let Ok(mut far) = TcpStream::connect(target).await else { return };
                            let _ = copy_bidirectional(&mut near, &mut far).await;
                        });
                    }
                    // With new certificates the connections of before are closed.
                    Ok(()) = acceptors.changed() => connections.shutdown().await,
                }
            }
        });
        Terminator {
            address,
            acceptor: sender,
            accepted,
            accepting: accepting.abort_handle(),
        }
    }
}

impl Drop for Terminator {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn client(address: SocketAddr, ca: &Path, identity: Option<&Identity>) -> Client {
    Client::lazy(ConnectOptions {
        tls: Tls {
            ca: Some(ca.to_owned()),
            identity: identity.cloned(),
            ..Tls::default()
        },
        ..ConnectOptions::new([format!("https://{address}")])
    })
    .expect("an address is an endpoint")
}

fn directory(authority: &Authority) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let ca = directory.path().join("ca.crt");
    fs::write(&ca, &authority.pem).expect("it can be written");
    (directory, ca)
}

/// A put that has no time to wait for another certificate.
async fn refused(client: &Client) -> Error {
    let short = client.with_deadline(Duration::from_millis(1500));
    let error = short.put("k", "never").await.expect_err("it is refused");
    assert_eq!(
        (error.kind, error.outcome),
        (Kind::Unavailable, Outcome::NotApplied),
        "{error}"
    );
    error
}

/// Whom `address` lets in: who is known by `authority` and knows it.
async fn only_the_known_are_let_in(address: SocketAddr, authority: &Authority) {
    let (directory, ca) = directory(authority);
    let known = authority.write(directory.path(), "client");
    let ours = client(address, &ca, Some(&known));
    let patient = ours.with_deadline(Duration::from_secs(60));
    patient.put("k", "v").await.expect("both are known");
    refused(&client(address, &ca, None)).await;
    let stranger = Authority::new("stranger");
    let unknown = stranger.write(directory.path(), "stranger");
    refused(&client(address, &ca, Some(&unknown))).await;
    let other = directory.path().join("other.crt");
    fs::write(&other, &stranger.pem).expect("it can be written");
    let error = refused(&client(address, &other, Some(&known))).await;
    assert!(error.message.contains("UnknownIssuer"), "{error}");
    let error = refused(&client(address, Path::new("/nowhere/ca.crt"), None)).await;
    assert!(error.message.contains("/nowhere/ca.crt"), "{error}");
    let now = ours
        .get("k")
        .await
        .expect("both are known")
        .expect("it is there");
    assert_eq!(now.version, 1);
}

#[tokio::test]
async fn keystead_behind_tls_lets_only_the_known_in() {
    let server = Server::keystead().await;
    let authority = Authority::new("ours");
    let terminator = Terminator::before(server.address(), authority.acceptor()).await;
    only_the_known_are_let_in(terminator.address, &authority).await;
}

#[tokio::test]
async fn a_certificate_that_nobody_knows_is_taken_by_who_asked_for_the_danger_alone() {
    let server = Server::keystead().await;
    let stranger = Authority::new("stranger");
    let (directory, _) = directory(&Authority::new("ours"));
    let identity = stranger.write(directory.path(), "client");
    let terminator = Terminator::before(server.address(), stranger.acceptor()).await;
    let with = |dangerously_skip_verify| {
        Client::lazy(ConnectOptions {
            tls: Tls {
                identity: Some(identity.clone()),
                dangerously_skip_verify,
                ..Tls::default()
            },
            ..ConnectOptions::new([format!("https://{}", terminator.address)])
        })
        .expect("an address is an endpoint")
    };
    let error = refused(&with(false)).await;
    assert!(error.message.contains("UnknownIssuer"), "{error}");
    let patient = with(true).with_deadline(Duration::from_secs(60));
    patient.put("k", "v").await.expect("anybody will do");
}

#[tokio::test]
async fn etcd_with_client_certificates_lets_only_the_known_in() {
    let authority = Authority::new("ours");
    let (directory, ca) = directory(&authority);
    let identity = authority.write(directory.path(), "server");
    let path = |path: &Path| path.display().to_string();
    let Some(mut server) = Server::prepare(
        Program::Etcd,
        &[
            "--client-cert-auth",
            "--trusted-ca-file",
            &path(&ca),
            "--cert-file",
            &path(&identity.certificate),
            "--key-file",
            &path(&identity.key),
        ],
        &[],
    ) else {
        println!("skipped: there is no etcd");
        return;
    };
    server.listen_encrypted();
    server.launch();
    only_the_known_are_let_in(server.address(), &authority).await;
}

#[tokio::test]
async fn certificates_are_exchanged_while_the_client_runs() {
    let server = Server::keystead().await;
    let (first, second) = (Authority::new("first"), Authority::new("second"));
    let terminator = Terminator::before(server.address(), first.acceptor()).await;
    let (directory, ca) = directory(&first);
    let identity = first.write(directory.path(), "client");
    let client = client(terminator.address, &ca, Some(&identity));
    let client = client.with_deadline(Duration::from_secs(60));
    client.put("k", "1").await.expect("both are known");
    terminator.acceptor.send_replace(second.acceptor());
    // Until the connection of before is closed.
    let short = client.with_deadline(Duration::from_millis(1500));
    while short.get("k").await.is_ok() {}
    refused(&client).await;
    fs::write(&ca, &second.pem).expect("it can be written");
    second.write(directory.path(), "client");
    client
        .put("k", "2")
        .await
        .expect("the files are read again");
    // Half a file, as a careless exchange leaves it: what was read last still works.
    fs::write(&ca, "-----BEGIN CERT").expect("it can be written");
    let before = terminator.accepted.load(Relaxed);
    terminator.acceptor.send_replace(second.acceptor());
    while terminator.accepted.load(Relaxed) == before {
        client.get("k").await.expect("what was read last is used");
    }
    client
        .put("k", "3")
        .await
        .expect("what was read last is used");
}
