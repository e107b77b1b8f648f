//! Contexts and Dockerfiles on stdin.

use std::process::{Command, Stdio};

use crate::program::{Ended, Site, ended};

const DOCKERFILE: &str = "FROM scratch\nCOPY data /data/\n";

fn site() -> Site {
    let site = Site::new(DOCKERFILE);
    site.file("context/data/a", "one").file("context/data/sub/b", "two").file("context/data/secret", "no");
    site.file("context/.dockerignore", "data/secret\n");
    site
}

/// `ocib build -` in `site`, with the output of `shell` on stdin.
fn piped(site: &Site, shell: &str, arguments: &[&str]) -> Ended {
    let mut producer = Command::new("sh");
    site.clean(&mut producer);
    let mut producer = producer.args(["-c", shell]).stdout(Stdio::piped()).spawn().unwrap();
    let mut build = Command::new(env!("CARGO_BIN_EXE_ocib"));
    site.clean(&mut build);
    build.args(["build", "-"]).args(arguments).stdin(producer.stdout.take().unwrap());
    let result = ended(&mut build);
    producer.wait().unwrap();
    result
}

#[test]
fn a_tar_gives_the_image_that_its_directory_gives() {
    let site = site();
    let expected = site.built(&["-q"]);
    for compress in ["cat", "gzip", "xz", "zstd", "bzip2"] {
        let shell = format!("tar -C context -cf - . | {compress}");
        let made = piped(&site, &shell, &["-q"]).done();
        assert_eq!(made.digest(), expected.digest(), "{compress}");
    }
}

#[test]
fn nowhere_to_write_is_said_with_the_remedy() {
    let stderr = piped(&site(), "tar -C context -cf - .", &["-q", "--scratch-dir", "nowhere"]).failed(3);
    assert_eq!(
        stderr,
        "error: stdin cannot be spooled to nowhere: No such file or directory (os error 2), expected room in a \
         directory that can be written (--scratch-dir)\n |\nhelp: name a directory that can be written with \
         --scratch-dir\n"
    );
}

#[test]
fn what_is_no_archive_is_the_dockerfile() {
    let site = site();
    piped(&site, "printf 'FROM scratch\\nENV A=b\\n'", &["-q"]).done();
    let stderr = piped(&site, "cat context/Dockerfile", &["-q"]).failed(3);
    assert_eq!(
        stderr,
        "error: there is no build context to copy from\n --> stdin:2:1\n  |\n2 | COPY data /data/\n  | \
         ^^^^^^^^^^^^^^^^\n"
    );
}
