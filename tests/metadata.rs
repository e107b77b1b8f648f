//! What an image records besides content: attributes, times, history.

use std::{fs, process::Command};

use ocib_testkit::{require, rootfs, run_command, verify_layout};
use serde_json::{Value, json};

use crate::program::{Site, config, ended};

/// Builds into a fresh layout and gives its config.
fn built(site: &Site, arguments: &[&str]) -> Value {
    let layout = site.path("out");
    if layout.exists() {
        fs::remove_dir_all(&layout).unwrap();
    }
    site.built(&[&["-o", "type=oci,tar=false,dest=out"], arguments].concat());
    verify_layout(&layout);
    config(&format!("oci:{}", layout.display()))
}

fn set_attribute(site: &Site, name: &str, value: &str) {
    let mut set = Command::new(require("setfattr", "attr"));
    run_command(set.args(["-n", name, "-v", value]).arg(site.path("context/tree/file")));
}

#[test]
fn attributes_of_users_are_inputs_and_those_of_the_system_never() {
    let site = Site::new("FROM scratch\nCOPY tree /tree/\nFROM scratch\nCOPY --from=0 /tree/file /again\n");
    site.file("context/tree/file", "f\n");
    let plain = built(&site, &[]);
    set_attribute(&site, "security.ocib", "host");
    assert_eq!(built(&site, &[]), plain, "attributes of the system change nothing");
    set_attribute(&site, "user.kind", "model");
    assert_ne!(built(&site, &[])["rootfs"], plain["rootfs"]);
    let files = rootfs(&site.path("out"), "linux/amd64");
    let attributes: Vec<_> = files["again"].xattrs.iter().map(|(name, value)| (&**name, &**value)).collect();
    assert_eq!(attributes, [("user.kind", &b"model"[..])]);
}

#[test]
fn the_epoch_is_in_config_history_and_files() {
    let site = Site::new("FROM scratch\nWORKDIR /made\nCOPY file /\nENV A=b\n");
    site.file("context/file", "f\n");
    for (epoch, written) in [("0", "1970-01-01T00:00:00Z"), ("1700000000", "2023-11-14T22:13:20Z")] {
        let config = built(&site, &["--source-date-epoch", epoch]);
        let history = config["history"].as_array().unwrap().iter().map(|line| &line["created"]);
        let times: Vec<&Value> = history.chain([&config["created"]]).collect();
        assert_eq!(times, [&json!(written); 4]);
        let files = rootfs(&site.path("out"), "linux/amd64");
        let times: Vec<_> = files.iter().map(|(path, file)| (&**path, file.mtime.to_string())).collect();
        assert_eq!(times, [("file", epoch.to_owned()), ("made", epoch.to_owned())]);
    }
}

/// buildx hands the environment's on as a build argument; empty ones are none to it and to BuildKit.
#[test]
fn an_arg_sees_the_epoch_however_it_is_given() {
    const NAME: &str = "SOURCE_DATE_EPOCH";
    let site = Site::new("FROM scratch\nARG SOURCE_DATE_EPOCH\nLABEL epoch=${SOURCE_DATE_EPOCH:-none}\n");
    let given = |flags: &[&str], environment: Option<&str>| {
        let mut build = site.build(&[&["--quiet", "-o", "type=oci,dest=out.tar"], flags].concat());
        ended(build.envs(environment.map(|seconds| (NAME, seconds)))).done();
        let config = config(&format!("oci-archive:{}", site.name("out.tar")));
        [&config["config"]["Labels"]["epoch"], &config["created"]]
            .map(|value| value.as_str().unwrap().to_owned())
    };
    let (zero, five) = ("1970-01-01T00:00:00Z", "1970-01-01T00:00:05Z");
    for (flags, environment, expected) in [
        (&[][..], None, ["none", zero]),
        (&[], Some("5"), ["5", five]),
        (&[], Some(""), ["none", zero]),
        (&["--source-date-epoch", "5"], Some("7"), ["5", five]),
        (&["--build-arg", "SOURCE_DATE_EPOCH=5"], Some("7"), ["5", five]),
        (&["--build-arg", "SOURCE_DATE_EPOCH="], Some("7"), ["none", zero]),
    ] {
        assert_eq!(given(flags, environment), expected, "{flags:?} {environment:?}");
    }
}

#[test]
fn history_is_that_of_buildkit() {
    let site = Site::new(
        "ARG GLOBAL=global\n\
         FROM scratch AS base\n\
         ARG GLOBAL\n\
         ARG GIVEN=default ABSENT\n\
         WORKDIR /w\n\
         FROM base\n\
         COPY --chown=1:2 --chmod=0600 file other ./$GIVEN/\n\
         ADD --link file /linked\n\
         COPY <<EOF /heredoc\n\
         EOF\n\
         ENV A=$GIVEN B=\"b b\"\n\
         LABEL c=d\n\
         EXPOSE 80 53/udp\n\
         USER 1010\n\
         VOLUME /data\n\
         STOPSIGNAL SIGINT\n\
         SHELL [\"/bin/bash\", \"-c\"]\n\
         HEALTHCHECK --interval=5s CMD true\n\
         ENTRYPOINT exec \"$0\"\n\
         CMD [\"a\", \"b c\"]\n\
         MAINTAINER ada\n\
         ONBUILD ENV later=1\n",
    );
    site.file("context/file", "f\n").file("context/other", "o\n");
    let config = built(&site, &["--build-arg", "GIVEN=given"]);
    let line = |entry: &Value| {
        assert_eq!(entry["comment"], "buildkit.dockerfile.v0");
        let mark = if entry["empty_layer"] == true { "-" } else { "+" };
        format!("{mark} {}", entry["created_by"].as_str().unwrap())
    };
    let history: Vec<String> = config["history"].as_array().unwrap().iter().map(line).collect();
    assert_eq!(
        history,
        [
            "- ARG GLOBAL=global",
            "- ARG GIVEN=given ABSENT",
            "+ WORKDIR /w",
            "+ COPY --chown=1:2 --chmod=0600 file other ./given/ # buildkit",
            "+ ADD file /linked # buildkit",
            "+ COPY <<EOF /heredoc # buildkit",
            "- ENV A=given B=b b",
            "- LABEL c=d",
            "- EXPOSE [80/tcp 53/udp]",
            "- USER 1010",
            "- VOLUME [/data]",
            "- STOPSIGNAL SIGINT",
            "- SHELL [/bin/bash -c]",
            "- HEALTHCHECK {Test:[CMD-SHELL true] Interval:5s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}",
            "- ENTRYPOINT [\"/bin/bash\" \"-c\" \"exec \\\"$0\\\"\"]",
            "- CMD [\"a\" \"b c\"]",
            "- MAINTAINER ada",
        ]
    );
    let layers = config["rootfs"]["diff_ids"].as_array().unwrap().len();
    assert_eq!(layers, history.iter().filter(|line| line.starts_with('+')).count());
}
