//! Answers in the words of an API server.

use serde_json::{Value, json};

use crate::http::Reply;

pub(super) fn json_reply(status: u16, value: &Value) -> Reply {
    Reply::json(status, "application/json", value)
}

/// A refusal as a `Status`.
pub(super) fn status(code: u16, reason: &str, message: &str) -> Reply {
    json_reply(code, &status_json(code, reason, message))
}

pub(super) fn status_json(code: u16, reason: &str, message: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
    })
}

pub(super) fn not_found(resource: &str, name: &str) -> Reply {
    status(404, "NotFound", &format!("{resource} \"{name}\" not found"))
}

pub(super) fn forbidden(verb: &str, resource: &str, name: &str, namespace: &str) -> Reply {
    let object = match name {
        "" => resource.split('/').next().unwrap_or_default().to_owned(),
        name => format!("{} \"{name}\"", resource.split('/').next().unwrap_or_default()),
    };
    let place = match namespace {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace \"{namespace}\""),
    };
    let message = format!(
        "{object} is forbidden: User \"ocib\" cannot {verb} resource \"{resource}\" in API group \"\" {place}"
    );
    status(403, "Forbidden", &message)
}
