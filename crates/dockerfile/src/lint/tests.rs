use super::*;
use crate::parse;

/// Findings as `line:column rule: message`.
fn findings(text: &str) -> Vec<String> {
    found(text, Linter::default())
}

/// With those that are a matter of opinion.
fn advice(text: &str) -> Vec<String> {
    found(text, Linter { advice: true, ..Linter::default() })
}

fn found(text: &str, linter: Linter<'_>) -> Vec<String> {
    let dockerfile = parse(text.as_bytes()).unwrap();
    let show = |warning: Warning| {
        let (place, _) = warning.place(text);
        format!("{}:{} {}: {}", place.line, place.column, warning.rule, warning.message)
    };
    linter.check(&dockerfile).into_iter().map(show).collect()
}

fn rules(text: &str, linter: Linter<'_>) -> Vec<&'static str> {
    let dockerfile = parse(text.as_bytes()).unwrap();
    linter.check(&dockerfile).into_iter().map(|warning| warning.rule).collect()
}

#[test]
fn bad_examples() {
    let cases: [(&str, &[&str]); 20] = [
        (
            "FROM scratch\nCOPY a b\ncopy a b\nCoPy a b",
            &[
                "3:1 ConsistentInstructionCasing: Command 'copy' should match the case of the command majority (uppercase)",
                "4:1 ConsistentInstructionCasing: Command 'CoPy' should match the case of the command majority (uppercase)",
            ],
        ),
        (
            "from scratch\ncopy a b\nCOPY a b",
            &[
                "3:1 ConsistentInstructionCasing: Command 'COPY' should match the case of the command majority (lowercase)",
            ],
        ),
        ("FROM scratch as a", &["1:1 FromAsCasing: 'as' and 'FROM' keywords' casing do not match"]),
        ("FROM scratch AS Abc", &["1:17 StageNameCasing: Stage name 'Abc' should be lowercase"]),
        (
            "FROM scratch AS a\nFROM scratch AS a",
            &["2:17 DuplicateStageName: Duplicate stage name \"a\", stage names should be unique"],
        ),
        (
            "FROM scratch AS context",
            &[
                "1:17 ReservedStageName: Stage name should not use the same name as reserved stage \"context\"",
            ],
        ),
        (
            "FROM --platform=$TARGETPLATFORM a",
            &[
                "1:17 RedundantTargetPlatform: Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
            ],
        ),
        (
            "FROM --platform=linux/amd64 a AS b",
            &[
                "1:17 FromPlatformFlagConstDisallowed: FROM --platform flag should not use constant value \"linux/amd64\"",
            ],
        ),
        (
            "ARG VERSION\nFROM a:${VERSON}",
            &["2:6 UndefinedArgInFrom: FROM argument 'VERSON' is not declared (did you mean VERSION?)"],
        ),
        (
            "ARG TAG\nFROM a:$TAG",
            &[
                "2:6 InvalidDefaultArgInFrom: Default value for ARG a:$TAG results in empty or invalid base image name",
            ],
        ),
        (
            "FROM a\nMAINTAINER b",
            &["2:1 MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label"],
        ),
        (
            "FROM a\nLABEL b c",
            &[
                "2:7 LegacyKeyValueFormat: \"LABEL key=value\" should be used instead of legacy \"LABEL key value\" format",
            ],
        ),
        (
            "FROM a\nCMD b",
            &[
                "2:1 JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals",
            ],
        ),
        (
            "FROM a\nCMD []\nHEALTHCHECK NONE\nCMD []",
            &[
                "2:1 MultipleInstructionsDisallowed: Multiple CMD instructions should not be used in the same stage because only the last one will be used",
            ],
        ),
        (
            "FROM a\nWORKDIR b",
            &[
                "2:9 WorkdirRelativePath: Relative workdir \"b\" can have unexpected results if the base image changes",
            ],
        ),
        (
            "FROM a\nARG AWS_SECRET_KEY\nENV Token=x",
            &[
                "2:5 SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ARG \"AWS_SECRET_KEY\")",
                "3:5 SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ENV \"Token\")",
            ],
        ),
        (
            "FROM a\nEXPOSE 1.2.3.4:80 80/TCP",
            &[
                "2:8 ExposeInvalidFormat: EXPOSE instruction should not define an IP address or host-port mapping, found '1.2.3.4:80'",
                "2:19 ExposeProtoCasing: Defined protocol '80/TCP' in EXPOSE instruction should be lowercase",
            ],
        ),
        (
            "FROM scratch\nARG NAME=a\nCOPY $NAM /$OTHER",
            &[
                "3:6 UndefinedVar: Usage of undefined variable '$NAM' (did you mean $NAME?)",
                "3:11 UndefinedVar: Usage of undefined variable '$OTHER'",
            ],
        ),
        ("FROM scratch\nENV A=1 B=$A", &["2:11 UndefinedVar: Usage of undefined variable '$A'"]),
        ("FROM a\nENV A=1 \\\n\n B=2", &["3:1 NoEmptyContinuation: Empty continuation line"]),
    ];
    for (text, expected) in cases {
        assert_eq!(findings(text), expected, "{text}");
    }
}

#[test]
fn good_examples() {
    for text in [
        "ARG V=1\nFROM --platform=$BUILDPLATFORM a:$V AS b\nCOPY $ANY /x\nWORKDIR /x\nWORKDIR y",
        "FROM --platform=linux/amd64 a AS build_amd64",
        "ARG V\nFROM a:${V:-1}",
        "FROM a\nSHELL [\"/bin/bash\"]\nCMD b",
        "FROM scratch AS a\nARG X\nENV Y=$X\nFROM a\nLABEL l=$Y$X${Z:-d}",
        "FROM a\nARG PUBLIC_KEY MONKEY",
        "from scratch as a\ncopy a b",
        "FROM a\nEXPOSE 80/tcp $P:1",
        "FROM a\nWORKDIR $HOME",
    ] {
        assert_eq!(findings(text), [] as [&str; 0], "{text}");
    }
}

#[test]
fn the_rules_are_in_order() {
    assert!(RULES.is_sorted_by(|a, b| a.name.to_lowercase() < b.name.to_lowercase()));
}

#[test]
fn the_check_directive() {
    let text = "FROM a:1\nMAINTAINER b\n# B\nARG C\nCMD c";
    let all = [rule::MAINTAINER_DEPRECATED, rule::JSON_ARGS_RECOMMENDED];
    let described =
        [rule::MAINTAINER_DEPRECATED, rule::INVALID_DEFINITION_DESCRIPTION, rule::JSON_ARGS_RECOMMENDED];
    let cases: [(&str, &[&str], bool); 11] = [
        ("skip=", &all, false),
        ("error=true", &all, true),
        ("error=0", &all, false),
        ("skip=JSONArgsRecommended; error=true", &all[..1], true),
        ("skip=JSONArgsRecommended,MaintainerDeprecated", &[], false),
        ("skip=all", &[], false),
        ("skip=all,JSONArgsRecommended", &all[..1], false),
        ("experimental=all", &described, false),
        ("error=1 ; experimental=InvalidDefinitionDescription", &described, true),
        ("skip=all;experimental=all", &described[1..2], false),
        ("experimental=MaintainerDeprecated", &all, false),
    ];
    for (check, expected, is_error) in cases {
        let text = format!("# check={check}\n{text}");
        assert_eq!(rules(&text, Linter::default()), expected, "{check}");
        assert_eq!(warnings_are_errors(&parse(text.as_bytes()).unwrap()), is_error, "{check}");
    }
    let message = |check: &str| findings(&format!("# check={check}\nFROM a"));
    let unknown = "should be one of skip, error and experimental";
    assert_eq!(message("skp=x"), [format!("1:9 InvalidCheckOption: Check option \"skp\" {unknown}")]);
    assert_eq!(message("skip=x;"), [format!("1:9 InvalidCheckOption: Check option \"\" {unknown}")]);
    let wanted = "1:9 InvalidCheckOption: Check option error should be true or false, found \"yes\"";
    assert_eq!(message("error=yes"), [wanted]);
}

#[test]
fn descriptions() {
    let cases: [(&str, &[&str]); 8] = [
        (
            "# a note\nFROM a AS b",
            &[
                "2:1 InvalidDefinitionDescription: Comment for FROM should follow the format: `# b <description>`",
            ],
        ),
        (
            "FROM a\n# a note\nARG B C",
            &[
                "3:1 InvalidDefinitionDescription: Comment for ARG should follow the format: `# <arg_key> <description>`",
            ],
        ),
        (
            "# x\nARG B\nFROM a",
            &[
                "2:1 InvalidDefinitionDescription: Comment for ARG should follow the format: `# B <description>`",
            ],
        ),
        ("# b is it\nFROM a AS b\n# C too\nARG B C", &[]),
        ("# a note\nFROM a", &[]),
        ("# a note\n\nFROM a AS b", &[]),
        ("# a note\n#\nFROM a AS b", &[]),
        ("FROM a AS b", &[]),
    ];
    for (text, expected) in cases {
        let text = format!("# check=experimental=all\n#\n{text}");
        let lower = |line: &&str| {
            let (number, rest) = line.split_once(':').unwrap();
            format!("{}:{rest}", number.parse::<usize>().unwrap() + 2)
        };
        assert_eq!(findings(&text), expected.iter().map(lower).collect::<Vec<_>>(), "{text}");
    }
    // A directive is no description.
    assert_eq!(findings("# check=experimental=all\nFROM a AS b"), [] as [&str; 0]);
}

#[test]
fn whole_contexts_before_run() {
    let message = "ContextCopyBeforeRun: The whole build context is copied before the first RUN, \
                   which is done again whenever any file changes";
    for (text, places) in [
        ("FROM a:1\nCOPY . /x\nRUN b", &["2:6"][..]),
        ("FROM a:1\nADD --chown=1 . /x\nCOPY [\"./\", \"/y\"]\nRUN b", &["2:15", "3:7"]),
        ("FROM a:1\nCOPY /* /x\nRUN b", &["2:6"]),
        ("FROM a:1\nCOPY . /x", &[]),
        // What needs no container is done on headers.
        ("FROM a:1\nCOPY . /x\nRUN chmod +x /x/y && mkdir /z", &[]),
        ("FROM a:1\nCOPY . /x\nRUN [\"chmod\", \"755\", \"/x/y\"]\nRUN b", &["2:6"]),
        ("FROM a:1\nRUN mkdir /x\nCOPY . /x\nRUN b", &["3:6"]),
        ("FROM a:1\nUSER c\nCOPY . /x\nRUN mkdir /z", &["3:6"]),
        ("FROM a:1\nRUN b\nCOPY . /x\nRUN c", &[]),
        ("FROM a:1 AS d\nRUN b\nFROM d\nCOPY . /x\nRUN c", &[]),
        ("FROM a:1\nCOPY --from=b . /x\nRUN c", &[]),
        ("FROM a:1\nCOPY src /x\nRUN c", &[]),
    ] {
        let expected: Vec<_> = places.iter().map(|place| format!("{place} {message}")).collect();
        assert_eq!(advice(text), expected, "{text}");
        assert_eq!(findings(text), [] as [&str; 0], "{text}");
    }
}

#[test]
fn large_copies_before_run() {
    let large: &[&str] = &["COPY l /x", "ADD l /x", "COPY --from=a l /x"];
    for (text, places) in [
        ("FROM a:1\nCOPY l /x\nRUN b", &["2:1"][..]),
        ("FROM a:1\nCOPY s /x\nRUN b", &[]),
        ("FROM a:1\nRUN b\nADD l /x\nRUN c", &["3:1"]),
        ("FROM a:1\nRUN b\nCOPY l /x", &[]),
        ("FROM a:1\nCOPY l /x\nRUN mkdir /y", &[]),
        ("FROM a:1 AS a\nCOPY l /x\nFROM a:1\nRUN b", &[]),
        ("FROM a:1 AS a\nCOPY l /x\nFROM a:1\nCOPY --from=a l /x\nRUN b", &["4:1"]),
        // It is in the image that the last stage's RUN begins with.
        ("FROM a:1 AS a\nRUN b\nCOPY l /x\nFROM a AS c\nFROM c\nRUN d", &["3:1"]),
        ("FROM a:1 AS a\nCOPY l /x\nRUN b\nFROM a\nRUN c", &["2:1"]),
        // Nobody needs the stage that runs.
        ("FROM a:1 AS a\nCOPY l /x\nFROM a AS c\nRUN b\nFROM a", &[]),
        ("# check=skip=LargeCopyBeforeRun\nFROM a:1\nCOPY l /x\nRUN b", &[]),
    ] {
        let dockerfile = parse(text.as_bytes()).unwrap();
        let instructions = dockerfile.stages.iter().flat_map(|stage| &stage.instructions);
        let bytes = |span: Span| match large.contains(&&text[span.start..span.end]) {
            true => 2_147_483_648,
            false => 99_999_999,
        };
        let copied = instructions.map(|instruction| (instruction.span, bytes(instruction.span))).collect();
        let linter = Linter { copied: Some(&copied), ..Linter::default() };
        let message = "LargeCopyBeforeRun: 2147483648 bytes are copied before a RUN and go to where that is \
                       carried out; behind the last RUN they would not";
        let expected: Vec<_> = places.iter().map(|place| format!("{place} {message}")).collect();
        assert_eq!(found(text, linter), expected, "{text}");
        assert_eq!(findings(text), [] as [&str; 0], "{text}");
    }
}

#[test]
fn ignored_sources() {
    let cases: [(&str, &str, &[&str]); 12] = [
        ("*.txt", "COPY a.txt /", &["Copy file \"a.txt\""]),
        ("*/tmp", "ADD ./b/tmp/c d /x/", &["Add file \"b/tmp/c\""]),
        ("tmp", "COPY /tmp/../tmp/x b/ /", &["Copy file \"tmp/x\""]),
        ("*", "COPY . /", &["Copy file \".\""]),
        (".*", "COPY . /", &[]),
        ("?", "COPY . /", &[]),
        ("*\n!a.txt", "COPY b.txt /", &[]),
        ("*.txt", "COPY --from=x a.txt /", &[]),
        ("*", "ADD https://example.org/a git@example.org:b.git /x/", &[]),
        ("*", "COPY $A /", &[]),
        ("*", "COPY <<EOF /a\nEOF", &[]),
        ("", "COPY a /", &[]),
    ];
    for (ignore, copy, expected) in cases {
        let ignored = Patterns::parse_ignore_file(ignore.as_bytes()).unwrap();
        let linter = Linter { advice: true, ignored: Some(&ignored), ..Linter::default() };
        let prefix = "2:? CopyIgnoredFile: Attempting to ";
        let expected: Vec<_> =
            expected.iter().map(|what| format!("{prefix}{what} that is excluded by .dockerignore")).collect();
        let mut lines = found(&format!("FROM a:1\n{copy}"), linter);
        lines.iter_mut().for_each(|line| {
            let rest = line.find(' ').unwrap();
            line.replace_range(2..rest, "?");
        });
        assert_eq!(lines, expected, "{ignore} {copy}");
    }
}

#[test]
fn mutable_base_tags() {
    let untagged = "has neither tag nor digest, so it may be another one in the next build";
    let latest = "has no digest, and its tag is latest, so it may be another one in the next build";
    let digest = format!("sha256:{}", "0".repeat(64));
    for (text, expected) in [
        ("FROM a", Some(("1:6", "a", untagged))),
        ("FROM localhost:5000/a", Some(("1:6", "localhost:5000/a", untagged))),
        ("FROM a:latest", Some(("1:6", "a:latest", latest))),
        ("ARG A=b\nFROM $A", Some(("2:6", "$A", untagged))),
        ("ARG A\nFROM b:${A:-latest}", Some(("2:6", "b:${A:-latest}", latest))),
        ("FROM a:1 AS b\nFROM b", None),
        ("ARG A=b\nFROM a:1 AS b\nFROM $A", None),
        ("FROM scratch", None),
        ("ARG TAG\nFROM a:$TAG", None),
        ("FROM a:1", None),
        (&format!("FROM a@{digest}"), None),
        (&format!("FROM a:latest@{digest}"), None),
    ] {
        let expected: Vec<_> = expected
            .map(|(place, image, why)| format!("{place} MutableBaseTag: Base image {image:?} {why}"))
            .into_iter()
            .collect();
        let mut lines = advice(text);
        lines.retain(|line| !line.contains("InvalidDefaultArgInFrom"));
        assert_eq!(lines, expected, "{text}");
    }
    let build_args = BTreeMap::from([("TAG".to_owned(), "latest".to_owned())]);
    let linter = Linter { advice: true, build_args: Some(&build_args), ..Linter::default() };
    assert_eq!(rules("ARG TAG=1\nFROM a:$TAG", linter), [rule::MUTABLE_BASE_TAG]);
}

#[test]
fn secret_values() {
    let token = |prefix: &str, length: usize| format!("{prefix}{}", "x".repeat(length));
    for (value, what) in [
        (token("AKIA", 16), Some("an AWS access key")),
        (token("ghp_", 36), Some("a GitHub token")),
        (token("hf_", 34), Some("a Hugging Face token")),
        (format!("\"Bearer {}\"", token("glpat-", 20)), Some("a GitLab token")),
        (format!("{}.{}.x", token("eyJ", 5), token("eyJ", 5)), Some("a JSON web token")),
        ("\"-----BEGIN RSA PRIVATE KEY----- x\"".to_owned(), Some("a private key")),
        ("https://ada:love@example.org/x".to_owned(), Some("a URL with a password")),
        ("https://ada:$PASS@example.org/x".to_owned(), None),
        ("https://ada@example.org:80/x:y@z".to_owned(), None),
        (token("ghp_", 3), None),
        (token("xghp_", 36), None),
        ("$AKIA".to_owned(), None),
    ] {
        for instruction in ["ENV", "ARG"] {
            let message = |what| {
                format!(
                    "2:7 SecretLikeValue: Value of {instruction} \"A\" looks like {what}, \
                     which everyone who has the image can read"
                )
            };
            let expected: Vec<_> = what.map(message).into_iter().collect();
            assert_eq!(findings(&format!("FROM a\n{instruction} A={value}")), expected, "{value}");
        }
    }
}

#[test]
fn secrets_are_not_shown() {
    let text =
        "ARG A=https://a:b@c\nFROM a\nENV B=x API_KEY=\"y\\\n é\" C=z\nLABEL token=t\nADD http://é:b@h/f /\n";
    let dockerfile = parse(text.as_bytes()).unwrap();
    let redacted = redacted(&dockerfile);
    let expected =
        "ARG A=*************\nFROM a\nENV B=x API_KEY=***\n *** C=z\nLABEL token=t\nADD http://****@h/f /\n";
    assert_eq!(redacted, expected);
    assert_eq!(redacted.len(), text.len());
}

#[test]
fn instructions_are_shown_in_one_line_without_secrets() {
    for (line, expected) in [
        ("ENV B=x API_KEY=\"y\\\n é\" C=z", "ENV B=x API_KEY=****** C=z"),
        ("ENV API_TOKEN a b", "ENV API_TOKEN ***"),
        ("ARG TOKEN", "ARG TOKEN"),
        ("RUN TOKEN=abc \\\n  make", "RUN TOKEN=***   make"),
        ("RUN --mount=type=secret,id=token make", "RUN --mount=type=secret,id=token make"),
        ("ADD https://me:pw@h/a@b https://h:8/c /d/", "ADD https://*****@h/a@b https://h:8/c /d/"),
        ("RUN curl \"https://pw@h?q=x@y\"", "RUN curl \"https://**@h?q=x@y\""),
    ] {
        let dockerfile = parse(format!("FROM a\n{line}\n").as_bytes()).unwrap();
        assert_eq!(redacted_instruction(&dockerfile.stages[0].instructions[0]), expected);
    }
}

/// Where the earlier copy is, what it makes, and the line of the later one.
type Shadowed = (&'static str, &'static str, usize);

#[test]
fn shadowed_copies() {
    let cases: [(&str, &[Shadowed]); 18] = [
        ("COPY a.txt /x.txt\nCOPY b.txt /x.txt", &[("2:1", "/x.txt", 3)]),
        ("COPY a.txt c.txt /x/\nCOPY b/a.txt /x/", &[("2:6", "/x/a.txt", 3)]),
        ("WORKDIR /x\nCOPY a.txt .\nCOPY a.txt ./a.txt", &[("3:1", "/x/a.txt", 4)]),
        ("WORKDIR x\nCOPY a.txt b.txt\nCOPY c.txt b.txt", &[("3:1", "./x/b.txt", 4)]),
        ("COPY src /x\nCOPY src /x", &[("2:1", "/x", 3)]),
        ("COPY . /x\nCOPY . /x/", &[("2:1", "/x", 3)]),
        ("COPY <<EOF /x.txt\nEOF\nCOPY <<END /x.txt\nEND", &[("2:1", "/x.txt", 4)]),
        ("COPY a.txt /x.txt\nCOPY --from=b a.txt /x.txt", &[("2:1", "/x.txt", 3)]),
        ("COPY a.txt /\nCOPY b/a.txt /", &[("2:1", "/a.txt", 3)]),
        ("COPY a.txt /x.txt\nRUN y\nCOPY b.txt /x.txt", &[]),
        ("COPY a /x\nCOPY b /x", &[]),
        ("COPY a.txt /x\nCOPY b.txt /x", &[]),
        ("COPY a.conf /etc/x.d\nCOPY b.conf /etc/x.d", &[]),
        ("COPY a.txt $X/x.txt\nCOPY b.txt $X/x.txt", &[]),
        ("WORKDIR $X\nCOPY a.txt b.txt\nWORKDIR $X\nCOPY c.txt b.txt", &[]),
        ("COPY a*.txt /x/\nCOPY a*.txt /x/", &[]),
        ("COPY --exclude=b src /x\nCOPY --exclude=c src /x", &[]),
        ("COPY a.txt /x/\nWORKDIR x\nCOPY a.txt .", &[]),
    ];
    for (text, expected) in cases {
        let expected: Vec<_> = expected
            .iter()
            .map(|(place, path, line)| {
                format!(
                    "{place} ShadowedCopy: {path:?} is copied again in line {line}, \
                     so this copy only makes the image larger"
                )
            })
            .collect();
        let mut lines = advice(&format!("FROM a:1\n{text}"));
        lines.retain(|line| !line.contains("WorkdirRelativePath"));
        assert_eq!(lines, expected, "{text}");
    }
}

#[test]
fn only_what_the_target_needs() {
    let text = "ARG A_KEY\nFROM a AS A\nFROM b AS B\nFROM c AS C\nFROM a AS D\n\
                COPY --from=0 x /\nRUN --mount=from=b,target=/x y\nFROM d AS E\n";
    let lines = |target| {
        let found = found(text, Linter { target, ..Linter::default() });
        let lines = found.iter().map(|line| line[..1].parse().unwrap());
        lines.collect::<Vec<usize>>()
    };
    assert_eq!(lines(None), [1, 2, 3, 4, 5, 8]);
    assert_eq!(lines(Some(4)), [1, 2, 3, 5, 8]);
    assert_eq!(lines(Some(2)), [1, 4]);
    assert_eq!(lines(Some(9)), [1]);
}
