//! The network between the members of a cluster: a relay before every member's peer port, which the member gives out as its
//! own address. A relay knows which member dialled it, so each direction between two members is a link of its own, with a state
//! of its own.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use crate::dialer::who_dialled;
use crate::server::free_address;

/// Pieces that a slow or held link has room for; then its sender feels that nobody reads.
const PIECES: usize = 64;
const PIECE_BYTES: usize = 64 << 10;

/// What becomes of the bytes that one member sends to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// They arrive.
    Open,
    /// They arrive so much later.
    Slow(Duration),
    /// They wait until the link is open again, as over a network that drops packets; connections are taken and stay silent.
    Hold,
    /// They are lost, and nobody is told before the link is open again: its connections break then.
    Swallow,
    /// They arrive, until so many came over one connection: then it breaks, as every other does that gets as far.
    Ration(u64),
    /// Connections break and new ones are refused.
    Refuse,
}

/// The links between all members.
pub struct Network {
    relays: Vec<SocketAddr>,
    links: Arc<Links>,
    accepting: Vec<AbortHandle>,
}

/// What the relays share.
struct Links {
    states: HashMap<(usize, usize), watch::Sender<Link>>,
    pids: Vec<Arc<AtomicU32>>,
    carried_bytes: AtomicU64,
}

impl Network {
    /// As many addresses as there will be members.
    pub fn addresses(members: usize) -> Vec<SocketAddr> {
        (0..members).map(|_| free_address()).collect()
    }

    /// Starts a relay at each of `relays` before the member that listens at the same place of `targets`; the process of
    /// each is told by `pids`.
    pub async fn start(
        relays: Vec<SocketAddr>,
        targets: &[SocketAddr],
        pids: Vec<Arc<AtomicU32>>,
    ) -> Network {
        let members = targets.len();
        let pairs = (0..members).flat_map(|from| (0..members).map(move |to| (from, to)));
        let links = Arc::new(Links {
            states: pairs
                .map(|pair| (pair, watch::channel(Link::Open).0))
                .collect(),
            pids,
            carried_bytes: AtomicU64::new(0),
        });
        let mut accepting = Vec::new();
        for (member, (relay, target)) in relays.iter().zip(targets).enumerate() {
            let listener = TcpListener::bind(relay).await.expect("the port was free");
            let (links, target) = (links.clone(), *target);
            let task = tokio::spawn(accept(listener, member, target, links));
            accepting.push(task.abort_handle());
        }
        Network {
            relays,
            links,
            accepting,
        }
    }

    /// Where the others find this member.
    pub fn address(&self, member: usize) -> SocketAddr {
        self.relays[member]
    }

    /// From now on, for what is under way too.
    pub fn set(&self, from: usize, to: usize, link: Link) {
        self.links.states[&(from, to)].send_replace(link);
    }

    /// Both directions between two members.
    pub fn set_between(&self, one: usize, other: usize, link: Link) {
        self.set(one, other, link);
        self.set(other, one, link);
    }

    /// All links of one member.
    pub fn isolate(&self, member: usize, link: Link) {
        for other in (0..self.relays.len()).filter(|other| *other != member) {
            self.set_between(member, other, link);
        }
    }

    /// Opens every link.
    pub fn heal(&self) {
        for link in self.links.states.values() {
            link.send_replace(Link::Open);
        }
    }

    /// Bytes that came through so far: proof that members talk over these links and no others.
    pub fn carried_bytes(&self) -> u64 {
        self.links.carried_bytes.load(Relaxed)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for task in &self.accepting {
            task.abort();
        }
    }
}

async fn accept(listener: TcpListener, member: usize, target: SocketAddr, links: Arc<Links>) {
    // When this task is aborted its connections are, too.
    let mut connections = JoinSet::new();
    while let Ok((near, dialler)) = listener.accept().await {
        let relay = listener.local_addr().expect("it is bound");
        if let Some(from) = links.dialler(dialler, relay) {
            connections.spawn(carry_connection(
                near,
                target,
                (from, member),
                links.clone(),
            ));
        }
        while connections.try_join_next().is_some() {}
    }
}

impl Links {
    /// Which member dialled; a member that ended since, or anybody else, gets no connection.
    fn dialler(&self, near: SocketAddr, relay: SocketAddr) -> Option<usize> {
        let pids: Vec<u32> = self.pids.iter().map(|pid| pid.load(Relaxed)).collect();
        let running: Vec<u32> = pids.iter().copied().filter(|pid| *pid != 0).collect();
        let pid = who_dialled(near, relay, &running)?;
        pids.iter().position(|it| *it == pid)
    }

    fn watch(&self, from: usize, to: usize) -> watch::Receiver<Link> {
        self.states[&(from, to)].subscribe()
    }
}

/// Carries one connection that `pair.0` made to `pair.1`, until either side or either link ends it.
async fn carry_connection(
    near: TcpStream,
    target: SocketAddr,
    pair: (usize, usize),
    links: Arc<Links>,
) {
    let (there, back) = (links.watch(pair.0, pair.1), links.watch(pair.1, pair.0));
    let (mut cut_there, mut cut_back) = (there.clone(), back.clone());
    let refuses = |link: &Link| *link == Link::Refuse;
    let carried = async {
        let Ok(far) = TcpStream::connect(target).await else {
            return;
        };
        for socket in [&near, &far] {
            socket.set_nodelay(true).expect("the socket is open");
        }
        let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
        tokio::select! {
            () = carry(near_in, far_out, there, &links.carried_bytes) => {}
            () = carry(far_in, near_out, back, &links.carried_bytes) => {}
        }
    };
    tokio::select! {
        () = carried => {}
        _ = cut_there.wait_for(refuses) => {}
        _ = cut_back.wait_for(refuses) => {}
    }
}

/// Carries one direction until it ends or breaks. The end of a connection travels like its bytes.
async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    link: watch::Receiver<Link>,
    carried_bytes: &AtomicU64,
) {
    let (pieces, mut arriving) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES);
    let reading = async move {
        loop {
            let mut piece = vec![0; PIECE_BYTES];
            let read = from.read(&mut piece).await.unwrap_or(0);
            piece.truncate(read);
            if pieces.send((Instant::now(), piece)).await.is_err() || read == 0 {
                // What was read before is still under way.
                std::future::pending::<()>().await;
            }
        }
    };
    let writing = async move {
        let mut link = link;
        let mut rationed = 0;
        while let Some((sent, mut piece)) = arriving.recv().await {
            if !passes(&mut link, sent).await || piece.is_empty() {
                return;
            }
            let state = *link.borrow();
            let mut used_up = false;
            if let Link::Ration(bytes) = state {
                let left = bytes.saturating_sub(rationed);
                used_up = piece.len() as u64 >= left;
                piece.truncate(usize::try_from(left).unwrap_or(usize::MAX));
                rationed += piece.len() as u64;
            }
            if to.write_all(&piece).await.is_err() {
                return;
            }
            carried_bytes.fetch_add(piece.len() as u64, Relaxed);
            if used_up {
                return;
            }
        }
    };
    tokio::select! {
        () = reading => {}
        () = writing => {}
    }
}

/// Waits as long as the link keeps a piece; false when the piece was lost, and the connection with it.
async fn passes(link: &mut watch::Receiver<Link>, sent: Instant) -> bool {
    let mut lost = false;
    loop {
        let state = *link.borrow_and_update();
        match state {
            Link::Open | Link::Ration(_) => return !lost,
            Link::Slow(delay) => {
                tokio::time::sleep_until(sent + delay).await;
                return !lost;
            }
            Link::Hold => {}
            Link::Swallow => lost = true,
            Link::Refuse => return false,
        }
        if link.changed().await.is_err() {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    /// Long enough that what is not there by then is held.
    const MOMENT: Duration = Duration::from_millis(100);

    /// This process as member 0, and a listener as member 1, with a connection between them.
    async fn connected() -> (Network, SocketAddr, TcpListener, TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let target = listener.local_addr().expect("it is bound");
        let relays = Network::addresses(2);
        let pids = vec![Arc::new(std::process::id().into()), Arc::default()];
        let network = Network::start(relays, &[target, target], pids).await;
        let relay = network.address(1);
        let near = TcpStream::connect(relay).await.expect("it listens");
        let (far, _) = listener.accept().await.expect("the relay connects");
        (network, relay, listener, near, far)
    }

    async fn arrives(socket: &mut TcpStream) -> Option<u8> {
        timeout(Duration::from_secs(30), socket.read_u8())
            .await
            .expect("the connection is no black hole")
            .ok()
    }

    async fn is_silent(socket: &mut TcpStream) -> bool {
        timeout(MOMENT, socket.read_u8()).await.is_err()
    }

    #[tokio::test]
    async fn a_held_link_delivers_everything_once_it_is_open_again() {
        let (network, _, _listener, mut near, mut far) = connected().await;
        near.write_u8(1).await.expect("it is open");
        assert_eq!(arrives(&mut far).await, Some(1));
        network.set(0, 1, Link::Hold);
        near.write_u8(2).await.expect("it is open");
        assert!(is_silent(&mut far).await);
        // The other direction is a link of its own.
        far.write_u8(3).await.expect("it is open");
        assert_eq!(arrives(&mut near).await, Some(3));
        network.heal();
        assert_eq!(arrives(&mut far).await, Some(2));
        assert_eq!(network.carried_bytes(), 3);
    }

    #[tokio::test]
    async fn a_link_that_swallows_breaks_its_connections_when_it_is_open_again() {
        let (network, relay, listener, mut near, mut far) = connected().await;
        network.isolate(1, Link::Swallow);
        near.write_u8(1).await.expect("it is open");
        assert!(is_silent(&mut far).await);
        // A new connection is taken, and stays as silent.
        let mut second = TcpStream::connect(relay).await.expect("it listens");
        let (mut second_far, _) = listener.accept().await.expect("the relay connects");
        second.write_u8(2).await.expect("it is open");
        assert!(is_silent(&mut second_far).await);
        network.heal();
        for socket in [&mut near, &mut far, &mut second, &mut second_far] {
            assert_eq!(arrives(socket).await, None);
        }
    }

    #[tokio::test]
    async fn a_link_that_refuses_breaks_connections_old_and_new() {
        let (network, relay, _listener, mut near, mut far) = connected().await;
        network.set(1, 0, Link::Refuse);
        assert_eq!(arrives(&mut near).await, None);
        assert_eq!(arrives(&mut far).await, None);
        if let Ok(mut second) = TcpStream::connect(relay).await {
            assert_eq!(arrives(&mut second).await, None);
        }
    }

    #[tokio::test]
    async fn a_rationed_link_breaks_each_connection_after_as_many_bytes() {
        let (network, relay, listener, mut near, mut far) = connected().await;
        near.write_u8(1).await.expect("it is open");
        assert_eq!(arrives(&mut far).await, Some(1));
        network.set(0, 1, Link::Ration(2));
        // The other direction has none.
        far.write_all(&[5, 5, 5]).await.expect("it is open");
        for _ in 0..3 {
            assert_eq!(arrives(&mut near).await, Some(5));
        }
        near.write_all(&[2, 3, 4]).await.expect("it is open");
        for expected in [Some(2), Some(3), None] {
            assert_eq!(arrives(&mut far).await, expected);
        }
        assert_eq!(arrives(&mut near).await, None);
        let mut second = TcpStream::connect(relay).await.expect("it listens");
        let (mut second_far, _) = listener.accept().await.expect("the relay connects");
        second.write_all(&[6, 7, 8]).await.expect("it is open");
        for expected in [Some(6), Some(7), None] {
            assert_eq!(arrives(&mut second_far).await, expected);
        }
    }

    #[tokio::test]
    async fn a_slow_link_delivers_late_and_in_order() {
        let (network, _, _listener, mut near, mut far) = connected().await;
        network.set(0, 1, Link::Slow(MOMENT));
        let begin = Instant::now();
        near.write_u8(1).await.expect("it is open");
        near.write_u8(2).await.expect("it is open");
        assert_eq!(arrives(&mut far).await, Some(1));
        assert!(begin.elapsed() >= MOMENT);
        assert_eq!(arrives(&mut far).await, Some(2));
    }
}
