//! Each kind of error, with its exact message and what it points at. More cases of each are beside the code;
//! this table is complete: a variant without a row fails.

#![allow(clippy::unwrap_used, reason = "what fails here is the test")]

use std::collections::BTreeSet;

use ocib_dockerfile::{Error, Expander, Patterns, parse, parse_trigger};

/// The names of an enum's variants, out of its source.
fn variants(source: &str, name: &str) -> BTreeSet<String> {
    let (_, body) = source.split_once(&format!("pub enum {name} {{\n")).unwrap();
    let (body, _) = body.split_once("\n}").unwrap();
    let lines = body.lines().filter_map(|line| line.strip_prefix("    "));
    let names = lines.filter(|line| line.starts_with(|first: char| first.is_ascii_uppercase()));
    names.map(|line| line.split([' ', '(', ',']).next().unwrap().to_owned()).collect()
}

/// The name of the variant that this is.
fn variant(error: &impl std::fmt::Debug) -> String {
    format!("{error:?}").split([' ', '(']).next().unwrap().to_owned()
}

/// A Dockerfile, the message, and the text that is pointed at, or nothing.
const DOCKERFILES: [(&str, &str, Option<&str>); 29] = [
    ("", "the Dockerfile cannot be empty", None),
    ("# only a comment\n", "file with no instructions", None),
    ("ARG A=1\n", "dockerfile contains no stages to build", None),
    ("# escape=x\nFROM a\n", "invalid escape token 'x' does not match ` or \\", Some("x")),
    ("# escape=`\n# escape=`\nFROM a\n", "only one escape parser directive can be used", Some("# escape=`")),
    ("FROM a\nCOPY <<END /f\nend\n", "unterminated heredoc: no line holds just END", Some("<<END")),
    (
        "FROM a\nRUN <<${x:-\\'}\n",
        "bad heredoc delimiter: failed to process \"${x:-'}\": syntax error: missing '}'",
        Some("RUN <<${x:-\\'}"),
    ),
    ("FROM a\nCPOY f /\n", "unknown instruction: CPOY", Some("CPOY")),
    (
        "COPY f /\nFROM a\n",
        "no build stage in current context: COPY stands before the first FROM",
        Some("COPY f /"),
    ),
    ("FROM --chown=1 a\n", "unknown flag: --chown", Some("--chown=1")),
    ("FROM a\nCOPY --chown=1 --chown=2 f /\n", "duplicate flag specified: --chown", Some("--chown=2")),
    ("FROM a\nCOPY --from f /\n", "missing a value on flag: --from", Some("--from")),
    ("FROM a\nCOPY --link=on f /\n", "expecting boolean value for flag --link, not: on", Some("on")),
    ("FROM a b\n", "FROM requires either one or three arguments", Some("a b")),
    (
        "FROM a\nCMD [\"a\", 1]\n",
        "when using JSON array syntax, arrays must be comprised of strings only",
        Some("[\"a\", 1]"),
    ),
    (
        "FROM a\nENV A=1 B\n",
        "syntax error - can't find = in \"B\". Must be of the form: name=value",
        Some("B"),
    ),
    ("FROM a\nENV =1\n", "ENV names can not be blank", Some("=1")),
    ("FROM a\nVOLUME [\"\"]\n", "VOLUME specified can not be an empty string", Some("\"\"")),
    ("FROM a\nADD f <<E\nE\n", "ADD cannot accept a heredoc as a destination", Some("<<E")),
    (
        "FROM a AS 1st\n",
        "invalid name for build stage: \"1st\", name can't start with a number or contain symbols",
        Some("1st"),
    ),
    (
        "FROM a\nONBUILD ONBUILD RUN a\n",
        "chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
        Some("ONBUILD"),
    ),
    ("FROM a\nONBUILD FROM b\n", "FROM isn't allowed as an ONBUILD trigger", Some("FROM")),
    ("FROM a\nHEALTHCHECK HTTP /\n", "unknown type \"HTTP\" in HEALTHCHECK (try CMD)", Some("HTTP")),
    (
        "FROM a\nHEALTHCHECK --timeout=5 CMD a\n",
        "bad duration for flag --timeout: time: missing unit in duration \"5\"",
        Some("5"),
    ),
    (
        "FROM a\nHEALTHCHECK --retries=few CMD a\n",
        "--retries has to be a whole number from 0 to 2147483647, not \"few\"",
        Some("few"),
    ),
    ("FROM a\nRUN --mount= a\n", "bad --mount: it is empty", Some("")),
    (
        "FROM a AS \u{e9}\n",
        "invalid name for build stage: \"\u{e9}\", name can't start with a number or contain symbols",
        Some("\u{e9}"),
    ),
    ("FROM a\r\nUSER\r\n", "USER requires exactly one argument", Some("USER")),
    ("\u{feff}FROM a\nEXPOSE\n", "EXPOSE requires at least one argument", Some("EXPOSE")),
];

#[test]
fn every_error_has_its_message_and_place() {
    let mut seen = BTreeSet::new();
    let mut check = |text: &str, error: &Error, message: &str, place: Option<&str>| {
        let found = error.span().map(|span| &text[span.start..span.end]);
        assert_eq!((error.to_string().as_str(), found), (message, place), "{text}");
        seen.insert(variant(error));
    };
    for (text, message, place) in DOCKERFILES {
        check(text, &parse(text.as_bytes()).unwrap_err(), message, place);
    }
    let long = format!("FROM a\nRUN {}\n", "x".repeat(65_532));
    let message = "dockerfile line greater than max allowed size of 65535: it has 65536 bytes";
    check(
        &long,
        &parse(long.as_bytes()).unwrap_err(),
        message,
        Some(&long["FROM a\n".len()..long.len() - 1]),
    );

    let trigger = "ENV A=1\nENV B=2";
    let message = "onbuild trigger should be a single expression, but has 2 instructions";
    check(trigger, &parse_trigger(trigger).unwrap_err(), message, None);

    let ignored = |text: &str| Patterns::parse_ignore_file(text.as_bytes()).unwrap_err();
    check("", &ignored("ok\na[\n"), "bad pattern in line 2: \"a[\"", None);
    check("", &Patterns::new(["a["]).unwrap_err(), "bad pattern: \"a[\"", None);
    let long = format!("ok\n\n{}\n", "x".repeat(65_536));
    check("", &ignored(&long), "line 3 of the ignore file is longer than 65535 bytes", None);

    assert_eq!(seen, variants(include_str!("../src/error.rs"), "Error"), "each variant has a row");
}

#[test]
fn every_reason_of_an_expansion_has_its_message() {
    let deep = format!("{}x{}", "${U:-".repeat(200), "}".repeat(200));
    let long = "$V$V";
    let variables = |name: &str| match name {
        "V" => Some("v".repeat(600_000)),
        "A" => Some("a".to_owned()),
        _ => None,
    };
    let mut seen = BTreeSet::new();
    for (word, message) in [
        ("'open", "unexpected end of statement while looking for matching single-quote"),
        ("\"open", "unexpected end of statement while looking for matching double-quote"),
        ("${A", "unsupported modifier (\u{fffd}) in substitution"),
        ("${A:-x", "syntax error: missing '}'"),
        ("${A/x}", "syntax error: missing '/' in ${}"),
        ("${}", "syntax error: bad substitution"),
        ("${A=x}", "unsupported modifier (=) in substitution"),
        ("${U?}", "U: is not allowed to be unset"),
        ("${U:?give it}", "U: give it"),
        ("${A#\\x}", "invalid pattern (\\x) in substitution: invalid escape '\\x'"),
        (&deep, "substitutions are nested more than 128 deep"),
        (long, "the expansion is longer than 1048580 bytes"),
    ] {
        let error = Expander::new('\\').word(word, &variables).unwrap_err();
        assert_eq!(error.reason.to_string(), message, "{word}");
        assert_eq!(error.to_string(), format!("failed to process {word:?}: {message}"));
        seen.insert(variant(&error.reason));
    }
    let expected = variants(include_str!("../src/expand.rs"), "ExpandReason");
    assert_eq!(seen, expected, "each variant has a row");
}
