//! What this machine gives: memory, places to write, proxies, certificates.

use std::{env, fs, path::Path};

use bytesize::ByteSize;
use ocib_net::Redacted;

use super::findings::{Finding, Findings};
use crate::{args, environment, wiring};

/// Looks at all of it.
pub(super) fn check(build: &args::Build, findings: &mut Findings) {
    findings.add(memory(build));
    findings.add(scratch(build));
    findings.add(cache());
    findings.add(proxy());
    findings.add(certificates(build));
}

/// A number of bytes as people read it.
pub(super) fn size(bytes: u64) -> String {
    ByteSize::b(bytes).display().iec().to_string()
}

fn memory(build: &args::Build) -> Finding {
    let limit = environment::cgroup_memory_bytes();
    let asked = build.shared.memory.map_or_else(environment::default_memory_bytes, |memory| memory.as_u64());
    if let Err(failure) = wiring::sealer(&build.shared, build.compression) {
        return Finding::failed("memory", "", &failure);
    }
    match limit {
        Some(limit) if asked > limit => {
            let detail =
                format!("--memory allows {}, but the cgroup's limit is {}", size(asked), size(limit));
            match ocib_store::Cause::named("out-of-memory") {
                Some(cause) => Finding::problem("memory", "", detail, cause),
                None => Finding::unknown("memory", "", detail),
            }
        }
        Some(limit) => Finding::ok("memory", "", format!("{} of the cgroup's {}", size(asked), size(limit))),
        None => Finding::ok("memory", "", format!("{}; the cgroup has no limit", size(asked))),
    }
}

/// Only a context on stdin needs it, and that was written before this is asked.
fn scratch(build: &args::Build) -> Finding {
    let directory = build.scratch_dir.clone().unwrap_or_else(env::temp_dir);
    let name = directory.display().to_string();
    match is_writable(&directory) {
        true => Finding::ok("scratch", name, "it can be written"),
        false => Finding::ok("scratch", name, "it cannot be written; only a context on stdin needs it"),
    }
}

fn cache() -> Finding {
    let Some(directory) = environment::cache_directory() else {
        return Finding::ok(
            "cache",
            "",
            "there is no home directory, so nothing is remembered between builds",
        );
    };
    let name = directory.display().to_string();
    let nearest = directory.ancestors().find(|path| path.is_dir());
    match nearest.is_some_and(is_writable) {
        true => Finding::ok("cache", name, "it can be written"),
        false => Finding::ok("cache", name, "it cannot be written, so nothing is remembered between builds"),
    }
}

/// Whether a file can be made there: permissions alone do not tell of read-only file systems.
fn is_writable(directory: &Path) -> bool {
    let probe = directory.join(format!(".ocib-preflight-{}", std::process::id()));
    let made = fs::OpenOptions::new().write(true).create_new(true).open(&probe).is_ok();
    // Nothing to remove if it was not made.
    let _ = fs::remove_file(&probe);
    made
}

fn proxy() -> Finding {
    let names = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
    let Some((name, value)) = first_set(&names) else { return Finding::ok("proxy", "", "none") };
    let shown = match value.parse() {
        Ok(url) => Redacted::of(&url).to_string(),
        // It may hold a password, wherever that is.
        Err(_) => "set, but no URL".to_owned(),
    };
    let past = first_set(&["NO_PROXY", "no_proxy"]);
    let past = past.map_or_else(String::new, |(_, hosts)| format!("; past it: {hosts}"));
    Finding::ok("proxy", name, format!("{shown}{past}"))
}

/// The first of these variables that is not empty.
fn first_set(names: &[&'static str]) -> Option<(&'static str, String)> {
    names.iter().find_map(|name| Some((*name, env::var(name).ok().filter(|value| !value.is_empty())?)))
}

fn certificates(build: &args::Build) -> Finding {
    let system = ["SSL_CERT_FILE", "SSL_CERT_DIR"].iter().find_map(|name| env::var(name).ok());
    let system = system.map_or_else(|| "the system's".to_owned(), |place| format!("those in {place}"));
    let extra = build.shared.ca_files.len();
    let more = if extra == 0 { String::new() } else { format!(", and {extra} of --ca-file") };
    Finding::ok("certificates", "", format!("{system}{more}"))
}
