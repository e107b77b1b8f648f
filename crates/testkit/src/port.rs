//! Ports for programs that open them themselves, and for nobody.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    sync::atomic::{AtomicU32, Ordering},
};

/// From here up to where Linux begins to give ports to sockets that name none (`ip_local_port_range`): nothing
/// else on this machine comes to have one of these by chance, also while its registry is down.
const FIRST: u32 = 10_240;
const COUNT: u32 = 32_768 - FIRST;
/// How far the ports of two processes that were started one after the other lie apart.
const OF_A_PROCESS: u32 = 101;

/// A loopback port that nothing listens on. Nobody else in this process is given the same.
pub(crate) fn free_port() -> u16 {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    for _ in 0..COUNT {
        let number = GIVEN.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + std::process::id().wrapping_mul(OF_A_PROCESS).wrapping_add(number) % COUNT;
        let port = u16::try_from(port).expect("it is below 32768");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("every port from {FIRST} to {} is taken", FIRST + COUNT - 1)
}

/// `127.0.0.1:PORT` where nothing listens, nor will.
pub fn closed_host() -> String {
    format!("127.0.0.1:{}", free_port())
}

/// Whether the process `pid` itself listens on a loopback port: to connect would also find others, and could find
/// itself.
pub(crate) fn listens(pid: u32, port: u16) -> bool {
    const LISTEN: &str = "0A";
    let inodes = sockets(port, LISTEN).into_iter();
    let links: Vec<String> = inodes.map(|inode| format!("socket:[{inode}]")).collect();
    let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let mut targets = open.filter_map(|file| fs::read_link(file.path()).ok());
    targets.any(|target| links.iter().any(|link| target.as_os_str() == link.as_str()))
}

/// Whether somebody has closed a connection to a loopback port that its server is not done with.
pub(crate) fn is_left(port: u16) -> bool {
    const CLOSE_WAIT: &str = "08";
    !sockets(port, CLOSE_WAIT).is_empty()
}

/// Inodes of the sockets of a loopback port that are in this state (proc(5), `/proc/net/tcp`).
fn sockets(port: u16, state: &str) -> Vec<String> {
    // As it lies in memory.
    let local = format!("{:08X}:{port:04X}", u32::from(Ipv4Addr::LOCALHOST).to_be());
    let text = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let meant = lines.filter(|fields| fields.get(1) == Some(&&*local) && fields.get(3) == Some(&state));
    meant.filter_map(|fields| fields.get(9).map(|inode| (*inode).to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn ports_are_given_once_and_listeners_are_known() {
        let (one, two) = (free_port(), free_port());
        assert_ne!(one, two);
        let here = std::process::id();
        assert!(!listens(here, one));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, one)).unwrap();
        assert!(listens(here, one));
        assert!(!listens(here, two));
        // It is another's.
        assert!(!listens(1, one));
        let client = TcpStream::connect((Ipv4Addr::LOCALHOST, one)).unwrap();
        let (server, _) = listener.accept().unwrap();
        assert!(!is_left(one));
        drop(client);
        assert!(is_left(one));
        drop((server, listener));
        assert!(!is_left(one) && !listens(here, one));
    }
}
