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
    // proc(5), /proc/net/tcp: the local address as it lies in memory, and state 0A.
    let local = format!("{:08X}:{port:04X}", u32::from(Ipv4Addr::LOCALHOST).to_be());
    let sockets = fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap_or_default();
    let listening = sockets.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        (fields.get(1) == Some(&&*local) && fields.get(3) == Some(&"0A")).then(|| fields.get(9).copied())?
    });
    let links: Vec<String> = listening.map(|inode| format!("socket:[{inode}]")).collect();
    let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let mut targets = open.filter_map(|file| fs::read_link(file.path()).ok());
    targets.any(|target| links.iter().any(|link| target.as_os_str() == link.as_str()))
}

#[cfg(test)]
mod tests {
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
        drop(listener);
        assert!(!listens(here, one));
    }
}
