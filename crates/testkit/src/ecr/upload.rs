//! Uploads: what a session of either plane takes.

use std::{
    io::{self, Read},
    sync::{Arc, Mutex},
};

use ocib_image::{Digest, Digester};

use super::{EcrOptions, SecondPatch, refusal::Refusal, repository::Blob};
use crate::http::locked;

/// A session and what it got, for tests to look at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UploadSession {
    /// The upload's ID.
    pub id: String,
    /// The repository's name.
    pub repository: String,
    /// Bytes that came, also those that were refused or lost.
    pub bytes: u64,
    /// The blob that it became.
    pub digest: Option<Digest>,
}

#[derive(Debug)]
pub(super) struct Upload {
    pub(super) id: String,
    repository: String,
    /// Apart, so that tests can look while a body arrives.
    seen: Arc<Mutex<UploadSession>>,
    state: State,
    digester: Digester,
    /// All bytes, while they are few enough.
    kept: Option<Vec<u8>>,
    keep_bytes_max: u64,
    requests: u32,
    answers: u32,
    /// The first request's last byte: what a stale `Range` says.
    first_end: u64,
    smallest: u64,
    smallest_but_last: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Open,
    /// A body was cut: nothing more can be appended.
    Dead,
    /// Forgotten by a fault.
    Dropped,
    Done,
}

impl Upload {
    pub(super) fn new(id: &str, repository: &str, options: &EcrOptions) -> Self {
        let seen =
            UploadSession { id: id.to_owned(), repository: repository.to_owned(), bytes: 0, digest: None };
        Self {
            id: id.to_owned(),
            repository: repository.to_owned(),
            seen: Arc::new(Mutex::new(seen)),
            state: State::Open,
            digester: Digester::new(),
            kept: Some(Vec::new()),
            keep_bytes_max: options.keep_bytes_max,
            requests: 0,
            answers: 0,
            first_end: 0,
            smallest: u64::MAX,
            smallest_but_last: u64::MAX,
        }
    }

    pub(super) fn seen(&self) -> Arc<Mutex<UploadSession>> {
        self.seen.clone()
    }

    pub(super) fn forget(&mut self) {
        self.state = State::Dropped;
    }

    /// Whether the session is one of this repository's that still takes something.
    pub(super) fn check(&self, repository: &str, options: &EcrOptions) -> Result<(), Refusal> {
        let is_open = matches!(self.state, State::Open | State::Dead) && self.repository == repository;
        let gone = || Refusal::no_upload(&self.id, repository, &options.account);
        if is_open { Ok(()) } else { Err(gone()) }
    }

    /// What the `Location` of the last answer says of the session. It changes with each answer, and a
    /// request must bring the last one. (U) In form: AWS's is opaque.
    pub(super) fn stamp(&self) -> String {
        format!("_state={}-{}", &self.id[..8], self.answers)
    }

    /// The range that an answer names.
    pub(super) fn range(&self) -> String {
        format!("0-{}", self.first_end)
    }

    /// Takes the body of a data plane's request that begins at `first_byte` if it says so.
    pub(super) fn patch(
        &mut self,
        body: &mut impl Read,
        first_byte: Option<u64>,
        options: &EcrOptions,
    ) -> Result<(), Refusal> {
        let expected = self.digester.bytes();
        let is_first = self.requests == 0 && self.state == State::Open;
        let begins = first_byte.unwrap_or(0);
        self.check_part(begins, options)?;
        self.requests += 1;
        let keeps = is_first || options.second_patch == SecondPatch::StaleRange;
        let outcome = self.read(body, keeps, options.layer_bytes_max);
        self.count_part(self.digester.bytes() - expected);
        if is_first {
            self.first_end = self.digester.bytes().saturating_sub(1);
        }
        self.answers += u32::from(outcome.is_ok());
        outcome
    }

    /// A body that ends too soon leaves nobody to answer.
    fn read(&mut self, body: &mut impl Read, keeps: bool, bytes_max: u64) -> Result<(), Refusal> {
        let mut piece = vec![0; 256 << 10];
        loop {
            match body.read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(got) => {
                    locked(&self.seen).bytes += got as u64;
                    if keeps {
                        self.append(&piece[..got]);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.state = State::Dead;
                    return Err(Refusal::hang_up());
                }
            }
            if self.digester.bytes() > bytes_max {
                self.state = State::Dead;
                return Err(Refusal::limit(format_args!("a layer has at most {bytes_max} bytes")));
            }
        }
    }

    /// Takes a part of the layer API, which must begin where the last one ended.
    pub(super) fn part(&mut self, first: u64, bytes: &[u8], options: &EcrOptions) -> Result<(), Refusal> {
        let expected = self.digester.bytes();
        self.check_part(first, options)?;
        if self.requests >= options.parts_max {
            return Err(Refusal::limit(format_args!("a layer has at most {} parts", options.parts_max)));
        }
        if expected + bytes.len() as u64 > options.layer_bytes_max {
            return Err(Refusal::limit(format_args!(
                "a layer has at most {} bytes",
                options.layer_bytes_max
            )));
        }
        self.requests += 1;
        locked(&self.seen).bytes += bytes.len() as u64;
        self.append(bytes);
        self.count_part(bytes.len() as u64);
        Ok(())
    }

    /// The last byte that arrived, if any.
    pub(super) fn last_byte(&self) -> Option<u64> {
        self.digester.bytes().checked_sub(1)
    }

    /// Makes the bytes a blob. A wrong digest leaves the session as it is.
    pub(super) fn complete(&mut self, digest: Digest, options: &EcrOptions) -> Result<Blob, Refusal> {
        if self.requests == 0 {
            return Err(Refusal::empty_upload());
        }
        // Only the last part may be small, and which one that is shows here.
        if self.smallest_but_last < *options.part_bytes.start() {
            return Err(Refusal::part_too_small(*options.part_bytes.start()));
        }
        let actual = self.digester.clone().finish();
        if actual != digest {
            return Err(Refusal::digest_mismatch(digest, actual));
        }
        self.state = State::Done;
        locked(&self.seen).digest = Some(digest);
        Ok(Blob { bytes: self.digester.bytes(), content: self.kept.take().map(Arc::from) })
    }

    fn append(&mut self, piece: &[u8]) {
        self.digester.update(piece);
        match &mut self.kept {
            Some(kept) if (kept.len() + piece.len()) as u64 <= self.keep_bytes_max => {
                kept.extend_from_slice(piece);
            }
            _ => self.kept = None,
        }
    }

    fn count_part(&mut self, bytes: u64) {
        self.smallest_but_last = self.smallest;
        self.smallest = self.smallest.min(bytes);
    }

    fn check_part(&self, first: u64, options: &EcrOptions) -> Result<(), Refusal> {
        let expected = self.digester.bytes();
        if first != expected {
            let name = &self.repository;
            return Err(Refusal::layer_part(name, &options.account, &self.id, first, expected));
        }
        if self.state == State::Dead { Err(Refusal::broken_upload(&self.id)) } else { Ok(()) }
    }
}

/// Shared, as a body may be arriving while another request asks for the session.
pub(super) type SharedUpload = Arc<Mutex<Upload>>;
