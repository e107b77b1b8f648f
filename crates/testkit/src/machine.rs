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
    run_command(Command::new(arm64_emulator()).arg(program).args(arguments))
}

/// Runs programs of arm64, if the machine does not.
pub(crate) fn arm64_emulator() -> PathBuf {
    fetched("qemu-aarch64-static")
}

/// The checkout whose tests are running. Asked for at run time: a target directory that several
/// checkouts share may hand one a program that was compiled in another.
pub fn checkout() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let package = package.expect("cargo sets it for every test that it runs");
    let root = package.ancestors().find(|directory| directory.join("Cargo.lock").is_file());
    root.expect("the workspace's lock file is above every package").to_owned()
}

/// A file that `tests/run.sh` fetches.
pub(crate) fn fetched(name: &str) -> PathBuf {
    let path = checkout().join("target/test-data").join(name);
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
