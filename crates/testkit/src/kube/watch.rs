//! Watches: one line of JSON for each change, as long as the client and the server like.

use std::{
    io::{self, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{api::is_selected, refusal::status_json, world::World};
use crate::http::Incoming;

/// Tells what changes until the watch's time is over.
pub(super) fn serve(world: &World, request: &mut Incoming<'_>) {
    let after: u64 = request.parameter("resourceVersion").and_then(|text| text.parse().ok()).unwrap_or(0);
    let seconds = request.parameter("timeoutSeconds").and_then(|text| text.parse().ok()).unwrap_or(300);
    let end = Instant::now() + Duration::from_secs(seconds);
    let (_, mut out) = request.wire();
    if begin(&mut out, "application/json").is_err() {
        return;
    }
    let mut state = world.lock();
    let cuts = state.watch_cuts;
    let mut told = after;
    // Whoever watches from there has read the list.
    for pod in state.pods.values_mut().filter(|pod| is_selected(request, &pod.json)) {
        pod.told = pod.told.max(after);
    }
    if after < state.forgotten {
        let gone = status_json(410, "Expired", "The resourceVersion for the provided watch is too old.");
        drop(state);
        let _ = line(&mut out, "ERROR", &gone).and_then(|()| finish(&mut out));
        return;
    }
    loop {
        let news: Vec<_> = state.changes.iter().filter(|change| change.version > told).cloned().collect();
        let is_over = state.is_stopped || state.watch_cuts != cuts || Instant::now() > end;
        drop(state);
        for change in news {
            told = change.version;
            if !is_selected(request, &change.pod) {
                continue;
            }
            if line(&mut out, change.kind, &change.pod).is_err() {
                return;
            }
            let name = change.pod["metadata"]["name"].as_str().unwrap_or_default();
            if let Some(pod) = world.lock().pods.get_mut(name) {
                pod.told = pod.told.max(told);
            }
        }
        if is_over {
            let _ = finish(&mut out);
            return;
        }
        state = world.wait(world.lock());
    }
}

fn line(out: &mut TcpStream, kind: &str, object: &Value) -> io::Result<()> {
    chunk(out, format!("{}\n", json!({ "type": kind, "object": object })).as_bytes())
}

/// The head of an answer whose body comes in chunks.
pub(super) fn begin(out: &mut TcpStream, kind: &str) -> io::Result<()> {
    write!(
        out,
        "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
    )
}

pub(super) fn chunk(out: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    write!(out, "{:x}\r\n", bytes.len())?;
    out.write_all(bytes)?;
    out.write_all(b"\r\n")
}

pub(super) fn finish(out: &mut TcpStream) -> io::Result<()> {
    out.write_all(b"0\r\n\r\n")
}
