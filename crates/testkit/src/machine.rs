//! What the machine that tests run on has, beside installed programs.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::process::run_command;

/// Whether tests that need minutes or many gigabytes shall run: `OCIB_TEST_FULL` is set.
pub fn is_full() -> bool {
    std::env::var_os("OCIB_TEST_FULL").is_some()
}

/// A static busybox for arm64.
pub fn arm64_busybox() -> PathBuf {
    fetched("busybox-arm64")
}

/// Runs an arm64 program by emulation and returns what it wrote to stdout.
pub fn run_arm64(program: &Path, arguments: &[&str]) -> String {
    run_command(Command::new(fetched("qemu-aarch64-static")).arg(program).args(arguments))
}

/// A file that `tests/run.sh` fetches.
fn fetched(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/test-data").join(name);
    assert!(path.is_file(), "{} is missing: run tests/run.sh once, which fetches it", path.display());
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arm64_programs_run() {
        assert_eq!(run_arm64(&arm64_busybox(), &["uname", "-m"]), "aarch64\n");
    }
}
