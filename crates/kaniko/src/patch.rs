//! Strategic merge patches of pods (Kubernetes, "Update API Objects in Place Using kubectl patch").

use serde_json::{Map, Value};

/// The lists in a pod whose elements have names, and what is their name. Other lists are replaced.
const KEYS: [(&str, &str); 9] = [
    ("containers", "name"),
    ("initContainers", "name"),
    ("volumes", "name"),
    ("env", "name"),
    ("volumeMounts", "mountPath"),
    ("volumeDevices", "devicePath"),
    ("imagePullSecrets", "name"),
    ("hostAliases", "ip"),
    ("ownerReferences", "uid"),
];

/// Reads a strategic merge patch of a pod out of a file in YAML or JSON (which is YAML, too).
///
/// ```
/// let patch = ocib_kaniko::pod_patch(b"spec:\n  priorityClassName: builds\n").unwrap();
/// assert_eq!(patch["spec"]["priorityClassName"], "builds");
/// ```
///
/// # Errors
/// What is wrong with the file, and where in it.
pub fn pod_patch(file: &[u8]) -> Result<Value, String> {
    // `no` is a word, but 0644 is a mode, as kubectl reads it.
    let options =
        serde_saphyr::options! { strict_booleans: true, legacy_octal_numbers: true, with_snippet: false };
    let read: Value =
        serde_saphyr::from_slice_with_options(file, options).map_err(|error| error.to_string())?;
    match read {
        Value::Object(_) => Ok(read),
        _ => Err("expected an object".to_owned()),
    }
}

/// `target` with `patch` merged into it: objects field by field, named elements of lists one by one, other
/// values replaced; null removes, and so does an element with `$patch: delete`.
pub(crate) fn merged(mut target: Value, patch: &Value) -> Result<Value, String> {
    let Value::Object(patch) = patch else { return Err("expected an object".to_owned()) };
    let Value::Object(into) = &mut target else { return Err("there is nothing to patch".to_owned()) };
    merge(into, patch, "")?;
    Ok(target)
}

fn merge(target: &mut Map<String, Value>, patch: &Map<String, Value>, path: &str) -> Result<(), String> {
    for (name, value) in patch {
        let path = format!("{path}/{name}");
        if name.starts_with('$') {
            return Err(format!("{path}: only `$patch: delete` in elements of lists is known"));
        }
        match (target.get_mut(name), value) {
            (_, Value::Null) => {
                target.remove(name);
            }
            (Some(Value::Object(into)), Value::Object(from)) => merge(into, from, &path)?,
            (Some(Value::Object(_)), _) => return Err(format!("{path}: expected an object")),
            (Some(Value::Array(into)), Value::Array(from)) => match key_of(name) {
                Some(key) => merge_list(into, from, key, &path)?,
                None => into.clone_from(from),
            },
            (Some(Value::Array(_)), _) => return Err(format!("{path}: expected a list")),
            (_, Value::Object(from)) => {
                let mut into = Map::new();
                merge(&mut into, from, &path)?;
                target.insert(name.clone(), into.into());
            }
            (_, value) => {
                target.insert(name.clone(), value.clone());
            }
        }
    }
    Ok(())
}

fn key_of(list: &str) -> Option<&'static str> {
    KEYS.iter().find(|(name, _)| *name == list).map(|(_, key)| *key)
}

fn merge_list(target: &mut Vec<Value>, patch: &[Value], key: &str, path: &str) -> Result<(), String> {
    for element in patch {
        let Some(name) = element.get(key).and_then(Value::as_str) else {
            return Err(format!("{path}: every element needs a {key}"));
        };
        let place = target.iter().position(|known| known.get(key).and_then(Value::as_str) == Some(name));
        let path = format!("{path}/{name}");
        match (place, element.get("$patch").and_then(Value::as_str), element) {
            (Some(place), Some("delete"), _) => {
                target.remove(place);
            }
            (None, Some("delete"), _) => {}
            (Some(place), None, Value::Object(from)) => {
                if let Value::Object(into) = &mut target[place] {
                    merge(into, from, &path)?;
                }
            }
            (None, None, element) => target.push(element.clone()),
            (_, _, _) => return Err(format!("{path}: only `$patch: delete` is known")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn merges_as_kubernetes_does() {
        let pod = json!({
            "metadata": { "labels": { "a": "1" } },
            "spec": {
                "containers": [{ "name": "kaniko", "args": ["x"], "resources": { "limits": { "cpu": "1" } } }],
                "tolerations": [{ "key": "a" }],
                "volumes": [{ "name": "job" }],
                "enableServiceLinks": false,
            },
        });
        let patch = json!({
            "metadata": { "labels": { "b": "2" } },
            "spec": {
                "nodeName": "n",
                "containers": [
                    { "name": "kaniko", "env": [{ "name": "K", "value": "V" }], "resources": { "limits": { "memory": "2Gi" } } },
                    { "name": "sidecar", "image": "i" },
                ],
                "tolerations": [{ "key": "b" }],
                "volumes": [{ "name": "job", "$patch": "delete" }, { "name": "none", "$patch": "delete" }],
                "enableServiceLinks": null,
                "affinity": { "nodeAffinity": {} },
            },
        });
        let expected = json!({
            "metadata": { "labels": { "a": "1", "b": "2" } },
            "spec": {
                "nodeName": "n",
                "containers": [
                    { "name": "kaniko", "args": ["x"], "env": [{ "name": "K", "value": "V" }],
                      "resources": { "limits": { "cpu": "1", "memory": "2Gi" } } },
                    { "name": "sidecar", "image": "i" },
                ],
                "tolerations": [{ "key": "b" }],
                "volumes": [],
                "affinity": { "nodeAffinity": {} },
            },
        });
        assert_eq!(merged(pod, &patch), Ok(expected));
    }

    #[test]
    fn yaml_says_the_same_as_json() {
        let json = r#"{"spec": {"priorityClassName": "no", "containers": [{"name": "kaniko", "env": [
            {"name": "A", "value": "1"}, {"name": "B", "$patch": "delete"}], "resources": null}], "hostNetwork": true}}"#;
        let yaml = "# A comment.\n---\nspec:\n  priorityClassName: no\n  containers:\n  - name: kaniko\n    env:\n    \
            - {name: A, value: \"1\"}\n    - name: B\n      $patch: delete\n    resources: null\n  hostNetwork: true\n";
        assert_eq!(pod_patch(yaml.as_bytes()), pod_patch(json.as_bytes()));
        assert_eq!(pod_patch(json.as_bytes()).unwrap(), serde_json::from_str::<Value>(json).unwrap());
    }

    #[test]
    fn says_what_is_no_patch() {
        for (text, expected) in [("- a\n", "expected an object"), ("", "expected an object")] {
            assert_eq!(pod_patch(text.as_bytes()), Err(expected.to_owned()), "{text}");
        }
        for (text, says) in [
            ("spec: {a: 1\n", "line 1"),
            ("spec:\n  a: 1\n  a: 2\n", "line 3"),
            ("a: 1\n---\nb: 2\n", "line"),
        ] {
            let error = pod_patch(text.as_bytes()).unwrap_err();
            assert!(error.contains(says) && !error.contains('\n'), "{text:?}: {error}");
        }
    }

    #[test]
    fn says_what_does_not_fit() {
        let pod = json!({ "spec": { "containers": [{ "name": "kaniko" }], "nodeSelector": {} } });
        for (patch, expected) in [
            (json!([]), "expected an object"),
            (json!({ "spec": 1 }), "/spec: expected an object"),
            (json!({ "spec": { "containers": {} } }), "/spec/containers: expected a list"),
            (json!({ "spec": { "containers": [{}] } }), "/spec/containers: every element needs a name"),
            (
                json!({ "spec": { "$patch": "replace" } }),
                "/spec/$patch: only `$patch: delete` in elements of lists is known",
            ),
            (
                json!({ "spec": { "containers": [{ "name": "kaniko", "$patch": "replace" }] } }),
                "/spec/containers/kaniko: only `$patch: delete` is known",
            ),
        ] {
            assert_eq!(merged(pod.clone(), &patch), Err(expected.to_owned()), "{patch}");
        }
    }
}
