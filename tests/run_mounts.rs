//! RUN with mounts, by real buildah.

use std::{fs, process::Command};

use crate::{
    program::{ended, names},
    runs::Runs,
};

#[test]
fn binds_of_context_stage_and_image_are_there_while_a_command_runs() {
    let runs = Runs::new(
        "FROM @BASE@ AS other\n\
         COPY file /from-stage\n\
         FROM @BASE@\n\
         RUN --mount=target=/c,source=dir --mount=type=bind,from=other,source=/from-stage,target=/s \\\n\
             --mount=type=bind,from=@BASE@,target=/i --mount=type=cache,target=/k --mount=type=tmpfs,target=/t \\\n\
             cat /c/leaf /s /i/etc/passwd > /out\n\
         RUN <<EOF\n\
         #!/bin/sh\n\
         echo script $0 > /script\n\
         EOF\n",
    );
    runs.site.file("context/file", "stage\n").file("context/dir/leaf", "context\n").file("context/rest", "r");
    runs.built();
    let out = fs::read_to_string(runs.files().join("out")).unwrap();
    assert!(out.starts_with("context\nstage\nroot:x:0:0"), "{out}");
    assert_eq!(fs::read_to_string(runs.files().join("script")).unwrap(), "script /dev/pipes/EOF\n");
    // Two layers of one file each, and the stage's.
    assert!(runs.sent() <= 5 * 4096, "{}", runs.sent());
}

/// What a command writes to files that are mounted is gone with it.
#[test]
fn what_is_written_to_a_bind_is_lost() {
    let runs = Runs::new(
        "FROM @BASE@ AS other\n\
         COPY dir /dir\n\
         FROM @BASE@\n\
         RUN --mount=target=/c,source=dir,rw --mount=from=other,source=/dir,target=/s,rw \\\n\
             --mount=from=@BASE@,target=/i,rw touch /c/new /s/new /i/new && cat /c/leaf > /s/leaf && ls /c /i > /out\n\
         COPY dir /copied\n\
         RUN --mount=target=/c,source=dir,rw --mount=from=other,source=/dir,target=/s,rw \\\n\
             --mount=from=@BASE@,target=/i,rw ls -a /c /s /i > /later && cat /s/leaf >> /later\n",
    );
    runs.site.file("context/dir/leaf", "leaf\n");
    runs.built();
    let read = |name: &str| fs::read_to_string(runs.files().join(name)).unwrap();
    assert!(read("out").starts_with("/c:\nleaf\nnew\n"), "{}", read("out"));
    assert!(read("later").ends_with("leaf\n") && !read("later").contains("new"), "{}", read("later"));
    assert_eq!(names(&runs.files().join("copied")), ["leaf"]);
    assert!(!runs.files().join("new").exists());
}

#[test]
fn what_looks_like_a_wildcard_is_refused_as_the_source_of_a_bind() {
    let runs = Runs::new("FROM @BASE@\nRUN --mount=source=a*,target=/c cat /c\n");
    runs.site.file("context/a1", "");
    let said = ended(&mut runs.build(&["--quiet"])).failed(3);
    let expected = "error: what is called \"/a*\" cannot be mounted: as a file to send that is a pattern\n --> context/Dockerfile:2:";
    assert!(said.starts_with(expected), "{said}");
}

/// No file of the image and nothing that the registry keeps holds it.
pub(crate) fn assert_nowhere(runs: &Runs, secret: &str) {
    let holds = |bytes: &[u8]| bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
    let found = Command::new("grep").args(["-rlF", secret]).arg(runs.files()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "", "a secret is in the image");
    assert!(!holds(runs.config().to_string().as_bytes()));
    for job in runs.jobs() {
        assert!(!holds(job.as_bytes()), "{job}");
    }
    let stored = Command::new("grep").args(["-rlF", secret]).arg(runs.registry.storage()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&stored.stdout), "", "a secret is in the registry");
}

#[test]
fn secrets_are_there_for_their_command_alone() {
    let runs = Runs::new(
        "FROM @BASE@\n\
         RUN --mount=type=secret,id=file,target=/root/cred,mode=0440,uid=5,gid=6 \\\n\
             --mount=type=secret,id=variable,required --mount=type=secret,source=alone --mount=type=secret,id=absent \\\n\
             cat /root/cred /run/secrets/variable /run/secrets/alone && ls -ln /root /run/secrets && \\\n\
             wc -c < /root/cred > /bytes && sleep 1\n\
         RUN ! test -s /root/cred && ! test -s /run/secrets/variable && ! test -e /run/secrets/absent\n",
    );
    let secrets = ["of-a-file-4711", "of-a-variable-4712", "of-a-name-4713"];
    runs.site.file("token.txt", format!("{}\n", secrets[0])).file("alone", secrets[2]);
    let flags =
        ["--secret", "id=file,src=token.txt", "--secret", "id=variable,env=KEY", "--secret", "id=alone"];
    let build = || ended(runs.build(&flags).env("KEY", secrets[1]));
    let done = build().done();
    assert_eq!(fs::read_to_string(runs.files().join("bytes")).unwrap(), "15\n");
    for secret in secrets {
        assert!(!done.stderr.contains(secret), "{}", done.stderr);
        assert_nowhere(&runs, secret);
    }
    assert!(done.stderr.contains("*******"), "{}", done.stderr);
    let cred = done.stderr.lines().find(|line| line.ends_with(" cred")).unwrap();
    assert!(cred.contains("-r--r-----    1 5        6  "), "{cred}");
    assert_eq!(names(&runs.site.path("scratch")), [".keep"]);
    // What a secret holds is no part of the key; which ones there are is.
    runs.site.file("alone", "another");
    build().done();
    assert_eq!(runs.jobs().len(), 1);

    let said = ended(&mut runs.build(&["--quiet"])).failed(3);
    let expected =
        "error: the secret \"variable\" is required, and none is given\n --> context/Dockerfile:3:9\n";
    assert!(said.starts_with(expected), "{said}");
    assert!(
        said.contains(
            "help: give it with --secret id=variable,src=FILE or --secret id=variable,env=VARIABLE"
        )
    );
    assert_eq!(runs.jobs().len(), 1);
    // It is the same beforehand; without a backend there is nobody to lend it to.
    let tag = runs.tag();
    let plan = |more: &[&str]| {
        ended(&mut runs.site.ocib(&[&["plan", "context", "--quiet", "-t", &tag], more].concat()))
    };
    assert_eq!(plan(&["--run", "buildah"]).failed(3), said);
    plan(&[]).done();
}

#[test]
fn secrets_that_cannot_be_lent_are_refused() {
    let runs = Runs::new("FROM @BASE@\nRUN --mount=type=secret,id=a,env=TOKEN true\n");
    runs.site.file("large", vec![b'x'; 512_001]).file("a", "");
    for (flags, code, message) in [
        (["--secret", "src=a"], 2, "--secret \"src=a\": it has no id"),
        (["--secret", "id=a,type=x"], 2, "--secret \"id=a,type=x\": the types are file and env"),
        (["--secret", "id=a,b"], 2, "--secret \"id=a,b\": expected NAME=VALUE"),
        (["--secret", "id=a,from=b"], 2, "--secret \"id=a,from=b\": there is no \"from\""),
        (
            ["--secret", "id=a,src=none"],
            3,
            "the secret \"a\" cannot be read: none: No such file or directory (os error 2)",
        ),
        (["--secret", "id=a,src=context"], 3, "the secret \"a\" cannot be read: context is a directory"),
        (
            ["--secret", "id=a,src=large"],
            3,
            "the secret \"a\" is too large: large has 512001 bytes, and 512000 are allowed",
        ),
        (["--ssh", "default"], 2, "--ssh default: there is no agent, as SSH_AUTH_SOCK is not set"),
        (["--ssh", "x=none"], 3, "--ssh x: there is no none"),
        (["--secret", "id=a"], 3, "RUN --mount=type=secret,env=TOKEN cannot be carried out by buildah"),
    ] {
        let said = ended(&mut runs.build(&[&["--quiet"], &flags[..]].concat())).failed(code);
        assert!(said.starts_with(&format!("error: {message}\n")), "{flags:?}: {said}");
    }
    // A variable that is not set lends nothing, and then nothing is mounted.
    ended(&mut runs.build(&["--secret", "id=a,env=NOT_SET"])).done();
    assert!(!runs.jobs()[0].contains("secret"), "{:?}", runs.jobs());
    // Nor does one that nobody could be lent.
    let said = runs.site.refused(3, &["--secret", "id=a,src=none"]);
    assert!(said.contains("--secret makes no difference: no --run carries out a RUN\n"), "{said}");
}

#[test]
fn an_agent_is_there_under_the_name_that_a_command_knows() {
    let runs = Runs::new(
        "FROM @BASE@\n\
         USER 1001\n\
         RUN --mount=type=ssh,uid=1001 test -S \"$SSH_AUTH_SOCK\" && test -w \"$SSH_AUTH_SOCK\" && id -u\n\
         RUN --mount=type=ssh,id=other,target=/x/sock,mode=666 test \"$SSH_AUTH_SOCK\" = /x/sock && test -S /x/sock\n\
         RUN --mount=type=ssh,id=absent test -z \"$SSH_AUTH_SOCK\"\n",
    );
    let socket = runs.site.name("agent");
    let _agent = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    ended(
        runs.build(&["--ssh", "default", "--ssh", &format!("other={socket}")]).env("SSH_AUTH_SOCK", &socket),
    )
    .done();
    assert_eq!(runs.jobs().len(), 1);
    let said = ended(&mut Runs::new("FROM @BASE@\nRUN --mount=type=ssh,required true\n").build(&["--quiet"]))
        .failed(3);
    assert!(said.starts_with("error: the ssh agent \"default\" is required, and none is given\n"), "{said}");
}

#[test]
fn options_of_mounts_are_said_in_the_programs_words() {
    let runs = Runs::new(
        "FROM @BASE@\n\
         WORKDIR /w\n\
         RUN --mount=type=bind,src=./dir/../dir,dst=here,readwrite=true touch here/new && cat here/leaf > /leaf\n\
         RUN --mount=TYPE=tmpfs,target=/t,size=1MiB cat /proc/mounts > /mounts && touch /t/lost\n\
         RUN --mount=type=cache,target=/k,id=one,sharing=private,mode=0700,uid=7,gid=8 ls -lnd /k > /cache && touch /k/kept\n\
         RUN --mount=type=cache,target=/other,id=one,ro=true test -e /other/kept && ! touch /other/x\n",
    );
    runs.site.file("context/dir/leaf", "context\n");
    runs.built();
    let read = |name: &str| fs::read_to_string(runs.files().join(name)).unwrap();
    assert_eq!(read("leaf"), "context\n");
    let mounts = read("mounts");
    let tmpfs = mounts.lines().find(|line| line.contains("/t tmpfs ")).unwrap_or_else(|| panic!("{mounts}"));
    assert!(tmpfs.contains("size=1024k"), "{tmpfs}");
    assert!(read("cache").starts_with("drwx------    2 7        8  "), "{}", read("cache"));
    assert!(!runs.files().join("t/lost").exists() && !runs.files().join("k/kept").exists());
    let [job] = &runs.jobs()[..] else { panic!("one job") };
    for expected in [
        ",source=/apart-1/x,target=/w/here,rw [",
        " --mount=type=tmpfs,target=/t,tmpfs-size=1048576 [",
        " --mount=type=cache,target=/k,id=one,mode=0700,uid=7,gid=8 [",
        " --mount=type=cache,target=/other,id=one,ro [",
    ] {
        assert!(job.contains(expected), "{expected:?} is not in {job}");
    }
}
