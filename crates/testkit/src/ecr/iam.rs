//! Who may do what: policies as IAM judges them, as far as pushing needs it.

use serde_json::Value;

/// An identity-based policy (IAM User Guide, "Policy evaluation logic"): an explicit `Deny` wins, then
/// an `Allow`, and what nothing allows is denied. Actions and resources may hold `*` and `?`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Policy(Vec<Statement>);

#[derive(Clone, PartialEq, Eq, Debug)]
struct Statement {
    allows: bool,
    actions: Vec<String>,
    resources: Vec<String>,
}

/// Why something is not allowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Denial {
    Implicit,
    Explicit,
}

impl Policy {
    /// Allows everything.
    pub fn all() -> Self {
        Self::default().allow(&["*"], "*")
    }

    /// Allows nothing.
    pub fn none() -> Self {
        Self::default()
    }

    /// Also allows these actions on this resource.
    #[must_use]
    pub fn allow(mut self, actions: &[&str], resource: &str) -> Self {
        self.0.push(Statement::new(true, actions, resource));
        self
    }

    /// Denies an action everywhere, whatever else allows it.
    #[must_use]
    pub fn deny(mut self, action: &str) -> Self {
        self.0.push(Statement::new(false, &[action], "*"));
        self
    }

    /// The same without an action: no statement names it any more. Panics where a wildcard covers it,
    /// as taking it away would then say more than the caller means.
    #[must_use]
    pub fn without(mut self, action: &str) -> Self {
        for statement in &mut self.0 {
            let is_wild = |known: &&String| known.contains(['*', '?']) && matches(known, action);
            assert!(
                !statement.actions.iter().any(|known| is_wild(&known)),
                "{action} is allowed by a wildcard"
            );
            statement.actions.retain(|known| !known.eq_ignore_ascii_case(action));
        }
        self
    }

    /// Every action that is named, in order.
    pub fn actions(&self) -> Vec<&str> {
        self.0.iter().flat_map(|statement| &statement.actions).map(String::as_str).collect()
    }

    /// Reads a policy document. Panics with the reason if IAM would refuse it, or if it has an element
    /// that this stand-in does not judge (conditions, principals, `Not…`).
    pub fn parse(document: &str) -> Self {
        let document: Value = serde_json::from_str(document).expect("a policy is JSON");
        assert_eq!(document["Version"], "2012-10-17", "the policy's version");
        let statements = match &document["Statement"] {
            Value::Array(statements) => statements.as_slice(),
            statement => std::slice::from_ref(statement),
        };
        assert!(!statements.is_empty(), "a policy has a statement");
        Self(statements.iter().map(Statement::parse).collect())
    }

    pub(super) fn judge(&self, action: &str, resource: &str) -> Result<(), Denial> {
        let covers = |statement: &&Statement| statement.covers(action, resource);
        match self.0.iter().filter(covers).map(|statement| statement.allows).min() {
            Some(true) => Ok(()),
            Some(false) => Err(Denial::Explicit),
            None => Err(Denial::Implicit),
        }
    }
}

impl Statement {
    fn new(allows: bool, actions: &[&str], resource: &str) -> Self {
        let actions = actions.iter().map(ToString::to_string).collect();
        Self { allows, actions, resources: vec![resource.to_owned()] }
    }

    fn parse(statement: &Value) -> Self {
        let known = ["Sid", "Effect", "Action", "Resource"];
        let fields = statement.as_object().expect("a statement is an object");
        for name in fields.keys() {
            assert!(known.contains(&name.as_str()), "the emulator does not judge a statement's {name}");
        }
        let allows = match fields.get("Effect").and_then(Value::as_str) {
            Some("Allow") => true,
            Some("Deny") => false,
            effect => panic!("the effect {effect:?}, expected Allow or Deny"),
        };
        let texts = |name: &str| match fields.get(name) {
            Some(Value::String(text)) => vec![text.clone()],
            Some(Value::Array(texts)) if !texts.is_empty() => {
                texts.iter().map(|text| text.as_str().expect("a text").to_owned()).collect()
            }
            other => panic!("a statement's {name} is {other:?}"),
        };
        Self { allows, actions: texts("Action"), resources: texts("Resource") }
    }

    fn covers(&self, action: &str, resource: &str) -> bool {
        // IAM: names of actions do not distinguish case, ARNs do.
        let action = action.to_ascii_lowercase();
        self.actions.iter().any(|pattern| matches(&pattern.to_ascii_lowercase(), &action))
            && self.resources.iter().any(|pattern| matches(pattern, resource))
    }
}

/// AWS's message ("Troubleshoot access denied error messages" in the IAM User Guide); ECR's data plane
/// says the form without a deny too (ministryofjustice/cloud-platform#7245).
pub(super) fn denied(identity: &str, action: &str, resource: &str, denial: Denial) -> String {
    let reason = match denial {
        Denial::Implicit => format!("because no identity-based policy allows the {action} action"),
        Denial::Explicit => "with an explicit deny in an identity-based policy".to_owned(),
    };
    format!("User: {identity} is not authorized to perform: {action} on resource: {resource} {reason}")
}

/// Whether a text fits a pattern with `*` (any text) and `?` (any character).
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let mut rest = pattern.chars();
    let Some(first) = rest.next() else { return text.is_empty() };
    let rest = rest.as_str();
    match first {
        '*' => text.char_indices().map(|(at, _)| at).chain([text.len()]).any(|at| matches(rest, &text[at..])),
        '?' => text.chars().next().is_some_and(|one| matches(rest, &text[one.len_utf8()..])),
        _ => text.strip_prefix(first).is_some_and(|text| matches(rest, text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn judges_as_iam_does() {
        let policy = Policy::parse(
            r#"{"Version": "2012-10-17", "Statement": [
                {"Effect": "Allow", "Action": "ecr:GetAuthorizationToken", "Resource": "*"},
                {"Effect": "Allow", "Action": ["ecr:PutImage", "ecr:Batch*"],
                 "Resource": "arn:aws:ecr:eu-west-1:123456789012:repository/team/*"},
                {"Sid": "no", "Effect": "Deny", "Action": "ecr:BatchDeleteImage", "Resource": "*"}]}"#,
        );
        let repository = |name: &str| format!("arn:aws:ecr:eu-west-1:123456789012:repository/{name}");
        for (action, resource, expected) in [
            ("ecr:GetAuthorizationToken", "*".to_owned(), Ok(())),
            ("ecr:putimage", repository("team/a"), Ok(())),
            ("ecr:PutImage", repository("other"), Err(Denial::Implicit)),
            ("ecr:BatchGetImage", repository("team/a"), Ok(())),
            ("ecr:BatchDeleteImage", repository("team/a"), Err(Denial::Explicit)),
            ("ecr:InitiateLayerUpload", repository("team/a"), Err(Denial::Implicit)),
        ] {
            assert_eq!(policy.judge(action, &resource), expected, "{action} {resource}");
        }
        let taken = policy.without("ecr:PutImage");
        assert_eq!(taken.judge("ecr:PutImage", &repository("team/a")), Err(Denial::Implicit));
        assert_eq!(Policy::none().judge("ecr:PutImage", "*"), Err(Denial::Implicit));
    }

    #[test]
    fn messages() {
        let message = |denial| denied("arn:aws:iam::1:user/a", "ecr:PutImage", "*", denial);
        let start = "User: arn:aws:iam::1:user/a is not authorized to perform: ecr:PutImage on resource: * ";
        assert_eq!(
            message(Denial::Implicit),
            format!("{start}because no identity-based policy allows the ecr:PutImage action")
        );
        assert_eq!(
            message(Denial::Explicit),
            format!("{start}with an explicit deny in an identity-based policy")
        );
    }

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abcd", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    #[should_panic(expected = "the emulator does not judge a statement's Condition")]
    fn what_is_not_judged_is_refused() {
        Policy::parse(
            r#"{"Version": "2012-10-17", "Statement":
                {"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {}}}"#,
        );
    }
}
