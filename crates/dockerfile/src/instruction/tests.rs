use std::time::Duration;

use super::*;
use crate::parse;

/// The only instruction of a Dockerfile with `line` behind `FROM a`; offsets count from the line.
fn instruction(line: &str) -> Result<Instruction, Error> {
    let mut dockerfile = parse(format!("{line}\nFROM a").as_bytes());
    if !line.to_uppercase().starts_with("ARG") {
        let trigger = crate::parse_trigger(line);
        return trigger;
    }
    dockerfile.as_mut().map_err(|error| error.clone())?.global_args.pop().ok_or(Error::NoInstructions)
}

fn command(line: &str) -> Command {
    instruction(line).unwrap().command
}

fn at(value: &str, start: usize) -> Spanned<String> {
    Spanned::new(value.to_owned(), start..start + value.len())
}

fn pair(key: Spanned<String>, value: Spanned<String>) -> Pair {
    let span = key.span.to(value.span);
    Pair { key, value, span, legacy: false }
}

fn transfer(sources: Vec<Spanned<String>>, destination: Spanned<String>) -> Transfer {
    Transfer {
        from: None,
        chown: None,
        chmod: None,
        link: false,
        parents: false,
        exclude: Vec::new(),
        checksum: None,
        unpack: None,
        keep_git_dir: None,
        sources,
        heredocs: Vec::new(),
        destination,
    }
}

fn shell(text: &str) -> CommandLine {
    CommandLine::Shell(text.to_owned())
}

fn exec(words: &[&str]) -> CommandLine {
    CommandLine::Exec(words.iter().map(|&word| word.to_owned()).collect())
}

fn run(command: CommandLine) -> Run {
    Run { command, mounts: vec![], network: None, security: None, devices: vec![], heredocs: vec![] }
}

#[test]
fn an_instruction() {
    let expected = Instruction {
        span: Span::from(2..14),
        original: "uSER  app  ".to_owned(),
        command: Command::User(Spanned::new("app".to_owned(), 8..14)),
    };
    assert_eq!(instruction("  uSER  a\\\n  \n#x\npp  ").map(|i| i.original), Ok("uSER  app  ".to_owned()));
    assert_eq!(instruction("  uSER  ap\\\n\np  "), Ok(expected));
}

#[test]
fn copy_and_add() {
    assert_eq!(command("COPY a b /d"), Command::Copy(transfer(vec![at("a", 5), at("b", 7)], at("/d", 9))));
    let json = transfer(
        vec![Spanned::new("a b".to_owned(), 6..11), Spanned::new("c".to_owned(), 13..21)],
        Spanned::new("/d/".to_owned(), 23..28),
    );
    assert_eq!(command(r#"COPY ["a b", "\u0063", "/d/"]"#), Command::Copy(json));
    let broken = transfer(vec![at("[\"a", 5), at("b\",", 9)], at("/d", 13));
    assert_eq!(command("COPY [\"a b\", /d"), Command::Copy(broken));
    let flags = Transfer {
        from: Some(at("s", 12)),
        chown: Some(at("1:2", 22)),
        chmod: Some(at("u=rw", 34)),
        link: true,
        parents: true,
        exclude: vec![at("*.a", 65), at("b", 79)],
        ..transfer(vec![at("f", 81)], at("/d", 83))
    };
    let line = "COPY --from=s --chown=1:2 --chmod=u=rw --link --parents=true --exclude=*.a --exclude=b f /d";
    let moved = |mut t: Transfer| {
        t.exclude = vec![at("*.a", 71), at("b", 85)];
        t.sources = vec![at("f", 87)];
        t.destination = at("/d", 89);
        t
    };
    assert_eq!(command(line), Command::Copy(moved(flags)));
    let add = Transfer {
        checksum: Some(at("sha256:1", 15)),
        unpack: Some(false),
        keep_git_dir: Some(true),
        link: false,
        ..transfer(vec![at("u", 66)], at("/d", 68))
    };
    let line = "ADD --checksum=sha256:1 --unpack=false --keep-git-dir --link=FALSE u /d";
    let moved = Transfer { sources: vec![at("u", 67)], destination: at("/d", 69), ..add };
    assert_eq!(command(line), Command::Add(moved));
}

#[test]
fn heredoc_sources() {
    let heredoc = |name: &str, content: &str, start: usize, end: usize| Heredoc {
        name: name.to_owned(),
        expand: true,
        chomp: false,
        file_descriptor: 0,
        content: content.to_owned(),
        span: Span { start, end },
    };
    let several = Transfer {
        heredocs: vec![
            heredoc("one", "1\n", 5, 10),
            Heredoc { expand: false, chomp: true, ..heredoc("two", "2\n t\n", 16, 24) },
        ],
        ..transfer(vec![at("file", 11)], at("/d/", 25))
    };
    let text = "COPY <<one file <<-'two' /d/\n1\none\n\t2\n t\n\t\ttwo\n";
    assert_eq!(command(text), Command::Copy(several));
    let same_name = Transfer {
        heredocs: vec![heredoc("E", "2\n", 5, 8), heredoc("E", "2\n", 9, 12)],
        ..transfer(vec![], at("/d/", 13))
    };
    assert_eq!(command("COPY <<E <<E /d/\n1\nE\n2\nE\n"), Command::Copy(same_name));
    let json = Transfer {
        heredocs: vec![heredoc("E", "", 6, 11)],
        ..transfer(vec![], Spanned::new("/d".to_owned(), 13..17))
    };
    assert_eq!(command("COPY [\"<<E\", \"/d\"]"), Command::Copy(json));
    assert_eq!(command("COPY << E /d"), Command::Copy(transfer(vec![at("<<", 5), at("E", 8)], at("/d", 10))));
}

#[test]
fn args() {
    let arg = |key: Spanned<String>, value: Option<Spanned<String>>| ArgPair {
        span: value.as_ref().map_or(key.span, |value| key.span.to(value.span)),
        key,
        value,
    };
    let expected = vec![
        arg(at("A", 4), Some(at("1", 6))),
        arg(at("B", 8), None),
        arg(at("C", 10), Some(at("\"x y\"", 12))),
        arg(at("D", 18), Some(at("", 20))),
    ];
    assert_eq!(command("ARG A=1 B C=\"x y\" D="), Command::Arg(expected));
    assert_eq!(command("ARG --any A"), Command::Arg(vec![arg(at("A", 10), None)]));
}

#[test]
fn env_and_label() {
    let expected = vec![pair(at("A", 4), at("1", 6)), pair(at("B", 8), at(r"x\ y=z", 10))];
    assert_eq!(command(r"ENV A=1 B=x\ y=z"), Command::Env(expected));
    let legacy =
        Pair { key: at("OLD", 4), value: at("a=b  \"c\"", 9), span: Span::from(4..17), legacy: true };
    assert_eq!(command("ENV OLD  a=b  \"c\" "), Command::Env(vec![legacy]));
    assert_eq!(command("LABEL \"a b\"=c"), Command::Label(vec![pair(at("\"a b\"", 6), at("c", 12))]));
}

#[test]
fn command_lines() {
    for (line, expected) in [
        ("CMD", shell("")),
        ("CMD a  \"b\" $C", shell("a  \"b\" $C")),
        ("CMD []", exec(&[])),
        (r#"CMD [ "a", "b" ]"#, exec(&["a", "b"])),
        ("CMD ['a']", shell("['a']")),
        (r#"CMD ["a""#, shell(r#"["a""#)),
        (r#"CMD ["a"] b"#, shell(r#"["a"] b"#)),
        ("CMD a <<E", shell("a <<E")),
    ] {
        assert_eq!(command(line), Command::Cmd(expected.clone()), "{line}");
        assert_eq!(command(&line.replace("CMD", "ENTRYPOINT")), Command::Entrypoint(expected), "{line}");
    }
    assert_eq!(
        command(r#"SHELL ["/bin/bash", "-c"]"#),
        Command::Shell(vec!["/bin/bash".into(), "-c".into()])
    );
}

#[test]
fn simple_instructions() {
    for (line, expected) in [
        ("EXPOSE 80 $P/udp", Command::Expose(vec![at("80", 7), at("$P/udp", 10)])),
        ("VOLUME /a /b", Command::Volume(vec![at("/a", 7), at("/b", 10)])),
        (r#"VOLUME [" /c d "]"#, Command::Volume(vec![Spanned::new("/c d".into(), 8..16)])),
        ("VOLUME [/x, y", Command::Volume(vec![at("[/x,", 7), at("y", 12)])),
        ("WORKDIR /a b", Command::Workdir(at("/a b", 8))),
        ("USER a b", Command::User(at("a b", 5))),
        ("STOPSIGNAL SIG$X", Command::StopSignal(at("SIG$X", 11))),
        ("STOPSIGNAL --x 9", Command::StopSignal(at("9", 15))),
        ("MAINTAINER Some One <a@b>", Command::Maintainer("Some One <a@b>".to_owned())),
        ("HEALTHCHECK none", Command::Healthcheck(Healthcheck::None)),
        ("HEALTHCHECK --interval=x NONE", Command::Healthcheck(Healthcheck::None)),
    ] {
        assert_eq!(command(line), expected, "{line}");
    }
}

#[test]
fn healthchecks() {
    let check = |test: &[&str]| Healthcheck::Check {
        test: test.iter().map(|&word| word.to_owned()).collect(),
        interval: None,
        timeout: None,
        start_period: None,
        start_interval: None,
        retries: None,
    };
    assert_eq!(command("HEALTHCHECK cmd a b"), Command::Healthcheck(check(&["CMD-SHELL", "a b"])));
    assert_eq!(command(r#"HEALTHCHECK CMD ["a", "b"]"#), Command::Healthcheck(check(&["CMD", "a", "b"])));
    let line =
        "HEALTHCHECK --interval=1m30s --timeout=500ms --start-period=2h --start-interval=0 --retries=5 CMD x";
    let full = Healthcheck::Check {
        test: vec!["CMD-SHELL".into(), "x".into()],
        interval: Some(Duration::from_secs(90)),
        timeout: Some(Duration::from_millis(500)),
        start_period: Some(Duration::from_secs(7200)),
        start_interval: None,
        retries: Some(5),
    };
    assert_eq!(command(line), Command::Healthcheck(full));
    assert_eq!(command("HEALTHCHECK --retries=0 CMD x"), Command::Healthcheck(check(&["CMD-SHELL", "x"])));
}

#[test]
fn runs() {
    assert_eq!(command("RUN a && b"), Command::Run(run(shell("a && b"))));
    assert_eq!(command(r#"RUN ["a"]"#), Command::Run(run(exec(&["a"]))));
    let option =
        |name: &str, value: Option<&str>| MountOption { name: name.into(), value: value.map(Into::into) };
    let mount = Mount {
        text: at("type=cache,TARGET=/c,ro", 12),
        options: vec![option("type", Some("cache")), option("target", Some("/c")), option("ro", None)],
    };
    assert_eq!(
        (mount.option("target"), mount.option("ro"), mount.option("id")),
        (Some("/c"), Some(""), None)
    );
    let full = Run {
        mounts: vec![mount],
        network: Some(at("none", 46)),
        security: Some(at("insecure", 62)),
        devices: vec![at("x", 80)],
        ..run(shell("a"))
    };
    let line = "RUN --mount=type=cache,TARGET=/c,ro --network=none --security=insecure --device=x a";
    assert_eq!(command(line), Command::Run(full));
    let Command::Run(script) = command("RUN <<E\na\nE\n") else { unreachable!() };
    assert_eq!(script.script().map(|heredoc| heredoc.content.as_str()), Some("a\n"));
    let Command::Run(piped) = command("RUN cat <<E\na\nE\n") else { unreachable!() };
    assert_eq!((piped.script(), piped.heredocs.len()), (None, 1));
}

#[test]
fn triggers() {
    for (line, expected) in [
        ("onbuild   env A=$V   B=\"2\" ", "env A=$V   B=\"2\" "),
        ("ONBUILD COPY \\\n  a /x", "COPY   a /x"),
        ("ONBUILD CMD [\"a\"]", "CMD [\"a\"]"),
        ("ONBUILD COPY --bogus a b", "COPY --bogus a b"),
        ("ONBUILD NOSUCH a", "NOSUCH a"),
        ("ONBUILD COPY <<-E /f\n\ta\n\tE\n", "COPY <<-E /f\n\ta\nE"),
        ("ONBUILD RUN a <<E <<F\n1\nE\n2\nF\n", "RUN a <<E <<F\n1\nE\n2\nF"),
    ] {
        assert_eq!(command(line), Command::OnBuild(expected.to_owned()), "{line}");
    }
}

/// (a line, its error, the byte range that the error points at)
#[test]
fn wrong_instructions() {
    for (line, message, (start, end)) in [
        ("COPPY f /x", "unknown instruction: COPPY", (0, 5)),
        ("COPY f", REQUIRES_TWO, (5, 6)),
        ("COPY", REQUIRES_TWO, (0, 4)),
        ("COPY []", REQUIRES_TWO, (5, 7)),
        ("COPY --chgrp=1 f /x", "unknown flag: --chgrp", (5, 14)),
        ("COPY --checksum=1 f /x", "unknown flag: --checksum", (5, 17)),
        ("ADD --parents f /x", "unknown flag: --parents", (4, 13)),
        ("COPY f \\\n --link=1 \\\n <<EOF\nEOF", "COPY cannot accept a heredoc as a destination", (22, 27)),
        ("COPY \\\n --link=1 f /x", "expecting boolean value for flag --link, not: 1", (15, 16)),
        (
            "COPY [\"a\", 1]",
            "when using JSON array syntax, arrays must be comprised of strings only",
            (5, 13),
        ),
        ("ENV LONELY", "ENV requires two arguments, a name and a value", (4, 10)),
        ("ENV", "ENV requires at least one argument", (0, 3)),
        (
            "ENV A=1 \\\n  B",
            "syntax error - can't find = in \"B\". Must be of the form: name=value",
            (12, 13),
        ),
        ("LABEL a=1 # c", "syntax error - can't find = in \"#\". Must be of the form: name=value", (10, 11)),
        ("LABEL --x=1 a=b", "unknown flag: --x", (6, 11)),
        ("ENV =x", "ENV names can not be blank", (4, 6)),
        ("ARG A =x", "ARG names can not be blank", (6, 8)),
        ("ARG", "ARG requires at least one argument", (0, 3)),
        ("USER", "USER requires exactly one argument", (0, 4)),
        ("USER --x a", "unknown flag: --x", (5, 8)),
        ("CMD --port=80", "unknown flag: --port", (4, 13)),
        ("EXPOSE", "EXPOSE requires at least one argument", (0, 6)),
        ("VOLUME", "VOLUME requires at least one argument", (0, 6)),
        ("VOLUME []", "VOLUME requires at least one argument", (7, 9)),
        ("VOLUME [\"a\", \"\"]", "VOLUME specified can not be an empty string", (13, 15)),
        ("SHELL /bin/sh -c", "SHELL requires the arguments to be in JSON form", (6, 16)),
        ("SHELL []", "SHELL requires at least one argument", (6, 8)),
        ("ONBUILD", "ONBUILD requires at least one argument", (0, 7)),
        ("ONBUILD onbuild ENV A=1", "chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed", (8, 15)),
        ("ONBUILD from x", "FROM isn't allowed as an ONBUILD trigger", (8, 12)),
        ("ONBUILD MAINTAINER x", "MAINTAINER isn't allowed as an ONBUILD trigger", (8, 18)),
        ("ONBUILD ENV A", "ENV requires two arguments, a name and a value", (12, 13)),
        ("ONBUILD --x RUN a", "unknown flag: --x", (8, 11)),
        ("HEALTHCHECK", "HEALTHCHECK requires at least one argument", (0, 11)),
        ("HEALTHCHECK NONE please", "HEALTHCHECK NONE requires no arguments", (17, 23)),
        ("HEALTHCHECK CMD", "HEALTHCHECK CMD requires a command", (12, 15)),
        ("HEALTHCHECK CMD []", "HEALTHCHECK CMD requires a command", (12, 15)),
        ("HEALTHCHECK HTTP /", "unknown type \"HTTP\" in HEALTHCHECK (try CMD)", (12, 16)),
        (
            "HEALTHCHECK --interval=10us CMD x",
            "bad duration for flag --interval: 10us is less than 1ms",
            (23, 27),
        ),
        (
            "HEALTHCHECK --timeout=-1s CMD x",
            "bad duration for flag --timeout: -1s is less than 1ms",
            (22, 25),
        ),
        (
            "HEALTHCHECK --timeout=5 CMD x",
            "bad duration for flag --timeout: time: missing unit in duration \"5\"",
            (22, 23),
        ),
        (
            "HEALTHCHECK --retries=-1 CMD x",
            "--retries has to be a whole number from 0 to 2147483647, not \"-1\"",
            (22, 24),
        ),
        ("RUN --network=lan a", "expecting default, none or host for flag --network, not: lan", (14, 17)),
        ("RUN --security= a", "expecting sandbox or insecure for flag --security, not: ", (15, 15)),
        ("RUN --mount=a,b\\\"c a", "bad --mount: bare \" in non-quoted field", (12, 18)),
        ("RUN --mount= a", "bad --mount: it is empty", (12, 12)),
        (
            "RUN --mount=type=bind,from=$X a",
            "bad --mount: 'from' doesn't support variable expansion, define alias stage instead",
            (12, 29),
        ),
        ("RUN a <<E\n", "unterminated heredoc: no line holds just E", (6, 9)),
    ] {
        let error = instruction(line).unwrap_err();
        let expected = (message, Some(Span { start, end }));
        assert_eq!((error.to_string().as_str(), error.span()), expected, "{line}");
    }
}

const REQUIRES_TWO: &str =
    "COPY requires at least two arguments, but only one was provided. Destination could not be determined";

#[test]
fn mount_fields() {
    let cases: [(&str, &[&str]); 4] = [
        ("a,b=c", &["a", "b=c"]),
        ("\"a,b\",c", &["a,b", "c"]),
        ("\"a\"\"b\"", &["a\"b"]),
        ("a,,", &["a", "", ""]),
    ];
    for (line, expected) in cases {
        assert_eq!(run::fields(line).unwrap(), expected, "{line}");
    }
    assert_eq!(run::fields("\"a"), Err("extraneous or missing \" in quoted-field"));
    assert_eq!(run::fields("\"a\"b"), Err("extraneous or missing \" in quoted-field"));
}
