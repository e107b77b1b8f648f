//! A child process whose lines are told as they come, and which does not outlive its future.

use std::{
    io,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use ocib_image::Progress;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, ChildStderr, ChildStdout, Command},
    time::timeout,
};

use crate::{
    outcome::{Ended, Tail},
    veil::{Piece, Veil},
};

/// A line that is longer than this is told in pieces, so that no output fills the memory.
const LINE_BYTES_MAX: usize = 4096;
/// How long what a program has written before its end may take to arrive. Only a process that it left behind,
/// and that still holds its output, makes anybody wait so long.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Runs `command` to its end. Dropping the future kills it and all that it started.
/// What `veil` hides is not told.
pub(crate) async fn run(mut command: Command, progress: &Progress, veil: &Veil) -> io::Result<Ended> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    // A group of its own: a signal from the terminal goes to ocib alone, which ends the group as a whole.
    let mut child = command.process_group(0).kill_on_drop(true).spawn()?;
    let mut output = Output {
        stdout: Lines::new(child.stdout.take()),
        stderr: Lines::new(child.stderr.take()),
        progress,
        veil,
        tail: Tail::default(),
    };
    let mut group = Group::of(child);
    let ended = tokio::select! {
        status = group.child.wait() => Some(status?),
        read = output.read() => {
            read?;
            None
        }
    };
    let status: ExitStatus = match ended {
        None => group.child.wait().await?,
        Some(status) => {
            match timeout(LAST_WORDS, output.read()).await {
                Ok(read) => read?,
                Err(_) => group.kill(),
            }
            status
        }
    };
    group.id = None;
    let Tail { step, .. } = output.tail;
    Ok(Ended { status, step, log: output.tail.into_lines() })
}

/// What a program says.
struct Output<'a> {
    stdout: Lines<ChildStdout>,
    stderr: Lines<ChildStderr>,
    progress: &'a Progress,
    veil: &'a Veil,
    tail: Tail,
}

impl Output<'_> {
    /// Reads to the end of both pipes. May be dropped and called again: no word is lost.
    async fn read(&mut self) -> io::Result<()> {
        loop {
            let line = tokio::select! {
                line = self.stdout.next(self.veil), if self.stdout.pipe.is_some() => line?,
                line = self.stderr.next(self.veil), if self.stderr.pipe.is_some() => line?,
                else => return Ok(()),
            };
            if let Some(line) = line {
                self.progress.log(&line);
                self.tail.push(line);
            }
        }
    }
}

/// A pipe by lines.
struct Lines<R> {
    /// `None` once it has ended.
    pipe: Option<BufReader<R>>,
    /// The line so far.
    line: Vec<u8>,
    /// Bytes at the beginning of it that are hidden.
    veiled: usize,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    fn new(pipe: Option<R>) -> Self {
        Self { pipe: pipe.map(BufReader::new), line: Vec::new(), veiled: 0 }
    }

    /// The next line, or a piece of a long one, without what `veil` hides; `None` at the end.
    async fn next(&mut self, veil: &Veil) -> io::Result<Option<String>> {
        while let Some(pipe) = &mut self.pipe {
            let buffer = pipe.fill_buf().await?;
            if buffer.is_empty() {
                self.pipe = None;
                break;
            }
            let room = LINE_BYTES_MAX - self.line.len();
            let end = buffer.iter().position(|byte| *byte == b'\n').filter(|end| *end <= room);
            let piece = end.unwrap_or(buffer.len().min(room));
            self.line.extend_from_slice(&buffer[..piece]);
            pipe.consume(piece + usize::from(end.is_some()));
            if end.is_some() {
                return Ok(Some(self.take(veil)));
            }
            if self.line.len() == LINE_BYTES_MAX {
                let Piece { told, rest, veiled } = veil.piece(&self.line, self.veiled);
                (self.line, self.veiled) = (rest, veiled);
                return Ok(Some(told));
            }
        }
        Ok((!self.line.is_empty()).then(|| self.take(veil)))
    }

    fn take(&mut self, veil: &Veil) -> String {
        let (line, veiled) = (std::mem::take(&mut self.line), std::mem::take(&mut self.veiled));
        veil.line(&line, veiled).trim_end_matches('\r').to_owned()
    }
}

/// A process that leads a group; dropping it kills the group.
struct Group {
    child: Child,
    /// The group's, while there is something of it to kill.
    id: Option<Pid>,
}

impl Group {
    fn of(child: Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Self { child, id }
    }

    /// Kills what there is of the group. A number of a group is not given again while somebody is in it.
    fn kill(&self) {
        if let Some(id) = self.id {
            // Fails only if all of it is gone.
            let _ = kill_process_group(id, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{outcome::Step, veil::tests::veil};

    fn run_script(script: &str) -> Ended {
        run_veiled(script, &Veil::default())
    }

    fn run_veiled(script: &str, veil: &Veil) -> Ended {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::null());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(command, &Progress::unwatched(), veil)).unwrap()
    }

    #[test]
    fn lines_are_whole_and_long_ones_come_in_pieces() {
        let ended = run_script("printf a; sleep 0.05; printf 'b\\nc'; exit 3");
        assert_eq!((ended.log, ended.status.code()), (vec!["ab".to_owned(), "c".to_owned()], Some(3)));
        let long = run_script("head -c 5000 /dev/zero | tr '\\0' x; echo; echo end");
        assert_eq!(long.log.iter().map(String::len).collect::<Vec<_>>(), [4096, 904, 3]);
        let exact = run_script("head -c 4096 /dev/zero | tr '\\0' x; echo; echo 'STEP 3/9: RUN'");
        assert_eq!(
            (exact.log.last().map(String::as_str), exact.step),
            (Some("STEP 3/9: RUN"), Some(Step::Line(3)))
        );
    }

    #[test]
    fn no_piece_of_a_long_line_tells_of_a_secret() {
        let long: String = (0..1000).map(|number| format!("{number:05}")).collect();
        for (secret, before, after) in [
            ("planted-secret", 4090, ""),
            // It ends as it begins, and at the end of a piece.
            ("planted-secret-p", 4080, "yyy"),
            ("planted-secret-planted", 4074, "yyy"),
            (&*long, 4000, "yyy"),
        ] {
            let script = format!("head -c {before} /dev/zero | tr '\\0' x; echo {secret}{after}; echo end");
            let ended = run_veiled(&script, &veil(secret));
            let said = ended.log.concat();
            assert!(
                said.starts_with(&"x".repeat(before)) && said.ends_with(&format!("{after}end")),
                "{said}"
            );
            let between = said.trim_start_matches('x').strip_suffix(&format!("{after}end")).unwrap_or("?");
            assert!(!between.is_empty() && between.chars().all(|letter| letter == '*'), "{between}");
        }
    }

    #[test]
    fn what_a_program_leaves_behind_is_ended() {
        let ended = run_script("sleep 86398 & echo $!");
        let pid = &ended.log[0];
        let line = || std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        for _ in 0..1000 {
            if line().is_empty() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{pid} still runs");
    }
}
