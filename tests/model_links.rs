//! `ocib model pull`: files with the same content, on file systems with and without hard links.

use std::{
    fs,
    os::unix::fs::{MetadataExt, symlink},
    process::Command,
};

use ocib_testkit::{noise_file, require, run_command};

use crate::program::{Ended, Site, ended};

/// `ocib` with these arguments, for which the kernel fails each call of this name with an error.
fn without(site: &Site, call: &str, error: &str, arguments: &[&str]) -> Ended {
    let mut command = Command::new(require("strace", "strace"));
    command.args(["-f", "-qq", "-o", &site.name("calls"), "-e"]).arg(format!("inject={call}:error={error}"));
    command.arg(env!("CARGO_BIN_EXE_ocib")).args(arguments);
    site.clean(&mut command);
    let ended = ended(&mut command);
    let calls = fs::read_to_string(site.path("calls")).unwrap();
    assert!(calls.contains(&format!("{error} ")), "nothing was refused: {calls}");
    ended
}

/// A model with equal files, as layers of their own in `raw` and as names of one file in `linked`.
fn layouts() -> Site {
    let site = Site::new("FROM scratch\nCOPY --exclude=Dockerfile . /models/\n");
    noise_file(&site.path("context/a.bin"), 1, 3 << 20);
    fs::hard_link(site.path("context/a.bin"), site.path("context/b.bin")).unwrap();
    site.file("context/config.json", "{}\n").file("context/d/config.json", "{}\n");
    site.built(&["--quiet", "-t", "x:1", "-o", "type=oci,tar=false,dest=linked"]);
    let exclude = ["--exclude", "Dockerfile", "--modelpack=raw"];
    let output = ["-t", "x:1", "-o", "type=oci,tar=false,dest=raw"];
    site.done(&[&["model", "build", "--quiet", "context"], &exclude[..], &output].concat());
    site
}

fn inode(site: &Site, name: &str) -> u64 {
    fs::metadata(site.path(name)).unwrap().ino()
}

#[test]
fn equal_files_of_an_artifact_are_files_of_their_own() {
    let site = layouts();
    let pull = ["model", "pull", "oci-layout://raw:1-modelpack", "to"];
    let first = site.done(&pull);
    assert!(first.stderr.contains("4 files put into place, 0 were there"), "{}", first.stderr);
    assert_ne!(inode(&site, "to/a.bin"), inode(&site, "to/b.bin"));
    assert_ne!(inode(&site, "to/config.json"), inode(&site, "to/d/config.json"));
    let times = |name: &str| fs::metadata(site.path(name)).unwrap().mtime();
    assert_eq!((times("to/a.bin"), times("to/b.bin")), (0, 0));

    // Whoever writes to one writes to it alone, and gets it back without another one being read anew.
    site.file("to/d/config.json", "{1\n");
    assert_eq!(fs::read_to_string(site.path("to/config.json")).unwrap(), "{}\n");
    let (kept, changed) = (inode(&site, "to/b.bin"), inode(&site, "to/d/config.json"));
    let second = site.done(&pull);
    assert!(second.stderr.contains("1 files put into place, 3 were there"), "{}", second.stderr);
    assert_eq!(fs::read_to_string(site.path("to/d/config.json")).unwrap(), "{}\n");
    assert_eq!(inode(&site, "to/b.bin"), kept);
    assert_ne!(inode(&site, "to/d/config.json"), changed);

    // Of copies nothing is believed, either, and what is right stays.
    let verified = site.done(&[&pull[..], &["--verify"]].concat());
    assert!(verified.stderr.contains("0 files put into place, 4 were there"), "{}", verified.stderr);
    fs::remove_file(site.path("to/.ocib-pull.json")).unwrap();
    let again = site.done(&pull);
    assert!(again.stderr.contains("2 files put into place, 2 were there"), "{}", again.stderr);
    assert_eq!(inode(&site, "to/b.bin"), kept);
}

#[test]
fn file_systems_that_refuse_hard_links_get_copies() {
    let site = layouts();
    for error in ["EPERM", "EOPNOTSUPP", "ENOSYS", "EMLINK", "EXDEV"] {
        let to = format!("to-{error}");
        let pull = ["model", "pull", "oci-layout://linked:1", &to];
        let first = without(&site, "linkat", error, &pull).done();
        assert!(first.stderr.contains("4 files put into place, 0 were there"), "{}", first.stderr);
        let path = |name: &str| format!("{to}/{name}");
        assert_ne!(inode(&site, &path("a.bin")), inode(&site, &path("b.bin")));
        let mut compare = Command::new(require("diff", "diffutils"));
        compare.args(["-r", "-x", "Dockerfile", "-x", ".ocib-pull.json"]);
        run_command(compare.arg(site.path("context")).arg(site.path(&to)));
        // Copies are as good as links are: nothing is made again.
        let again = site.done(&pull);
        assert!(again.stderr.contains("0 files put into place, 4 were there"), "{}", again.stderr);
    }
    let other = site.done(&["model", "pull", "oci-layout://linked:1", "to"]);
    assert!(other.stderr.contains("4 files put into place"), "{}", other.stderr);
    assert_eq!(inode(&site, "to/a.bin"), inode(&site, "to/b.bin"));
    assert_ne!(inode(&site, "to/config.json"), inode(&site, "to/d/config.json"));
}

#[test]
fn a_copy_that_has_no_room_is_said_and_made_by_the_next_pull() {
    let site = layouts();
    let pull = ["model", "pull", "oci-layout://raw:1-modelpack", "to"];
    let said = without(&site, "copy_file_range", "ENOSPC", &pull).failed(1);
    assert!(said.contains("No space left on device") && said.contains("what has arrived is kept"), "{said}");
    assert!(!site.path("to/.ocib-pull/temporary").exists());
    let again = site.done(&pull);
    assert!(!again.stderr.contains("a.bin: done"), "{}", again.stderr);
    assert_eq!(fs::read(site.path("to/b.bin")).unwrap(), fs::read(site.path("context/b.bin")).unwrap());
}

#[test]
fn file_systems_without_modes_and_times_or_symbolic_links() {
    let site = layouts();
    without(&site, "fchmod,utimensat", "EPERM", &["model", "pull", "oci-layout://linked:1", "to"]).done();
    symlink("config.json", site.path("context/link")).unwrap();
    site.built(&["--quiet", "-t", "x:2", "-o", "type=oci,tar=false,dest=linked"]);
    let said = without(&site, "symlinkat", "EPERM", &["model", "pull", "oci-layout://linked:2", "to"]);
    let said = said.failed(1);
    assert!(said.contains("to/link is a symbolic link, and the file system has none"), "{said}");
}
