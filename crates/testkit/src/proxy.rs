//! A proxy before a plain-HTTP registry that breaks connections at a chosen byte, slows them down,
//! alters what passes, or answers itself.
//!
//! Requests and answers pass as they are, each direction on a thread of its own. The registry builds the URLs of uploads from the `Host`
//! that the client sent, so a client that starts at the proxy stays there.

mod connection;
mod fault;
mod message;

use std::{
    collections::{BTreeMap, VecDeque},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

pub use fault::{Fault, RequestKind};

use crate::http::locked;
use connection::Connection;
use fault::Moment;

/// A proxy on a loopback port, ended when dropped.
#[derive(Debug)]
pub struct FaultProxy {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    target: String,
    /// Faults that did not happen yet; the first one waits for its moment.
    faults: Mutex<VecDeque<Planned>>,
    happened: AtomicUsize,
    refuses: AtomicBool,
    holds: AtomicBool,
    stopped: AtomicBool,
    /// Bytes per second that a connection carries to the registry.
    rate: AtomicU64,
    open: Mutex<Vec<TcpStream>>,
    /// Bytes of bodies to and from the registry.
    carried: Mutex<BTreeMap<RequestKind, (u64, u64)>>,
    /// Kinds of requests whose bodies rest as soon as so many of their bytes have passed.
    pause: Mutex<Option<(Vec<RequestKind>, u64)>>,
}

/// A fault, and the only kind of request that it befalls if it is choosy.
#[derive(Clone, Copy, Debug)]
struct Planned {
    kind: Option<RequestKind>,
    fault: Fault,
}

impl FaultProxy {
    /// A proxy before `target` (`HOST:PORT`) that breaks nothing yet.
    pub fn start(target: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free loopback port");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let shared = Arc::new(Shared {
            target: target.to_owned(),
            faults: Mutex::default(),
            happened: AtomicUsize::new(0),
            refuses: AtomicBool::new(false),
            holds: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            rate: AtomicU64::new(u64::MAX),
            open: Mutex::default(),
            carried: Mutex::default(),
            pause: Mutex::default(),
        });
        let accepting = shared.clone();
        thread::spawn(move || accepting.accept(&listener));
        Self { port, shared }
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Adds a fault. Each happens once; the next one is armed when the one before has happened.
    pub fn inject(&self, fault: Fault) {
        locked(&self.shared.faults).push_back(Planned { kind: None, fault });
    }

    /// The same, but it befalls requests of this kind and their answers only.
    pub fn inject_into(&self, kind: RequestKind, fault: Fault) {
        locked(&self.shared.faults).push_back(Planned { kind: Some(kind), fault });
    }

    /// Bytes of requests' bodies of this kind that went to the registry.
    pub fn sent(&self, kind: RequestKind) -> u64 {
        locked(&self.shared.carried).get(&kind).map_or(0, |(sent, _)| *sent)
    }

    /// Bytes of answers' bodies to requests of this kind that came from the registry.
    pub fn received(&self, kind: RequestKind) -> u64 {
        locked(&self.shared.carried).get(&kind).map_or(0, |(_, received)| *received)
    }

    /// How many faults have happened.
    pub fn happened(&self) -> usize {
        self.shared.happened.load(Ordering::SeqCst)
    }

    /// From now on each connection carries so many bytes per second to the registry, about; at least
    /// one.
    pub fn throttle(&self, bytes_per_second: u64) {
        self.shared.rate.store(bytes_per_second.max(1), Ordering::SeqCst);
    }

    /// Lets bodies of these kinds rest as soon as so many bytes of them have passed in all, either way, until
    /// [`Self::resume`]: whoever is slow to look finds what was there at that moment.
    pub fn pause_after(&self, kinds: &[RequestKind], bytes: u64) {
        *locked(&self.shared.pause) = Some((kinds.to_vec(), bytes));
    }

    /// Ends a pause, or takes back one that did not come yet.
    pub fn resume(&self) {
        *locked(&self.shared.pause) = None;
    }

    /// From now on closes every connection, open or new, without an answer; or stops doing so.
    pub fn refuse(&self, refuse: bool) {
        self.shared.refuses.store(refuse, Ordering::SeqCst);
        if refuse {
            self.shared.close_all();
        }
    }

    /// From now on new connections wait before they are carried on; or do so no longer.
    pub fn hold(&self, hold: bool) {
        self.shared.holds.store(hold, Ordering::SeqCst);
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        self.shared.close_all();
        // Wakes the thread that accepts; if nothing listens any more, it has ended.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

impl Shared {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        for client in listener.incoming().flatten() {
            if self.stopped.load(Ordering::SeqCst) {
                return;
            }
            if self.refuses.load(Ordering::SeqCst) {
                continue;
            }
            while self.holds.load(Ordering::SeqCst) && !self.stopped.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(5));
            }
            let Ok(server) = TcpStream::connect(&self.target) else { continue };
            let Ok(connection) = Connection::new(self, &client, &server) else { continue };
            locked(&self.open).extend([client, server]);
            connection.carry();
        }
    }

    fn close_all(&self) {
        for stream in locked(&self.open).drain(..) {
            // Already closed by its peer: what was wanted.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Waits as long as so many bytes may take, in short naps: the rate may change meanwhile.
    fn pace(&self, bytes: u64) {
        const NAP: Duration = Duration::from_millis(5);
        let mut waited = Duration::ZERO;
        let is_slower = |waited: Duration| {
            let rate = self.rate.load(Ordering::SeqCst);
            waited.as_secs_f64() * (rate as f64) < bytes as f64
        };
        while self.rate.load(Ordering::SeqCst) != u64::MAX && is_slower(waited) {
            if self.stopped.load(Ordering::SeqCst) {
                return;
            }
            thread::sleep(NAP);
            waited += NAP;
        }
    }

    /// Does nothing until the proxy ends.
    fn stall(&self) {
        while !self.stopped.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// When the first fault happens, if it befalls this kind of request.
    fn moment(&self, kind: RequestKind) -> Option<Moment> {
        let first = locked(&self.faults).front().copied()?;
        first.kind.is_none_or(|only| only == kind).then(|| first.fault.moment())
    }

    /// The first fault, if it happens now: not if another connection was faster.
    fn strike(&self, kind: RequestKind, moment: Moment) -> Option<Fault> {
        let mut faults = locked(&self.faults);
        let first = faults.front().copied()?;
        let is_due = first.kind.is_none_or(|only| only == kind) && first.fault.moment() == moment;
        is_due.then(|| faults.pop_front())?;
        self.happened.fetch_add(1, Ordering::SeqCst);
        Some(first.fault)
    }

    /// Before they are written: whoever got them finds them counted.
    fn count(&self, kind: RequestKind, sent: u64, received: u64) {
        let mut carried = locked(&self.carried);
        let (all_sent, all_received) = carried.entry(kind).or_default();
        (*all_sent, *all_received) = (*all_sent + sent, *all_received + received);
    }

    /// Waits for the end of a pause of this kind.
    fn rest(&self, kind: RequestKind) {
        while self.is_paused(kind) && !self.stopped.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn is_paused(&self, kind: RequestKind) -> bool {
        let pause = locked(&self.pause);
        let Some((kinds, bytes)) = pause.as_ref().filter(|(kinds, _)| kinds.contains(&kind)) else {
            return false;
        };
        let carried = locked(&self.carried);
        let of_kind = |kind| carried.get(kind).map_or(0, |(sent, received)| sent + received);
        kinds.iter().map(of_kind).sum::<u64>() >= *bytes
    }
}

#[cfg(test)]
mod tests;
