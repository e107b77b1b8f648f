//! What the executor says. The log is told as it comes and never decides anything: kubelets lose lines when
//! they rotate files, end streams that go on, and put errors of their own among the lines.

use std::{
    collections::VecDeque,
    str::FromStr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{AsyncBufRead, AsyncBufReadExt as _};
use k8s_openapi::{
    api::core::v1::Pod,
    jiff::{SignedDuration, Timestamp},
};
use kube::{Api, api::LogParams};
use ocib_image::{Progress, Secret};
use tokio::sync::watch::Receiver;

use crate::{
    cluster::{REQUEST, timed},
    options::Patience,
    pod::CONTAINER,
    state::{Observed, State},
};

/// Lines that an error shows.
const TAIL_LINES: usize = 40;
/// Longer lines are cut: nobody reads them, and memory is short.
const LINE_BYTES_MAX: usize = 16 << 10;
const RECONNECT: Duration = Duration::from_secs(1);
/// Lines are asked for again from so long before the last one: the parameter has whole seconds, and a node's
/// clock may have been set back since.
const SLACK: SignedDuration = SignedDuration::from_secs(5);
/// Lines whose times are remembered, to know them when they come again.
const REMEMBERED_LINES: usize = 4096;
/// Log streams have no heartbeat: after so long without a line the connection is made anew.
const SILENCE: Duration = Duration::from_secs(120);

/// The log so far.
#[derive(Debug)]
pub(crate) struct Log<'a> {
    progress: &'a Progress,
    /// What is not told: secrets, and how the executor writes them within quotes.
    hidden: Vec<Secret>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    tail: VecDeque<String>,
    /// The times of the last lines, in the log's order: clocks are set back now and then.
    times: VecDeque<Timestamp>,
    /// What the executor said last that it runs.
    running: Option<String>,
}

impl<'a> Log<'a> {
    pub(crate) fn new(progress: &'a Progress, secrets: &[Secret]) -> Self {
        let secrets = secrets.iter().filter(|secret| !secret.reveal().is_empty());
        let hidden = secrets.flat_map(|secret| {
            let quoted = secret.reveal().replace('\\', r"\\").replace('"', "\\\"");
            [secret.clone(), Secret::new(quoted)]
        });
        Self { progress, hidden: hidden.collect(), seen: Mutex::default() }
    }

    /// The last lines.
    pub(crate) fn tail(&self) -> Vec<String> {
        self.seen().tail.iter().cloned().collect()
    }

    /// The instruction that the executor said last that it carries out.
    pub(crate) fn running(&self) -> Option<String> {
        self.seen().running.clone()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn since(&self) -> Option<Timestamp> {
        let last = *self.seen().times.back()?;
        last.checked_sub(SLACK).ok()
    }

    /// Tells the line, which came at `time`.
    fn take(&self, time: Timestamp, line: &str, is_cut: bool) {
        let line = line.trim_end_matches(['\n', '\r']);
        let own = message(line);
        let mut line = self.veiled(own.as_deref().unwrap_or(line));
        if is_cut {
            line.truncate(self.unbegun(&line).len());
        }
        self.progress.log(&line);
        let mut seen = self.seen();
        // Only the executor's own lines count: a RUN may print anything.
        if let Some(instruction) = own.as_ref().and_then(|own| own.strip_prefix("RUN ")) {
            seen.running = Some(instruction.trim().to_owned());
        }
        if seen.tail.len() == TAIL_LINES {
            seen.tail.pop_front();
        }
        seen.tail.push_back(line);
        if seen.times.len() == REMEMBERED_LINES {
            seen.times.pop_front();
        }
        seen.times.push_back(time);
    }

    /// `text` without what must not show up in any output.
    pub(crate) fn veiled(&self, text: &str) -> String {
        let hide = |text: String, secret: &Secret| text.replace(secret.reveal(), "[secret]");
        self.hidden.iter().fold(text.to_owned(), hide)
    }

    /// A line that was cut, without a secret that begins at its end.
    fn unbegun<'l>(&self, line: &'l str) -> &'l str {
        let begun = |secret: &Secret| {
            let secret = secret.reveal();
            let mut ends = (1..secret.len()).rev().filter(|end| secret.is_char_boundary(*end));
            ends.find(|end| line.ends_with(&secret[..*end])).unwrap_or(0)
        };
        &line[..line.len() - self.hidden.iter().map(begun).max().unwrap_or(0)]
    }
}

/// What a line says that the executor itself wrote: `time="…" level=info msg="…"` (logrus).
fn message(line: &str) -> Option<String> {
    let (_, rest) = line.strip_prefix("time=")?.split_once(" level=")?;
    let (_, message) = rest.split_once(" msg=")?;
    // Go's quotes are JSON's, but for escapes that no message here has.
    Some(serde_json::from_str(message).unwrap_or_else(|_| message.to_owned()))
}

/// Tells the log until the executor has ended and its last line came. Errors of the connection are made good
/// by another one; the log may have gaps all the same.
pub(crate) async fn follow(
    pods: &Api<Pod>,
    name: &str,
    mut observed: Receiver<Observed>,
    log: &Log<'_>,
    patience: &Patience,
) {
    loop {
        let is_over = observed.borrow().is_over();
        let parameters = LogParams {
            container: Some(CONTAINER.to_owned()),
            follow: !is_over,
            timestamps: true,
            since_time: log.since(),
            ..LogParams::default()
        };
        // 204 and 400 are a container that has not started; other refusals leave the log empty.
        if let Ok(stream) = timed(REQUEST, pods.log_stream(name, &parameters)).await {
            let lines = read(stream, log);
            let end = async {
                over(&mut observed).await;
                tokio::time::sleep(patience.settle).await;
            };
            tokio::select! { () = lines => {} () = end => {} }
        }
        if is_over || matches!(observed.borrow().state, State::Gone | State::Replaced) {
            return;
        }
        tokio::select! { () = tokio::time::sleep(RECONNECT) => {} () = over(&mut observed) => {} }
    }
}

async fn over(observed: &mut Receiver<Observed>) {
    // Whoever watches lives as long as whoever follows.
    let _ = observed.wait_for(Observed::is_over).await;
}

async fn read(stream: impl AsyncBufRead, log: &Log<'_>) {
    let mut lines = Box::pin(stream);
    let mut again = Again::new(log.seen().times.clone());
    while let Ok(Ok(Some(line))) = tokio::time::timeout(SILENCE, next_line(&mut lines)).await {
        // Without a time it is the kubelet's: "rpc error: …", "unable to retrieve container logs …".
        let Some((time, text)) = line.split_once(' ') else { continue };
        let Ok(time) = Timestamp::from_str(time) else { continue };
        if again.is_new(time) {
            log.take(time, text, line.len() >= LINE_BYTES_MAX);
        }
    }
}

/// Which lines at the beginning of a stream were told before: those come in the order in which they were told,
/// some of them left out, and all that follows the first new one is new.
struct Again {
    /// The times of told lines that may come next.
    left: VecDeque<Timestamp>,
    /// Lines up to this time may have been forgotten.
    forgotten: Option<Timestamp>,
}

impl Again {
    fn new(told: VecDeque<Timestamp>) -> Self {
        let forgotten = (told.len() == REMEMBERED_LINES).then(|| told[0]);
        Self { left: told, forgotten }
    }

    /// Whether a line of this time, the next of the stream, was not told before.
    fn is_new(&mut self, time: Timestamp) -> bool {
        if self.forgotten.is_some_and(|forgotten| time <= forgotten) {
            return false;
        }
        if let Some(place) = self.left.iter().position(|told| *told == time) {
            self.left.drain(..=place);
            return false;
        }
        self.left.clear();
        self.forgotten = None;
        true
    }
}

/// The next line without its end, cut to [`LINE_BYTES_MAX`]; nothing at the end of the stream.
async fn next_line(stream: &mut (impl AsyncBufRead + Unpin)) -> std::io::Result<Option<String>> {
    let mut line = Vec::new();
    let mut is_empty = true;
    loop {
        let piece = stream.fill_buf().await?;
        if piece.is_empty() {
            break;
        }
        is_empty = false;
        let end = piece.iter().position(|byte| *byte == b'\n');
        let taken = end.unwrap_or(piece.len());
        let room = LINE_BYTES_MAX - line.len();
        line.extend_from_slice(&piece[..taken.min(room)]);
        stream.consume_unpin(taken + usize::from(end.is_some()));
        if end.is_some() {
            break;
        }
    }
    Ok((!is_empty).then(|| String::from_utf8_lossy(&line).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn lines_that_come_again_are_told_once() {
        let progress = Progress::unwatched();
        let log = Log::new(&progress, &[]);
        read(&b"2026-01-01T00:00:01.5Z one\n2026-01-01T00:00:01.5Z two\n"[..], &log).await;
        // The server gives earlier lines again, in another form, and more of the same instant.
        let again = "2026-01-01T00:00:01.500000000Z one\n2026-01-01T01:00:01.5+01:00 two\n\
                     2026-01-01T00:00:01.5Z three\nrpc error: code = NotFound\n2026-01-01T00:00:02Z four";
        read(again.as_bytes(), &log).await;
        assert_eq!(log.tail(), ["one", "two", "three", "four"]);
    }

    /// The clock of a node is set back now and then; its log goes on in the order of its lines.
    #[tokio::test]
    async fn a_clock_that_is_set_back_loses_no_line() {
        let progress = Progress::unwatched();
        let log = Log::new(&progress, &[]);
        let first = "2026-01-01T00:00:09.9Z one\n2026-01-01T00:00:09.2Z two\n2026-01-01T00:00:09.3Z three\n";
        read(first.as_bytes(), &log).await;
        assert_eq!(log.tail(), ["one", "two", "three"]);
        // What was told with a later time comes again, and new lines with earlier ones.
        assert!(log.since().unwrap() <= time("2026-01-01T00:00:05Z"), "{:?}", log.since());
        let again = format!("{first}2026-01-01T00:00:06.1Z four\n2026-01-01T00:00:09.3Z five\n");
        read(again.as_bytes(), &log).await;
        assert_eq!(log.tail(), ["one", "two", "three", "four", "five"]);
    }

    /// Of more lines than are remembered those before them come again, too.
    #[tokio::test]
    async fn many_lines_within_the_slack_are_told_once() {
        let progress = Progress::unwatched();
        let log = Log::new(&progress, &[]);
        let lines = |numbers: std::ops::Range<usize>| -> String {
            numbers.map(|number| format!("2026-01-01T00:00:01.{number:06}Z line {number}\n")).collect()
        };
        let told = REMEMBERED_LINES + 100;
        read(lines(0..told).as_bytes(), &log).await;
        assert_eq!(log.seen().times.len(), REMEMBERED_LINES);
        read(lines(0..told + 1).as_bytes(), &log).await;
        let tail = log.tail();
        assert_eq!(tail[TAIL_LINES - 2..], [format!("line {}", told - 1), format!("line {told}")]);
    }

    #[tokio::test]
    async fn lines_are_cut_and_secrets_hidden() {
        let progress = Progress::unwatched();
        let secrets = [Secret::new("token")];
        let log = Log::new(&progress, &secrets);
        let long = "x".repeat(LINE_BYTES_MAX * 2);
        let text = format!("2026-01-01T00:00:01Z {long}\n2026-01-01T00:00:02Z my token is\n");
        read(text.as_bytes(), &log).await;
        let tail = log.tail();
        assert_eq!((tail[0].len(), tail[1].as_str()), (LINE_BYTES_MAX - 21, "my [secret] is"));
        // The executor writes it with escapes.
        let secrets = [Secret::new(r#"to"ken\"#), Secret::new("")];
        let log = Log::new(&progress, &secrets);
        read(&br#"2026-01-01T00:00:01Z time="x" level=info msg="my to\"ken\\ is""#[..], &log).await;
        assert_eq!(log.tail(), ["my [secret] is"]);
        // It has an escape that is Go's alone.
        read(&br#"2026-01-01T00:00:02Z time="x" level=info msg="\x1b[0m my to\"ken\\ is""#[..], &log).await;
        assert_eq!(log.tail()[1], r#""\x1b[0m my [secret] is""#);
        // It is where a line is cut.
        let secrets = [Secret::new("planted-secret-p")];
        let log = Log::new(&progress, &secrets);
        for (before, told) in [(21 + 8, ""), (21 + 16, "[secret]")] {
            let filler = "x".repeat(LINE_BYTES_MAX - before);
            let text = format!("2026-01-01T00:00:{before}Z {filler}planted-secret-planted-secret-p\n");
            read(text.as_bytes(), &log).await;
            let last = log.tail().pop().unwrap();
            assert!(
                !last.contains("planted") && last.ends_with(&format!("x{told}")),
                "{}",
                &last[last.len() - 40..]
            );
        }
    }

    #[tokio::test]
    async fn the_tail_is_bounded_and_knows_what_runs() {
        let progress = Progress::unwatched();
        let log = Log::new(&progress, &[]);
        for number in 0..100 {
            let line = format!(
                "2026-01-01T00:00:{:02}.{number:03}Z time=\"x\" level=info msg=\"RUN make {number}\"\n",
                number / 2
            );
            read(line.as_bytes(), &log).await;
        }
        assert_eq!(log.tail().len(), TAIL_LINES);
        assert_eq!(log.running().as_deref(), Some("make 99"));
        read(&b"2026-01-01T00:01:00Z RUN not me\n"[..], &log).await;
        assert_eq!(log.running().as_deref(), Some("make 99"));
        assert_eq!(log.tail().last().map(String::as_str), Some("RUN not me"));
    }
}
