//! What holds for any input: the body of the fuzz targets in `fuzz`, and of the tests beside this file.

use ocib_dockerfile::{
    Command, Dockerfile, Expander, Instruction, Linter, Matches, Patterns, Span, glob, parse, parse_trigger,
    redacted, redacted_text,
};

/// How much longer than itself a word may become, as `Expander::word` promises.
const LONGER_BYTES_MAX: usize = 1 << 20;

/// A Dockerfile is read, expanded and linted; whether it was understood.
pub(crate) fn dockerfile(text: &[u8]) -> bool {
    let lossy = String::from_utf8_lossy(text);
    assert_eq!(redacted_text(&lossy).len(), lossy.len());
    match parse(text) {
        Ok(dockerfile) => {
            understood(&dockerfile);
            true
        }
        Err(error) => {
            let fits = error.span().is_none_or(|span| lossy.get(span.start..span.end).is_some());
            assert!(fits, "{error:?} in {lossy:?}");
            let _ = (error.to_string(), error.help());
            false
        }
    }
}

fn understood(dockerfile: &Dockerfile) {
    let expander = Expander::new(dockerfile.escape);
    for instruction in &dockerfile.global_args {
        span(dockerfile, instruction.span);
    }
    for stage in &dockerfile.stages {
        span(dockerfile, stage.span);
        span(dockerfile, stage.from.image.span);
        word(expander, &stage.from.image.value);
        for instruction in &stage.instructions {
            span(dockerfile, instruction.span);
            words(dockerfile, expander, instruction);
            if dockerfile.escape == '\\' {
                one_line(instruction);
            }
        }
    }
    for advice in [false, true] {
        for warning in (Linter { advice, ..Linter::default() }).check(dockerfile) {
            span(dockerfile, warning.span);
        }
    }
    // Excerpts take it in the place of the text.
    let shown = redacted(dockerfile);
    assert_eq!(shown.len(), dockerfile.text.len());
    assert_eq!(shown.lines().count(), dockerfile.text.lines().count());
}

fn span(dockerfile: &Dockerfile, span: Span) {
    assert!(dockerfile.text.get(span.start..span.end).is_some(), "{span:?} in {:?}", dockerfile.text);
    assert!(dockerfile.position(span.start) <= dockerfile.position(span.end));
}

fn words(dockerfile: &Dockerfile, expander: Expander, instruction: &Instruction) {
    match &instruction.command {
        Command::Copy(transfer) | Command::Add(transfer) => {
            for source in transfer.sources.iter().chain([&transfer.destination]) {
                span(dockerfile, source.span);
                word(expander, &source.value);
            }
            for heredoc in &transfer.heredocs {
                span(dockerfile, heredoc.span);
                word(expander, &heredoc.content);
            }
        }
        Command::Env(pairs) | Command::Label(pairs) => {
            for pair in pairs {
                span(dockerfile, pair.key.span.to(pair.value.span));
                word(expander, &pair.key.value);
                word(expander, &pair.value.value);
            }
        }
        Command::Expose(all) | Command::Volume(all) => {
            for one in all {
                span(dockerfile, one.span);
                word(expander, &one.value);
            }
        }
        Command::User(one) | Command::Workdir(one) | Command::StopSignal(one) => {
            span(dockerfile, one.span);
            word(expander, &one.value);
        }
        Command::OnBuild(trigger) => drop(parse_trigger(trigger)),
        _ => {}
    }
}

/// An instruction in one line says what it said on several: that line is what history and triggers keep.
fn one_line(instruction: &Instruction) {
    let has_heredocs = match &instruction.command {
        Command::Copy(transfer) | Command::Add(transfer) => !transfer.heredocs.is_empty(),
        Command::Run(run) => !run.heredocs.is_empty(),
        Command::OnBuild(_) => true,
        _ => false,
    };
    let line = &instruction.original;
    // Beyond that length only continued lines are read.
    if has_heredocs || line.contains("<<") || line.len() > 65_535 {
        return;
    }
    let again = parse_trigger(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
    assert_eq!(without_spans(&again.command), without_spans(&instruction.command), "{line:?}");
}

fn without_spans(command: &Command) -> String {
    let debug = format!("{command:?}");
    let mut parts = debug.split("Span { start: ");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once('}').map_or("", |(_, rest)| rest))
}

/// A word is expanded by both escape characters; whether one of them could.
pub(crate) fn word(expander: Expander, word: &str) -> bool {
    let variables = |name: &str| match name {
        "V" => Some("a/b a\n*é".to_owned()),
        "a" => Some(String::new()),
        _ => (name.len() % 2 == 1).then(|| name.repeat(3)),
    };
    let longest = word.len() + LONGER_BYTES_MAX;
    let expansion = expander.expand(word, &variables);
    if let Ok(expansion) = &expansion {
        assert!(expansion.text.len() <= longest, "{} bytes of {word:?}", expansion.text.len());
        assert!(expansion.words.iter().all(|word| !word.is_empty()), "{word}");
        let characters = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
        assert_eq!(characters(&expansion.words.concat()), characters(&expansion.text), "{word}");
    }
    if let Ok(content) = expander.heredoc(word, &variables) {
        assert!(content.len() <= longest, "{} bytes of {word:?}", content.len());
    }
    expansion.is_ok()
}

/// An ignore file and paths, with a zero byte before each: what a walk leaves out holds nothing that it
/// should have found, and plain patterns mean what [`Model`] says. Whether the file was understood.
pub(crate) fn ignore(input: &[u8]) -> bool {
    let mut parts = input.split(|&byte| byte == 0);
    let file = parts.next().unwrap_or_default();
    let Ok(patterns) = Patterns::parse_ignore_file(file) else { return false };
    let model = Model::of(file);
    for path in parts.filter(|path| is_clean(path)) {
        pruned(&patterns, path);
        if let Some(model) = model.as_ref().filter(|_| path.is_ascii() && !path.contains(&b'\n')) {
            let (expected, found) = (model.matches(path), patterns.matches(path));
            assert_eq!(found, expected, "{} of {}", path.escape_ascii(), file.escape_ascii());
        }
        literal(file, path);
    }
    true
}

fn is_clean(path: &[u8]) -> bool {
    path.split(|&byte| byte == b'/').all(|element| !matches!(element, b"" | b"." | b".."))
}

/// Goes down to `path` as a walk does.
fn pruned(patterns: &Patterns, path: &[u8]) {
    let is_meant = patterns.matches(path);
    let mut above = Matches::default();
    for end in path.iter().enumerate().filter(|&(_, &byte)| byte == b'/').map(|(at, _)| at) {
        let directory = &path[..end];
        let (meant, matches) = patterns.check(directory, &above);
        assert_eq!(patterns.matches(directory), meant);
        let shown = || format!("{patterns:?} {} {}", directory.escape_ascii(), path.escape_ascii());
        assert!(!meant || is_meant || patterns.exceptions_below(directory), "{}", shown());
        assert!(meant || !is_meant || patterns.matches_below(directory), "{}", shown());
        above = matches;
    }
    assert_eq!(patterns.check(path, &above).0, is_meant);
}

/// A pattern of `filepath.Match` without a wildcard matches itself alone.
fn literal(pattern: &[u8], name: &[u8]) {
    if !glob::has_wildcard(pattern) && !pattern.contains(&b'\\') {
        assert_eq!(glob::matches(pattern, name), Ok(pattern == name));
    }
    let _ = glob::matches(pattern, name);
}

/// moby/patternmatcher in the plainest words, for ignore files that leave nothing to clean and hold only
/// names, `*`, `?`, `**` and `!`.
struct Model<'a>(Vec<(bool, &'a [u8])>);

impl<'a> Model<'a> {
    fn of(file: &'a [u8]) -> Option<Self> {
        let lines = file.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
        let plain = |line: &'a [u8]| {
            let (is_exception, pattern) = line.strip_prefix(b"!").map_or((false, line), |rest| (true, rest));
            let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"*?/.".contains(byte);
            (is_clean(pattern) && pattern.iter().all(is_plain)).then_some((is_exception, pattern))
        };
        lines.map(plain).collect::<Option<_>>().map(Self)
    }

    fn matches(&self, path: &[u8]) -> bool {
        self.results(path).0
    }

    /// `MatchesUsingParentResults`: the result, and which patterns matched.
    fn results(&self, path: &[u8]) -> (bool, Vec<bool>) {
        let above = match path.iter().rposition(|&byte| byte == b'/') {
            Some(slash) => self.results(&path[..slash]).1,
            None => vec![false; self.0.len()],
        };
        let mut is_meant = false;
        let mut all = Vec::new();
        for (&(is_exception, pattern), above) in self.0.iter().zip(above) {
            let matched = above || is_exception == is_meant && fits(pattern, path);
            is_meant = if matched { !is_exception } else { is_meant };
            all.push(matched);
        }
        (is_meant, all)
    }
}

fn fits(pattern: &[u8], path: &[u8]) -> bool {
    let has_wildcard = |text: &[u8]| text.iter().any(|byte| b"*?".contains(byte));
    match pattern {
        // What moby takes for a suffix need not begin at a slash.
        [b'*', b'*', suffix @ ..] if !has_wildcard(suffix) => {
            path.ends_with(suffix) || suffix.strip_prefix(b"/") == Some(path)
        }
        _ => fits_from(pattern, path),
    }
}

fn fits_from(pattern: &[u8], path: &[u8]) -> bool {
    match pattern {
        [] => path.is_empty(),
        [b'*', b'*'] => true,
        [b'*', b'*', b'/', rest @ ..] | [b'*', b'*', rest @ ..] => {
            let below = |(at, _): (usize, &u8)| fits_from(rest, &path[at + 1..]);
            fits_from(rest, path) || path.iter().enumerate().filter(|(_, byte)| **byte == b'/').any(below)
        }
        [b'*', rest @ ..] => {
            let element = path.iter().take_while(|&&byte| byte != b'/').count();
            (0..=element).any(|skipped| fits_from(rest, &path[skipped..]))
        }
        [b'?', rest @ ..] => path.first().is_some_and(|&byte| byte != b'/') && fits_from(rest, &path[1..]),
        [byte, rest @ ..] => path.first() == Some(byte) && fits_from(rest, &path[1..]),
    }
}
