//! What every benchmark prints: the machine, and tables in Markdown that can be pasted into
//! `docs/performance.md`.

use std::{fmt, fs};

/// What was asked for on the command line.
#[derive(Debug, Default)]
pub(crate) struct Options {
    /// Small inputs and one run each: shows that everything works, not how fast it is.
    pub(crate) quick: bool,
    sections: Vec<String>,
}

impl Options {
    /// From the arguments after `cargo bench --bench NAME --`. Nothing if cargo only wants to see
    /// the program run, as `cargo test --all-targets` does.
    pub(crate) fn from_arguments() -> Option<Self> {
        let (mut options, mut is_bench) = (Self::default(), false);
        for argument in std::env::args().skip(1) {
            match &*argument {
                "--bench" => is_bench = true,
                "--quick" => options.quick = true,
                _ => options.sections.push(argument),
            }
        }
        is_bench.then_some(options)
    }

    /// Whether this section was asked for; all of them are if none was named.
    pub(crate) fn wants(&self, section: &str) -> bool {
        self.sections.is_empty() || self.sections.iter().any(|wanted| wanted == section)
    }
}

/// Processor, cores, kernel and load, in one line.
pub(crate) fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let processors = read("/proc/cpuinfo");
    let field = |name: &str| processors.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    let model = field("model name").split_once(": ").map_or("an unknown processor", |(_, model)| model);
    let sha = if field("flags").contains("sha_ni") { "with" } else { "without" };
    let cores = std::thread::available_parallelism().map_or(1, Into::into);
    let release = read("/proc/sys/kernel/osrelease");
    let kernel = release.split('-').next().unwrap_or_default().trim();
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or_default();
    format!("{model} ({sha} SHA extensions), {cores} cores, Linux {kernel}, load {load} at the start")
}

/// The middle one.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Time beside the best peer's. Without a peer there is nothing to compare with.
pub(crate) fn ratio(seconds: f64, best_seconds: f64) -> String {
    if best_seconds.is_finite() { format!("{:.2}", seconds / best_seconds) } else { "–".to_owned() }
}

/// A Markdown table.
#[derive(Debug)]
pub(crate) struct Table {
    columns: usize,
    text: String,
}

impl Table {
    /// Without rows. The first column is text, all others are numbers and stand at the right.
    pub(crate) fn new(head: &[&str]) -> Self {
        let rule = format!("|---|{}\n", "---:|".repeat(head.len() - 1));
        Self { columns: head.len(), text: format!("| {} |\n{rule}", head.join(" | ")) }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: &[String]) {
        assert_eq!(cells.len(), self.columns, "a row has as many cells as the head");
        self.text += &format!("| {} |\n", cells.join(" | "));
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
