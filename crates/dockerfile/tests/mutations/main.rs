//! Whatever the input, nothing panics, and what is promised of the results holds.
//!
//! The inputs come from a fixed generator, so that a failure repeats.

use ocib_dockerfile::{
    Command, Dockerfile, Expander, Matches, Patterns, Span, glob, lint, parse, parse_trigger,
};

/// Marsaglia's xorshift64.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % below
    }

    fn pick<'t>(&mut self, items: &[&'t str]) -> &'t str {
        items[self.next(items.len())]
    }

    fn text(&mut self, items: &[&str], longest: usize) -> String {
        (0..self.next(longest + 1)).map(|_| self.pick(items)).collect()
    }
}

const SAMPLES: [&str; 4] = [
    "# syntax=docker/dockerfile:1\n# escape=\\\nARG A=1 B\nFROM --platform=$BUILDPLATFORM a:${A:-2} AS Base\n\
     ENV X=1 \\\n  # note\n\n  Y=\"a b\" Z='$X'\nENV old form\nCOPY --from=0 --chown=1:2 --exclude=*.a [\"a b\", \"/d\"]\n",
    "FROM scratch\r\nCOPY <<-EOF <<'B' f /d/\r\n\tone $X\r\n\tEOF\r\ntwo\r\nB\r\nRUN --mount=type=cache,target=/x \
     cat <<E | sh\r\n${X:=1}\r\nE\r\nLABEL a=b c=\"d\"\r\n",
    "\u{feff}from scratch as é\nhealthcheck --interval=1m30s --retries=3 cmd [\"x\"]\nonbuild copy <<E /x\n1\nE\n\
     expose 80/tcp $P\nvolume [\"/a\", \"/b\"]\nuser a\nworkdir /é\nstopsignal 9\nmaintainer me\nshell [\"/s\"]\n",
    "# escape=`\nFROM scratch\nADD --checksum=sha256:0 --unpack=true --link u `\n v /d`\nCMD a `\n b\nENTRYPOINT []\n",
];

const PIECES: [&str; 40] = [
    "\n",
    "\r\n",
    "\\\n",
    "`\n",
    " ",
    "\t",
    "#",
    "\"",
    "'",
    "\\",
    "`",
    "$",
    "${",
    "}",
    "=",
    "--",
    "--from=",
    "--link",
    "<<",
    "<<-E",
    "E\n",
    "[",
    "]",
    ",",
    "{",
    "\u{a0}",
    "é",
    "\u{feff}",
    "\0",
    "😀",
    "FROM ",
    "COPY ",
    "RUN ",
    "ENV ",
    "ONBUILD ",
    "HEALTHCHECK ",
    "ARG ",
    "AS ",
    "1",
    "\u{2028}",
];

fn mutate(random: &mut Random, sample: &str) -> Vec<u8> {
    let mut bytes = sample.as_bytes().to_vec();
    for _ in 0..=random.next(6) {
        let at = random.next(bytes.len() + 1);
        match random.next(4) {
            0 => drop(bytes.splice(at..at, random.pick(&PIECES).bytes())),
            1 => bytes.truncate(at.max(1)),
            2 => {
                let end = (at + random.next(12)).min(bytes.len());
                bytes.drain(at..end);
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = random.next(256) as u8;
                }
            }
        }
    }
    bytes
}

fn check_span(dockerfile: &Dockerfile, span: Span) {
    assert!(dockerfile.text.get(span.start..span.end).is_some(), "{span:?} in {:?}", dockerfile.text);
    assert!(dockerfile.position(span.start) <= dockerfile.position(span.end));
}

fn check(dockerfile: &Dockerfile) {
    let expander = Expander::new(dockerfile.escape);
    let variables = |name: &str| (name.len() % 2 == 1).then(|| name.repeat(3));
    for stage in &dockerfile.stages {
        check_span(dockerfile, stage.span);
        check_span(dockerfile, stage.from.image.span);
        let _ = expander.word(&stage.from.image.value, &variables);
        for instruction in &stage.instructions {
            check_span(dockerfile, instruction.span);
            match &instruction.command {
                Command::Copy(transfer) | Command::Add(transfer) => {
                    for source in transfer.sources.iter().chain([&transfer.destination]) {
                        check_span(dockerfile, source.span);
                        let _ = expander.words(&source.value, &variables);
                    }
                    for heredoc in &transfer.heredocs {
                        check_span(dockerfile, heredoc.span);
                        let _ = expander.heredoc(&heredoc.content, &variables);
                    }
                }
                Command::Env(pairs) | Command::Label(pairs) => {
                    for pair in pairs {
                        check_span(dockerfile, pair.key.span.to(pair.value.span));
                        let _ = expander.word(&pair.value.value, &variables);
                    }
                }
                Command::OnBuild(trigger) => drop(parse_trigger(trigger)),
                _ => {}
            }
        }
    }
    for warning in lint(dockerfile) {
        check_span(dockerfile, warning.span);
    }
}

#[test]
fn dockerfiles() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut understood = 0;
    for round in 0..8_000 {
        let text = mutate(&mut random, SAMPLES[round % SAMPLES.len()]);
        match parse(&text) {
            Ok(dockerfile) => {
                understood += 1;
                check(&dockerfile);
            }
            Err(error) => {
                let lossy = String::from_utf8_lossy(&text);
                let fits = error.span().is_none_or(|span| lossy.get(span.start..span.end).is_some());
                assert!(fits, "{error:?} in {lossy:?}");
                let _ = (error.to_string(), error.help());
            }
        }
    }
    assert!(understood > 1_000, "only {understood} of the mutations are Dockerfiles: nothing is tested");
}

#[test]
fn words() {
    const PIECES: [&str; 22] = [
        "$", "${", "{", "}", ":", "-", "+", "?", "#", "%", "/", "//", "\\", "`", "'", "\"", "a", "V", "*",
        " ", "é", "1",
    ];
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let variables = |name: &str| match name {
        "V" => Some("a/b a\n*é".to_owned()),
        "a" => Some(String::new()),
        _ => None,
    };
    for _ in 0..20_000 {
        let word = random.text(&PIECES, 14);
        for escape in ['\\', '`'] {
            let expander = Expander::new(escape);
            if let Ok(expansion) = expander.expand(&word, &variables) {
                assert_eq!(expander.word(&word, &variables), Ok(expansion.text.clone()));
                assert!(expansion.words.iter().all(|word| !word.is_empty()), "{word}");
            }
            let _ = expander.heredoc(&word, &variables);
        }
    }
}

/// What a walk may leave out holds nothing that it should have found.
#[test]
fn patterns() {
    const PIECES: [&str; 17] =
        ["*", "**", "?", "/", "/", "[", "]", "^", "-", "\\", "!", "a", "b", "a", "b", ".", "\u{e9}"];
    const NAMES: [&str; 5] = ["a", "b", "ab", ".", "\u{e9}"];
    let mut random = Random(0x1234_5678_9abc_def1);
    for _ in 0..6_000 {
        let texts: Vec<_> = (0..3).map(|_| random.text(&PIECES, 6)).collect();
        for text in &texts {
            let _ = glob::matches(text, random.pick(&NAMES));
        }
        let Ok(patterns) = Patterns::new(&texts) else { continue };
        let directory = [random.pick(&NAMES), random.pick(&NAMES)].join("/");
        let path = [directory.as_str(), random.pick(&NAMES), random.pick(&NAMES)].join("/");
        let (_, above) = patterns.check(directory.split('/').next().unwrap(), &Matches::default());
        let (meant, _) = patterns.check(&directory, &above);
        assert_eq!(patterns.matches(&directory), meant);
        if meant && !patterns.exceptions_below(&directory) {
            assert!(patterns.matches(&path), "{texts:?} {path}");
        }
        if !meant && !patterns.matches_below(&directory) {
            assert!(!patterns.matches(&path), "{texts:?} {path}");
        }
    }
}
