//! A TCP relay before a member: it carries bytes both ways until it is told to swallow them or to break every connection.
//! What a client sees then is a network that fails, while the member lives on.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

/// What becomes of bytes and connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// They pass.
    Open,
    /// They are taken and never come out, and nobody is told: a black hole.
    Swallow,
    /// What the client says passes; what the member answers is taken and never comes out.
    Deafen,
    /// Connections are closed, the new ones too.
    Cut,
}

/// A relay that ends when it is dropped.
pub struct Relay {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    /// Counts.
    breaks: watch::Sender<u64>,
    accepting: AbortHandle,
}

impl Relay {
    /// Starts one before `target`.
    pub async fn before(target: SocketAddr) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (mode, modes) = watch::channel(Mode::Open);
        let breaks = watch::Sender::new(0);
        let breaking = breaks.clone();
        let accepting = tokio::spawn(async move {
            // When this task is aborted its connections are, too.
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let carried = carry_connection(socket, target, modes.clone());
                let mut breaks = breaking.subscribe();
                connections.spawn(async move {
                    tokio::select! {
                        () = carried => {}
                        _ = breaks.changed() => {}
                    }
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Relay {
            address,
            mode,
            breaks,
            accepting: accepting.abort_handle(),
        }
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on, for the connections that are open too.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Closes every connection that is open, once.
    pub fn break_connections(&self) {
        self.breaks.send_modify(|count| *count += 1);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn carry_connection(near: TcpStream, target: SocketAddr, modes: watch::Receiver<Mode>) {
    let mut cut = modes.clone();
    let carried = async {
        let Ok(far) = TcpStream::connect(target).await else {
            return;
        };
        for socket in [&near, &far] {
            socket.set_nodelay(true).expect("the socket is open");
        }
        let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
        tokio::select! {
            () = carry(near_in, far_out, &modes, &[Mode::Swallow]) => {}
            () = carry(far_in, near_out, &modes, &[Mode::Swallow, Mode::Deafen]) => {}
        }
    };
    tokio::select! {
        () = carried => {}
        _ = cut.wait_for(|mode| *mode == Mode::Cut) => {}
    }
}

/// Carries until either side is closed, but nothing in one of the modes that swallow.
async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    modes: &watch::Receiver<Mode>,
    swallowing: &[Mode],
) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = from.read(&mut buffer).await.unwrap_or(0);
        if swallowing.contains(&modes.borrow()) {
            // Even its end is swallowed: the other side hears nothing.
            if read == 0 {
                std::future::pending::<()>().await;
            }
            continue;
        }
        if read == 0 || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
