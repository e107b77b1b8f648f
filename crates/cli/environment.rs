//! What this process runs in: its limits.

use std::{env, fs, path::PathBuf, thread};

/// What the program promises to stay within unless it is asked otherwise.
const MEMORY_DEFAULT: u64 = 64 << 20;

/// What the environment says, as text.
pub(crate) fn variable(name: &str) -> Option<String> {
    env::var(name).ok()
}

/// The memory budget if the user names none.
pub(crate) fn default_memory_bytes() -> u64 {
    let limit = cgroup_memory_bytes().map(|limit| limit / 2);
    limit.unwrap_or(MEMORY_DEFAULT).min(MEMORY_DEFAULT)
}

/// Processors that this process may use.
pub(crate) fn cores() -> usize {
    thread::available_parallelism().map_or(1, Into::into)
}

/// Where this user's programs keep what they can do without (XDG base directory specification).
pub(crate) fn cache_directory() -> Option<PathBuf> {
    let absolute = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
    Some(base.join("ocib"))
}

/// The memory limit of this process' cgroup, version 2 or 1.
fn cgroup_memory_bytes() -> Option<u64> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own_path = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    let files = [
        format!("/sys/fs/cgroup{own_path}/memory.max"),
        "/sys/fs/cgroup/memory.max".to_owned(),
        "/sys/fs/cgroup/memory/memory.limit_in_bytes".to_owned(),
    ];
    let limits = files.iter().filter_map(|file| fs::read_to_string(file).ok()?.trim().parse::<u64>().ok());
    limits.min()
}
