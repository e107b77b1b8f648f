//! `ocib explain`: what a message of any program means, and what to do.

use std::io::Read;

use clap::Args;
use ocib_store::{Cause, Diagnosis};
use serde_json::json;

use crate::{
    diagnostic::{CAUSES, Exit, Failure},
    report,
    terminal::printable,
};

#[derive(Args, Debug)]
#[command(after_help = "\
docs/causes.md lists all causes.

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
    let text = match explain.text.as_slice() {
        [dash] if dash == "-" => stdin()?,
        words => words.join(" "),
    };
    let causes: Vec<(&Cause, String)> = match Cause::named(text.trim()) {
        Some(cause) => vec![(cause, cause.general_remedy())],
        None => {
            let found = Diagnosis::all_of_log(&text);
            found.into_iter().map(|found| (found.cause, found.remedy())).collect()
        }
    };
    if explain.json {
        report::result(&format!("{:#}", json(&causes)));
    } else {
        causes.iter().for_each(|(cause, remedy)| report::result(&shown(cause, remedy)));
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

fn shown(cause: &Cause, remedy: &str) -> String {
    printable(&format!("{}: {}\n  {remedy}\n  {CAUSES}{}", cause.id, cause.title, cause.id))
}

fn json(causes: &[(&Cause, String)]) -> serde_json::Value {
    let one = |(cause, remedy): &(&Cause, String)| {
        json!({
            "cause": cause.id,
            "title": cause.title,
            "remedy": remedy,
            "docs": format!("{CAUSES}{}", cause.id),
        })
    };
    json!({ "causes": causes.iter().map(one).collect::<Vec<_>>() })
}
