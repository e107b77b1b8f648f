//! Findings as workflow commands, which GitHub shows as annotations of the file's lines
//! (<https://docs.github.com/en/actions/reference/workflow-commands-for-github-actions>).
//!
//! The text of a Dockerfile is part of them, and must not become a command of its own: every line is
//! one whole command, and whatever could end it, or one of its properties, is escaped.

use ocib_dockerfile::Warning;

use super::{Findings, SYNTAX_ERROR};
use crate::terminal::printable;

pub(super) fn commands(findings: &Findings) -> String {
    let lines: Vec<String> = findings.found.iter().map(|warning| command(findings, warning)).collect();
    lines.join("\n")
}

fn command(findings: &Findings, warning: &Warning) -> String {
    let level = if warning.rule == SYNTAX_ERROR { "error" } else { "warning" };
    let (start, end) = warning.place(&findings.text);
    let mut properties = vec![
        ("file", findings.name.clone()),
        ("line", start.line.to_string()),
        ("endLine", end.line.to_string()),
        ("title", warning.rule.to_owned()),
    ];
    // GitHub takes columns only within one line, and counts the last one in.
    if start.line == end.line {
        properties.insert(2, ("col", start.column.to_string()));
        properties.push(("endColumn", end.column.saturating_sub(1).max(start.column).to_string()));
    }
    let properties = properties.into_iter().map(|(name, value)| format!("{name}={}", property(&value)));
    format!("::{level} {}::{}", properties.collect::<Vec<_>>().join(","), data(&warning.message))
}

/// As `escapeData` of GitHub's own `@actions/core`; control characters are made visible first.
fn data(text: &str) -> String {
    printable(text).replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// As `escapeProperty` there.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_stays_within_its_command() {
        let text = "FROM a\nRUN \\\n b\n";
        let warning = |rule, message: &str, range: std::ops::Range<usize>| Warning {
            rule,
            message: message.to_owned(),
            span: range.into(),
        };
        let findings = Findings {
            name: "a,line=9:b%\n::stop".to_owned(),
            text: text.to_owned(),
            found: vec![
                warning("StageNameCasing", "100%: a,b\r\n::error::c\u{1b}[1m", 5..6),
                warning(SYNTAX_ERROR, "##[error]x", 7..15),
                warning("NoEmptyContinuation", "", 7..7),
            ],
        };
        let file = "file=a%2Cline=9%3Ab%25%0A%3A%3Astop";
        assert_eq!(
            commands(&findings),
            format!(
                "::warning {file},line=1,col=6,endLine=1,title=StageNameCasing,endColumn=6\
                 ::100%25: a,b\\u{{d}}%0A::error::c\\u{{1b}}[1m\n\
                 ::error {file},line=2,endLine=3,title=SyntaxError::##[error]x\n\
                 ::warning {file},line=2,col=1,endLine=2,title=NoEmptyContinuation,endColumn=1::"
            )
        );
    }
}
