//! What a server refuses in a new pod (Kubernetes, `pkg/apis/core/validation`), as far as a program that
//! makes pods may get it wrong.

use std::collections::BTreeSet;

use serde_json::Value;

/// Fields that a pod, its spec and its containers have, of those that anybody here may set.
const FIELDS: [(&str, &[&str]); 4] = [
    ("", &["apiVersion", "kind", "metadata", "spec"]),
    ("metadata", &["name", "namespace", "labels", "annotations", "ownerReferences"]),
    (
        "spec",
        &[
            "activeDeadlineSeconds",
            "affinity",
            "automountServiceAccountToken",
            "containers",
            "enableServiceLinks",
            "hostNetwork",
            "imagePullSecrets",
            "initContainers",
            "nodeName",
            "nodeSelector",
            "priorityClassName",
            "restartPolicy",
            "runtimeClassName",
            "securityContext",
            "serviceAccountName",
            "terminationGracePeriodSeconds",
            "tolerations",
            "volumes",
        ],
    ),
    (
        "container",
        &[
            "args",
            "command",
            "env",
            "image",
            "imagePullPolicy",
            "name",
            "resources",
            "securityContext",
            "stdin",
            "stdinOnce",
            "terminationMessagePath",
            "terminationMessagePolicy",
            "tty",
            "volumeMounts",
        ],
    ),
];

/// What is wrong with `pod`: the status and the message.
pub(super) fn fault_of(pod: &Value) -> Option<(u16, String)> {
    if let Some(unknown) = unknown_field(pod) {
        let message = format!(
            "Pod in version \"v1\" cannot be handled as a Pod: strict decoding error: unknown field \"{unknown}\""
        );
        return Some((400, message));
    }
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let invalid = |what: String| Some((422, format!("Pod \"{name}\" is invalid: {what}")));
    let is_name_char = |char: char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '-';
    if name.is_empty()
        || name.len() > 253
        || !name.chars().all(is_name_char)
        || name.starts_with('-')
        || name.ends_with('-')
    {
        return invalid(format!(
            "metadata.name: Invalid value: \"{name}\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.'"
        ));
    }
    for (key, value) in pod["metadata"]["labels"].as_object().into_iter().flatten() {
        let text = value.as_str().unwrap_or("?");
        let is_inner = |char: char| char.is_ascii_alphanumeric() || "-_.".contains(char);
        let is_outer = |char: Option<char>| char.is_none_or(|char| char.is_ascii_alphanumeric());
        if text.len() > 63
            || !text.chars().all(is_inner)
            || !is_outer(text.chars().next())
            || !is_outer(text.chars().last())
        {
            return invalid(format!(
                "metadata.labels: Invalid value: \"{text}\": a valid label must be an empty string or consist of alphanumeric characters ({key})"
            ));
        }
    }
    let annotations = pod["metadata"]["annotations"].as_object();
    let bytes: usize = annotations
        .into_iter()
        .flatten()
        .map(|(key, value)| key.len() + value.as_str().map_or(0, str::len))
        .sum();
    if bytes > 256 << 10 {
        return invalid("metadata.annotations: Too long: must have at most 262144 bytes".to_owned());
    }
    if pod["spec"]["activeDeadlineSeconds"].as_u64() == Some(0) {
        return invalid(
            "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive"
                .to_owned(),
        );
    }
    let containers = pod["spec"]["containers"].as_array().map(Vec::as_slice).unwrap_or_default();
    if containers.is_empty() {
        return invalid("spec.containers: Required value".to_owned());
    }
    let volumes: BTreeSet<&str> = pod["spec"]["volumes"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|volume| volume["name"].as_str())
        .collect();
    containers.iter().zip(0..).find_map(|(container, number)| {
        container_fault(container, &volumes).map(|what| invalid(format!("spec.containers[{number}].{what}")))
    })?
}

fn container_fault(container: &Value, volumes: &BTreeSet<&str>) -> Option<String> {
    if container["image"].as_str().unwrap_or_default().is_empty() {
        return Some("image: Required value".to_owned());
    }
    let mut paths = BTreeSet::new();
    for mount in container["volumeMounts"].as_array().into_iter().flatten() {
        let name = mount["name"].as_str().unwrap_or_default();
        if !volumes.contains(name) {
            return Some(format!("volumeMounts[0].name: Not found: \"{name}\""));
        }
        if !paths.insert(mount["mountPath"].as_str()) {
            return Some("volumeMounts[1].mountPath: Invalid value: must be unique".to_owned());
        }
    }
    for kind in ["requests", "limits"] {
        for (resource, quantity) in container["resources"][kind].as_object().into_iter().flatten() {
            let text = quantity.as_str().unwrap_or_default();
            let digits = text.trim_end_matches(|char: char| char.is_ascii_alphabetic());
            if digits.parse::<f64>().is_err() {
                return Some(format!(
                    "resources.{kind}[{resource}]: Invalid value: \"{text}\": quantities must match the regular expression"
                ));
            }
        }
    }
    None
}

fn unknown_field(pod: &Value) -> Option<String> {
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let places = [("", pod), ("metadata", &pod["metadata"]), ("spec", &pod["spec"])];
    let places = places.into_iter().chain(containers.map(|container| ("container", container)));
    for (place, value) in places {
        let known = FIELDS.iter().find(|(name, _)| *name == place).map_or(&[][..], |(_, fields)| fields);
        if let Some(field) =
            value.as_object().into_iter().flatten().find(|(field, _)| !known.contains(&field.as_str()))
        {
            return Some(format!("{place}.{}", field.0));
        }
    }
    None
}
