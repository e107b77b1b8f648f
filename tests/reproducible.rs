//! The same input gives the same digests: whoever builds, wherever, whenever, with any number of
//! threads.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, SystemTime},
};

use ocib_testkit::{Noise, require, run_command};

use crate::program::{Site, as_nobody, ended, set_mode};

const DOCKERFILE: &str = "FROM scratch AS base\n\
                          COPY --chmod=u=rwX,go=rX small /small\n\
                          FROM base\n\
                          ARG TARGETARCH\n\
                          COPY . /all/\n\
                          COPY --chown=12:34 text /text-for-$TARGETARCH\n\
                          ENV A=b\n\
                          LABEL c=d\n";

/// Files whose content never changes: text, noise, links and odd names, more than a block of any codec.
fn files() -> Vec<(String, Vec<u8>)> {
    let mut files = vec![
        ("Dockerfile".to_owned(), DOCKERFILE.into()),
        ("small".to_owned(), b"small\n".to_vec()),
        ("text".to_owned(), "the same line again and again\n".repeat(300_000).into_bytes()),
        ("noise".to_owned(), Noise::bytes(1, 5_000_000)),
        ("dir/käse".to_owned(), b"not ASCII\n".to_vec()),
    ];
    files.extend((0..50).map(|number| (format!("dir/many/{number}"), format!("{number}\n").into_bytes())));
    files
}

fn fill(context: &Path, files: &[(String, Vec<u8>)]) {
    for (name, content) in files {
        let path = context.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        set_mode(path, 0o644);
    }
    std::os::unix::fs::symlink("many/7", context.join("dir/link")).unwrap();
    fs::hard_link(context.join("small"), context.join("dir/again")).unwrap();
    for directory in ["", "dir", "dir/many"] {
        set_mode(context.join(directory), 0o755);
    }
}

fn site() -> Site {
    let site = Site::new("");
    fill(&site.path("context"), &files());
    site
}

const CODECS: [&str; 4] = ["none", "gzip", "zstd", "auto"];

/// Digests of one context: an interface, as caches and signatures rest on them. Whoever changes one
/// says so in CHANGELOG.md.
const GOLDEN: [(&str, &str); 4] = [
    ("none", "sha256:3ab332bfdc5c33c28528dd03225ed7cbf3fcb6162a1e7975db555429526ae310"),
    ("gzip", "sha256:92795d7ebf12a5189e9871f29e917c122f45872c999d9df50b76f037931c1f88"),
    ("zstd", "sha256:cf4338e5a51bf106b2a30296569a2d68b3edffc4099d8737de27f55fdfdea055"),
    ("auto", "sha256:30848044dc8f9f0ec1f4d3a72460f43bf40f91a3817010a41596bc43de678762"),
];

fn digest(site: &Site, codec: &str, more: &[&str]) -> String {
    let arguments = ["--compression", codec, "-o", "type=oci,tar=false,dest=out"];
    let done = site.built(&[&arguments, more].concat());
    fs::remove_dir_all(site.path("out")).unwrap();
    done.digest().to_owned()
}

#[test]
fn golden_digests() {
    let site = site();
    let found: Vec<_> = CODECS.iter().map(|codec| (*codec, digest(&site, codec, &[]))).collect();
    let golden = GOLDEN.map(|(codec, digest)| (codec, digest.to_owned()));
    assert_eq!(found, golden);
}

#[test]
fn any_number_of_threads_and_any_memory() {
    let site = site();
    for (codec, golden) in GOLDEN {
        for more in [["--jobs", "1"], ["--jobs", "8"], ["--memory", "48MiB"], ["--memory", "1GiB"]] {
            assert_eq!(digest(&site, codec, &more), golden, "{codec} {more:?}");
        }
        let mut pinned = Command::new(require("taskset", "util-linux"));
        site.clean(pinned.args(["-c", "0", env!("CARGO_BIN_EXE_ocib"), "build", "context"]));
        let done = ended(pinned.args(["--compression", codec, "-o", "type=oci,dest=out.tar"])).done();
        assert_eq!(done.digest(), golden, "{codec} on one core");
    }
}

#[test]
fn other_times_another_place_and_another_order() {
    let site = Site::new("");
    fs::rename(site.path("context"), site.path("first")).unwrap();
    let mut reversed = files();
    reversed.reverse();
    let elsewhere = site.path("deeper/and deeper");
    fill(&elsewhere, &reversed);
    let later = SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000);
    for (name, _) in &reversed {
        fs::File::options().append(true).open(elsewhere.join(name)).unwrap().set_modified(later).unwrap();
    }
    let mut build = Command::new(env!("CARGO_BIN_EXE_ocib"));
    site.clean(build.args(["build", "deeper/and deeper", "-o", "type=oci,dest=out.tar"]));
    build.env("TZ", "Asia/Kathmandu").env("LC_ALL", "de_DE.UTF-8").env("HOME", "/nowhere");
    let done = ended(build.args(["--compression", "gzip"])).done();
    assert_eq!(done.digest(), GOLDEN[1].1);
}

#[test]
fn another_user() {
    let site = site();
    for path in ["", "context"] {
        set_mode(site.path(path), 0o755);
    }
    let mut own = Command::new(require("chown", "coreutils"));
    run_command(own.args(["-R", "65534:1234"]).arg(site.path("context")));
    let program = site.path("ocib");
    fs::copy(env!("CARGO_BIN_EXE_ocib"), &program).unwrap();
    fs::create_dir(site.path("out")).unwrap();
    set_mode(site.path("out"), 0o777);
    for (codec, golden) in GOLDEN {
        let mut build = as_nobody(&program);
        let output = format!("type=oci,dest=out/{codec}.tar");
        site.clean(build.args(["build", "context", "--compression", codec, "-o", &output]));
        assert_eq!(ended(&mut build).done().digest(), golden, "{codec}");
    }
}

#[test]
fn the_epoch_is_the_only_time() {
    let site = site();
    let epoch = digest(&site, "gzip", &["--source-date-epoch", "1000000000"]);
    assert_ne!(epoch, GOLDEN[1].1);
    let mut build = site.build(&["--compression", "gzip", "-o", "type=oci,dest=out.tar"]);
    let done = ended(build.env("SOURCE_DATE_EPOCH", "1000000000")).done();
    assert_eq!(done.digest(), epoch);
    // What scripts for BuildKit say counts before the environment.
    let mut build = site.build(&["--compression", "gzip", "-o", "type=oci,dest=out.tar"]);
    build.args(["--build-arg", "SOURCE_DATE_EPOCH=1000000000"]).env("SOURCE_DATE_EPOCH", "5");
    assert_eq!(ended(&mut build).done().digest(), epoch);
    for wrong in ["tomorrow", "-1", "253402300800"] {
        let argument = format!("SOURCE_DATE_EPOCH={wrong}");
        let said = ended(&mut site.build(&["--build-arg", &argument])).failed(2);
        let expected =
            format!("error: --build-arg {argument}: expected seconds since 1970, of a year up to 9999\n");
        assert!(said.contains(&expected), "{said}");
    }

    let own = |seconds| {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let file = fs::File::options().append(true).open(site.path("context/small")).unwrap();
        file.set_modified(time).unwrap();
        digest(&site, "gzip", &["--timestamps", "keep"])
    };
    assert_ne!(own(1_000_000_000), own(1_000_000_001));
}
