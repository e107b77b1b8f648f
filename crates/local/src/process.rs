//! A child process whose lines are told as they come, and which does not outlive its future.

use std::{io, process::Stdio};

use ocib_image::Progress;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, Command},
};

use crate::outcome::{Ended, Tail};

/// A line that is longer than this is told in pieces, so that no output fills the memory.
const LINE_BYTES_MAX: usize = 4096;

/// Runs `command` to its end. Dropping the future kills it and all that it started.
pub(crate) async fn run(mut command: Command, progress: &Progress) -> io::Result<Ended> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    // A group of its own: a signal from the terminal goes to ocib alone, which ends the group as a whole.
    let mut group = Group(command.process_group(0).kill_on_drop(true).spawn()?);
    let (stdout, stderr) = (group.0.stdout.take(), group.0.stderr.take());
    let mut tail = Tail::default();
    {
        let (mut stdout, mut stderr) = (lines(stdout), lines(stderr));
        loop {
            let line = tokio::select! {
                line = next(&mut stdout), if stdout.is_some() => line?,
                line = next(&mut stderr), if stderr.is_some() => line?,
                else => break,
            };
            if let Some(line) = line {
                progress.log(&line);
                tail.push(line);
            }
        }
    }
    let status = group.0.wait().await?;
    Ok(Ended { status, step: tail.step, log: tail.into_lines() })
}

type Lines<R> = Option<BufReader<R>>;

fn lines<R: AsyncRead>(pipe: Option<R>) -> Lines<R> {
    pipe.map(BufReader::new)
}

/// The next line, or a piece of a long one; `None` at the end, when the pipe is closed. May be dropped
/// while it waits: nothing is taken out of the pipe before there is a piece.
async fn next<R: AsyncRead + Unpin>(lines: &mut Lines<R>) -> io::Result<Option<String>> {
    let Some(reader) = lines else { return Ok(None) };
    let buffer = reader.fill_buf().await?;
    if buffer.is_empty() {
        *lines = None;
        return Ok(None);
    }
    let end = buffer.iter().position(|byte| *byte == b'\n');
    let piece = &buffer[..end.unwrap_or(buffer.len()).min(LINE_BYTES_MAX)];
    let text = String::from_utf8_lossy(piece).trim_end_matches('\r').to_owned();
    let taken = piece.len() + usize::from(end == Some(piece.len()));
    reader.consume(taken);
    Ok(Some(text))
}

/// A process that leads a group; dropping it kills the group.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // No id: it has ended and was waited for, and the number may be another's by now.
        let id = self.0.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(group) = id {
            // Fails only if all of it is gone.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}
