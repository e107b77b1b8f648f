//! Findings as a JSON array, for programs.

use serde_json::{Value, json};

use super::{Findings, url};

/// Lines and columns count from 1, columns in characters; the end is the first character behind.
pub(super) fn array(findings: &Findings) -> String {
    let object = |warning: &ocib_dockerfile::Warning| {
        let (start, end) = warning.place(&findings.text);
        json!({
            "rule": warning.rule,
            "message": warning.message,
            "file": findings.name,
            "line": start.line,
            "column": start.column,
            "endLine": end.line,
            "endColumn": end.column,
            "url": url(warning.rule),
        })
    };
    format!("{:#}", findings.found.iter().map(object).collect::<Value>())
}
