//! The Hub's own answers: revisions, lists of files, files.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{HubAccess, HubFault, STRANGER, State, TOKEN, repository::File, store::sent_part};
use crate::{
    http::{Incoming, Reply, decoded, encoded, locked},
    registry::Request,
};

/// A refusal: status, code, message.
type Refused = (u16, &'static str, &'static str);

/// What a path of the Hub asks for.
struct Asked {
    repository: String,
    what: String,
    revision: String,
    path: String,
}

impl State {
    pub(super) fn answer_hub(&self, request: &mut Incoming<'_>) -> Reply {
        let reply = match self.fault(|fault| matches!(fault, HubFault::Status(..))) {
            Some(HubFault::Status(status, wait)) => {
                let reply = Reply::text(status, "text/plain", "We had to rate limit you");
                match wait {
                    Some(seconds) => reply.with("retry-after", seconds.to_string()),
                    None => reply,
                }
            }
            _ => self.dispatch(request).unwrap_or_else(|(status, code, message)| {
                let reply = Reply::json(status, "application/json", &json!({"error": message}));
                let reply = reply.with("x-error-message", message);
                if code.is_empty() { reply } else { reply.with("x-error-code", code) }
            }),
        };
        let (method, path, query) = (request.method.clone(), request.path.clone(), request.query.clone());
        let (status, bytes) = (reply.status, reply.len());
        locked(&self.hub_requests).push(Request { method, path, query, status, bytes });
        reply
    }

    fn dispatch(&self, request: &Incoming<'_>) -> Result<Reply, Refused> {
        if !matches!(request.method.as_str(), "GET" | "HEAD") {
            return Err((405, "", "Method not allowed"));
        }
        let asked = Asked::parse(&request.path).ok_or((404, "", "Not Found"))?;
        let token = match request.header("authorization") {
            None => None,
            Some(value) => match value.strip_prefix("Bearer ") {
                Some(token) if [TOKEN, STRANGER].contains(&token) => Some(token),
                _ => return Err((401, "", "Invalid credentials in Authorization header")),
            },
        };
        let repositories = locked(&self.repositories);
        let not_found = match token {
            // As the Hub says, so that names cannot be guessed.
            None => (401, "RepoNotFound", "Invalid username or password."),
            Some(_) => (404, "RepoNotFound", "Repository not found"),
        };
        let repository = repositories.get(&asked.repository).ok_or(not_found)?;
        if repository.access == HubAccess::Private && token != Some(TOKEN) {
            return Err(not_found);
        }
        let (commit, files) =
            repository.files(&asked.revision).ok_or((404, "RevisionNotFound", "Invalid rev id"))?;
        if asked.what == "resolve" || asked.what == "resolve-cache" {
            if repository.access == HubAccess::Gated && token != Some(TOKEN) {
                let status = if token.is_none() { 401 } else { 403 };
                return Err((
                    status,
                    "GatedRepo",
                    "Access to this model is restricted and you are not in the authorized list",
                ));
            }
            if asked.revision != commit {
                return Err((400, "", "this stand-in gives files by their commit alone"));
            }
            let file = files.get(&asked.path).ok_or((404, "EntryNotFound", "Entry not found"))?;
            return Ok(self.resolve(request, &asked, file));
        }
        match asked.what.as_str() {
            "revision" => {
                let gated =
                    if repository.access == HubAccess::Gated { json!("manual") } else { json!(false) };
                let body = json!({"_id": "1", "id": asked.repository, "sha": commit, "gated": gated});
                Ok(Reply::json(200, "application/json", &body))
            }
            "tree" => self.tree(request, &asked, files),
            _ => Err((404, "", "Not Found")),
        }
    }

    fn tree(
        &self,
        request: &Incoming<'_>,
        asked: &Asked,
        files: &BTreeMap<String, File>,
    ) -> Result<Reply, Refused> {
        let is_recursive = request.parameter("recursive").is_some_and(|value| value == "true");
        let root = if asked.path.is_empty() { String::new() } else { format!("{}/", asked.path) };
        let (mut entries, mut directories) = (Vec::new(), BTreeSet::new());
        for (path, file) in files.iter().filter(|(path, _)| path.starts_with(&root)) {
            let below = &path[root.len()..];
            let above = below.match_indices('/').map(|(at, _)| &path[..root.len() + at]);
            for directory in above.take(if is_recursive { usize::MAX } else { 1 }) {
                if directories.insert(directory.to_owned()) {
                    entries.push(
                        json!({"type": "directory", "oid": "0".repeat(40), "size": 0, "path": directory}),
                    );
                }
            }
            if is_recursive || !below.contains('/') {
                entries.push(entry(path, file));
            }
        }
        if entries.is_empty() && !asked.path.is_empty() {
            return Err((404, "EntryNotFound", "Entry not found"));
        }
        let limit = request.parameter("limit").and_then(|limit| limit.parse().ok()).unwrap_or(usize::MAX);
        let page = locked(&self.options).page.min(limit);
        let start = match request.parameter("cursor") {
            None => 0,
            Some(cursor) => {
                let start = cursor.strip_prefix("at:").and_then(|start| start.parse::<usize>().ok());
                start.ok_or((400, "", "Invalid cursor"))?
            }
        };
        let rest = entries.get(start..).unwrap_or_default();
        let reply = Reply::json(200, "application/json", &rest[..rest.len().min(page)].into());
        if rest.len() <= page {
            return Ok(reply);
        }
        let host = request.header("host").unwrap_or_default();
        let cursor = encoded(&format!("at:{}", start + page));
        let mut next = format!("http://{host}{}?limit={page}&cursor={cursor}", request.path);
        if is_recursive {
            next.push_str("&recursive=true");
        }
        Ok(reply.with("link", format!("<{next}>; rel=\"next\"")))
    }

    /// Large files are elsewhere; the others come by way of a cache on the same host.
    fn resolve(&self, request: &Incoming<'_>, asked: &Asked, file: &File) -> Reply {
        let path: Vec<String> = asked.path.split('/').map(encoded).collect();
        let (path, commit) = (path.join("/"), &asked.revision);
        match (&file.sha256, asked.what.as_str()) {
            (Some(oid), _) => Reply::new(302)
                .with("location", self.sign(&asked.repository, commit, &path))
                .with("x-repo-commit", commit.clone())
                .with("x-linked-size", file.size.to_string())
                .with("x-linked-etag", format!("\"{oid}\""))
                .with("x-xet-hash", oid.clone()),
            (None, "resolve") => Reply::new(307)
                .with("location", format!("/api/resolve-cache/models/{}/{commit}/{path}", asked.repository))
                .with("x-repo-commit", commit.clone())
                .with("etag", format!("\"{}\"", file.blob)),
            (None, _) => sent_part(file, request.header("range"), &self.sent)
                .with("x-repo-commit", commit.clone())
                .with("etag", format!("\"{}\"", file.blob)),
        }
    }
}

impl Asked {
    fn parse(path: &str) -> Option<Self> {
        let parts: Vec<String> = path.trim_start_matches('/').split('/').map(decoded).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let (repository, what, revision, rest) = match parts.as_slice() {
            ["api", "models", org, name, what, revision, rest @ ..] => {
                ([*org, *name], *what, *revision, rest)
            }
            ["api", "resolve-cache", "models", org, name, revision, rest @ ..] => {
                ([*org, *name], "resolve-cache", *revision, rest)
            }
            [org, name, "resolve", revision, rest @ ..] => ([*org, *name], "resolve", *revision, rest),
            _ => return None,
        };
        Some(Self {
            repository: repository.join("/"),
            what: what.to_owned(),
            revision: revision.to_owned(),
            path: rest.join("/"),
        })
    }
}

fn entry(path: &str, file: &File) -> Value {
    let mut entry = json!({"type": "file", "oid": file.blob, "size": file.size, "path": path});
    if let Some(oid) = &file.sha256 {
        entry["lfs"] = json!({"oid": oid, "size": file.size, "pointerSize": 135});
        entry["xetHash"] = json!(oid);
    }
    entry
}
