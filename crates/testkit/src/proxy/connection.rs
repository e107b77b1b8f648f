//! One connection: what passes in each direction, and what befalls it.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    sync::{Arc, Mutex, atomic::Ordering},
    thread,
    time::Duration,
};

use super::{Fault, RequestKind, Shared, fault::Moment, message::Messages};
use crate::http::locked;

/// One connection to the proxy and the one that it opened for it.
pub(super) struct Connection {
    shared: Arc<Shared>,
    client: TcpStream,
    server: TcpStream,
    /// Requests whose answers have not begun, and whether each is a `HEAD`.
    asked: Arc<Mutex<VecDeque<(RequestKind, bool)>>>,
}

/// The connection has come to its end.
struct Over;

impl From<io::Error> for Over {
    fn from(_: io::Error) -> Self {
        Self
    }
}

/// Requests as far as they have come.
struct Requests {
    messages: Messages,
    /// A head that is not complete: it passes as a whole, or not at all.
    head: Vec<u8>,
}

/// Answers as far as they have come.
struct Answers {
    messages: Messages,
    kind: RequestKind,
    /// Bytes that passed since there is a fault that counts them.
    passed: u64,
    /// Bytes per second of the rest of this answer.
    drips: Option<u32>,
}

impl Connection {
    pub(super) fn new(shared: &Arc<Shared>, client: &TcpStream, server: &TcpStream) -> io::Result<Self> {
        let (client, server) = (client.try_clone()?, server.try_clone()?);
        // What was one piece must not wait to become a larger one.
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        Ok(Self { shared: shared.clone(), client, server, asked: Arc::default() })
    }

    /// Carries both directions, each on a thread.
    pub(super) fn carry(self) {
        let Ok(again) = Self::new(&self.shared, &self.client, &self.server) else { return };
        let down = Self { asked: self.asked.clone(), ..again };
        thread::spawn(move || self.carry_requests());
        thread::spawn(move || down.carry_answers());
    }

    fn carry_requests(mut self) {
        let mut requests = Requests { messages: Messages::requests(), head: Vec::new() };
        let mut buffer = vec![0; 64 << 10];
        while let Ok(got @ 1..) = self.client.read(&mut buffer) {
            let mut rest = &mut buffer[..got];
            while !rest.is_empty() {
                let Ok(taken) = self.carry_request(&mut requests, rest) else { return self.close() };
                rest = &mut rest[taken..];
            }
            self.shared.pace(got as u64);
        }
        self.close();
    }

    /// Passes some bytes on and says how many.
    fn carry_request(&mut self, requests: &mut Requests, rest: &mut [u8]) -> Result<usize, Over> {
        let messages = &mut requests.messages;
        if !messages.is_in_body() {
            let taken = messages.take(rest, 0);
            requests.head.extend_from_slice(&rest[..taken]);
            if !messages.is_in_head() {
                let kind = RequestKind::of(messages.start_line());
                let is_head = messages.start_line().starts_with("head ");
                self.begin(kind, is_head, &std::mem::take(&mut requests.head))?;
            }
            return Ok(taken);
        }
        let (kind, before) = (RequestKind::of(messages.start_line()), messages.body_bytes());
        let moment = self.shared.moment(kind);
        let limit = moment.map_or(u64::MAX, |moment| moment.request_limit(before));
        let taken = messages.take(rest, limit);
        let (now, is_complete) = (messages.body_bytes(), !messages.is_in_body());
        let moment = moment.filter(|moment| moment.has_come(before, now, is_complete));
        let fault = moment.and_then(|moment| self.shared.strike(kind, moment));
        if let Some(Fault::RequestByte { .. }) = fault {
            rest[taken - 1] ^= 1;
        }
        self.shared.count(kind, now - before, 0);
        self.server.write_all(&rest[..taken])?;
        self.befall_request(fault)?;
        self.shared.rest(kind);
        Ok(taken)
    }

    /// Passes a request's head on, unless something befalls it.
    fn begin(&mut self, kind: RequestKind, is_head: bool, head: &[u8]) -> Result<(), Over> {
        let fault = self.shared.strike(kind, Moment::Head);
        self.befall_request(fault)?;
        locked(&self.asked).push_back((kind, is_head));
        Ok(self.server.write_all(head)?)
    }

    fn befall_request(&mut self, fault: Option<Fault>) -> Result<(), Over> {
        let Some(fault) = fault else { return Ok(()) };
        if let Some(answer) = fault.answer() {
            self.client.write_all(answer.as_bytes())?;
            self.client.shutdown(Shutdown::Write)?;
            // Until the client has read the answer and closed: a reset could overtake it.
            io::copy(&mut self.client, &mut io::sink())?;
        }
        match fault {
            Fault::RequestByte { .. } => return Ok(()),
            Fault::RequestStall { .. } => self.shared.stall(),
            _ => {}
        }
        Err(Over)
    }

    fn carry_answers(mut self) {
        let (messages, kind) = (Messages::answers(), RequestKind::Other);
        let mut answers = Answers { messages, kind, passed: 0, drips: None };
        let mut buffer = vec![0; 64 << 10];
        while let Ok(got @ 1..) = self.server.read(&mut buffer) {
            let mut rest = &mut buffer[..got];
            while !rest.is_empty() {
                let Ok(taken) = self.carry_answer(&mut answers, rest) else { return self.close() };
                rest = &mut rest[taken..];
            }
        }
        self.close();
    }

    /// Passes some bytes on and says how many.
    fn carry_answer(&mut self, answers: &mut Answers, rest: &mut [u8]) -> Result<usize, Over> {
        let was_in_body = answers.messages.is_in_body();
        if !was_in_body && let Some((kind, is_head)) = locked(&self.asked).front().copied() {
            answers.kind = kind;
            answers.messages.expect_answer(is_head);
        }
        let (kind, messages) = (answers.kind, &mut answers.messages);
        let moment = self.shared.moment(kind);
        let room = match moment {
            Some(Moment::Answers(bytes)) => bytes.saturating_sub(answers.passed),
            _ => u64::MAX,
        };
        let window = usize::try_from(room).unwrap_or(usize::MAX).min(rest.len());
        let before = if was_in_body { messages.body_bytes() } else { 0 };
        let limit = moment.map_or(u64::MAX, |moment| moment.answer_limit(before));
        let taken = messages.take(&rest[..window], if was_in_body { limit } else { 0 });
        let (now, is_complete) = (messages.body_bytes(), !messages.is_in_body());
        let come = moment.filter(|moment| was_in_body && moment.has_come(before, now, is_complete));
        let mut fault = come.and_then(|moment| self.shared.strike(kind, moment));
        if let Some(Fault::ResponseByte { .. }) = fault {
            rest[taken - 1] ^= 1;
        }
        if was_in_body {
            self.shared.count(kind, 0, now - before);
        }
        self.write_answer(&rest[..taken], answers.drips)?;
        answers.passed = if room == u64::MAX { 0 } else { answers.passed + taken as u64 };
        if was_in_body {
            self.shared.rest(kind);
        } else if !answers.messages.is_in_head() && !answers.messages.is_interim() {
            locked(&self.asked).pop_front();
        }
        if let Some(due @ Moment::Answers(bytes)) = moment
            && answers.passed >= bytes
        {
            fault = self.shared.strike(kind, due);
        }
        answers.drips = answers.drips.filter(|_| !is_complete);
        match fault {
            Some(Fault::ResponseDrip { bytes_per_second }) => answers.drips = Some(bytes_per_second.max(1)),
            Some(Fault::ResponseStall { .. }) => {
                self.shared.stall();
                return Err(Over);
            }
            Some(Fault::ResponseByte { .. }) | None => {}
            Some(_) => return Err(Over),
        }
        Ok(taken)
    }

    fn write_answer(&mut self, bytes: &[u8], drips: Option<u32>) -> io::Result<()> {
        let Some(rate) = drips else { return self.client.write_all(bytes) };
        for byte in bytes {
            self.client.write_all(&[*byte])?;
            thread::sleep(Duration::from_secs(1) / rate);
            if self.shared.stopped.load(Ordering::SeqCst) {
                break;
            }
        }
        Ok(())
    }

    fn close(&self) {
        for stream in [&self.client, &self.server] {
            // Already closed by its peer: what was wanted.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}
