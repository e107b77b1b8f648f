//! Progress on stderr: bars on a terminal, lines otherwise, or JSON for programs.

use std::{
    collections::BTreeMap,
    io::{IsTerminal, Write},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytesize::ByteSize;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle as BarStyle};
use ocib_image::{Event, Events, Outcome, TaskId};
use serde_json::json;

use crate::{args::ProgressStyle, terminal};

/// A layer that takes longer than this says how far it is, again and again.
const LINE_INTERVAL: Duration = Duration::from_secs(5);
const TITLE_WIDTH: usize = 60;

/// Whoever shows events as `style` says.
pub(crate) fn watch(style: ProgressStyle, quiet: bool) -> Arc<dyn Events> {
    let is_terminal = std::io::stderr().is_terminal();
    match style {
        ProgressStyle::Json => Arc::new(Json),
        _ if quiet => Arc::new(Lines { quiet, tasks: Mutex::default() }),
        ProgressStyle::Tty => Arc::new(Bars::default()),
        ProgressStyle::Auto if is_terminal => Arc::new(Bars::default()),
        ProgressStyle::Auto | ProgressStyle::Plain => Arc::new(Lines { quiet, tasks: Mutex::default() }),
    }
}

fn say(line: &str) {
    // Nobody reads stderr any more: no reason to end the build.
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn size(bytes: u64) -> String {
    ByteSize::b(bytes).display().iec().to_string()
}

fn ending(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Present => "is there already",
        Outcome::Mounted => "mounted from another repository",
        _ => "done",
    }
}

/// What is known of a piece of work that is under way.
struct Task {
    title: String,
    total: Option<u64>,
    bytes: u64,
    began: Instant,
    said: Instant,
}

/// A line for each beginning and end, and now and then one in between.
struct Lines {
    quiet: bool,
    tasks: Mutex<BTreeMap<TaskId, Task>>,
}

impl Events for Lines {
    fn emit(&self, event: Event<'_>) {
        if let Event::Warning(text) = event {
            return say(&format!("warning: {}", terminal::printable(text)));
        }
        if self.quiet {
            return;
        }
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Note(text) => say(&terminal::printable(text)),
            Event::Started { task, what, bytes } => {
                let now = Instant::now();
                let title = terminal::line(what, TITLE_WIDTH);
                tasks.insert(task, Task { title, total: bytes, bytes: 0, began: now, said: now });
            }
            Event::Advanced { task, bytes } => {
                let Some(task) = tasks.get_mut(&task) else { return };
                task.bytes += bytes;
                if task.said.elapsed() >= LINE_INTERVAL {
                    task.said = Instant::now();
                    let total = task.total.map(|total| format!(" of {}", size(total))).unwrap_or_default();
                    say(&format!("{}: {}{total}", task.title, size(task.bytes)));
                }
            }
            Event::Hashing { task, why } => {
                let Some(task) = tasks.get(&task) else { return };
                say(&format!("{}: digest first: {why}", task.title));
            }
            Event::Sending { task } => {
                let Some(task) = tasks.get_mut(&task) else { return };
                task.bytes = 0;
                say(&format!("{}: is not there, sent now", task.title));
            }
            Event::Restarted { task, why } => {
                let Some(task) = tasks.get_mut(&task) else { return };
                task.bytes = 0;
                say(&format!("{}: starts over: {}", task.title, terminal::line(why, 200)));
            }
            Event::Log { task, line } => {
                let title = tasks.get(&task).map_or("", |task| &task.title);
                say(&format!("{title}: {}", terminal::printable(line)));
            }
            Event::Finished { task, outcome } => {
                let Some(task) = tasks.remove(&task) else { return };
                let moved = match outcome {
                    Outcome::Stored => {
                        format!(", {} in {:.1} s", size(task.bytes), task.began.elapsed().as_secs_f64())
                    }
                    _ => String::new(),
                };
                say(&format!("{}: {}{moved}", task.title, ending(outcome)));
            }
            _ => {}
        }
    }
}

/// A bar for each layer.
#[derive(Default)]
struct Bars {
    all: MultiProgress,
    bars: Mutex<BTreeMap<TaskId, ProgressBar>>,
}

impl Bars {
    fn say(&self, line: &str) {
        // As in `say`: a terminal that went away is no reason to end the build.
        let _ = self.all.println(line);
    }
}

impl Events for Bars {
    fn emit(&self, event: Event<'_>) {
        let mut bars = self.bars.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Note(text) => self.say(&terminal::printable(text)),
            Event::Warning(text) => self.say(&format!("warning: {}", terminal::printable(text))),
            Event::Started { task, what, bytes } => {
                let bar = self.all.add(bytes.map_or_else(ProgressBar::no_length, ProgressBar::new));
                let style = "{msg:40!} {bar:25} {binary_bytes:>11} {binary_bytes_per_sec:>13} {elapsed:>4}";
                bar.set_style(BarStyle::with_template(style).unwrap_or_else(|_| BarStyle::default_bar()));
                bar.set_message(terminal::line(what, 40));
                bars.insert(task, bar);
            }
            Event::Advanced { task, bytes } => drop(bars.get(&task).map(|bar| bar.inc(bytes))),
            Event::Hashing { task, why } => {
                if let Some(bar) = bars.get(&task) {
                    self.say(&format!("{}: digest first: {why}", bar.message()));
                }
            }
            Event::Sending { task } => drop(bars.get(&task).map(|bar| bar.set_position(0))),
            Event::Restarted { task, why } => {
                if let Some(bar) = bars.get(&task) {
                    bar.set_position(0);
                    self.say(&format!("{}: starts over: {}", bar.message(), terminal::line(why, 200)));
                }
            }
            Event::Log { task, line } => {
                let title = bars.get(&task).map(ProgressBar::message).unwrap_or_default();
                self.say(&format!("{title}: {}", terminal::printable(line)));
            }
            Event::Finished { task, outcome } => {
                if let Some(bar) = bars.remove(&task) {
                    if outcome != Outcome::Stored {
                        bar.set_message(terminal::line(
                            &format!("{} {}", bar.message(), ending(outcome)),
                            40,
                        ));
                    }
                    bar.finish();
                }
            }
            _ => {}
        }
    }
}

/// An object a line, for programs.
struct Json;

impl Events for Json {
    fn emit(&self, event: Event<'_>) {
        let line = match event {
            Event::Started { task, what, bytes } => {
                json!({"event": "started", "task": task.0, "what": what, "bytes": bytes})
            }
            Event::Advanced { task, bytes } => json!({"event": "advanced", "task": task.0, "bytes": bytes}),
            Event::Hashing { task, why } => {
                json!({"event": "hashing", "task": task.0, "why": why.to_string()})
            }
            Event::Sending { task } => json!({"event": "sending", "task": task.0}),
            Event::Restarted { task, why } => json!({"event": "restarted", "task": task.0, "why": why}),
            Event::Finished { task, outcome } => {
                let outcome = match outcome {
                    Outcome::Present => "present",
                    Outcome::Mounted => "mounted",
                    _ => "stored",
                };
                json!({"event": "finished", "task": task.0, "outcome": outcome})
            }
            Event::Log { task, line } => json!({"event": "log", "task": task.0, "line": line}),
            Event::Note(text) => json!({"event": "note", "text": text}),
            Event::Warning(text) => json!({"event": "warning", "text": text}),
            _ => return,
        };
        say(&line.to_string());
    }
}
