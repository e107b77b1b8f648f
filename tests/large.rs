//! Files that tar's octal digits cannot describe.

use std::{fs, process::Command};

use ocib_testkit::{is_full, require, run_command, sparse_file, verify_layout};

use crate::program::Site;

/// More than the eleven octal digits of a size can say.
const BYTES: u64 = 9 << 30;

/// With `OCIB_TEST_FULL`: reading, hashing and compressing 9 GiB takes about a minute.
#[test]
fn gnu_tar_and_python_read_the_size_of_a_9_gib_file() {
    if !is_full() {
        return;
    }
    let site = Site::new("FROM scratch\nCOPY zeros after /\n");
    sparse_file(&site.path("context/zeros"), BYTES);
    site.file("context/after", "what follows is found\n");
    site.built(&["--compression", "zstd", "-o", "type=oci,tar=false,dest=out"]);
    verify_layout(&site.path("out"));
    let blobs = fs::read_dir(site.path("out/blobs/sha256")).unwrap().map(|blob| blob.unwrap().path());
    let layer = blobs.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    assert!(fs::metadata(&layer).unwrap().len() < 2 << 20);
    let mut list = Command::new(require("tar", "tar"));
    let listed = run_command(list.args(["--zstd", "--utc", "--numeric-owner", "-tvf"]).arg(&layer));
    let expected = format!(
        "-rw-r--r-- 0/0              22 1970-01-01 00:00 after\n-rw-r--r-- 0/0      {BYTES} 1970-01-01 00:00 zeros\n"
    );
    assert_eq!(listed, expected);
    let script = "import subprocess, sys, tarfile\n\
                  stream = subprocess.Popen(['zstd', '-dcq', sys.argv[1]], stdout=subprocess.PIPE).stdout\n\
                  print([(m.name, m.size) for m in tarfile.open(fileobj=stream, mode='r|')])";
    let mut python = Command::new(require("python3", "python3"));
    let listed = run_command(python.args(["-c", script]).arg(&layer));
    assert_eq!(listed, format!("[('after', 22), ('zeros', {BYTES})]\n"));
}
