use super::*;
use crate::parse;

/// Findings as `line:column rule: message`.
fn findings(text: &str) -> Vec<String> {
    let dockerfile = parse(text.as_bytes()).unwrap();
    let show = |Warning { rule, message, span }: Warning| {
        let place = dockerfile.position(span.start);
        format!("{}:{} {rule}: {message}", place.line, place.column)
    };
    lint(&dockerfile).into_iter().map(show).collect()
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
fn skipped_rules() {
    let text = "FROM a\nMAINTAINER b\nCMD c";
    let rules = |check: &str| {
        let dockerfile = parse(format!("# check={check}\n{text}").as_bytes()).unwrap();
        lint(&dockerfile).into_iter().map(|warning| warning.rule).collect::<Vec<_>>()
    };
    assert_eq!(rules("error=true"), [rule::MAINTAINER_DEPRECATED, rule::JSON_ARGS_RECOMMENDED]);
    assert_eq!(rules("skip=JSONArgsRecommended; error=true"), [rule::MAINTAINER_DEPRECATED]);
    assert_eq!(rules("skip=JSONArgsRecommended,MaintainerDeprecated"), [] as [&str; 0]);
    assert_eq!(rules("skip=all"), [] as [&str; 0]);
}
