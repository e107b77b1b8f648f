//! `ocib explain`: what a message of any program means, and what to do.

use std::io::Read;

use clap::Args;
use ocib_store::{Cause, Diagnosis};
use serde_json::json;

use crate::{
    diagnostic::{Exit, Failure, page},
    report,
    terminal::printable,
};

#[derive(Args, Debug)]
#[command(after_help = "\
docs/causes.md lists all causes, docs/run.md and docs/run-kubernetes.md those of RUN.

Exit codes: 0 a cause was found, 1 none was found, 2 usage.")]
pub(crate) struct Explain {
    /// The message, of ocib, docker, Kaniko, BuildKit, skopeo, the AWS CLI or whatever failed; the id of a
    /// cause; or - for a log on stdin.
    #[arg(required = true, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) text: Vec<String>,

    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A log beyond this is not read: what ends a build stands near its end, but nobody pipes in more.
const LOG_BYTES_MAX: u64 = 64 << 20;

/// Runs the command.
pub(crate) fn run(explain: &Explain) -> Result<(), Failure> {
    // Words of a message may begin with hyphens, so a flag that comes after it is among them.
    let (flags, words): (Vec<_>, Vec<_>) =
        explain.text.iter().map(String::as_str).partition(|word| *word == "--json");
    let text = match words.as_slice() {
        [] => return Err(Failure::usage("there is no text to explain")),
        ["-"] => stdin()?,
        words => words.join(" "),
    };
    let causes = explained(&text);
    if explain.json || !flags.is_empty() {
        report::result(&format!("{:#}", json(&causes)));
    } else {
        causes.iter().for_each(|found| report::result(&shown(found)));
    }
    match causes.is_empty() {
        true => Err(Failure::new(Exit::Failed, "no known cause fits this text")
            .help("docs/causes.md lists those that are known; whole messages fit better than parts")),
        false => Ok(()),
    }
}

fn stdin() -> Result<String, Failure> {
    let mut log = Vec::new();
    let read = std::io::stdin().take(LOG_BYTES_MAX).read_to_end(&mut log);
    read.map_err(|error| Failure::input(format!("cannot read the log from stdin: {error}")))?;
    Ok(String::from_utf8_lossy(&log).into_owned())
}

/// A cause as it is told.
struct Explained {
    id: &'static str,
    title: &'static str,
    remedy: String,
}

/// What `text` speaks of: the id of a cause, or a log.
fn explained(text: &str) -> Vec<Explained> {
    if let Some(cause) = Cause::named(text.trim()) {
        return vec![Explained { id: cause.id, title: cause.title, remedy: cause.general_remedy() }];
    }
    let found = Diagnosis::all_of_log(text).into_iter();
    let causes =
        found.map(|found| Explained { id: found.cause.id, title: found.cause.title, remedy: found.remedy() });
    of_programs(text).chain(ends(text)).chain(causes).collect()
}

/// The ends of RUN by a program of this host, which a table of that backend has.
#[cfg(feature = "local")]
fn of_programs(text: &str) -> impl Iterator<Item = Explained> {
    let causes = ocib_local::Cause::all_of_log(text).into_iter();
    causes.map(|cause| Explained { id: cause.id, title: cause.title, remedy: cause.remedy.to_owned() })
}

#[cfg(not(feature = "local"))]
fn of_programs(_: &str) -> impl Iterator<Item = Explained> {
    std::iter::empty()
}

/// The ends of RUN in pods, which a table of the backend has.
#[cfg(feature = "kaniko")]
fn ends(text: &str) -> impl Iterator<Item = Explained> {
    let ends = ocib_kaniko::End::all_of_log(text).into_iter();
    ends.map(|end| Explained { id: end.cause(), title: end.what(), remedy: end.remedy().to_owned() })
}

#[cfg(not(feature = "kaniko"))]
fn ends(_: &str) -> impl Iterator<Item = Explained> {
    std::iter::empty()
}

fn shown(found: &Explained) -> String {
    let Explained { id, title, remedy } = found;
    printable(&format!("{id}: {title}\n  {remedy}\n  {}", page(id)))
}

fn json(causes: &[Explained]) -> serde_json::Value {
    let one = |Explained { id, title, remedy }: &Explained| json!({ "cause": id, "title": title, "remedy": remedy, "docs": page(id) });
    json!({ "causes": causes.iter().map(one).collect::<Vec<_>>() })
}
