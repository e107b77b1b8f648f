//! The patterns of `${v#p}`, `${v%p}` and `${v/p/r}`: `*`, `?` and characters.

use super::ExpandReason;

/// A pattern. BuildKit turns it into a regular expression, where `*` and `?` do not match a line
/// feed.
pub(super) struct Pattern(Vec<Part>);

#[derive(Clone, Copy, PartialEq)]
enum Part {
    /// Any characters, or none.
    Any,
    /// One character.
    One,
    Char(char),
}

impl Pattern {
    /// A backslash may stand before `*`, `?` and itself; before `}` and `/`, which the word around
    /// it makes necessary, it disappears.
    pub(super) fn parse(pattern: &str) -> Result<Self, ExpandReason> {
        Self::from_chars(pattern, pattern.chars())
    }

    /// The pattern that matches reversed text.
    pub(super) fn parse_reversed(pattern: &str) -> Result<Self, ExpandReason> {
        let Self(mut parts) = Self::parse(pattern)?;
        parts.reverse();
        Ok(Self(parts))
    }

    fn from_chars(pattern: &str, chars: impl Iterator<Item = char>) -> Result<Self, ExpandReason> {
        let mut parts = Vec::new();
        let mut chars = chars.peekable();
        while let Some(c) = chars.next() {
            parts.push(match c {
                '*' => Part::Any,
                '?' => Part::One,
                '\\' => match chars.next() {
                    Some(escaped @ ('*' | '?' | '\\' | '}' | '/')) => Part::Char(escaped),
                    other => {
                        let escaped = other.unwrap_or(char::REPLACEMENT_CHARACTER);
                        return Err(ExpandReason::BadPattern { pattern: pattern.to_owned(), escaped });
                    }
                },
                plain => Part::Char(plain),
            });
        }
        Ok(Self(parts))
    }

    pub(super) fn without_prefix(&self, value: &str, longest: bool) -> String {
        let chars: Vec<char> = value.chars().collect();
        let end = self.match_end(&chars, longest).unwrap_or(0);
        chars[end..].iter().collect()
    }

    /// For a pattern from [`Pattern::parse_reversed`].
    pub(super) fn without_suffix(&self, value: &str, longest: bool) -> String {
        let reversed: Vec<char> = value.chars().rev().collect();
        let end = self.match_end(&reversed, longest).unwrap_or(0);
        reversed[end..].iter().rev().collect()
    }

    pub(super) fn replace_first(&self, value: &str, replacement: &str) -> String {
        let chars: Vec<char> = value.chars().collect();
        let Some((start, end)) = self.find(&chars, 0) else { return value.to_owned() };
        let mut text: String = chars[..start].iter().collect();
        text.push_str(replacement);
        text.extend(&chars[end..]);
        text
    }

    /// Go's `Regexp.ReplaceAllString`: an empty match right behind another one does not count, and
    /// the replacement is a template. An error if it becomes longer than `longest` bytes.
    pub(super) fn replace_all(
        &self,
        value: &str,
        replacement: &str,
        longest: usize,
    ) -> Result<String, ExpandReason> {
        let chars: Vec<char> = value.chars().collect();
        let (mut text, mut copied, mut from) = (String::new(), 0, 0);
        while let Some((start, end)) = self.find(&chars, from) {
            text.extend(&chars[copied..start]);
            if end > copied || start == 0 {
                push_template(&mut text, replacement, &chars[start..end]);
            }
            if text.len() > longest {
                return Err(ExpandReason::TooLong { limit: longest });
            }
            copied = end;
            from = end.max(from + 1);
        }
        text.extend(&chars[copied..]);
        Ok(text)
    }

    /// The leftmost match at or behind `from`, the longest of those. One pass: each state holds the
    /// first place where a match could have begun that is in it now.
    fn find(&self, chars: &[char], from: usize) -> Option<(usize, usize)> {
        let mut starts: Vec<Option<usize>> = vec![None; self.0.len() + 1];
        let mut found: Option<(usize, usize)> = None;
        for at in from..=chars.len() {
            if found.is_none() {
                starts[0] = starts[0].or(Some(at));
            }
            self.skip_empty(&mut starts);
            if let Some(start) = starts[self.0.len()]
                && found.is_none_or(|(first, _)| start <= first)
            {
                found = Some((start, at));
                // What began later can no longer win.
                starts.iter_mut().for_each(|state| *state = state.filter(|&other| other <= start));
            }
            let Some(&c) = chars.get(at) else { break };
            starts = self.step(&starts, c);
            if found.is_some() && starts.iter().all(Option::is_none) {
                break;
            }
        }
        found
    }

    /// Where the shortest or longest match ends that begins at the first of `chars`.
    fn match_end(&self, chars: &[char], longest: bool) -> Option<usize> {
        let mut states = vec![None; self.0.len() + 1];
        states[0] = Some(0);
        let mut end = None;
        for at in 0..=chars.len() {
            self.skip_empty(&mut states);
            if states[self.0.len()].is_some() {
                end = Some(at);
                if !longest {
                    break;
                }
            }
            let Some(&c) = chars.get(at) else { break };
            states = self.step(&states, c);
            if states.iter().all(Option::is_none) {
                break;
            }
        }
        end
    }

    fn skip_empty(&self, states: &mut [Option<usize>]) {
        for (at, part) in self.0.iter().enumerate() {
            if *part == Part::Any {
                states[at + 1] = earlier(states[at + 1], states[at]);
            }
        }
    }

    fn step(&self, states: &[Option<usize>], c: char) -> Vec<Option<usize>> {
        let mut next = vec![None; states.len()];
        for (at, part) in self.0.iter().enumerate() {
            match part {
                Part::Any if c != '\n' => next[at] = earlier(next[at], states[at]),
                Part::One if c != '\n' => next[at + 1] = earlier(next[at + 1], states[at]),
                Part::Char(wanted) if c == *wanted => next[at + 1] = earlier(next[at + 1], states[at]),
                Part::Any | Part::One | Part::Char(_) => {}
            }
        }
        next
    }
}

fn earlier(one: Option<usize>, other: Option<usize>) -> Option<usize> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// Go's `Regexp.Expand` for an expression without groups: `$0` is the match, any other `$name` or
/// `${name}` is nothing, `$$` is a dollar sign.
fn push_template(text: &mut String, template: &str, matched: &[char]) {
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('$') {
        text.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            text.push('$');
            rest = after;
        } else if let Some((name, after)) = group_name(after) {
            if !name.is_empty() && name.bytes().all(|byte| byte == b'0') {
                text.extend(matched);
            }
            rest = after;
        } else {
            text.push('$');
            rest = after;
        }
    }
    text.push_str(rest);
}

fn group_name(text: &str) -> Option<(&str, &str)> {
    let braced = text.strip_prefix('{');
    let inner = braced.unwrap_or(text);
    let end = inner.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(inner.len());
    let (name, rest) = inner.split_at(end);
    let rest = if braced.is_some() { rest.strip_prefix('}')? } else { rest };
    (!name.is_empty()).then_some((name, rest))
}
