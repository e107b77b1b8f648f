//! `ocib explain`, and the page that lists what it knows.

use std::{fmt::Write as _, fs, io::Write as _, process::Command, process::Stdio};

use ocib::store::Cause;
use ocib_testkit::checkout;
use serde_json::{Value, json};

use crate::program::{Ended, Site, ended, started, wait};

const DOCS: &str = "https://github.com/ocib/ocib/blob/main/docs/causes.md#";

fn explain(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ocib"));
    command.arg("explain").args(arguments);
    Site::new("").clean(&mut command);
    command.current_dir(checkout());
    command
}

fn text(ended: &Ended) -> &str {
    std::str::from_utf8(&ended.stdout).unwrap()
}

#[test]
fn a_message_of_docker() {
    let message = "denied: Your authorization token has expired. Reauthenticate and try again.";
    let done = ended(&mut explain(&[message])).done();
    let remedy = Cause::named("token-expired").unwrap().general_remedy();
    let expected =
        format!("token-expired: the registry's token is past its end\n  {remedy}\n  {DOCS}token-expired\n");
    assert_eq!(text(&done), expected);
    // Words need no quotes, and an id is enough.
    assert_eq!(ended(explain(&[]).args(message.split(' '))).done().stdout, done.stdout);
    assert_eq!(ended(&mut explain(&["token-expired"])).done().stdout, done.stdout);
    // A flag may come behind it.
    let [before, after] = [["--json", "token-expired"], ["token-expired", "--json"]]
        .map(|arguments| ended(&mut explain(&arguments)).done().stdout);
    assert_eq!(before, after);
}

#[test]
fn a_log_on_stdin_as_json() {
    let mut command = explain(&["--json", "-"]);
    let mut child = started(command.stdin(Stdio::piped()));
    let log = "INFO resolving\ndial tcp: lookup r.example: no such host\nUser: arn:aws:iam::1:user/ci is not authorized \
               to perform: ecr:PutImage on resource: arn:x\n";
    child.stdin.take().unwrap().write_all(log.as_bytes()).unwrap();
    let done = wait(child).done();
    let actual: Value = serde_json::from_str(text(&done)).unwrap();
    let cause = |id: &str, remedy: String| {
        let title = Cause::named(id).unwrap().title;
        json!({"cause": id, "title": title, "remedy": remedy, "docs": format!("{DOCS}{id}")})
    };
    let permission = "give arn:aws:iam::1:user/ci the permission ecr:PutImage on arn:x; `ocib build --print-iam-policy` \
                      prints all that the build needs";
    let expected = json!({"causes": [
        cause("dns", Cause::named("dns").unwrap().general_remedy()),
        cause("iam-denied", permission.to_owned()),
    ]});
    assert_eq!(actual, expected);
}

/// Ends of RUN in pods are told beside the others.
#[test]
fn ends_of_pods() {
    let docs = "https://github.com/ocib/ocib/blob/main/docs/run-kubernetes.md#when-it-does-not-end-well";
    let end = ocib::kaniko::End::OomKilled;
    let expected = format!("{}: {}\n  {}\n  {docs}\n", end.cause(), end.what(), end.remedy());
    for said in ["run-oom-killed", "error[run-oom-killed]: …"] {
        assert_eq!(text(&ended(&mut explain(&[said])).done()), expected);
    }
    for (said, expected) in [
        ("error: the node evicted the pod: …\nImagePullBackOff", ["run-evicted", "run-image-pull"]),
        ("ImagePullBackOff\ndial tcp: lookup r.example: no such host", ["run-image-pull", "dns"]),
        // It may be RUN's pod or ocib's own.
        ("Last State: Terminated, Reason: OOMKilled", ["run-oom-killed", "out-of-memory"]),
    ] {
        let done = ended(&mut explain(&["--json", said])).done();
        let actual: Value = serde_json::from_str(text(&done)).unwrap();
        let causes = actual["causes"].as_array().unwrap().iter();
        assert_eq!(causes.map(|cause| &cause["cause"]).collect::<Vec<_>>(), expected);
    }
}

#[test]
fn what_is_not_known_is_said() {
    let said = ended(&mut explain(&["everything", "is", "fine"])).failed(1);
    let expected = "error: no known cause fits this text\n |\nhelp: docs/causes.md lists those that are known; whole \
                    messages fit better than parts\n";
    assert_eq!(said, expected);
}

/// The page of causes, as it should be.
fn page() -> String {
    let mut page = String::from(
        "# Causes\n\nWhat ocib knows to go wrong, and what to do. The id stands in messages, as in \
         `error[token-expired]: …`,\nin the JSON of [preflight](preflight.md), and is what `ocib explain` prints for the \
         messages of other programs.\nThis page is made of the table that the program uses \
         (`crates/store/src/cause/table`); a test keeps it so:\n`OCIB_WRITE_DOCS=1 cargo test the_page_of_causes` \
         writes it.\n",
    );
    for cause in Cause::all() {
        let remedy = cause.general_remedy();
        let _ =
            write!(page, "\n## {}\n\n{}.\n\n**What to do:** {remedy}.\n", cause.id, sentence(cause.title));
    }
    page
}

fn sentence(title: &str) -> String {
    let mut letters = title.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

#[test]
fn the_page_of_causes_is_the_table() {
    let path = checkout().join("docs/causes.md");
    if std::env::var_os("OCIB_WRITE_DOCS").is_some() {
        fs::write(&path, page()).unwrap();
    }
    assert_eq!(fs::read_to_string(&path).unwrap_or_default(), page(), "docs/causes.md is not the table");
}
