//! `ocib check`: its formats and exit codes, and that the rules' pages say what is so.

use std::{collections::BTreeSet, fs, path::PathBuf, process::Command};

use ocib::dockerfile::RULES;
use serde_json::{Value, json};

use crate::program::{Site, ended, names};

/// How `ocib check` ended: exit code, stdout, stderr.
type Said = (Option<i32>, String, String);

/// Rules that only a build can know of, since they are about images.
const OF_BUILDS: [&str; 1] = ["InvalidBaseImagePlatform"];

/// Runs `ocib check context` beside the context.
fn check(site: &Site, arguments: &[&str]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ocib"));
    site.clean(command.args(["check", "context"]).args(arguments));
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn json(site: &Site) -> Value {
    let (code, stdout, stderr) = check(site, &["--format", "json"]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    serde_json::from_str(&stdout).unwrap()
}

/// A file of the context that has only a size.
fn sparse(site: &Site, name: &str, bytes: u64) {
    fs::File::create(site.path(format!("context/{name}"))).unwrap().set_len(bytes).unwrap();
}

fn docs() -> PathBuf {
    ocib_testkit::checkout().join("docs")
}

/// The bytes are told by every command that reads the Dockerfile, before a base is asked for.
#[test]
fn a_large_copy_before_a_run_is_told_with_its_bytes() {
    let site = Site::new(
        "FROM scratch AS build\nARG PART=mod\nCOPY small ${PART}el* /models/\nRUN make\nCOPY model-1 /late\n",
    );
    sparse(&site, "model-1", 99_999_999);
    site.file("context/small", "");
    assert_eq!(json(&site), json!([]));
    sparse(&site, "model-2", 2 << 30);
    let message = "2247483647 bytes are copied before a RUN and go to where that is carried out; \
                   behind the last RUN they would not";
    let found = json(&site);
    assert_eq!((&found[0]["rule"], &found[0]["message"]), (&json!("LargeCopyBeforeRun"), &json!(message)));
    let warning = format!("context/Dockerfile:3: LargeCopyBeforeRun: {message}\n");
    for command in ["build", "plan"] {
        let said = ended(&mut site.ocib(&[command, "context"]));
        assert!(said.stderr.contains(&warning), "{command}: {said:?}");
    }
    // What the ignore file hides is not copied; who knows it is not told.
    site.file("context/.dockerignore", "model-2\n");
    assert_eq!(json(&site), json!([]));
    site.file("context/.dockerignore", "");
    let dockerfile = fs::read_to_string(site.path("context/Dockerfile")).unwrap();
    site.file("context/Dockerfile", format!("# check=skip=LargeCopyBeforeRun\n{dockerfile}"));
    assert_eq!(json(&site), json!([]));
    site.file("context/Dockerfile", format!("# check=error=true\n{dockerfile}"));
    let said = site.refused(3, &[]);
    assert!(said.contains("lint violation found for rules: LargeCopyBeforeRun"), "{said}");
}

/// The text of the first block in `language` behind `heading`.
fn block<'p>(page: &'p str, heading: &str, language: &str) -> Option<&'p str> {
    let (_, section) = page.split_once(heading)?;
    let (_, block) = section.split_once(&format!("```{language}\n"))?;
    block.split_once("```").map(|(block, _)| block)
}

#[test]
fn every_rule_has_a_page_and_its_examples_are_true() {
    let mut pages: BTreeSet<String> = names(&docs().join("rules")).into_iter().collect();
    for rule in RULES {
        assert!(pages.remove(&format!("{}.md", rule.name)), "there is no page for {}", rule.name);
        let page = fs::read_to_string(docs().join(format!("rules/{}.md", rule.name))).unwrap();
        assert!(page.starts_with(&format!("# {}\n", rule.name)), "{}", rule.name);
        assert!(page.contains("\n## Why\n") && page.contains("\n## How to silence it\n"), "{}", rule.name);
        let found = |heading| {
            let site = Site::new(block(&page, heading, "dockerfile").unwrap());
            if let Some(ignored) = block(&page, "", "dockerignore") {
                site.file("context/.dockerignore", ignored);
            }
            for line in block(&page, "", "files").unwrap_or_default().lines() {
                let (name, bytes) = line.split_once(' ').unwrap();
                sparse(&site, name, bytes.parse().unwrap());
            }
            let findings = json(&site);
            let rules = findings.as_array().unwrap().iter().map(|finding| finding["rule"].clone());
            rules.map(|rule| rule.as_str().unwrap().to_owned()).collect::<BTreeSet<_>>()
        };
        assert_eq!(found("\n## Bad\n"), BTreeSet::from([rule.name.to_owned()]));
        assert_eq!(found("\n## Good\n"), BTreeSet::new(), "{}", rule.name);
    }
    let of_builds = OF_BUILDS.map(|rule| format!("{rule}.md"));
    assert_eq!(pages, BTreeSet::from(of_builds), "there are pages without a rule");
}

#[test]
fn the_guide_lists_every_rule() {
    let guide = fs::read_to_string(docs().join("check.md")).unwrap();
    let rows: Vec<&str> =
        guide.lines().filter(|line| line.contains("](rules/") && line.starts_with("| [")).collect();
    let mut rules: Vec<&str> = RULES.iter().map(|rule| rule.name).chain(OF_BUILDS).collect();
    rules.sort_by_key(|rule| rule.to_lowercase());
    let expected: Vec<_> = rules.iter().map(|rule| format!("| [{rule}](rules/{rule}.md) |")).collect();
    assert_eq!(rows.len(), expected.len());
    for (row, start) in rows.iter().zip(expected) {
        assert!(row.starts_with(&start), "{row}");
    }
}

const TWO_WARNINGS: &str = "FROM scratch AS Files\nENV API_KEY=hunter2 \\\n    A=b\nCOPY é $X /\n";

#[test]
fn text_points_at_places_and_hides_secrets() {
    let site = Site::new(TWO_WARNINGS);
    let expected = "\
warning[StageNameCasing]: Stage name 'Files' should be lowercase
 --> context/Dockerfile:1:17
  |
1 | FROM scratch AS Files
  |                 ^^^^^

warning[SecretsUsedInArgOrEnv]: Do not use ARG or ENV instructions for sensitive data (ENV \"API_KEY\")
 --> context/Dockerfile:2:5
  |
2 | ENV API_KEY=******* \\
  |     ^^^^^^^

warning[UndefinedVar]: Usage of undefined variable '$X'
 --> context/Dockerfile:4:8
  |
4 | COPY é $X /
  |        ^^

3 warnings
";
    assert_eq!(check(&site, &[]), (Some(0), expected.to_owned(), String::new()));
    let clean = Site::new("FROM scratch\n");
    assert_eq!(check(&clean, &["--strict"]), (Some(0), "no warnings\n".to_owned(), String::new()));
}

#[test]
fn json_gives_places() {
    let finding = |rule: &str, message: &str, [line, column, end_line, end_column]: [usize; 4]| {
        json!({
            "rule": rule,
            "message": message,
            "file": "context/Dockerfile",
            "line": line,
            "column": column,
            "endLine": end_line,
            "endColumn": end_column,
            "url": format!("https://github.com/ocib/ocib/blob/main/docs/rules/{rule}.md"),
        })
    };
    let secret = "Do not use ARG or ENV instructions for sensitive data (ENV \"API_KEY\")";
    let expected = json!([
        finding("StageNameCasing", "Stage name 'Files' should be lowercase", [1, 17, 1, 22]),
        finding("SecretsUsedInArgOrEnv", secret, [2, 5, 2, 12]),
        finding("UndefinedVar", "Usage of undefined variable '$X'", [4, 8, 4, 10]),
    ]);
    assert_eq!(json(&Site::new(TWO_WARNINGS)), expected);
    assert_eq!(json(&Site::new("FROM scratch\n")), json!([]));
}

#[test]
fn sarif_is_whole() {
    let (code, stdout, _) = check(&Site::new(TWO_WARNINGS), &["--format", "sarif"]);
    let log: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(code, Some(0));
    assert_eq!(log["version"], "2.1.0");
    assert_eq!(log["$schema"], "https://json.schemastore.org/sarif-2.1.0.json");
    let [run] = log["runs"].as_array().unwrap().as_slice() else { panic!("{log}") };
    assert_eq!(run["columnKind"], "unicodeCodePoints");
    let driver = &run["tool"]["driver"];
    assert_eq!(driver["name"], "ocib");
    let rules = driver["rules"].as_array().unwrap();
    let ids: Vec<&str> = rules.iter().map(|rule| rule["id"].as_str().unwrap()).collect();
    assert_eq!(ids[..RULES.len()], RULES.map(|rule| rule.name));
    assert_eq!(ids[RULES.len()..], ["SyntaxError"]);
    for rule in rules {
        let page = rule["helpUri"].as_str().unwrap().split_once("/docs/").unwrap().1;
        assert!(docs().join(page).is_file(), "{rule}");
        assert!(rule["shortDescription"]["text"].is_string(), "{rule}");
    }
    let results = run["results"].as_array().unwrap();
    let expected = json!({
        "ruleId": "UndefinedVar",
        "ruleIndex": ids.iter().position(|id| *id == "UndefinedVar"),
        "level": "warning",
        "message": {"text": "Usage of undefined variable '$X'"},
        "locations": [{"physicalLocation": {
            "artifactLocation": {"uri": "context/Dockerfile"},
            "region": {"startLine": 4, "startColumn": 8, "endLine": 4, "endColumn": 10},
        }}],
    });
    assert_eq!((results.len(), &results[2]), (3, &expected));
    for result in results {
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(result["ruleId"], ids[index]);
    }
}

#[test]
fn github_gets_commands_and_nothing_else() {
    let site = Site::new("FROM scratch AS A\nCOPY a%b /$X%0A::error::y\n");
    let (code, stdout, stderr) = check(&site, &["--format", "github", "--strict"]);
    let expected = "\
::warning file=context/Dockerfile,line=1,col=17,endLine=1,title=StageNameCasing,endColumn=17::Stage name 'A' should be lowercase
::warning file=context/Dockerfile,line=2,col=10,endLine=2,title=UndefinedVar,endColumn=25::Usage of undefined variable '$X'
";
    assert_eq!((code, stdout.as_str()), (Some(3), expected));
    assert_eq!(stderr, "error: lint violation found for rules: StageNameCasing, UndefinedVar\n");

    let site = Site::new("FROM scratch\n::stop-commands::x%0A y\n");
    let (code, stdout, stderr) = check(&site, &["--format", "github"]);
    let expected = "::error file=context/Dockerfile,line=2,col=1,endLine=2,title=SyntaxError,endColumn=21\
                    ::unknown instruction: ::stop-commands::x%250A\n";
    assert_eq!((code, stdout.as_str()), (Some(3), expected));
    assert_eq!(stderr, "error: the Dockerfile cannot be understood\n");
}

#[test]
fn a_dockerfile_that_cannot_be_understood() {
    let site = Site::new("FROM scratch\nCPOY a /\n");
    let (code, stdout, stderr) = check(&site, &[]);
    let expected = "\
error: unknown instruction: CPOY
 --> context/Dockerfile:2:1
  |
2 | CPOY a /
  | ^^^^
  |
help: did you mean COPY?
";
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (Some(3), "", expected));
    let (code, stdout, _) = check(&site, &["--format", "json"]);
    let found: Value = serde_json::from_str(&stdout).unwrap();
    let expected = json!([{
        "rule": "SyntaxError",
        "message": "unknown instruction: CPOY; did you mean COPY?",
        "file": "context/Dockerfile",
        "line": 2,
        "column": 1,
        "endLine": 2,
        "endColumn": 5,
        "url": "https://github.com/ocib/ocib/blob/main/docs/errors.md",
    }]);
    assert_eq!((code, found), (Some(3), expected));
    let (code, stdout, _) = check(&site, &["--format", "sarif"]);
    let log: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, &log["runs"][0]["results"][0]["level"]), (Some(3), &json!("error")));
}

#[test]
fn findings_are_errors_where_that_is_wanted() {
    let warned = "FROM scratch AS A\n";
    let failed = "error: lint violation found for rules: StageNameCasing\n";
    let cases: [(String, &[&str], i32, &str); 7] = [
        (warned.to_owned(), &[], 0, ""),
        (warned.to_owned(), &["--strict"], 3, failed),
        (format!("# check=error=true\n{warned}"), &[], 3, failed),
        (format!("# check=error=true;skip=StageNameCasing\n{warned}"), &["--strict"], 0, ""),
        (format!("{warned}FROM scratch AS b\n"), &["--strict", "--target", "b"], 0, ""),
        (format!("{warned}FROM a AS b\n"), &["--strict", "--target", "B"], 3, failed),
        (
            "FROM scratch AS b\n".to_owned(),
            &["--target", "c"],
            3,
            "error: target stage \"c\" could not be found\n |\nhelp: the stages are b\n",
        ),
    ];
    for (dockerfile, arguments, code, said) in cases {
        let (ended, _, stderr) = check(&Site::new(&dockerfile), arguments);
        assert_eq!((ended, stderr.as_str()), (Some(code), said), "{dockerfile} {arguments:?}");
    }
}

/// As in BuildKit, which reads the options before it skips anything.
#[test]
fn a_build_takes_no_check_options_that_do_not_exist() {
    let unknown = "Check option \"skp\" should be one of skip, error and experimental";
    for skipped in ["", "skip=all;"] {
        let site = Site::new(&format!("# check={skipped}skp=StageNameCasing\nFROM scratch\n"));
        for command in ["build", "plan"] {
            let said = ended(&mut site.ocib(&[command, "context"])).failed(3);
            let error =
                format!("error: failed to parse check options: {unknown}\n --> context/Dockerfile:1:");
            assert!(said.contains(&error), "{command}: {said}");
        }
        assert_eq!(check(&site, &[]).0, Some(0));
    }
}

#[test]
fn build_args_name_the_base() {
    let site = Site::new("ARG TAG=1\nFROM alpine:$TAG\n");
    assert_eq!(json(&site), json!([]));
    let (code, stdout, _) = check(&site, &["--build-arg", "TAG=latest", "--strict"]);
    assert!(
        stdout.starts_with("warning[MutableBaseTag]: Base image \"alpine:$TAG\" has no digest"),
        "{stdout}"
    );
    assert_eq!(code, Some(3));
}

#[test]
fn a_dockerfile_elsewhere_has_its_own_ignore_file() {
    let site = Site::new("FROM scratch\n");
    site.file("other", "FROM scratch\nCOPY a /\n").file("other.dockerignore", "a\n");
    let (code, stdout, _) = check(&site, &["-f", "other"]);
    let message =
        "warning[CopyIgnoredFile]: Attempting to Copy file \"a\" that is excluded by .dockerignore\n";
    assert!(stdout.starts_with(&format!("{message} --> other:2:6\n")), "{stdout}");
    assert_eq!(code, Some(0));
}
