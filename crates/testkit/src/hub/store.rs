//! Where large files are: signed URLs on another origin, ranges, and faults.

use std::{
    io::{self, Read},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{HubFault, State, repository::File};
use crate::{
    http::{Incoming, Reply, locked, parse_range, ranged},
    registry::Request,
};

impl State {
    /// A URL of the store for a file of a commit, which holds until URLs expire.
    pub(super) fn sign(&self, repository: &str, commit: &str, path: &str) -> String {
        let mut signed = locked(&self.signed);
        let signature = format!("PlantedSignature{:08}", signed.len() + locked(&self.hub_requests).len());
        signed.insert(signature.clone());
        let host = locked(&self.store).clone();
        format!("http://{host}/repos/{repository}/{commit}/{path}?X-Amz-Signature={signature}")
    }

    pub(super) fn answer_store(&self, request: &mut Incoming<'_>) -> Reply {
        let reply = self.stored(request);
        let (method, path, query) = (request.method.clone(), request.path.clone(), String::new());
        let (status, bytes) = (reply.status, reply.len());
        locked(&self.store_requests).push(Request { method, path, query, status, bytes });
        reply
    }

    fn stored(&self, request: &Incoming<'_>) -> Reply {
        let refused = |status, why: &str| Reply::text(status, "application/xml", why);
        if request.header("authorization").is_some() {
            return refused(
                400,
                "<Error><Code>InvalidArgument</Code><Message>Only one auth mechanism allowed</Message></Error>",
            );
        }
        let signature = request.parameter("X-Amz-Signature").unwrap_or_default();
        if !locked(&self.signed).contains(&signature) {
            return refused(
                403,
                "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>",
            );
        }
        if let Some(HubFault::StoreStatus(status)) =
            self.fault(|fault| matches!(fault, HubFault::StoreStatus(_)))
        {
            return refused(status, "<Error><Code>SlowDown</Code></Error>");
        }
        let Some(file) = self.stored_file(&request.path) else { return refused(404, "<Error/>") };
        let etag = file.sha256.clone().unwrap_or_default();
        let whole =
            matches!(self.fault(|fault| matches!(fault, HubFault::WholeFile)), Some(HubFault::WholeFile));
        let range = request.header("range").filter(|_| !whole);
        let reply = sent_part(&file, range, &self.sent).with("etag", format!("\"{etag}\""));
        let rate = locked(&self.options).rate;
        match self.fault(|fault| matches!(fault, HubFault::Cut(_) | HubFault::WrongByte)) {
            Some(HubFault::Cut(bytes)) => reply.cut(Some(bytes)),
            Some(_) => {
                let (from, until) = parse_range(range, file.size).unwrap_or((0, file.size));
                let wrong = move || -> Box<dyn Read> {
                    let mut content = file.read(from, until);
                    let mut first = [0];
                    let _ = content.read(&mut first);
                    Box::new(std::io::Cursor::new([first[0] ^ 1]).chain(content))
                };
                reply.made(until - from, wrong)
            }
            None => reply.slowed(rate),
        }
    }

    fn stored_file(&self, path: &str) -> Option<File> {
        let mut parts = path.strip_prefix("/repos/")?.splitn(4, '/');
        let (org, name, commit, path) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let repositories = locked(&self.repositories);
        let files = repositories.get(&format!("{org}/{name}"))?.commits.get(commit)?;
        files.get(&crate::http::decoded(path)).cloned()
    }
}

/// Counts what passes.
struct Counted {
    content: Box<dyn Read>,
    sent: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.content.read(buffer)?;
        self.sent.fetch_add(got as u64, Ordering::Relaxed);
        Ok(got)
    }
}

/// The part of `file` that a `Range` header asks for, counted.
pub(super) fn sent_part(file: &File, range: Option<&str>, sent: &Arc<AtomicU64>) -> Reply {
    let (content, sent) = (file.clone(), Arc::clone(sent));
    ranged(range, file.size, move |from, until| {
        Box::new(Counted { content: content.read(from, until), sent: Arc::clone(&sent) })
    })
}
