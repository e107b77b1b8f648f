//! The roles of `docs/examples` give what is used, and nothing else.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

use std::{collections::BTreeSet, fs};

use ocib_kaniko::preflight::{Need, RIGHTS};
use ocib_testkit::checkout;

/// Resource and verb of each rule of a role, as the file writes them: one line for each list.
fn rules(file: &str) -> BTreeSet<(String, String)> {
    let text = fs::read_to_string(checkout().join("docs/examples/kubernetes").join(file)).unwrap();
    let list = |line: &str, name: &str| -> Option<Vec<String>> {
        let list = line.trim().strip_prefix(name)?.trim().strip_prefix('[')?.strip_suffix(']')?;
        Some(list.split(", ").map(str::to_owned).collect())
    };
    let (mut rules, mut resources) = (BTreeSet::new(), Vec::new());
    for line in text.lines() {
        resources = list(line, "resources:").unwrap_or(resources);
        for verb in list(line, "verbs:").into_iter().flatten() {
            rules.extend(resources.iter().map(|resource| (resource.clone(), verb.clone())));
        }
    }
    rules
}

#[test]
fn roles_give_what_is_used_and_nothing_else() {
    for (file, needs) in [
        ("rbac.yaml", &[Need::Always, Need::Explaining][..]),
        ("rbac-attach.yaml", &[Need::Attach]),
        ("rbac-credentials.yaml", &[Need::Secret]),
    ] {
        let used = RIGHTS.into_iter().filter(|(.., need)| needs.contains(need));
        let used = used.map(|(resource, subresource, verb, _)| match subresource {
            "" => (resource.to_owned(), verb.to_owned()),
            subresource => (format!("{resource}/{subresource}"), verb.to_owned()),
        });
        assert_eq!(rules(file), used.collect(), "{file}");
    }
}
