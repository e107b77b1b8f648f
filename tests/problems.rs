//! Everything that can be wrong with an instruction, with the exact message and what it points at. The table
//! is complete: a variant of `Problem` without a row, here or in [`ELSEWHERE`], fails.

use std::{collections::BTreeSet, fs, os::unix::fs::symlink};

use ocib_testkit::checkout;

use crate::program::Site;

/// Variant, Dockerfile, message, and the text that is pointed at.
const CASES: [(&str, &str, &str, &str); 36] = [
    (
        "Expand",
        "FROM scratch\nCOPY f ${X:?nowhere}\n",
        "failed to process \"${X:?nowhere}\": X: nowhere",
        "${X:?nowhere}",
    ),
    ("BlankBase", "ARG X\nFROM $X\n", "base name ($X) should not be blank", "$X"),
    ("BadReference", "FROM Foo\n", "\"Foo\" is not an image reference: a repository is lower case", "Foo"),
    (
        "BadReference",
        "FROM scratch\nCOPY --from=B! f /\n",
        "\"B!\" is not an image reference: a repository is lower case",
        "B!",
    ),
    (
        "BadPlatform",
        "FROM --platform=a/b/c/d scratch\n",
        "\"a/b/c/d\" gives no platform: \"a/b/c/d\" is not a platform, expected OS/ARCH[/VARIANT] such as linux/arm64",
        "a/b/c/d",
    ),
    (
        "StageNotBefore",
        "FROM scratch AS one\nCOPY --from=two f /\nFROM scratch AS two\nCOPY --from=one f /\n",
        "cannot copy from stage \"two\", it needs to be defined before the current stage",
        "two",
    ),
    ("StageIndex", "FROM scratch\nCOPY --from=7 f /\n", "invalid stage index 7, there are 1 stages", "7"),
    (
        "VariableInFrom",
        "FROM scratch\nCOPY --from=$X f /\n",
        "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a \
         workaround",
        "$X",
    ),
    (
        "Run",
        "FROM scratch\nRUN make\n",
        "RUN needs a container, and no backend that could run it is configured",
        "RUN make",
    ),
    (
        "NoShell",
        "FROM scratch\nRUN true\n",
        "there is no /bin/sh here that could run it: exec: \"/bin/sh\": no such file or directory",
        "RUN true",
    ),
    (
        "BadMount",
        "FROM scratch\nRUN --mount=type=nope true\n",
        "unsupported mount type \"nope\"",
        "type=nope",
    ),
    (
        "BadMountOption",
        "FROM scratch\nRUN --mount=type=tmpfs,target=/x,uid=1 true\n",
        "bad mount: a mount of type tmpfs has no option \"uid\"",
        "type=tmpfs,target=/x,uid=1",
    ),
    (
        "ManyChecksummed",
        "FROM scratch\nADD --checksum=DIGEST https://h.invalid/a https://h.invalid/b /x/\n",
        "checksum can't be specified for multiple sources",
        "DIGEST",
    ),
    (
        "BadChecksum",
        "FROM scratch\nADD --checksum=nope https://h.invalid/a /x\n",
        "\"nope\" is not a digest, expected sha256: and 64 lower-case hex digits",
        "nope",
    ),
    (
        "LocalChecksum",
        "FROM scratch\nADD --checksum=sha256:0 f /x\n",
        "checksum requires HTTP(S) or Git sources",
        "sha256:0",
    ),
    (
        "HeredocName",
        "FROM scratch\nCOPY <<a/b /\na/b\n",
        "the heredoc <<a/b cannot become a file: open /a/b: no such file or directory",
        "<<a/b",
    ),
    (
        "HeredocName",
        "FROM scratch\nADD f <<'../' /x/\n../\n",
        "the heredoc <<../ cannot become a file: open /: is a directory",
        "<<'../'",
    ),
    (
        "CopiedUrl",
        "FROM scratch\nCOPY https://h.invalid/a /x\n",
        "source can't be a URL for COPY",
        "https://h.invalid/a",
    ),
    (
        "CopiedGit",
        "FROM scratch\nCOPY git@h.invalid:a /x\n",
        "source can't be a git ref for COPY",
        "git@h.invalid:a",
    ),
    (
        "BadGitReference",
        "FROM scratch\nADD https://h.invalid/a.git?nope=1 /x\n",
        "https://h.invalid/a.git is not a git reference: unexpected query \"nope\"",
        "https://h.invalid/a.git?nope=1",
    ),
    (
        "KeepGitDirConflict",
        "FROM scratch\nADD --keep-git-dir=false https://h.invalid/a.git?keep-git-dir=1 /x\n",
        "inconsistent keep-git-dir configuration",
        "https://h.invalid/a.git?keep-git-dir=1",
    ),
    (
        "ChecksumConflict",
        "FROM scratch\nADD --checksum=abcdef0 https://h.invalid/a.git?commit=1234567 /x\n",
        "checksum mismatch \"abcdef0\" != \"1234567\"",
        "abcdef0",
    ),
    ("NotFound", "FROM scratch\nCOPY nowhere /\n", "/nowhere: not found", "nowhere"),
    ("NotFound", "FROM scratch\nCOPY dangling /\n", "/dangling: not found", "dangling"),
    (
        "NotFound",
        "FROM scratch\nCOPY f hidden.log /x/\n",
        "/hidden.log: not found (the ignore file excludes it)",
        "hidden.log",
    ),
    (
        "BadWildcard",
        "FROM scratch\nCOPY [\"f[\", \"/x/\"]\n",
        "\"f[\" is not a valid wildcard: syntax error in pattern",
        "\"f[\"",
    ),
    ("BadPattern", "FROM scratch\nCOPY --exclude=a[ d /x/\n", "bad pattern: \"a[\"", "a["),
    ("NotADirectory", "FROM scratch\nCOPY f /x\nCOPY f /x/y\n", "/x is not a directory", "f"),
    (
        "OverDirectory",
        "FROM scratch\nCOPY d /x/f/\nCOPY f /x/\n",
        "cannot replace directory /x/f with a file",
        "f",
    ),
    (
        "OverFile",
        "FROM scratch\nCOPY f /x\nCOPY d /x\n",
        "cannot copy a directory to /x, which is not a directory",
        "d",
    ),
    (
        "BadMode",
        "FROM scratch\nCOPY --chmod=9 f /x\n",
        "invalid chmod parameter \"9\": it should be an octal number up to 07777 or a symbolic mode",
        "9",
    ),
    (
        "NoAccounts",
        "FROM scratch\nCOPY --chown=app f /x\n",
        "cannot find \"app\" by name: there is no /etc/passwd to look into here",
        "app",
    ),
    ("BadPort", "FROM scratch\nEXPOSE x/tcp\n", "invalid containerPort: x", "x/tcp"),
    ("BadSignal", "FROM scratch\nSTOPSIGNAL SIGFOO\n", "invalid signal: SIGFOO", "SIGFOO"),
    ("EmptyVolume", "FROM scratch\nVOLUME $X\n", "VOLUME specified can not be an empty string", "$X"),
    (
        "BadTrigger",
        "FROM scratch AS a\nONBUILD COPY --bogus f /\nFROM a\n",
        "the base image's trigger \"COPY --bogus f /\" cannot be used: unknown flag: --bogus",
        "FROM a",
    ),
];

/// Variants whose cases need more than a Dockerfile: the file and the name of their test.
const ELSEWHERE: [(&str, &str, &str); 17] = [
    ("LongLine", "tests/run_failures.rs", "a_line_that_no_parser_takes_is_refused"),
    ("Backend", "tests/run_failures.rs", "a_command_that_fails_is_shown_at_its_line_with_its_last_words"),
    ("BadResult", "tests/run_failures.rs", "a_result_that_is_something_else_is_refused"),
    ("Unsupported", "tests/run_failures.rs", "what_a_backend_lacks_is_refused_at_its_line"),
    ("UnwritableName", "tests/run_failures.rs", "a_value_that_no_line_can_hold_is_refused_between_runs"),
    ("UnwritableVariable", "tests/run_failures.rs", "a_value_that_no_line_can_hold_is_refused_between_runs"),
    (
        "PatternMounted",
        "tests/run_mounts.rs",
        "what_looks_like_a_wildcard_is_refused_as_the_source_of_a_bind",
    ),
    ("Unwritable", "tests/run_failures.rs", "a_value_that_no_line_can_hold_is_refused_between_runs"),
    ("Base", "tests/errors.rs", "a_registry_that_cannot_be_reached"),
    ("Fetch", "tests/errors.rs", "a_url_that_is_not_fetched"),
    ("Layer", "tests/hostile.rs", "broken_archives_are_refused"),
    ("NoContext", "tests/stdin.rs", "what_is_no_archive_is_the_dockerfile"),
    ("NoFetch", "crates/build/src/plan/tests.rs", "a_url_without_anybody_to_fetch_it"),
    ("NotAnImage", "crates/build/src/plan/tests.rs", "an_artifact_is_no_base"),
    ("MissingSecret", "tests/run_mounts.rs", "secrets_are_there_for_their_command_alone"),
    ("Script", "tests/run_failures.rs", "what_a_backend_lacks_is_refused_at_its_line"),
    ("Source", "tests/errors.rs", "a_file_that_changes_while_it_is_read_fails_its_layer_by_name"),
];

const DIGEST: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

/// What stderr says, but for the help.
fn expected(dockerfile: &str, message: &str, place: &str, said: &str) -> String {
    // The place that was said tells which line it is; whether the text is there is what is tested.
    let (_, after) = said.split_once(" --> context/Dockerfile:").unwrap_or_else(|| panic!("{said}"));
    let (line, _) = after.split_once(':').unwrap();
    let text = dockerfile.lines().nth(line.parse::<usize>().unwrap() - 1).unwrap();
    let [(before, _)] = text.match_indices(place).collect::<Vec<_>>()[..] else {
        panic!("{place:?} is not once in {text:?}: {said}")
    };
    let (column, blanks, carets) = (before + 1, " ".repeat(before), "^".repeat(place.len()));
    format!(
        "error: {message}\n --> context/Dockerfile:{line}:{column}\n  |\n{line} | {text}\n  | {blanks}{carets}\n"
    )
}

#[test]
fn every_problem_has_its_message_and_place() {
    for (_, dockerfile, message, place) in CASES {
        let dockerfile = dockerfile.replace("DIGEST", DIGEST);
        let place = place.replace("DIGEST", DIGEST);
        let site = Site::new(&dockerfile);
        site.file("context/f", "f\n").file("context/d/f", "f\n").file("context/hidden.log", "");
        site.file("context/.dockerignore", "*.log\n");
        symlink("nowhere", site.path("context/dangling")).unwrap();
        let said = site.refused(3, &["--quiet"]);
        let said = &said[said.find("error: ").unwrap()..];
        let (shown, help) = said.split_once("  |\nhelp: ").unwrap_or((said, ""));
        assert_eq!(shown, expected(&dockerfile, message, &place, said));
        assert_eq!(help.lines().count(), usize::from(!help.is_empty()), "{said}");
        assert_eq!(site.leftovers(), Vec::<String>::new(), "{dockerfile}");
    }
}

#[test]
fn every_problem_has_a_case() {
    let source = |path: &str| fs::read_to_string(checkout().join(path)).unwrap();
    for (_, file, name) in ELSEWHERE {
        assert!(source(file).contains(&format!("fn {name}()")), "{file} has no test {name}");
    }
    let errors = source("crates/build/src/error.rs");
    let (_, body) = errors.split_once("pub enum Problem {\n").unwrap();
    let (body, _) = body.split_once("\n}").unwrap();
    let lines = body.lines().filter_map(|line| line.strip_prefix("    "));
    let variants = lines.filter(|line| line.starts_with(|first: char| first.is_ascii_uppercase()));
    let variants = variants.map(|line| line.split([' ', '(', ',']).next().unwrap());
    let cases = CASES.iter().map(|case| case.0).chain(ELSEWHERE.iter().map(|case| case.0));
    assert_eq!(
        cases.collect::<BTreeSet<_>>(),
        variants.collect(),
        "each variant has a case, and none is gone"
    );
}
