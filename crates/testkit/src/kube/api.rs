//! The routes of the API.

use std::{sync::Arc, thread, time::SystemTime};

use serde_json::{Value, json};

use super::{
    KubeFault, KubeRequest, NAMESPACE, TOKEN, attach, life, logs, quota,
    refusal::{forbidden, json_reply, not_found, status},
    strict, watch,
    world::{World, uid_of},
};
use crate::http::{Incoming, Reply, iso};

const BODY_BYTES_MAX: u64 = 4 << 20;

/// Answers a request, in so many words or over a connection that it takes.
pub(super) fn answer(world: &Arc<World>, request: &mut Incoming<'_>) -> Option<Reply> {
    let known = noted(world, request);
    let body = request.read_all(BODY_BYTES_MAX).ok()?;
    let fault = (world.fault)(&known);
    match &fault {
        Some(KubeFault::Answer(code, body)) => {
            let kind = if body.starts_with('{') { "application/json" } else { "text/plain" };
            return Some(Reply::text(*code, kind, body));
        }
        Some(KubeFault::HangUp) => return None,
        Some(KubeFault::Stall) => {
            request.stall();
            return None;
        }
        Some(KubeFault::LoseAnswer | KubeFault::CutAfter(_)) | None => {}
    }
    if request.header("authorization") != Some(&format!("Bearer {TOKEN}")) {
        return Some(status(401, "Unauthorized", "Unauthorized"));
    }
    let reply = route(world, request, &body, fault.as_ref());
    reply.filter(|_| fault != Some(KubeFault::LoseAnswer))
}

fn noted(world: &World, request: &Incoming<'_>) -> KubeRequest {
    let mut state = world.lock();
    let (method, path) = (request.method.clone(), request.path.clone());
    let before = state.requests.iter().filter(|known| known.method == method && known.path == path).count();
    let known = KubeRequest { method, path, query: request.query.clone(), before };
    state.requests.push(known.clone());
    known
}

fn route(
    world: &Arc<World>,
    request: &mut Incoming<'_>,
    body: &[u8],
    fault: Option<&KubeFault>,
) -> Option<Reply> {
    let path = request.path.clone();
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let method = request.method.clone();
    match (method.as_str(), parts.as_slice()) {
        ("GET", ["version"]) => {
            let version = world.options.version;
            let reply = json!({
                "major": "1", "minor": version.split('.').nth(1), "gitVersion": version, "gitCommit": "",
                "gitTreeState": "clean", "buildDate": "", "goVersion": "", "compiler": "gc", "platform": "linux/amd64",
            });
            Some(json_reply(200, &reply))
        }
        ("POST", ["apis", "authorization.k8s.io", "v1", "selfsubjectaccessreviews"]) => {
            Some(review(world, body))
        }
        ("GET", ["api", "v1", "nodes"]) => {
            Some(allowed(world, "list", "nodes", "", "").unwrap_or_else(|| nodes(world)))
        }
        ("GET", ["api", "v1", "namespaces", name]) => {
            Some(allowed(world, "get", "namespaces", name, "").unwrap_or_else(|| namespace(world, name)))
        }
        (_, ["api", "v1", "namespaces", namespace, rest @ ..]) => {
            namespaced(world, request, namespace, rest, body, fault)
        }
        _ => Some(status(404, "NotFound", "the server could not find the requested resource")),
    }
}

fn namespaced(
    world: &Arc<World>,
    request: &mut Incoming<'_>,
    namespace: &str,
    rest: &[&str],
    body: &[u8],
    fault: Option<&KubeFault>,
) -> Option<Reply> {
    let method = request.method.clone();
    let may = |verb: &str, resource: &str, name: &str| allowed(world, verb, resource, name, namespace);
    let is_watch = matches!(request.parameter("watch").as_deref(), Some("true" | "1"));
    match (method.as_str(), rest) {
        ("POST", ["pods"]) => Some(may("create", "pods", "").unwrap_or_else(|| create(world, namespace, body))),
        ("GET", ["pods"]) if is_watch => match may("watch", "pods", "") {
            Some(refusal) => Some(refusal),
            None => {
                watch::serve(world, request);
                None
            }
        },
        ("GET", ["pods"]) => Some(may("list", "pods", "").unwrap_or_else(|| list(world, request))),
        ("GET", ["pods", name]) => Some(may("get", "pods", name).unwrap_or_else(|| match world.lock().pods.get(*name) {
            Some(pod) => json_reply(200, &pod.json),
            None => not_found("pods", name),
        })),
        ("DELETE", ["pods", name]) => Some(may("delete", "pods", name).unwrap_or_else(|| delete(world, request, name, body))),
        ("GET", ["pods", name, "log"]) => match may("get", "pods/log", name) {
            Some(refusal) => Some(refusal),
            None => logs::serve(world, request, name),
        },
        ("GET", ["pods", name, "attach"]) => match may("get", "pods/attach", name) {
            Some(refusal) => Some(refusal),
            // 1.35 and later; the reason is empty.
            None if may("create", "pods/attach", name).is_some() => {
                Some(status(403, "Forbidden", &format!("pods \"{name}\" is forbidden: ")))
            }
            None => attach::serve(world, request, name, fault),
        },
        ("GET", ["events"]) => Some(may("list", "events", "").unwrap_or_else(|| {
            let state = world.lock();
            json_reply(200, &list_of("EventList", &state.events, state.version()))
        })),
        ("GET", ["resourcequotas"]) => Some(may("list", "resourcequotas", "").unwrap_or_else(|| quota::list(world))),
        ("GET", ["limitranges"]) => Some(may("list", "limitranges", "").unwrap_or_else(|| {
            json_reply(200, &list_of("LimitRangeList", &[], world.lock().version()))
        })),
        ("GET", ["persistentvolumeclaims", name]) => {
            Some(may("get", "persistentvolumeclaims", name).unwrap_or_else(|| claim(world, name)))
        }
        ("POST", ["secrets"]) => Some(may("create", "secrets", "").unwrap_or_else(|| create_secret(world, body))),
        ("GET", ["secrets", name]) => Some(may("get", "secrets", name).unwrap_or_else(|| match world.lock().secrets.get(*name) {
            Some(secret) => json_reply(200, secret),
            None => not_found("secrets", name),
        })),
        ("DELETE", ["secrets", name]) => {
            Some(may("delete", "secrets", name).unwrap_or_else(|| match world.lock().secrets.remove(*name) {
                Some(secret) => json_reply(200, &json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": { "uid": secret["metadata"]["uid"] } })),
                None => not_found("secrets", name),
            }))
        }
        ("GET", ["serviceaccounts", name]) => Some(may("get", "serviceaccounts", name).unwrap_or_else(|| match *name {
            "default" | "builder" => json_reply(200, &json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": name } })),
            name => not_found("serviceaccounts", name),
        })),
        _ => Some(status(404, "NotFound", "the server could not find the requested resource")),
    }
}

/// The refusal of what is not allowed.
fn allowed(world: &World, verb: &str, resource: &str, name: &str, namespace: &str) -> Option<Reply> {
    world.options.denied.contains(&(verb, resource)).then(|| forbidden(verb, resource, name, namespace))
}

pub(super) fn list_of(kind: &str, items: &[Value], version: u64) -> Value {
    json!({ "kind": kind, "apiVersion": "v1", "metadata": { "resourceVersion": version.to_string() }, "items": items })
}

/// Whether a pod is meant by the selectors of a list or a watch.
pub(super) fn is_selected(request: &Incoming<'_>, pod: &Value) -> bool {
    let fields = request.parameter("fieldSelector").unwrap_or_default();
    let labels = request.parameter("labelSelector").unwrap_or_default();
    let by_field = fields.strip_prefix("metadata.name=").is_none_or(|name| pod["metadata"]["name"] == name);
    let has = |label: &str| match label.split_once('=') {
        Some((name, value)) => pod["metadata"]["labels"][name] == value,
        None => !pod["metadata"]["labels"][label].is_null(),
    };
    by_field && labels.split(',').filter(|label| !label.is_empty()).all(has)
}

fn list(world: &World, request: &Incoming<'_>) -> Reply {
    let state = world.lock();
    let items: Vec<Value> =
        state.pods.values().map(|pod| pod.json.clone()).filter(|pod| is_selected(request, pod)).collect();
    json_reply(200, &list_of("PodList", &items, state.version()))
}

fn create(world: &Arc<World>, namespace: &str, body: &[u8]) -> Reply {
    let Ok(mut pod) = serde_json::from_slice::<Value>(body) else {
        return status(400, "BadRequest", "the object provided is unrecognized");
    };
    if namespace != NAMESPACE {
        return not_found("namespaces", namespace);
    }
    if let Some((code, message)) = strict::fault_of(&pod) {
        let reason = if code == 422 { "Invalid" } else { "BadRequest" };
        return status(code, reason, &message);
    }
    let name = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    if world.options.pod_security == Some("restricted") {
        let message = format!(
            "pods \"{name}\" is forbidden: violates PodSecurity \"restricted:latest\": unrestricted capabilities (container \"kaniko\" must not include \"CHOWN\" in securityContext.capabilities.add), runAsNonRoot != true"
        );
        return status(403, "Forbidden", &message);
    }
    if let Some(account) = pod["spec"]["serviceAccountName"].as_str().filter(|account| *account != "builder")
    {
        let message = format!(
            "pods \"{name}\" is forbidden: error looking up service account {namespace}/{account}: serviceaccount \"{account}\" not found"
        );
        return status(403, "Forbidden", &message);
    }
    let mut state = world.lock();
    if let Some(why) = quota::refusal(&world.options, &state, &pod) {
        return status(403, "Forbidden", &format!("pods \"{name}\" is forbidden: {why}"));
    }
    if state.pods.contains_key(&name) {
        return status(409, "AlreadyExists", &format!("pods \"{name}\" already exists"));
    }
    state.created.push(pod.clone());
    // A patch may name the node: then there is nothing to schedule.
    pod["metadata"]["namespace"] = namespace.into();
    let pod = state.add(&name, pod);
    drop(state);
    world.notify();
    let steps = (world.life)(&pod);
    let (uid, world) = (uid_of(&pod).to_owned(), Arc::clone(world));
    thread::spawn(move || life::live(&world, &name, &uid, steps));
    json_reply(201, &pod)
}

fn create_secret(world: &World, body: &[u8]) -> Reply {
    let Ok(mut secret) = serde_json::from_slice::<Value>(body) else {
        return status(400, "BadRequest", "the object provided is unrecognized");
    };
    if secret["type"] == "kubernetes.io/dockerconfigjson" && secret["data"][".dockerconfigjson"].is_null() {
        return status(422, "Invalid", "Secret is invalid: data[.dockerconfigjson]: Required value");
    }
    let name = secret["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let mut state = world.lock();
    if state.secrets.contains_key(&name) {
        return status(409, "AlreadyExists", &format!("secrets \"{name}\" already exists"));
    }
    state.created_secrets.push(secret.clone());
    secret["metadata"]["uid"] = format!("secret-{}", state.next_version()).into();
    state.secrets.insert(name, secret.clone());
    drop(state);
    world.notify();
    json_reply(201, &secret)
}

fn delete(world: &Arc<World>, request: &Incoming<'_>, name: &str, body: &[u8]) -> Reply {
    let options: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let grace = options["gracePeriodSeconds"].as_u64();
    let grace = grace.or_else(|| request.parameter("gracePeriodSeconds").and_then(|text| text.parse().ok()));
    let Some(pod) = world.lock().pods.get(name).map(|pod| pod.json.clone()) else {
        return not_found("pods", name);
    };
    let uid = uid_of(&pod).to_owned();
    if let Some(wanted) = options["preconditions"]["uid"].as_str().filter(|wanted| *wanted != uid) {
        let message = format!(
            "Operation cannot be fulfilled on Pod \"{name}\": the UID in the precondition ({wanted}) does not match the UID in record ({uid}). The object might have been deleted and then recreated"
        );
        return status(409, "Conflict", &message);
    }
    world.change(name, &uid, |pod| pod["metadata"]["deletionTimestamp"] = iso(SystemTime::now()).into());
    let container = &pod["status"]["containerStatuses"][0]["state"];
    let has_started = !container["running"].is_null() || !container["terminated"].is_null();
    let is_placed = pod["spec"]["nodeName"].is_string();
    let stays = world.options.is_stubborn && is_placed && !has_started && grace != Some(0);
    if !stays {
        let (world, name) = (Arc::clone(world), name.to_owned());
        thread::spawn(move || life::deleted(&world, &name, &uid, grace == Some(0)));
    }
    json_reply(200, &pod)
}

fn review(world: &World, body: &[u8]) -> Reply {
    let mut review: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let attributes = &review["spec"]["resourceAttributes"];
    let resource = match attributes["subresource"].as_str() {
        Some(subresource) => format!("{}/{subresource}", attributes["resource"].as_str().unwrap_or_default()),
        None => attributes["resource"].as_str().unwrap_or_default().to_owned(),
    };
    let verb = attributes["verb"].as_str().unwrap_or_default();
    let is_allowed = !world.options.denied.contains(&(verb, resource.as_str()));
    review["status"] = json!({ "allowed": is_allowed });
    json_reply(201, &review)
}

fn nodes(world: &World) -> Reply {
    let node = |(architecture, number): (&&str, u32)| {
        json!({
            "metadata": { "name": format!("node-{number}"), "labels": { "kubernetes.io/arch": architecture, "kubernetes.io/os": "linux" } },
            "spec": {}, "status": {},
        })
    };
    let items: Vec<Value> = world.options.nodes.iter().zip(0..).map(node).collect();
    json_reply(200, &list_of("NodeList", &items, world.lock().version()))
}

fn namespace(world: &World, name: &str) -> Reply {
    if name != NAMESPACE {
        return not_found("namespaces", name);
    }
    let mut namespace = json!({
        "kind": "Namespace", "apiVersion": "v1",
        "metadata": { "name": name, "labels": { "kubernetes.io/metadata.name": name } }, "status": { "phase": "Active" },
    });
    if let Some(level) = world.options.pod_security {
        namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] = level.into();
    }
    json_reply(200, &namespace)
}

fn claim(world: &World, name: &str) -> Reply {
    let Some((_, mode)) = world.options.claims.iter().find(|(claim, _)| *claim == name) else {
        return not_found("persistentvolumeclaims", name);
    };
    let claim = json!({
        "kind": "PersistentVolumeClaim", "apiVersion": "v1", "metadata": { "name": name, "namespace": NAMESPACE },
        "spec": { "accessModes": [mode], "volumeMode": "Filesystem" }, "status": { "phase": "Bound" },
    });
    json_reply(200, &claim)
}
