//! Attach: a WebSocket whose first byte of each frame is a channel (`v4.channel.k8s.io`, `v5.channel.k8s.io`).

use std::{
    io::Write as _,
    net::{Shutdown, TcpStream},
    sync::mpsc::{SyncSender, TrySendError},
    thread,
};

use serde_json::json;

use super::{
    KubeFault,
    refusal::{not_found, status},
    websocket::{self, Frame},
    world::{NAP, World},
};
use crate::http::{Incoming, Reply};

const STDIN: u8 = 0;
const ERROR: u8 = 3;
/// v5: the channel in the second byte is at its end.
const CLOSED: u8 = 255;

/// Serves the attachment over the connection, or gives the refusal.
pub(super) fn serve(
    world: &World,
    request: &mut Incoming<'_>,
    name: &str,
    fault: Option<&KubeFault>,
) -> Option<Reply> {
    let is_set = |parameter: &str| request.parameter(parameter).is_some_and(|value| value == "true");
    let container = request.parameter("container").unwrap_or_default();
    let is_upgrade = request.header("upgrade").is_some_and(|to| to.eq_ignore_ascii_case("websocket"));
    if !["stdin", "stdout", "stderr"].iter().any(|stream| is_set(stream)) {
        return Some(Reply::text(400, "text/plain", "you must specify at least 1 of stdin, stdout, stderr"));
    }
    let input = {
        let mut state = world.lock();
        let Some(pod) = state.pods.get_mut(name) else { return Some(not_found("pods", name)) };
        let containers = pod.json["spec"]["containers"].as_array().cloned().unwrap_or_default();
        if !containers.iter().any(|known| known["name"] == *container) {
            return Some(status(
                400,
                "BadRequest",
                &format!("container {container} is not valid for pod {name}"),
            ));
        }
        if !pod.json["spec"]["nodeName"].is_string() {
            return Some(status(400, "BadRequest", &format!("pod {name} does not have a host assigned")));
        }
        if pod.json["status"]["containerStatuses"][0]["state"]["running"].is_null() {
            let namespace = pod.json["metadata"]["namespace"].as_str().unwrap_or_default();
            let text = format!("container {container} not found in pod {name}_{namespace}");
            return Some(Reply::text(500, "text/plain", &text));
        }
        if !is_upgrade {
            return Some(status(400, "BadRequest", "Upgrade request required"));
        }
        pod.input.take()
    };
    let offered = request.header("sec-websocket-protocol").unwrap_or_default().to_owned();
    let known =
        |version: &&&str| offered.split(',').any(|name| name.trim() == format!("{version}.channel.k8s.io"));
    let Some(version) = world.options.attach.iter().find(known) else {
        return Some(Reply::new(403).with("connection", "close"));
    };
    let accept = websocket::accept(request.header("sec-websocket-key").unwrap_or_default());
    let cut = match fault {
        Some(KubeFault::CutAfter(bytes)) => Some(*bytes),
        _ => None,
    };
    let (wire, mut out) = request.wire();
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
         sec-websocket-accept: {accept}\r\nsec-websocket-protocol: {version}.channel.k8s.io\r\n\r\n"
    );
    // The first frame names the lowest channel that the server writes to.
    let begun = out.write_all(head.as_bytes()).and_then(|()| websocket::binary(&mut out, &[ERROR]));
    if begun.is_err() {
        return None;
    }
    let input = Input { world, pod: name, sender: input };
    let ended = thread::scope(|scope| {
        // A container that ends takes the connection along, whatever the client is about.
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let closing = out.try_clone().expect("a socket can be shared");
        scope.spawn(move || close_at_end(world, name, &closing, &stopped));
        let ended = take(wire, &mut out, input, cut);
        drop(stop);
        ended
    });
    match ended {
        Some(Ended::HalfClosed) => {
            // Of standard input alone the status comes at once, and says nothing of the container.
            let mut success = vec![ERROR];
            success.extend(json!({ "metadata": {}, "status": "Success" }).to_string().into_bytes());
            let _ = websocket::binary(&mut out, &success).and_then(|()| websocket::close(&mut out));
        }
        Some(Ended::Closed) => {
            let _ = websocket::close(&mut out);
        }
        None => {}
    }
    let _ = out.shutdown(Shutdown::Both);
    None
}

enum Ended {
    HalfClosed,
    Closed,
}

/// Where input goes. A second attachment has nowhere to send it, and nobody says so.
struct Input<'a> {
    world: &'a World,
    pod: &'a str,
    sender: Option<SyncSender<Vec<u8>>>,
}

/// Takes input until its end. Nothing if the connection broke.
fn take(
    wire: &mut impl std::io::Read,
    out: &mut TcpStream,
    mut input: Input<'_>,
    cut: Option<u64>,
) -> Option<Ended> {
    let mut bytes = 0;
    loop {
        match websocket::read(wire, out).ok()? {
            Frame::Close => return Some(Ended::Closed),
            Frame::Binary(frame) => match frame.split_first() {
                Some((&STDIN, data)) => {
                    bytes += data.len() as u64;
                    if cut.is_some_and(|cut| bytes > cut) {
                        return None;
                    }
                    input.give(data)?;
                }
                Some((&CLOSED, [STDIN])) => return Some(Ended::HalfClosed),
                _ => return None,
            },
        }
    }
}

impl Input<'_> {
    /// Hands bytes to the container, as soon as it has room. Nothing if it has ended.
    fn give(&mut self, data: &[u8]) -> Option<()> {
        let Some(sender) = &self.sender else { return Some(()) };
        let mut piece = data.to_vec();
        loop {
            match sender.try_send(piece) {
                Ok(()) => {
                    self.world.lock().input_bytes += data.len() as u64;
                    return Some(());
                }
                Err(TrySendError::Disconnected(_)) => return None,
                Err(TrySendError::Full(back)) => {
                    piece = back;
                    let state = self.world.lock();
                    if state.is_stopped || !state.pods.contains_key(self.pod) {
                        return None;
                    }
                    drop(state);
                    // Short, as a program that reads is fast.
                    thread::sleep(NAP / 500);
                }
            }
        }
    }
}

/// Ends the connection when the container ends.
fn close_at_end(world: &World, name: &str, out: &TcpStream, stopped: &std::sync::mpsc::Receiver<()>) {
    while let Err(std::sync::mpsc::TryRecvError::Empty) = stopped.try_recv() {
        let state = world.wait(world.lock());
        let current = state
            .pods
            .get(name)
            .map(|pod| !pod.json["status"]["containerStatuses"][0]["state"]["running"].is_null());
        if state.is_stopped || current != Some(true) {
            // Without a word of goodbye, as servers of 1.20 do.
            let _ = out.shutdown(Shutdown::Both);
            return;
        }
    }
}
