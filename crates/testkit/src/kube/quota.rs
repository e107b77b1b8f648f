//! Quotas: how many pods there may be, and what they may ask for together.

use serde_json::{Map, Value, json};

use super::{
    KubeOptions,
    api::list_of,
    refusal::json_reply,
    world::{State, World},
};
use crate::http::Reply;

const NAME: &str = "few";

pub(super) fn list(world: &World) -> Reply {
    let state = world.lock();
    let (mut hard, mut used) = (Map::new(), Map::new());
    for (resource, limit) in limits(&world.options) {
        used.insert(resource.to_owned(), shown(self::used(&state, resource)).into());
        hard.insert(resource.to_owned(), limit.into());
    }
    let quota = json!({ "metadata": { "name": NAME }, "spec": {}, "status": { "hard": hard, "used": used } });
    let items: Vec<Value> = (!hard.is_empty()).then_some(quota).into_iter().collect();
    json_reply(200, &list_of("ResourceQuotaList", &items, state.version()))
}

/// Why one more pod is too much, in the words of the server.
pub(super) fn refusal(options: &KubeOptions, state: &State, pod: &Value) -> Option<String> {
    for (resource, limit) in limits(options) {
        let Some(asked) = asked(pod, resource) else {
            return Some(format!("failed quota: {NAME}: must specify {resource} for: kaniko"));
        };
        let used = used(state, resource);
        if used + asked > number(&limit) {
            return Some(format!(
                "exceeded quota: {NAME}, requested: {resource}={}, used: {resource}={}, limited: {resource}={limit}",
                shown(asked),
                shown(used)
            ));
        }
    }
    None
}

fn limits(options: &KubeOptions) -> Vec<(&'static str, String)> {
    let pods = options.pods_max.map(|max| ("pods", max.to_string()));
    let others = options.quota.iter().map(|(resource, limit)| (*resource, (*limit).to_owned()));
    pods.into_iter().chain(others).collect()
}

fn used(state: &State, resource: &str) -> f64 {
    // A sum of nothing would be -0.
    state.pods.values().filter_map(|pod| asked(&pod.json, resource)).fold(0.0, |sum, more| sum + more)
}

/// What a pod asks for; a request that is not made is as large as the limit.
fn asked(pod: &Value, resource: &str) -> Option<f64> {
    let resources = &pod["spec"]["containers"][0]["resources"];
    let of = |kind: &str, name: &str| resources[kind][name].as_str().map(number);
    match resource.split_once('.') {
        Some(("requests", name)) => of("requests", name).or_else(|| of("limits", name)),
        Some((_, name)) => of("limits", name),
        None => Some(1.0),
    }
}

fn number(text: &str) -> f64 {
    let digits = text.trim_end_matches(|char: char| char.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "m" => 0.001,
        "Ki" => 1024.0,
        "Mi" => 1_048_576.0,
        "Gi" => 1_073_741_824.0,
        _ => 1.0,
    };
    digits.parse::<f64>().expect("checked when the pod was made") * factor
}

/// In whole units, or thousandths of one.
fn shown(number: f64) -> String {
    if number.fract() == 0.0 { format!("{number}") } else { format!("{}m", (number * 1000.0).round()) }
}
