//! A registry that misbehaves as a test tells it to, and otherwise takes everything and keeps nothing.

use std::{io, sync::Arc, time::SystemTime};

use crate::http::{HttpServer, Incoming, Reply, http_date};

/// What a [`ScriptedRegistry`] does with a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Scripted {
    /// What an empty registry does that takes everything.
    Usual,
    /// This answer.
    Answer {
        /// HTTP status.
        status: u16,
        /// Names and values.
        headers: Vec<(&'static str, String)>,
        /// The body.
        body: String,
    },
    /// The connection is closed without an answer.
    HangUp,
    /// Nothing comes, until the client goes away.
    Stall,
}

/// A plain-HTTP registry on a loopback port, ended when dropped. It stores nothing, so nothing can be
/// pulled from it.
#[derive(Debug)]
pub struct ScriptedRegistry {
    server: HttpServer,
}

impl ScriptedRegistry {
    /// A registry that asks `script` about each request: method, path with query, and its own
    /// `host:port`.
    pub fn start(script: impl Fn(&str, &str, &str) -> Scripted + Send + Sync + 'static) -> Self {
        let script = Arc::new(script);
        let server = HttpServer::start(move |request| {
            let target = match request.query.as_str() {
                "" => request.path.clone(),
                query => format!("{}?{query}", request.path),
            };
            let host = request.header("host").unwrap_or_default().to_owned();
            let reply = match script(&request.method, &target, &host) {
                Scripted::Usual => usual(request),
                Scripted::Answer { status, headers, body } => {
                    let reply = Reply::text(status, "application/json", &body);
                    headers.into_iter().fold(reply, |reply, (name, value)| reply.with(name, value))
                }
                Scripted::HangUp => return None,
                Scripted::Stall => {
                    request.stall();
                    return None;
                }
            };
            // Nobody stops sending because of what is answered.
            let _ = io::copy(request, &mut io::sink());
            Some(reply.with("date", http_date(SystemTime::now())))
        });
        Self { server }
    }

    /// `127.0.0.1:PORT`, the registry's host in references.
    pub fn host(&self) -> String {
        self.server.host()
    }
}

fn usual(request: &Incoming<'_>) -> Reply {
    let (method, path) = (request.method.as_str(), request.path.as_str());
    let is = |part: &str| path.contains(part);
    match method {
        "GET" if path == "/v2/" => Reply::text(200, "application/json", "{}"),
        "POST" | "PATCH" if is("/blobs/uploads/") => {
            let repository = path.split("/blobs/").next().unwrap_or_default();
            Reply::new(202).with("location", format!("{repository}/blobs/uploads/1?state=1"))
        }
        "PUT" => Reply::new(201),
        "DELETE" => Reply::new(204),
        _ if is("/manifests/") => Reply::text(
            404,
            "application/json",
            r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#,
        ),
        _ => Reply::new(404),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::run;

    #[test]
    fn does_what_it_is_told() {
        let registry = ScriptedRegistry::start(|method, target, _| match (method, target) {
            ("GET", "/v2/a/tags/list?n=1") => Scripted::Answer {
                status: 418,
                headers: vec![("x-kind", "tea".to_owned())],
                body: "no".to_owned(),
            },
            ("PUT", _) => Scripted::HangUp,
            _ => Scripted::Usual,
        });
        let url = format!("http://{}", registry.host());
        let code = |arguments: &[&str]| {
            run("curl", "curl", &[&["-sS", "-w", "%{http_code}", "-o", "/dev/null"], arguments].concat())
        };
        assert_eq!(code(&[&format!("{url}/v2/")]), "200");
        assert_eq!(code(&[&format!("{url}/v2/a/tags/list?n=1")]), "418");
        assert_eq!(code(&["-X", "POST", &format!("{url}/v2/a/blobs/uploads/")]), "202");
        assert_eq!(code(&[&format!("{url}/v2/a/manifests/1")]), "404");
    }
}
