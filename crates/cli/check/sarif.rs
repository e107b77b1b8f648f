//! Findings as SARIF 2.1.0 (OASIS, <https://docs.oasis-open.org/sarif/sarif/v2.1.0/>), which GitHub's
//! and others' code scanning read.

use ocib_dockerfile::{RULES, Rule, Shown, Warning};
use serde_json::{Value, json};

use super::{Findings, SYNTAX_ERROR, url};

pub(super) fn log(findings: &Findings) -> String {
    let rules: Vec<Rule> = RULES.into_iter().chain([syntax_error()]).collect();
    let log = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "ocib",
                "version": env!("CARGO_PKG_VERSION"),
                "informationUri": env!("CARGO_PKG_REPOSITORY"),
                "rules": rules.iter().map(descriptor).collect::<Value>(),
            }},
            "columnKind": "unicodeCodePoints",
            "results": findings.found.iter().map(|warning| result(findings, &rules, warning)).collect::<Value>(),
        }],
    });
    format!("{log:#}")
}

fn syntax_error() -> Rule {
    let summary = "The Dockerfile should be one that can be understood";
    Rule { name: SYNTAX_ERROR, summary, shown: Shown::Always }
}

/// SARIF 3.49, reportingDescriptor.
fn descriptor(rule: &Rule) -> Value {
    json!({
        "id": rule.name,
        "shortDescription": {"text": rule.summary},
        "helpUri": url(rule.name),
        "defaultConfiguration": {"level": level(rule.name)},
    })
}

/// SARIF 3.27, result.
fn result(findings: &Findings, rules: &[Rule], warning: &Warning) -> Value {
    let (start, end) = warning.place(&findings.text);
    json!({
        "ruleId": warning.rule,
        "ruleIndex": rules.iter().position(|rule| rule.name == warning.rule),
        "level": level(warning.rule),
        "message": {"text": warning.message},
        "locations": [{"physicalLocation": {
            "artifactLocation": {"uri": uri(&findings.name)},
            "region": {
                "startLine": start.line,
                "startColumn": start.column,
                "endLine": end.line,
                "endColumn": end.column,
            },
        }}],
    })
}

fn level(rule: &str) -> &'static str {
    if rule == SYNTAX_ERROR { "error" } else { "warning" }
}

/// A path as a URI reference (RFC 3986): relative paths stay relative.
fn uri(path: &str) -> String {
    let scheme = if path.starts_with('/') { "file://" } else { "" };
    let escape = |byte: u8| match byte {
        b'/' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    format!("{scheme}{}", path.trim_start_matches("./").bytes().map(escape).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris() {
        for (path, expected) in [
            ("./Dockerfile", "Dockerfile"),
            ("a b/é:c%", "a%20b/%C3%A9%3Ac%25"),
            ("../x", "../x"),
            ("/x/Dockerfile", "file:///x/Dockerfile"),
        ] {
            assert_eq!(uri(path), expected);
        }
    }
}
