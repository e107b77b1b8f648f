//! The model card: README.md with front matter (Hub documentation, "Model Cards"), and LICENSE files.

use super::Facts;

/// What the card says between its first two lines of dashes. Of YAML only what the Hub's cards use there:
/// `key: value` and lists, at the left margin.
pub(super) fn learn(facts: &mut Facts, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.lines().map(str::trim_end);
    if lines.next() != Some("---") {
        return;
    }
    let (mut key, mut license, mut license_name) = (String::new(), None, None);
    for line in lines.take_while(|line| *line != "---") {
        let value = match (
            line.strip_prefix('-').or_else(|| line.trim_start().strip_prefix("- ")),
            line.split_once(':'),
        ) {
            (Some(item), _) => item,
            (None, Some((name, value))) if !name.starts_with(' ') => {
                name.clone_into(&mut key);
                value
            }
            _ => continue,
        };
        let value = value.trim().trim_matches(['"', '\'']);
        if value.is_empty() || value.starts_with(['|', '>', '[', '{']) {
            continue;
        }
        match &*key {
            "license" => license = Some(value.to_owned()),
            "license_name" => license_name = Some(value.to_owned()),
            "base_model" => facts.base_model = facts.base_model.take().or(Some(value.to_owned())),
            "pipeline_tag" => facts.task = Some(value.to_owned()),
            "library_name" => facts.library = Some(value.to_owned()),
            _ => {}
        }
    }
    let license = license.map(|license| match (&*license, license_name) {
        ("other", Some(name)) => name,
        _ => spdx(&license),
    });
    facts.license = license.or(facts.license.take());
}

/// The name that SPDX has for a license of the Hub; others stay as they are.
pub(super) fn spdx(license: &str) -> String {
    const NAMES: [&str; 14] = [
        "Apache-2.0",
        "MIT",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "CC-BY-4.0",
        "CC-BY-SA-4.0",
        "CC-BY-NC-4.0",
        "CC-BY-NC-SA-4.0",
        "CC0-1.0",
        "GPL-3.0",
        "AGPL-3.0",
        "LGPL-3.0",
        "MPL-2.0",
        "Unlicense",
    ];
    let known = NAMES.iter().find(|known| known.eq_ignore_ascii_case(license));
    known.map_or_else(|| license.to_owned(), |known| (*known).to_owned())
}

/// The license that a text begins like, if it is a well-known one.
pub(super) fn license_of(text: &[u8]) -> Option<&'static str> {
    let start = String::from_utf8_lossy(&text[..text.len().min(400)]).to_lowercase();
    let starts = [("apache license", "Apache-2.0"), ("mit license", "MIT"), ("llama 3", "llama3")];
    starts.iter().find(|(words, _)| start.contains(words)).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn front_matter() {
        let card = b"---\nlicense: apache-2.0\nbase_model:\n- org/base\n- org/other\nlanguage:\n  - en\npipeline_tag: \"text-generation\"\nextra: |\n  license: mit\n---\nlicense: gpl\n";
        let mut facts = Facts::default();
        learn(&mut facts, card);
        let expected = Facts {
            license: Some("Apache-2.0".into()),
            base_model: Some("org/base".into()),
            task: Some("text-generation".into()),
            ..Facts::default()
        };
        assert_eq!(facts, expected);
        for (card, expected) in [
            ("---\nlicense: other\nlicense_name: llama3.1\n---\n", Some("llama3.1")),
            ("license: mit\n", None),
            ("---\nlicense: [mit]\n---\n", None),
        ] {
            let mut facts = Facts::default();
            learn(&mut facts, card.as_bytes());
            assert_eq!(facts.license.as_deref(), expected, "{card}");
        }
    }

    #[test]
    fn licenses_by_their_text() {
        assert_eq!(license_of(b"\n     Apache License\n Version 2.0"), Some("Apache-2.0"));
        assert_eq!(license_of(b"All rights reserved"), None);
    }
}
