//! Keys, tokens and passwords in values.

use std::ops::Range;

use super::{Warning, instructions::is_secret_name, rule};
use crate::{Command, Dockerfile, Instruction, Spanned};

/// What tokens begin with, how many characters follow at least, and what they are. The forms are
/// those that their issuers document, so that scanners can find them.
const TOKENS: [(&str, usize, &str); 27] = [
    ("AKIA", 16, "an AWS access key"),
    ("ASIA", 16, "an AWS access key"),
    ("AIza", 35, "a Google API key"),
    ("ghp_", 36, "a GitHub token"),
    ("gho_", 36, "a GitHub token"),
    ("ghu_", 36, "a GitHub token"),
    ("ghs_", 36, "a GitHub token"),
    ("ghr_", 36, "a GitHub token"),
    ("github_pat_", 22, "a GitHub token"),
    ("glpat-", 20, "a GitLab token"),
    ("hf_", 30, "a Hugging Face token"),
    ("npm_", 36, "an npm token"),
    ("pypi-", 50, "a PyPI token"),
    ("dckr_pat_", 20, "a Docker Hub token"),
    ("dop_v1_", 64, "a DigitalOcean token"),
    ("sk-ant-", 20, "an Anthropic API key"),
    ("sk-proj-", 20, "an OpenAI API key"),
    ("sk_live_", 16, "a Stripe key"),
    ("rk_live_", 16, "a Stripe key"),
    ("xoxa-", 10, "a Slack token"),
    ("xoxb-", 10, "a Slack token"),
    ("xoxp-", 10, "a Slack token"),
    ("xoxr-", 10, "a Slack token"),
    ("xoxs-", 10, "a Slack token"),
    ("SG.", 60, "a SendGrid API key"),
    ("hvs.", 24, "a Vault token"),
    ("tskey-", 20, "a Tailscale key"),
];

pub(super) fn check(dockerfile: &Dockerfile, warnings: &mut Vec<Warning>) {
    for (instruction, key, value) in settings(dockerfile) {
        if let Some(what) = resembles(&value.value) {
            let message = format!(
                "Value of {instruction} {:?} looks like {what}, which everyone who has the image can read",
                key.value
            );
            warnings.push(Warning::new(rule::SECRET_LIKE_VALUE, message, value.span));
        }
    }
}

/// The text of the Dockerfile with asterisks in place of the values of ARG and ENV that seem to be
/// secret, by their names or by themselves: what may be shown in a log. Spans fit it as they fit the
/// text itself.
pub fn redacted(dockerfile: &Dockerfile) -> String {
    let mut text = dockerfile.text.clone();
    for (_, key, value) in settings(dockerfile) {
        if is_secret(&key.value, &value.value) {
            hide(&mut text, value.span.start..value.span.end);
        }
    }
    hide_logins(&mut text);
    text
}

/// The same for a text that cannot be understood: whatever follows `NAME=` up to a blank, where NAME
/// or the value itself seems to be secret.
pub fn redacted_text(text: &str) -> String {
    let mut shown = text.to_owned();
    let mut at = 0;
    for word in text.split_inclusive(char::is_whitespace) {
        if let Some((name, value)) = word.trim_end().split_once('=') {
            let start = at + name.len() + 1;
            if is_secret(name, value) {
                hide(&mut shown, start..start + value.len());
            }
        }
        at += word.len();
    }
    hide_logins(&mut shown);
    shown
}

/// Whether a value that ARG or ENV gives to `name` seems to be secret, by its name or by itself.
pub fn is_secret(name: &str, value: &str) -> bool {
    is_secret_name(name) || resembles(value).is_some()
}

/// An instruction in one line, with asterisks for what seems to be secret in it.
pub fn redacted_instruction(instruction: &Instruction) -> String {
    let mut shown = instruction.original.clone();
    let settings = settings_of(instruction);
    if settings.is_empty() {
        return redacted_text(&shown);
    }
    for (_, key, value) in settings {
        if !value.value.is_empty() && is_secret(&key.value, &value.value) {
            shown = shown.replace(&value.value, &"*".repeat(value.value.len()));
        }
    }
    hide_logins(&mut shown);
    shown
}

/// Asterisks for users and passwords of URLs (RFC 3986, section 3.2.1), as ADD may have them.
fn hide_logins(text: &mut String) {
    let ends = |c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#' | '"' | '\'');
    let starts: Vec<usize> = text.match_indices("://").map(|(at, found)| at + found.len()).collect();
    for start in starts {
        let host = text[start..].find(ends).map_or(text.len(), |length| start + length);
        if let Some(login) = text[start..host].rfind('@') {
            hide(text, start..start + login);
        }
    }
}

/// Asterisks for everything in `range` but blanks; the length in bytes stays.
fn hide(text: &mut String, range: Range<usize>) {
    let hide = |c: char| if c.is_whitespace() { c.to_string() } else { "*".repeat(c.len_utf8()) };
    let hidden: String = text[range.clone()].chars().map(hide).collect();
    text.replace_range(range, &hidden);
}

/// Every value that ARG or ENV gives to a name.
fn settings(dockerfile: &Dockerfile) -> Vec<Setting<'_>> {
    let in_stages = dockerfile.stages.iter().flat_map(|stage| &stage.instructions);
    dockerfile.global_args.iter().chain(in_stages).flat_map(settings_of).collect()
}

/// The instruction's keyword, the name and its value.
type Setting<'a> = (&'static str, &'a Spanned<String>, &'a Spanned<String>);

fn settings_of(instruction: &Instruction) -> Vec<Setting<'_>> {
    match &instruction.command {
        Command::Arg(pairs) => {
            pairs.iter().filter_map(|pair| Some(("ARG", &pair.key, pair.value.as_ref()?))).collect()
        }
        Command::Env(pairs) => pairs.iter().map(|pair| ("ENV", &pair.key, &pair.value)).collect(),
        _ => Vec::new(),
    }
}

/// What kind of secret a value seems to hold.
fn resembles(value: &str) -> Option<&'static str> {
    let is_token_character = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let mut words = value.split(|c: char| !is_token_character(c));
    if value.contains("-----BEGIN ") && value.contains("PRIVATE KEY-----") {
        return Some("a private key");
    }
    if has_password(value) {
        return Some("a URL with a password");
    }
    words.find_map(|word| {
        let token = TOKENS
            .iter()
            .find(|(prefix, length, _)| word.strip_prefix(prefix).is_some_and(|rest| rest.len() >= *length));
        token.map(|(_, _, what)| *what).or_else(|| is_web_token(word).then_some("a JSON web token"))
    })
}

/// Whether a URL's user has a password (RFC 3986, section 3.2.1) that is no variable.
fn has_password(value: &str) -> bool {
    value.split("://").skip(1).any(|rest| {
        let authority = rest.split(['/', '?', '#', ' ', '"', '\'']).next().unwrap_or_default();
        let user = authority.rsplit_once('@').map(|(user, _)| user);
        let password = user.and_then(|user| user.split_once(':')).map_or("", |(_, password)| password);
        !password.is_empty() && !password.contains('$')
    })
}

/// Three parts, of which the first two are JSON objects in base64 (RFC 7519, section 3.1).
fn is_web_token(word: &str) -> bool {
    let parts: Vec<&str> = word.split('.').collect();
    matches!(parts[..], [header, claims, signature]
        if header.starts_with("eyJ") && claims.starts_with("eyJ") && !signature.is_empty())
}
