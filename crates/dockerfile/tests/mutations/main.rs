//! Whatever the input, nothing panics, and what is promised of the results holds.
//!
//! The inputs come from a fixed generator, so that a failure repeats. With a nightly toolchain the same
//! checks are fuzzed (`crates/dockerfile/fuzz`, `tests/fuzz.sh`).

mod checks;

use ocib_dockerfile::Expander;

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

#[test]
fn dockerfiles() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let understood = (0..8_000)
        .filter(|round| checks::dockerfile(&mutate(&mut random, SAMPLES[round % SAMPLES.len()])))
        .count();
    assert!(understood > 1_000, "only {understood} of the mutations are Dockerfiles: nothing is tested");
}

#[test]
fn words() {
    const PIECES: [&str; 23] = [
        "$", "${", "${V//", "{", "}", ":", "-", "+", "?", "#", "%", "/", "//", "\\", "`", "'", "\"", "a",
        "V", "*", " ", "é", "1",
    ];
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let mut expanded = 0;
    for _ in 0..20_000 {
        let word = random.text(&PIECES, 14);
        for escape in ['\\', '`'] {
            expanded += usize::from(checks::word(Expander::new(escape), &word));
        }
    }
    assert!(expanded > 2_000, "only {expanded} of the words are valid: nothing is tested");
}

#[test]
fn patterns() {
    const PLAIN: [&str; 14] = ["*", "**", "?", "/", "/", "!", "a", "b", "a", "b", ".", "\n", "\n", "**/"];
    const ALL: [&str; 19] = [
        "*", "**", "?", "/", "/", "[", "]", "^", "-", "\\", "!", "a", "b", "a", "b", ".", "\u{e9}", "\n",
        "\n",
    ];
    const NAMES: [&str; 6] = ["a", "b", "ab", "a.b", "\u{e9}", "aab"];
    let mut random = Random(0x1234_5678_9abc_def1);
    let mut understood = 0;
    for round in 0..12_000 {
        let mut input = random.text(if round % 2 == 0 { &PLAIN } else { &ALL }, 14);
        for depth in 1..4 {
            let names: Vec<_> = (0..depth).map(|_| random.pick(&NAMES)).collect();
            input += "\0";
            input += &names.join("/");
        }
        understood += usize::from(checks::ignore(input.as_bytes()));
    }
    assert!(understood > 4_000, "only {understood} of the mutations are ignore files: nothing is tested");
}
