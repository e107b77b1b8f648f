//! Files that tar's octal digits cannot describe.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use ocib_testkit::{is_full, require, run_command, sparse_file, verify_layout};

use crate::program::Site;

/// More than the eleven octal digits of a size can say.
pub(crate) const BYTES: u64 = 9 << 30;

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
    let layer = largest_blob(&site.path("out"));
    assert!(fs::metadata(&layer).unwrap().len() < 2 << 20);
    assert_eq!(listed(&layer), [("after".to_owned(), 22), ("zeros".to_owned(), BYTES)]);
}

/// The largest blob of a layout, which is the layer of a large file.
pub(crate) fn largest_blob(layout: &Path) -> PathBuf {
    let blobs = fs::read_dir(layout.join("blobs/sha256")).unwrap().map(|blob| blob.unwrap().path());
    blobs.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap()
}

/// Names and sizes in a layer that is plain or compressed by zstd, about which GNU tar and Python agree.
pub(crate) fn listed(layer: &Path) -> Vec<(String, u64)> {
    let mut list = Command::new(require("tar", "tar"));
    let listing = run_command(list.args(["--utc", "--numeric-owner", "-tvf"]).arg(layer));
    let entry = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        (words[5].trim_end_matches('/').to_owned(), words[2].parse().unwrap())
    };
    let entries: Vec<(String, u64)> = listing.lines().map(entry).collect();
    let script = "import json, subprocess, sys, tarfile\n\
                  file = open(sys.argv[1], 'rb')\n\
                  if file.read(4) == bytes.fromhex('28b52ffd'):\n\
                  \x20   zstd = subprocess.Popen(['zstd', '-dcq', sys.argv[1]], stdout=subprocess.PIPE)\n\
                  \x20   archive = tarfile.open(fileobj=zstd.stdout, mode='r|')\n\
                  else:\n\
                  \x20   archive = tarfile.open(sys.argv[1])\n\
                  print(json.dumps([(member.name, member.size) for member in archive]))";
    let mut python = Command::new(require("python3", "python3"));
    let listing = run_command(python.args(["-c", script]).arg(layer));
    assert_eq!(serde_json::from_str::<Vec<(String, u64)>>(&listing).unwrap(), entries);
    entries
}
