//! Which process holds the other end of a loopback connection. The kernel tells it to everybody under /proc, so a relay
//! knows who dialled it whatever the program says about itself, and needs no rights for it.

use std::fs;
use std::net::SocketAddr;

/// The process, of `pids`, that dialled from `near` to `far`; `None` when it is another, or has closed the connection.
pub fn who_dialled(near: SocketAddr, far: SocketAddr, pids: &[u32]) -> Option<u32> {
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let socket = format!("socket:[{}]", inode(&table, near.port(), far.port())?);
    let holds = |pid: &&u32| {
        let files = fs::read_dir(format!("/proc/{pid}/fd"));
        let mut targets = files
            .into_iter()
            .flatten()
            .filter_map(|file| fs::read_link(file.ok()?.path()).ok());
        targets.any(|target| target.as_os_str() == socket.as_str())
    };
    pids.iter().find(holds).copied()
}

/// The inode of the socket between two ports, from the text of /proc/net/tcp. 0 is a socket that no process has any more.
fn inode(table: &str, near: u16, far: u16) -> Option<&str> {
    let ends_with = |address: &str, port: u16| {
        let hex = address.rsplit(':').next();
        hex.and_then(|hex| u16::from_str_radix(hex, 16).ok()) == Some(port)
    };
    let row = table.lines().skip(1).find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let (local, remote) = (words.next()?, words.next()?);
        (ends_with(local, near) && ends_with(remote, far)).then(|| words.nth(6))
    });
    row.flatten().filter(|inode| *inode != "0")
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::process;

    use super::*;

    #[test]
    fn a_connection_tells_the_process_that_made_it() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let far = listener.local_addr().expect("it is bound");
        let dialled = TcpStream::connect(far).expect("it listens");
        let near = dialled.local_addr().expect("it is connected");
        let own = process::id();
        assert_eq!(who_dialled(near, far, &[1, own]), Some(own));
        assert_eq!(who_dialled(near, far, &[]), None);
        drop(dialled);
        assert_eq!(who_dialled(near, far, &[own]), None);
    }
}
