//! Base images that may be others tomorrow.

use std::collections::BTreeMap;

use super::{Warning, rule, stages::globals};
use crate::{Dockerfile, Expander};

pub(super) fn check(
    dockerfile: &Dockerfile,
    build_args: Option<&BTreeMap<String, String>>,
    warnings: &mut Vec<Warning>,
) {
    let globals = globals(dockerfile, build_args);
    let variables = |name: &str| globals.get(name).cloned().flatten();
    for stage in &dockerfile.stages {
        let word = &stage.from.image;
        let Ok(expansion) = Expander::new(dockerfile.escape).expand(&word.value, &variables) else {
            continue;
        };
        let image = expansion.text.as_str();
        let mut names = dockerfile.stages[..stage.index].iter().filter_map(|stage| stage.name.as_ref());
        let is_image = !image.is_empty() && image != "scratch" && !names.any(|name| name.value == image);
        // What nothing sets may well be the tag.
        if !is_image || !expansion.undefined.is_empty() {
            continue;
        }
        let why = match tag(image) {
            _ if image.contains('@') => continue,
            None => "has neither tag nor digest",
            Some("latest") => "has no digest, and its tag is latest",
            Some(_) => continue,
        };
        let message =
            format!("Base image {:?} {why}, so it may be another one in the next build", word.value);
        warnings.push(Warning::new(rule::MUTABLE_BASE_TAG, message, word.span));
    }
}

/// What stands behind the last colon, unless that belongs to a port.
fn tag(image: &str) -> Option<&str> {
    image.rsplit_once(':').map(|(_, tag)| tag).filter(|tag| !tag.contains('/'))
}
