//! What a command took, all of its processes together.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use ocib_testkit::{checkout, require, run_command};

use crate::{
    report::median,
    site::{Site, Work},
};

/// What a command took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    pub(crate) wall: Duration,
    /// User and system time of all processes.
    pub(crate) cpu_s: f64,
    /// Peak resident memory of the largest process.
    pub(crate) rss_mib: f64,
    /// Bytes that became dirty in files on disks (`ru_oublock`); files in memory don't count.
    pub(crate) written_mb: f64,
}

/// What a script may use: these are variables of its environment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Script<'a> {
    /// For bash.
    pub(crate) text: &'a str,
    /// `$CONTEXT`, the build context.
    pub(crate) context: &'a Path,
    /// `$REF`, where to push to.
    pub(crate) reference: &'a str,
}

impl Script<'_> {
    /// Runs it to its end; fails with what it said if it fails. Further variables are `$OCIB`, the
    /// program; `$WORK`, an empty directory on a disk; `$RAM`, one in memory.
    pub(crate) fn measured(&self, site: &Site) -> Usage {
        let work = site.work();
        // What earlier runs wrote must not be written back during this one.
        run_command(&mut Command::new(require("sync", "coreutils")));
        let report = work.memory().join("usage");
        // GNU time asks the kernel what the whole tree took (`wait4`).
        let mut time = Command::new(require("time", "time"));
        time.args(["-f", "%U %S %M %O", "-o"]).arg(&report);
        let mut command = self.beneath(time, &work);
        let start = Instant::now();
        run_command(&mut command);
        let wall = start.elapsed();
        let report = fs::read_to_string(report).expect("time writes its report");
        let numbers: Vec<f64> = report.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        let [user_s, system_s, rss_kib, blocks] = numbers[..] else { panic!("time wrote {report:?}") };
        let cpu_s = user_s + system_s;
        Usage { wall, cpu_s, rss_mib: rss_kib / 1024.0, written_mb: blocks * 512.0 / 1e6 }
    }

    /// Runs it once more; how often all of its processes asked the kernel, the shell included.
    pub(crate) fn system_calls(&self, site: &Site) -> u64 {
        let work = site.work();
        let report = work.memory().join("calls");
        let mut strace = Command::new(require("strace", "strace"));
        strace.args(["-f", "-qq", "-c", "-U", "calls,name", "-o"]).arg(&report);
        run_command(&mut self.beneath(strace, &work));
        let report = fs::read_to_string(report).expect("strace writes its report");
        let total = report.lines().find_map(|line| line.trim().strip_suffix(" total"));
        total.and_then(|calls| calls.trim().parse().ok()).unwrap_or_else(|| panic!("strace wrote {report:?}"))
    }

    /// The script, watched by another program.
    fn beneath(&self, mut command: Command, work: &Work) -> Command {
        command.args(["bash", "-euo", "pipefail", "-c", self.text]).current_dir(work.disk()).env_clear();
        command.env("PATH", std::env::join_paths(folders()).expect("they came out of a PATH"));
        command.env("OCIB", env!("CARGO_BIN_EXE_ocib")).env("RAM", work.memory());
        for variable in ["HOME", "TMPDIR", "WORK"] {
            command.env(variable, work.disk());
        }
        command.env("CONTEXT", self.context).env("REF", self.reference);
        command
    }
}

/// Whether all of these programs can be run.
pub(crate) fn are_there(programs: &[&str]) -> bool {
    programs.iter().all(|program| folders().iter().any(|folder| folder.join(program).is_file()))
}

/// Where programs are looked for: where everybody does, and in the environment that `tests/run.sh` makes.
fn folders() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain([checkout().join("target/test-data/hub/bin")]).collect()
}

impl Usage {
    /// Wall and CPU time in seconds, MiB of memory, MB on disk, as cells of a table.
    pub(crate) fn cells(&self) -> [String; 4] {
        let wall_s = self.wall.as_secs_f64();
        [
            format!("{wall_s:.2}"),
            format!("{:.2}", self.cpu_s),
            format!("{:.0}", self.rss_mib),
            format!("{:.0}", self.written_mb),
        ]
    }

    /// The median of each number by itself.
    pub(crate) fn median(runs: &[Self]) -> Self {
        let of = |number: fn(&Self) -> f64| median(runs.iter().map(number).collect());
        Self {
            wall: Duration::from_secs_f64(of(|run| run.wall.as_secs_f64())),
            cpu_s: of(|run| run.cpu_s),
            rss_mib: of(|run| run.rss_mib),
            written_mb: of(|run| run.written_mb),
        }
    }
}
