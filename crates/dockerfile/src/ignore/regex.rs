//! The regular expressions that patterns become.
//!
//! moby/patternmatcher turns patterns into Go expressions by replacing characters, even inside
//! classes and behind backslashes, so that `[*]` and `\d` mean what nobody expects. To mean the
//! same, this reads that subset of Go's syntax: characters, `.`, classes, `(…)?`, `*`, `^` and
//! escapes. Expressions always match whole paths. Unicode classes and numeric escapes are refused.

use crate::glob;

#[derive(Debug, Clone)]
pub(super) struct Regex(Vec<Step>);

/// An instruction of the automaton.
#[derive(Debug, Clone)]
enum Step {
    /// One character.
    One(Set),
    /// Goes on here and there.
    Fork(usize),
    /// Goes on there.
    Jump(usize),
    /// Goes on only at the beginning.
    Start,
    /// Goes on only at the end.
    End,
    /// Goes on only between a word's character and another (true), or elsewhere (false).
    WordBoundary(bool),
}

/// A set of characters.
#[derive(Debug, Clone, Default)]
struct Set {
    negated: bool,
    ranges: Vec<(char, char)>,
}

impl Set {
    fn one(c: char) -> Self {
        Self { negated: false, ranges: vec![(c, c)] }
    }

    fn holds(&self, c: char) -> bool {
        self.ranges.iter().any(|&(low, high)| (low..=high).contains(&c)) != self.negated
    }

    /// The ranges without negation.
    fn resolved(mut self) -> Vec<(char, char)> {
        if !self.negated {
            return self.ranges;
        }
        self.ranges.sort_unstable();
        let (mut gaps, mut next) = (Vec::new(), 0);
        for (low, high) in self.ranges {
            if u32::from(low) > next {
                gaps.extend(range(next, u32::from(low) - 1));
            }
            next = next.max(u32::from(high) + 1);
        }
        gaps.extend(range(next, u32::from(char::MAX)));
        gaps
    }
}

/// The characters with these numbers; the numbers that are none are cut off.
fn range(low: u32, high: u32) -> Option<(char, char)> {
    let low = if (0xd800..0xe000).contains(&low) { 0xe000 } else { low };
    let high = if (0xd800..0xe000).contains(&high) { 0xd7ff } else { high };
    Some((char::from_u32(low)?, char::from_u32(high)?)).filter(|(low, high)| low <= high)
}

impl Regex {
    /// `None` where Go's `regexp.Compile` fails.
    pub(super) fn parse(expression: &str) -> Option<Self> {
        let mut reader = Reader { chars: expression.chars().peekable(), steps: Vec::new() };
        reader.sequence(false)?;
        reader.chars.next().is_none().then_some(Self(reader.steps))
    }

    /// Whether the whole of `path` matches; a byte that is no UTF-8 counts as U+FFFD.
    pub(super) fn matches(&self, path: &[u8]) -> bool {
        let mut states = vec![false; self.0.len() + 1];
        let mut at = 0;
        self.enter(0, &mut states, Place { before: None, after: peek(path) });
        while at < path.len() {
            let (c, length) = glob::decode(&path[at..]);
            at += length;
            let place = Place { before: Some(c), after: peek(&path[at..]) };
            let mut next = vec![false; states.len()];
            for (state, step) in self.0.iter().enumerate() {
                if states[state] && matches!(step, Step::One(set) if set.holds(c)) {
                    self.enter(state + 1, &mut next, place);
                }
            }
            states = next;
        }
        states[self.0.len()]
    }

    /// Marks `state` and all that can be reached from it without a character.
    fn enter(&self, state: usize, states: &mut [bool], place: Place) {
        let mut pending = vec![state];
        while let Some(state) = pending.pop() {
            if std::mem::replace(&mut states[state], true) {
                continue;
            }
            match self.0.get(state) {
                Some(Step::Fork(other)) => pending.extend([state + 1, *other]),
                Some(Step::Jump(target)) => pending.push(*target),
                Some(Step::Start) if place.before.is_none() => pending.push(state + 1),
                Some(Step::End) if place.after.is_none() => pending.push(state + 1),
                Some(Step::WordBoundary(wanted)) if place.at_boundary() == *wanted => pending.push(state + 1),
                _ => {}
            }
        }
    }
}

/// The characters around a position.
#[derive(Clone, Copy)]
struct Place {
    before: Option<char>,
    after: Option<char>,
}

impl Place {
    fn at_boundary(self) -> bool {
        let word = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
        word(self.before) != word(self.after)
    }
}

fn peek(rest: &[u8]) -> Option<char> {
    (!rest.is_empty()).then(|| glob::decode(rest).0)
}

struct Reader<'t> {
    chars: std::iter::Peekable<std::str::Chars<'t>>,
    steps: Vec<Step>,
}

impl Reader<'_> {
    /// Everything up to the end, or to the bracket that closes a group.
    fn sequence(&mut self, group: bool) -> Option<()> {
        while let Some(&c) = self.chars.peek() {
            if c == ')' {
                return group.then_some(());
            }
            self.chars.next();
            let start = self.steps.len();
            self.item(c)?;
            match self.chars.peek() {
                Some('*') => {
                    self.chars.next();
                    let end = self.steps.len() + 2;
                    self.insert_fork(start, end);
                    self.steps.push(Step::Jump(start));
                }
                Some('?') => {
                    self.chars.next();
                    let end = self.steps.len() + 1;
                    self.insert_fork(start, end);
                }
                _ => {}
            }
        }
        (!group).then_some(())
    }

    /// Puts a fork before what begins at `start`; only a group's inner steps hold targets, and
    /// they move along.
    fn insert_fork(&mut self, start: usize, end: usize) {
        for step in &mut self.steps[start..] {
            if let Step::Fork(target) | Step::Jump(target) = step {
                *target += 1;
            }
        }
        self.steps.insert(start, Step::Fork(end));
    }

    fn item(&mut self, c: char) -> Option<()> {
        let step = match c {
            '(' => {
                self.sequence(true)?;
                self.chars.next();
                return Some(());
            }
            '[' => Step::One(self.class()?),
            '.' => Step::One(Set { negated: true, ranges: vec![('\n', '\n')] }),
            '^' => Step::Start,
            '\\' => self.escape()?,
            // A repetition of nothing.
            '*' | '?' => return None,
            _ => Step::One(Set::one(c)),
        };
        self.steps.push(step);
        Some(())
    }

    fn escape(&mut self) -> Option<Step> {
        Some(match self.chars.next()? {
            'A' => Step::Start,
            'z' => Step::End,
            'b' => Step::WordBoundary(true),
            'B' => Step::WordBoundary(false),
            c => Step::One(perl_class(c).or_else(|| escaped(c).map(Set::one))?),
        })
    }

    /// A class; its opening bracket is gone.
    fn class(&mut self) -> Option<Set> {
        let negated = self.chars.next_if_eq(&'^').is_some();
        let mut ranges = Vec::new();
        let mut first = true;
        while first || *self.chars.peek()? != ']' {
            first = false;
            let c = self.chars.next()?;
            ranges.extend(self.class_ranges(c)?);
        }
        self.chars.next();
        Some(Set { negated, ranges })
    }

    /// What one item of a class adds to it, of which `c` is the first character.
    fn class_ranges(&mut self, c: char) -> Option<Vec<(char, char)>> {
        if c == '[' && self.chars.peek() == Some(&':') {
            // [[:alpha:]] and the like, unless the name is not closed.
            if let Some(class) = self.posix_class() {
                return class;
            }
        }
        let next = self.chars.peek().copied();
        if let Some(class) = next.filter(|_| c == '\\').and_then(perl_class) {
            self.chars.next();
            return Some(class.resolved());
        }
        let low = self.class_character(c)?;
        let high =
            if self.takes_range() { self.chars.next().and_then(|c| self.class_character(c))? } else { low };
        (low <= high).then(|| vec![(low, high)])
    }

    /// Steps over a hyphen that does not end the class.
    fn takes_range(&mut self) -> bool {
        let mut ahead = self.chars.clone();
        let range = ahead.next() == Some('-') && ahead.next() != Some(']');
        if range {
            self.chars.next();
        }
        range
    }

    fn class_character(&mut self, c: char) -> Option<char> {
        if c == '\\' { escaped(self.chars.next()?) } else { Some(c) }
    }

    /// The ranges of `:name:]`; the inner `None` for an unknown name, the outer one if it is no
    /// such class at all.
    fn posix_class(&mut self) -> Option<Option<Vec<(char, char)>>> {
        let rest: String = self.chars.clone().skip(1).collect();
        let (name, _) = rest.split_once(":]")?;
        let class = posix(name);
        if class.is_some() {
            self.chars.nth(name.chars().count() + 2);
        }
        Some(class)
    }
}

/// What a backslash and `c` stand for, where that is one character.
fn escaped(c: char) -> Option<char> {
    match c {
        'a' => Some('\x07'),
        'f' => Some('\x0c'),
        'n' => Some('\n'),
        'r' => Some('\r'),
        't' => Some('\t'),
        'v' => Some('\x0b'),
        _ => Some(c).filter(|c| c.is_ascii() && !c.is_ascii_alphanumeric()),
    }
}

fn perl_class(c: char) -> Option<Set> {
    let ranges = match c.to_ascii_lowercase() {
        'd' => vec![('0', '9')],
        's' => vec![('\t', '\n'), ('\x0c', '\r'), (' ', ' ')],
        'w' => vec![('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')],
        _ => return None,
    };
    Some(Set { negated: c.is_ascii_uppercase(), ranges })
}

fn posix(name: &str) -> Option<Vec<(char, char)>> {
    let (negated, name) = name.strip_prefix('^').map_or((false, name), |name| (true, name));
    let ranges = match name {
        "alnum" => vec![('0', '9'), ('A', 'Z'), ('a', 'z')],
        "alpha" => vec![('A', 'Z'), ('a', 'z')],
        "ascii" => vec![('\0', '\x7f')],
        "blank" => vec![('\t', '\t'), (' ', ' ')],
        "cntrl" => vec![('\0', '\x1f'), ('\x7f', '\x7f')],
        "digit" => vec![('0', '9')],
        "graph" => vec![('!', '~')],
        "lower" => vec![('a', 'z')],
        "print" => vec![(' ', '~')],
        "punct" => vec![('!', '/'), (':', '@'), ('[', '`'), ('{', '~')],
        "space" => vec![('\t', '\r'), (' ', ' ')],
        "upper" => vec![('A', 'Z')],
        "word" => vec![('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')],
        "xdigit" => vec![('0', '9'), ('A', 'F'), ('a', 'f')],
        _ => return None,
    };
    Some(Set { negated, ranges }.resolved())
}
