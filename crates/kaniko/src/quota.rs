//! What quotas of a namespace leave, against what a pod asks for (Kubernetes, "Resource Quotas").

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{LimitRange, ResourceQuota},
    apimachinery::pkg::api::resource::Quantity,
};

use crate::{options::Options, pod};

/// Resources that quotas know without `requests.` in front.
const SHORT: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

/// What quotas would say of one more pod.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Judged {
    /// It fits.
    Fits,
    /// They would refuse it: what each says.
    Refused(Vec<String>),
}

/// Judges a pod as `options` describe it; its `ephemeral-storage` is at least what every pod asks for.
pub(crate) fn judge(options: &Options, quotas: &[ResourceQuota], ranges: &[LimitRange]) -> Judged {
    let asked = asked(options, ranges);
    let refusals: Vec<String> =
        quotas.iter().filter(|quota| applies(quota)).flat_map(|quota| refusals(quota, &asked)).collect();
    match refusals.is_empty() {
        true => Judged::Fits,
        false => Judged::Refused(refusals),
    }
}

/// What a pod asks for, in the words of quotas.
fn asked(options: &Options, ranges: &[LimitRange]) -> BTreeMap<String, String> {
    let mut limits = options.limits.clone();
    let mut requests = pod::requests(0, options);
    let of_containers = || {
        let items = ranges.iter().filter_map(|range| range.spec.as_ref()).flat_map(|spec| &spec.limits);
        items.filter(|item| item.type_ == "Container")
    };
    let fill = |into: &mut BTreeMap<String, String>, from: Option<&BTreeMap<String, Quantity>>| {
        for (name, quantity) in from.into_iter().flatten() {
            into.entry(name.clone()).or_insert_with(|| quantity.0.clone());
        }
    };
    for item in of_containers() {
        fill(&mut limits, item.default.as_ref());
        fill(&mut requests, item.default_request.as_ref());
    }
    // A request that is not made is as large as the limit.
    for (name, quantity) in &limits {
        requests.entry(name.clone()).or_insert_with(|| quantity.clone());
    }
    let mut asked = BTreeMap::from(
        [("pods", "1"), ("count/pods", "1")].map(|(name, one)| (name.to_owned(), one.to_owned())),
    );
    for (name, quantity) in requests {
        asked.insert(format!("requests.{name}"), quantity);
    }
    for (name, quantity) in limits {
        asked.insert(format!("limits.{name}"), quantity);
    }
    asked
}

/// Whether a quota counts pods such as ours, which ask for something and have a deadline. Of priorities nothing
/// is known here.
fn applies(quota: &ResourceQuota) -> bool {
    let Some(spec) = &quota.spec else { return true };
    let scopes = spec.scopes.iter().flatten().map(String::as_str);
    let selected =
        spec.scope_selector.iter().flat_map(|selector| selector.match_expressions.iter().flatten());
    let mut all = scopes.chain(selected.map(|selected| selected.scope_name.as_str()));
    all.all(|scope| matches!(scope, "Terminating" | "NotBestEffort"))
}

fn refusals(quota: &ResourceQuota, asked: &BTreeMap<String, String>) -> Vec<String> {
    let status = quota.status.clone().unwrap_or_default();
    let (hard, used) = (status.hard.unwrap_or_default(), status.used.unwrap_or_default());
    let name = quota.metadata.name.clone().unwrap_or_default();
    let refusal = |(resource, hard): (String, Quantity)| {
        let long = match SHORT.contains(&resource.as_str()) {
            true => format!("requests.{resource}"),
            false => resource.clone(),
        };
        let Some(more) = asked.get(&long) else {
            let is_of_pods = long.starts_with("requests.") || long.starts_with("limits.");
            let is_known = SHORT.iter().any(|known| long.ends_with(known));
            return (is_of_pods && is_known).then(|| format!("{name}: {resource} must be named"));
        };
        let used = used.get(&resource).map_or("0", |used| used.0.as_str());
        let is_too_much = millis(used)?.saturating_add(millis(more)?) > millis(&hard.0)?;
        is_too_much.then(|| format!("{name}: {resource} {used} of {}, and the pod asks for {more}", hard.0))
    };
    hard.into_iter().filter_map(refusal).collect()
}

/// A quantity (Kubernetes, "Resource units") in thousandths, rounded up.
fn millis(text: &str) -> Option<u128> {
    let end = text.find(|char: char| !char.is_ascii_digit() && char != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let decimal = |exponent: i32| (10_u128, exponent);
    let (base, exponent) = match suffix {
        "" => decimal(0),
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => (1024, 1),
        "Mi" => (1024, 2),
        "Gi" => (1024, 3),
        "Ti" => (1024, 4),
        "Pi" => (1024, 5),
        "Ei" => (1024, 6),
        exponent => decimal(exponent.strip_prefix(['e', 'E'])?.parse().ok()?),
    };
    let up = |exponent: i32| base.checked_pow(u32::try_from(exponent.max(0)).ok()?);
    let down = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?.checked_mul(up(-exponent)?)?;
    Some(digits.checked_mul(1000)?.checked_mul(up(exponent)?)?.div_ceil(down))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn quantities() {
        for (text, expected) in [
            ("2", Some(2000)),
            ("100m", Some(100)),
            ("1.5", Some(1500)),
            ("0.0001", Some(1)),
            ("1Ki", Some(1_024_000)),
            ("1.5Gi", Some(1_610_612_736_000)),
            ("2G", Some(2_000_000_000_000)),
            ("2e3", Some(2_000_000)),
            ("1E", Some(1_000_000_000_000_000_000_000)),
            ("500u", Some(1)),
            ("much", None),
            ("1Xi", None),
            ("9Ei9", None),
        ] {
            assert_eq!(millis(text), expected, "{text}");
        }
    }

    fn judged(options: &[(&str, &str, &str)], quota: &Value, range: &Value) -> Vec<String> {
        let mut all = Options::default();
        for (kind, name, quantity) in options {
            let into = if *kind == "request" { &mut all.requests } else { &mut all.limits };
            into.insert((*name).to_owned(), (*quantity).to_owned());
        }
        let quota = serde_json::from_value(json!({
            "metadata": { "name": "q" }, "spec": quota["spec"], "status": quota["status"],
        }));
        let range = serde_json::from_value(json!({ "metadata": {}, "spec": { "limits": [range] } }));
        match judge(&all, &[quota.unwrap()], &[range.unwrap()]) {
            Judged::Fits => Vec::new(),
            Judged::Refused(why) => why,
        }
    }

    #[test]
    fn pods_against_quotas() {
        let of = |hard: Value, used: Value| json!({ "spec": {}, "status": { "hard": hard, "used": used } });
        let nothing = json!({ "type": "Container" });
        let cpu =
            |hard: &str, used: &str| of(json!({ "requests.cpu": hard }), json!({ "requests.cpu": used }));
        for (options, quota, range, expected) in [
            (&[][..], of(json!({ "pods": "2" }), json!({ "pods": "1" })), &nothing, &[][..]),
            (
                &[],
                of(json!({ "count/pods": "2" }), json!({ "count/pods": "2" })),
                &nothing,
                &["q: count/pods 2 of 2, and the pod asks for 1"],
            ),
            (&[("request", "cpu", "500m")], cpu("2", "1500m"), &nothing, &[]),
            (
                &[("request", "cpu", "501m")],
                cpu("2", "1500m"),
                &nothing,
                &["q: requests.cpu 1500m of 2, and the pod asks for 501m"],
            ),
            // A limit is a request, too.
            (
                &[("limit", "memory", "8Gi")],
                of(json!({ "memory": "4Gi" }), json!({})),
                &nothing,
                &["q: memory 0 of 4Gi, and the pod asks for 8Gi"],
            ),
            // Every pod asks for disk.
            (
                &[],
                of(json!({ "requests.ephemeral-storage": "1Gi" }), json!({})),
                &nothing,
                &["q: requests.ephemeral-storage 0 of 1Gi, and the pod asks for 2048Mi"],
            ),
            (&[], of(json!({ "limits.cpu": "4" }), json!({})), &nothing, &["q: limits.cpu must be named"]),
            (
                &[],
                of(json!({ "limits.cpu": "4", "requests.cpu": "4" }), json!({})),
                &json!({ "type": "Container", "default": { "cpu": "1" } }),
                &[],
            ),
            (
                &[],
                json!({ "spec": { "scopes": ["BestEffort"] }, "status": { "hard": { "pods": "0" } } }),
                &nothing,
                &[],
            ),
            (
                &[],
                json!({ "spec": { "scopes": ["Terminating"] }, "status": { "hard": { "pods": "0" } } }),
                &nothing,
                &["q: pods 0 of 0, and the pod asks for 1"],
            ),
            (&[], of(json!({ "services": "0" }), json!({})), &nothing, &[]),
        ] {
            assert_eq!(judged(options, &quota, range), expected, "{quota}");
        }
    }
}
