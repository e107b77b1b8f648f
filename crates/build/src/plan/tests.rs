//! Plans as text, without disk or network.

use bytes::Bytes;
use futures_util::FutureExt;
use ocib_image::{
    Annotations, Blob, Config, ContainerConfig, GitReference, Image, ImageName, Manifest, MediaType,
    Platform, Remote,
};

use super::{Doubts, StagePart, plan};
use crate::{
    Error, NativeRun, Request,
    stages::{Images, Stages},
};

/// An image without layers whose config is `config`.
pub(crate) fn image(config: &str) -> Image {
    let blob = Blob::in_memory(MediaType::Config, Bytes::copy_from_slice(config.as_bytes()));
    Image {
        manifest: Manifest::new(blob.descriptor, Vec::new(), Annotations::new()),
        config: Config::Container(Box::new(ContainerConfig::parse(config.as_bytes()).unwrap())),
        layers: Vec::new(),
        pinned: "base@sha256:0".to_owned(),
    }
}

fn images(platform: &Platform, all: &[(&str, &str)]) -> Images {
    let key = |name: &str| (name.parse::<ImageName>().unwrap(), platform.clone());
    all.iter().map(|(name, config)| (key(name), image(config))).collect()
}

fn planned(dockerfile: &str, change: impl Fn(&mut Request), bases: &[(&str, &str)]) -> Result<String, Error> {
    let mut request = Request::new(ocib_dockerfile::parse(dockerfile.as_bytes())?);
    change(&mut request);
    let platform = request.platforms[0].clone();
    let stages = Stages::new(&request, &platform)?;
    Ok(plan(&stages, &images(&platform, bases), &Doubts::new())?.to_string())
}

#[test]
fn a_model_image() {
    let text = planned(
        "FROM scratch\nLABEL kind=model\nWORKDIR /models\nCOPY --chmod=0644 a b ./\nUSER 1010\nCMD [\"x\"]\n",
        |request| drop(request.labels.insert("team".into(), "ml".into())),
        &[],
    );
    assert_eq!(
        text.unwrap(),
        r#"platform linux/amd64
stage 0 from scratch
  native
    WORKDIR /models
      directory /models
    COPY --chmod=0644 a b ./
      a out of the context
      b out of the context
      to /models/
history
  - LABEL kind=model
  + WORKDIR /models
  + COPY --chmod=0644 a b ./ # buildkit
  - USER 1010
  - CMD ["x"]
config {"architecture":"amd64","config":{"ArgsEscaped":true,"Cmd":["x"],"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],"Labels":{"kind":"model","team":"ml"},"User":"1010","WorkingDir":"/models"},"created":"1970-01-01T00:00:00Z","os":"linux","rootfs":{"diff_ids":[],"type":"layers"}}
"#
    );
}

#[test]
fn only_needed_stages_are_planned_and_images_asked_for() {
    let dockerfile =
        "FROM unused:1 AS a\nFROM used:1 AS b\nFROM scratch\nCOPY --from=b /x /y\nCOPY --from=img /x /z\n";
    let request = Request::new(ocib_dockerfile::parse(dockerfile.as_bytes()).unwrap());
    let stages = Stages::new(&request, &Platform::linux_amd64()).unwrap();
    let missing = stages.missing(&Images::new()).unwrap();
    let names: Vec<String> = missing.iter().map(|((name, _), _)| name.to_string()).collect();
    assert_eq!(names, ["docker.io/library/used:1", "docker.io/library/img:latest"]);
    let plan = planned(dockerfile, |_| {}, &[("used:1", "{}"), ("img", "{}")]).unwrap();
    let stages: Vec<&str> = plan.lines().filter(|line| line.starts_with("stage")).collect();
    assert_eq!(
        stages,
        ["stage 1 \"b\" from docker.io/library/used:1 for linux/amd64", "stage 2 from scratch"]
    );
}

#[test]
fn triggers_of_a_base_run_first_and_bring_their_own_bases() {
    let base =
        r#"{"os":"linux","architecture":"amd64","config":{"OnBuild":["COPY --from=more /a /b","ENV T=1"]}}"#;
    let dockerfile = "FROM base\nENV T=2\n";
    let request = Request::new(ocib_dockerfile::parse(dockerfile.as_bytes()).unwrap());
    let stages = Stages::new(&request, &Platform::linux_amd64()).unwrap();
    let known = images(&Platform::linux_amd64(), &[("base", base)]);
    let missing = stages.missing(&known).unwrap();
    assert_eq!(missing[0].0.0.to_string(), "docker.io/library/more:latest");
    let plan = planned(dockerfile, |_| {}, &[("base", base), ("more", "{}")]).unwrap();
    let copy = "    COPY /a /b\n      /a out of docker.io/library/more:latest for linux/amd64\n      to /b\n";
    assert!(plan.contains(copy), "{plan}");
    assert!(plan.contains(r#""T=2""#) && !plan.contains("OnBuild"), "{plan}");
}

#[test]
fn urls_are_remembered_whole_and_shown_without_secrets() {
    let dockerfile = "FROM scratch\nARG T=tok\nADD https://u:p@h/x?sig=$T local /x/\n";
    let request = Request::new(ocib_dockerfile::parse(dockerfile.as_bytes()).unwrap());
    let stages = Stages::new(&request, &Platform::linux_amd64()).unwrap();
    let plan = plan(&stages, &Images::new(), &Doubts::new()).unwrap();
    let remotes: Vec<&Remote> = plan.remotes().map(|remote| &remote.value).collect();
    assert_eq!(remotes, [&Remote::Url { url: "https://u:p@h/x?sig=tok".to_owned(), digest: None }]);
    assert!(plan.to_string().contains("    ADD https://h/x local /x/\n"), "{plan}");
}

/// Where a stage is cut: the instructions of each part, by their first letters.
fn cut(instructions: &str) -> Vec<String> {
    let text = planned(&format!("FROM scratch\n{instructions}"), |_| {}, &[]).unwrap();
    let mut parts: Vec<String> = Vec::new();
    for line in text.lines() {
        match line {
            "history" => break,
            "  native" | "  delegated" => parts.push(format!("{}:", line.trim_start())),
            _ => {
                let instruction = line.strip_prefix("    ").filter(|rest| !rest.starts_with([' ', ':']));
                if let (Some(part), Some(instruction)) = (parts.last_mut(), instruction) {
                    part.push_str(&format!(" {instruction}"));
                }
            }
        }
    }
    parts
}

#[test]
fn stages_are_cut_at_their_first_and_last_run() {
    for (instructions, expected) in [
        ("", &[][..]),
        ("COPY a /\nWORKDIR /\n", &["native: COPY a /"]),
        ("RUN a\n", &["delegated: RUN a"]),
        ("ENV A=b\nRUN a\nENV B=$A\n", &["delegated: RUN a"]),
        ("COPY a /\nRUN b\nCOPY c /\n", &["native: COPY a /", "delegated: RUN b", "native: COPY c /"]),
        (
            "WORKDIR /w\nRUN a\nWORKDIR /\nCOPY b /\nENV C=$HOME.\nONBUILD RUN c\nRUN d\nADD e /\nCOPY f /\n",
            &[
                "native: WORKDIR /w",
                "delegated: RUN a WORKDIR / COPY b / ENV C=. ONBUILD RUN c RUN d",
                "native: ADD e / COPY f /",
            ],
        ),
        ("RUN mkdir a\nUSER u\nCOPY b /\n", &["native: RUN mkdir a COPY b /"]),
        (
            "RUN true\nCOPY a /\nRUN b\nRUN mkdir c\nRUN d\nRUN rm e\nCOPY f /\n",
            &["native: RUN true COPY a /", "delegated: RUN b RUN mkdir c RUN d", "native: RUN rm e COPY f /"],
        ),
    ] {
        assert_eq!(cut(instructions), expected, "{instructions}");
    }
}

#[test]
fn what_is_in_doubt_or_forbidden_is_not_simple() {
    let dockerfile = "FROM scratch\nRUN mkdir a\nRUN rm b\n";
    let mut request = Request::new(ocib_dockerfile::parse(dockerfile.as_bytes()).unwrap());
    let second = request.dockerfile.stages[0].instructions[1].span;
    let doubts = Doubts::from([(second, "rm b: b is not there".to_owned())]);
    let stages = Stages::new(&request, &Platform::linux_amd64()).unwrap();
    let parts = plan(&stages, &Images::new(), &doubts).unwrap().stages.pop().unwrap().parts;
    let [StagePart::Native(first), StagePart::Delegated(rest)] = &parts[..] else { panic!("{parts:?}") };
    assert_eq!((first.len(), rest.first_span()), (1, second));
    let error = plan(&stages, &Images::new(), &doubts).unwrap().require_native().unwrap_err();
    assert_eq!(
        error.to_string(),
        "RUN needs a container, and no backend that could run it is configured (rm b: b is not there)"
    );
    request.native_run = NativeRun::Off;
    let stages = Stages::new(&request, &Platform::linux_amd64()).unwrap();
    let parts = plan(&stages, &Images::new(), &Doubts::new()).unwrap().stages.pop().unwrap().parts;
    assert!(matches!(&parts[..], [StagePart::Delegated(all)] if all.instructions.len() == 2), "{parts:?}");
}

#[test]
fn history_shows_run_as_buildkit_does() {
    for (instructions, expected) in [
        ("RUN a  b\n", "RUN /bin/sh -c a  b # buildkit"),
        ("RUN [\"a\", \"b c\"]\n", "RUN a b c # buildkit"),
        ("SHELL [\"bash\", \"-e\"]\nRUN a\n", "RUN bash -e a # buildkit"),
        ("ARG A=1 B\nARG A=2\nENV A=3\nRUN a\n", "RUN |2 A=3 B= /bin/sh -c a # buildkit"),
        ("RUN --mount=type=tmpfs,target=/t --network=none a\n", "RUN /bin/sh -c a # buildkit"),
        ("RUN <<-E\n\ta\n\tb\n\tE\n", "RUN /bin/sh -c a\nb\n # buildkit"),
        ("RUN <<E\n#!/usr/bin/x\na\nE\n", "RUN /bin/sh -c /dev/pipes/E # buildkit"),
        ("RUN cat <<A - <<B\na\nA\nb\nB\n", "RUN /bin/sh -c cat <<A - <<B\na\nA\nb\nB # buildkit"),
    ] {
        let dockerfile = format!("FROM scratch\n{instructions}");
        let request = Request::new(ocib_dockerfile::parse(dockerfile.as_bytes()).unwrap());
        let stages = Stages::new(&request, &Platform::linux_amd64()).unwrap();
        let plan = plan(&stages, &Images::new(), &Doubts::new()).unwrap();
        let line = plan.stages[0].config.history.last().unwrap();
        assert_eq!((line.created_by.as_str(), line.empty_layer), (expected, false));
    }
}

#[test]
fn stages_inherit_args_for_history() {
    let text = planned("FROM scratch AS a\nARG X=1\nFROM a\nARG Y=2\nRUN a\n", |_| {}, &[]).unwrap();
    assert!(text.contains("  + RUN |2 X=1 Y=2 /bin/sh -c a # buildkit\n"), "{text}");
}

#[test]
fn mounts_bring_their_stages_and_images() {
    let dockerfile = "FROM scratch AS tools\nFROM scratch\nARG T=/t\n\
                      RUN --mount=from=TOOLS,target=$T --mount=from=img,type=cache,target=/c --mount=target=/x a\n";
    let request = Request::new(ocib_dockerfile::parse(dockerfile.as_bytes()).unwrap());
    let stages = Stages::new(&request, &Platform::linux_amd64()).unwrap();
    let missing = stages.missing(&Images::new()).unwrap();
    let names: Vec<String> = missing.iter().map(|((name, _), _)| name.to_string()).collect();
    assert_eq!(names, ["docker.io/library/img:latest"]);
    let text = planned(dockerfile, |_| {}, &[("img", "{}")]).unwrap();
    let mounts: Vec<&str> = text.lines().filter(|line| line.starts_with("      mount")).collect();
    assert_eq!(
        mounts,
        [
            "      mount from=TOOLS,target=/t out of stage 0",
            "      mount from=img,type=cache,target=/c out of docker.io/library/img:latest for linux/amd64",
            "      mount target=/x out of the context",
        ]
    );
}

#[test]
fn a_run_has_no_backend() {
    let dockerfile = "FROM scratch AS a\nCOPY a /\nRUN true\nRUN make\nFROM a\nRUN later\n";
    let request = Request::new(ocib_dockerfile::parse(dockerfile.as_bytes()).unwrap());
    let stages = Stages::new(&request, &Platform::linux_amd64()).unwrap();
    let error = plan(&stages, &Images::new(), &Doubts::new()).unwrap().require_native().unwrap_err();
    let span = error.span().unwrap();
    assert_eq!(&dockerfile[span.start..span.end], "RUN make");
    assert_eq!(error.to_string(), "RUN needs a container, and no backend that could run it is configured");
}

/// What ADD of `words` would fetch, and how history shows it.
fn fetched(words: &str) -> (Option<GitReference>, String) {
    let dockerfile = format!("FROM scratch\nADD {words} /x/\n");
    let request = Request::new(ocib_dockerfile::parse(dockerfile.as_bytes()).unwrap());
    let stages = Stages::new(&request, &Platform::linux_amd64()).unwrap();
    let plan = plan(&stages, &Images::new(), &Doubts::new()).unwrap();
    let remote = plan.remotes().next().map(|remote| remote.value.clone());
    let git = remote.and_then(|remote| match remote {
        Remote::Git(git) => Some(git),
        Remote::Url { .. } => None,
    });
    let StagePart::Native(steps) = &plan.stages[0].parts[0] else { panic!("there is no RUN") };
    (git, steps[0].created_by.clone())
}

#[test]
fn repositories_are_told_from_files() {
    for (words, expected, history) in [
        ("https://me:pw@h/a.git#v1:sub", Some((Some("v1"), None, None)), "https://h/a.git#v1:sub"),
        ("--checksum=abc https://h/a.git", Some((None, Some("abc"), None)), "https://h/a.git"),
        (
            "--checksum=abc --keep-git-dir https://h/a.git?commit=abc&keep-git-dir=1",
            Some((Some("abc"), Some("abc"), Some(true))),
            "https://h/a.git?commit=abc&keep-git-dir=1",
        ),
        ("--keep-git-dir=false git@h:a", Some((None, None, Some(false))), "git@h:a"),
        ("https://h/a.git/", None, "https://h/a.git/"),
        // In ADD this is a path.
        ("github.com/o/r", None, "github.com/o/r"),
    ] {
        let (git, created_by) = fetched(words);
        let git = git.as_ref();
        let actual = git.map(|git| (git.reference.as_deref(), git.checksum.as_deref(), git.keep_git_dir));
        assert_eq!(actual, expected, "{words}");
        assert_eq!(created_by, format!("ADD {history} /x/ # buildkit"), "{words}");
    }
}

#[test]
fn errors_say_what_and_where() {
    for (dockerfile, place, message) in [
        ("FROM scratch\nRUN --mount=type=nfs true\n", "type=nfs", "unsupported mount type \"nfs\""),
        (
            "FROM scratch AS wanted\nRUN --mount=from=late true\nFROM scratch AS late\n",
            "from=late",
            "cannot copy from stage \"late\", it needs to be defined before the current stage",
        ),
        ("FROM Foo\n", "Foo", "\"Foo\" is not an image reference: a repository is lower case"),
        (
            "FROM scratch\nCOPY --from=$X a b\n",
            "$X",
            "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a \
             workaround",
        ),
        (
            "FROM scratch AS wanted\nCOPY --from=late a b\nFROM scratch AS late\nCOPY --from=0 a b\n",
            "late",
            "cannot copy from stage \"late\", it needs to be defined before the current stage",
        ),
        ("FROM scratch\nCOPY --from=7 a b\n", "7", "invalid stage index 7, there are 1 stages"),
        (
            "FROM scratch\nCOPY --chmod=9 a b\n",
            "9",
            "invalid chmod parameter \"9\": it should be an octal number up to 07777 or a symbolic mode",
        ),
        ("FROM scratch\nEXPOSE x/tcp\n", "x/tcp", "invalid containerPort: x"),
        ("FROM scratch\nSTOPSIGNAL SIGFOO\n", "SIGFOO", "invalid signal: SIGFOO"),
        (
            "FROM scratch\nADD --checksum=x https://h/a /x\n",
            "x",
            "\"x\" is not a digest, expected sha256: and 64 lower-case hex digits",
        ),
        (
            "FROM scratch\nADD --checksum=sha256:0 a /x\n",
            "sha256:0",
            "checksum requires HTTP(S) or Git sources",
        ),
        (
            "FROM scratch\nADD --checksum=abc github.com/o/r /x\n",
            "abc",
            "checksum requires HTTP(S) or Git sources",
        ),
        (
            "FROM scratch\nADD https://me:pw@h/a.git?x=y /x\n",
            "https://me:pw@h/a.git?x=y",
            "https://h/a.git is not a git reference: unexpected query \"x\"",
        ),
        (
            "FROM scratch\nADD --keep-git-dir=false https://h/a.git?keep-git-dir=1 /x\n",
            "https://h/a.git?keep-git-dir=1",
            "inconsistent keep-git-dir configuration",
        ),
        (
            "FROM scratch\nADD --checksum=abc https://h/a.git?commit=def /x\n",
            "abc",
            "checksum mismatch \"abc\" != \"def\"",
        ),
        ("FROM scratch\nCOPY https://h/a /x\n", "https://h/a", "source can't be a URL for COPY"),
        ("FROM scratch\nCOPY a host:b /x\n", "host:b", "source can't be a git ref for COPY"),
    ] {
        let target = dockerfile.contains(" AS wanted\n").then(|| "wanted".to_owned());
        let error = planned(dockerfile, |request| request.target.clone_from(&target), &[]).unwrap_err();
        let span = error.span().unwrap();
        assert_eq!(
            (&dockerfile[span.start..span.end], error.to_string().as_str()),
            (place, message),
            "{dockerfile}"
        );
    }
}

/// As in BuildKit, which looks at `--from` of all stages before it finds out which ones are needed.
#[test]
fn stages_that_nobody_needs_have_to_be_in_order_too() {
    let late = "cannot copy from stage \"NAME\", it needs to be defined before the current stage";
    let copy = |name: &str, from: &str| format!("FROM scratch AS {name}\nCOPY --from={from} /x /x\n");
    for (dockerfile, place, message) in [
        (copy("a", "a"), "a", late.replace("NAME", "a")),
        (copy("a", "0"), "0", late.replace("NAME", "0")),
        (copy("a", "b") + &copy("b", "A"), "b", late.replace("NAME", "b")),
        // The name that comes too late hides the one before.
        (
            "FROM scratch AS a\n".to_owned() + &copy("b", "a") + &copy("a", "b"),
            "a",
            late.replace("NAME", "a"),
        ),
        (copy("a", "7"), "7", "invalid stage index 7, there are 2 stages".to_owned()),
        (copy("a", "Img"), "Img", "\"Img\" is not an image reference: a repository is lower case".to_owned()),
        (
            "FROM scratch AS a\nRUN --mount=from=b true\n".to_owned() + &copy("b", "a"),
            "from=b",
            late.replace("NAME", "b"),
        ),
    ] {
        let dockerfile = dockerfile + "FROM scratch\n";
        let error = planned(&dockerfile, |_| {}, &[]).unwrap_err();
        let span = error.span().unwrap();
        let found = (&dockerfile[span.start..span.end], error.to_string());
        assert_eq!(found, (place, message), "{dockerfile}");
    }
    for fine in [
        // Too late, but nobody needs it and nobody waits for it.
        copy("a", "b") + "FROM scratch AS b\nFROM scratch\n",
        // Images, not stages.
        copy("a", "other") + "FROM scratch AS b\nRUN --mount=from=1 true\nFROM scratch\n",
        // The base of a stage is what came before.
        copy("a", "b") + "FROM a AS b\nFROM scratch\n",
    ] {
        planned(&fine, |_| {}, &[]).unwrap();
    }
}

#[test]
fn a_url_without_anybody_to_fetch_it() {
    let dockerfile = "FROM scratch\nADD https://h/x /x/\n";
    let request = Request::new(ocib_dockerfile::parse(dockerfile.as_bytes()).unwrap());
    let stages = Stages::new(&request, &Platform::linux_amd64()).unwrap();
    let plan = plan(&stages, &Images::new(), &Doubts::new()).unwrap();
    let error = crate::fetch_all(&[plan], None).now_or_never().unwrap().unwrap_err();
    let span = error.span().unwrap();
    assert_eq!(
        (&dockerfile[span.start..span.end], error.to_string().as_str(), error.help().as_deref()),
        (
            "https://h/x",
            "there is nothing here that could fetch a URL or repository",
            Some("download it into the context first, then COPY it")
        )
    );
}

#[test]
fn an_artifact_is_no_base() {
    let dockerfile = "FROM scratch AS a\nFROM base\n";
    let request = Request::new(ocib_dockerfile::parse(dockerfile.as_bytes()).unwrap());
    let stages = Stages::new(&request, &Platform::linux_amd64()).unwrap();
    let mut images = images(&Platform::linux_amd64(), &[("base", "{}")]);
    let media_type = MediaType::from("application/vnd.cncf.model.config.v1+json");
    for image in images.values_mut() {
        image.config = Config::Artifact(media_type.clone(), Bytes::from_static(b"{}"));
    }
    let error = plan(&stages, &images, &Doubts::new()).unwrap_err();
    let span = error.span().unwrap();
    assert_eq!(
        (&dockerfile[span.start..span.end], error.to_string().as_str()),
        (
            "base",
            "base@sha256:0 is an artifact of type application/vnd.cncf.model.config.v1+json, not a container image"
        )
    );
}
