//! Challenges: how a registry wants to learn who asks (RFC 9110, section 11.6.1; Docker's token
//! authentication specification).

/// How a registry wants to learn who asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Challenge {
    /// By name and password.
    Basic,
    /// By a token from an endpoint of its own.
    Bearer {
        /// The token endpoint.
        realm: String,
        /// What the endpoint calls the registry.
        service: Option<String>,
        /// What the refused request would have needed.
        scope: Option<String>,
    },
}

impl Challenge {
    /// The best challenge out of `WWW-Authenticate` headers: a bearer token is narrower than a
    /// password. Schemes that ocib does not speak are passed over.
    pub(super) fn best<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Self> {
        let challenges: Vec<_> = headers.flat_map(parse).collect();
        let bearer = challenges.iter().find(|challenge| matches!(challenge, Self::Bearer { .. }));
        bearer.or(challenges.first()).cloned()
    }
}

fn parse(header: &str) -> Vec<Challenge> {
    let mut challenges: Vec<(String, Vec<(String, String)>)> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (word, after) = token(rest);
        if word.is_empty() {
            break;
        }
        let after = after.trim_start_matches([' ', '\t']);
        rest = match (after.strip_prefix('='), challenges.last_mut()) {
            (Some(value), Some((_, parameters))) => {
                let (value, after) = value_of(value.trim_start_matches([' ', '\t']));
                parameters.push((word.to_ascii_lowercase(), value));
                after
            }
            (Some(_), None) => break,
            (None, _) => {
                challenges.push((word.to_ascii_lowercase(), Vec::new()));
                after
            }
        };
    }
    challenges.into_iter().filter_map(|(scheme, parameters)| challenge(&scheme, parameters)).collect()
}

fn challenge(scheme: &str, parameters: Vec<(String, String)>) -> Option<Challenge> {
    let [mut realm, mut service, mut scope] = [None, None, None];
    for (name, value) in parameters {
        match name.as_str() {
            "realm" => realm = Some(value),
            "service" => service = Some(value),
            "scope" => scope = Some(value),
            _ => {}
        }
    }
    match scheme {
        "basic" => Some(Challenge::Basic),
        "bearer" => Some(Challenge::Bearer { realm: realm?, service, scope }),
        _ => None,
    }
}

fn token(text: &str) -> (&str, &str) {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    text.split_at(text.find(|c| !is_part(c)).unwrap_or(text.len()))
}

fn value_of(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, after) = token(text);
        return (value.to_owned(), after);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        Some(Challenge::Bearer {
            realm: realm.into(),
            service: service.map(Into::into),
            scope: scope.map(Into::into),
        })
    }

    #[test]
    fn challenges_of_real_and_odd_registries() {
        for (headers, expected) in [
            (
                &[
                    r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#,
                ][..],
                bearer(
                    "https://auth.docker.io/token",
                    Some("registry.docker.io"),
                    Some("repository:a/b:pull,push"),
                ),
            ),
            (
                &[r#"Basic realm="https://x.dkr.ecr.eu-west-1.amazonaws.com/",service="ecr.amazonaws.com""#],
                Some(Challenge::Basic),
            ),
            (&["basic"], Some(Challenge::Basic)),
            (&[r#"Basic realm="a", Bearer realm="https://b/t""#], bearer("https://b/t", None, None)),
            (&["Basic realm=x", r#"BEARER Realm = "https://b/\"t""#], bearer("https://b/\"t", None, None)),
            (&["Negotiate"], None),
            (&["Bearer service=x"], None),
            (&[r#"Bearer realm="https://unclosed"#], bearer("https://unclosed", None, None)),
            (&["=,="], None),
            (&[], None),
        ] {
            assert_eq!(Challenge::best(headers.iter().copied()), expected, "{headers:?}");
        }
    }
}
