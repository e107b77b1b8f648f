//! What is simple, as tables, and what must never be taken for it.

use ocib_dockerfile::{Command as Instruction, simple::Command};

use super::{SimpleRun, mode_after};
use crate::{
    Request,
    plan::{Act, Doubts, StagePart, plan},
    stages::{Images, Stages},
};

/// The commands of `RUN script` at the end of `before`, or nothing if it is not simple.
fn read(before: &str, run: &str) -> Option<SimpleRun> {
    let dockerfile =
        ocib_dockerfile::parse(format!("FROM scratch\n{before}\nRUN {run}\n").as_bytes()).unwrap();
    let request = Request::new(dockerfile);
    let stages = Stages::new(&request, &request.platforms[0]).unwrap();
    let mut plan = plan(&stages, &Images::new(), &Doubts::new()).unwrap();
    let part = plan.stages.pop()?.parts.pop()?;
    match part {
        StagePart::Native(mut steps) => match steps.pop()?.action {
            crate::plan::Action::Run(simple) => Some(*simple),
            other => panic!("{other:?} is no RUN"),
        },
        StagePart::Delegated(delegated) => {
            assert!(matches!(delegated.instructions.last()?.act, Act::Run(_)));
            None
        }
    }
}

fn shown(run: &SimpleRun) -> String {
    let texts: Vec<&str> = run.commands.iter().map(|called| &*called.text).collect();
    texts.join(" | ")
}

#[test]
fn simple_runs() {
    for (run, expected) in [
        ("mkdir /models && chmod 775 /models", "mkdir /models | chmod 775 /models"),
        ("mkdir -p -m 0750 /a b", "mkdir -p -m 0750 /a b"),
        ("mkdir -pm750 -- a", "mkdir -pm750 -- a"),
        ("chgrp -R 0 /m && chmod -R g=u /m", "chgrp -R 0 /m | chmod -R g=u /m"),
        ("chown -R app: /m; chown :staff x; chown 1:2 y", "chown -R app: /m | chown :staff x | chown 1:2 y"),
        ("ln -s a b && ln -sfn c d", "ln -s a b | ln -sfn c d"),
        ("touch a && rm -f a && rm -rf b && rm -f && rm c", "touch a | rm -f a | rm -rf b | rm -f | rm c"),
        ("true && :", "true | :"),
        ("set -eux; mkdir a", "set -eux | mkdir a"),
        ("/bin/mkdir a", "/bin/mkdir a"),
        ("[\"mkdir\", \"a b\", \"*\"]", "mkdir a b *"),
        ("[\"/bin/sh\", \"-c\", \"mkdir a && true\"]", "mkdir a | true"),
        ("<<EOF\nmkdir a\n\n# why\ntouch a/b\nEOF", "mkdir a | touch a/b"),
        ("--network=none mkdir a", "mkdir a"),
        ("--security=sandbox mkdir a", "mkdir a"),
        ("mkdir \\\n  # said in between\n  /a", "mkdir /a"),
    ] {
        assert_eq!(read("", run).as_ref().map(shown).as_deref(), Some(expected), "{run}");
    }
    for before in ["USER 0", "USER root:root", "SHELL [\"/bin/sh\", \"-c\"]", "ENV A=1", "ARG A"] {
        assert!(read(before, "mkdir a").is_some(), "{before}");
    }
    let run = read("ENV PATH=/bin D=/x\nARG S=y\nWORKDIR /w", "mkdir $D/$S").unwrap();
    assert_eq!((shown(&run).as_str(), &*run.search, &*run.working_dir), ("mkdir /x/y", "/bin", "/w"));
    assert_eq!(read("", "true").unwrap().commands[0].command, Command::Nothing);
}

#[test]
fn what_is_not_certain_is_not_simple() {
    for run in [
        "mkdir",
        "mkdir -v a",
        "mkdir --parents a",
        "mkdir -m u=rwx a",
        "mkdir -m 01777x a",
        "mkdir -m 00755 a",
        "mkdir a -p",
        "mkdir ''",
        "mkdir -",
        "mkdir -m",
        "chmod a",
        "chmod 00755 a",
        "chmod 888 a",
        "chmod -x a",
        "chmod +w a",
        "chmod =r a",
        "chmod u+rw-x a",
        "chmod o+t a",
        "chmod o+s a",
        "chmod a+s a",
        "chmod u+ a",
        "chmod g-u a",
        "chmod -R 755",
        "chmod -v 755 a",
        "chmod --reference=a b",
        "chmod 755 a -R",
        "chmod z+x a",
        "chmod u+x, a",
        "chown a",
        "chown a.b c",
        "chown +1 c",
        "chown : c",
        "chown '' c",
        "chown -h a b",
        "chown -RL a b",
        "chown -R a",
        "chown 1:2:3 a",
        "chown a: ",
        "chgrp '' a",
        "chgrp a:b c",
        "ln a b",
        "ln -s a",
        "ln -s a b c",
        "ln -sr a b",
        "ln -st d a",
        "ln -sv a b",
        "touch",
        "touch -c a",
        "touch -t 1 a",
        "touch -- -a",
        "rm",
        "rm -i a",
        "rm -v a",
        "rm -r",
        "rm --no-preserve-root -rf /",
        "rm -d a",
        "echo a",
        "mkdir a && echo b",
        "cd a && mkdir b",
        "A=b mkdir c",
        "exec mkdir a",
        "command mkdir a",
        "./mkdir a",
        "bin/mkdir a",
        "sudo mkdir a",
        "[ -d a ]",
        "test -d a",
        "exit 0",
        "set",
        "set -o pipefail",
        "set -eo pipefail",
        "set +e",
        "if true; then mkdir a; fi",
        "{ mkdir a; }",
        "for x in a; do mkdir $x; done",
        "alias mkdir=x",
        "[]",
        "[\"true\", \"&&\"]x",
        "[\"sh\", \"-c\", \"mkdir a\"]",
        "[\"/bin/sh\", \"-ec\", \"mkdir a\"]",
        "[\":\"]",
        "[\"set\", \"-e\"]",
        "[\"/bin/bash\", \"-c\", \"mkdir a\"]",
        "<<EOF\n#!/bin/sh\nmkdir a\nEOF",
        "cat <<EOF > /a\nx\nEOF",
        "mkdir a <<EOF\nx\nEOF",
        "--mount=type=cache,target=/c mkdir a",
        "--mount=type=bind,target=/c mkdir a",
        "--security=insecure mkdir a",
        "--device=x mkdir a",
        "# nothing",
    ] {
        let Ok(dockerfile) = ocib_dockerfile::parse(format!("FROM scratch\nRUN {run}\n").as_bytes()) else {
            continue;
        };
        let has_run =
            dockerfile.stages[0].instructions.iter().any(|i| matches!(i.command, Instruction::Run(_)));
        assert!(!has_run || read("", run).is_none(), "{run}");
    }
    for before in [
        "USER app",
        "USER 1000",
        "USER 0:5",
        "USER nobody",
        "SHELL [\"/bin/bash\", \"-c\"]",
        "SHELL [\"/bin/sh\", \"-ec\"]",
        "SHELL [\"sh\", \"-c\"]",
        "ENV LD_PRELOAD=/x.so",
        "ENV IFS=/",
        "ENV POSIXLY_CORRECT=1",
        "ARG BASH_ENV=/x",
        "ENV ENV=/x",
    ] {
        assert!(read(before, "mkdir a").is_none(), "{before}");
    }
}

#[test]
fn modes_that_every_chmod_agrees_on() {
    for (text, before, is_directory, after) in [
        ("755", 0o644, false, Some(0o755)),
        ("755", 0o755, true, Some(0o755)),
        // Setgid of directories stays with GNU's, not with busybox's.
        ("755", 0o2755, true, None),
        ("2775", 0o2755, true, Some(0o2775)),
        ("755", 0o2755, false, Some(0o755)),
        ("+x", 0o644, false, Some(0o755)),
        ("a+rX", 0o600, false, Some(0o644)),
        ("a+rX", 0o700, true, Some(0o755)),
        ("u=rwX,go=rX", 0o740, false, Some(0o755)),
        ("g=u", 0o750, true, Some(0o770)),
        ("g=u", 0o2750, true, None),
        ("g+u", 0o2750, true, Some(0o2770)),
        ("a-x,u+X", 0o755, false, None),
        ("u+x,g+X", 0o600, false, None),
        ("u+x,g+X", 0o700, false, Some(0o710)),
        ("go=", 0o755, false, Some(0o700)),
        ("ug+s", 0o755, false, Some(0o6755)),
        ("+t", 0o777, true, Some(0o1777)),
    ] {
        let SimpleRun { commands, .. } = read("", &format!("chmod {text} a")).unwrap();
        let Command::ChangeMode { mode, .. } = &commands[0].command else { panic!("{commands:?}") };
        let found = mode_after(mode, before, is_directory);
        assert_eq!(
            found.map(|mode| format!("{mode:o}")),
            after.map(|mode: u32| format!("{mode:o}")),
            "{text} {before:o}"
        );
    }
}
