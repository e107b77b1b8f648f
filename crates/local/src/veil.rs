//! Hides lent secrets in what a program says: a command may print what it is shown.

use std::{collections::HashMap, fs, io::Read, ops::Range};

use ocib_image::{RunSecret, RunSecretSource};

/// Stands in the place of a secret.
const VEIL: &str = "*******";
/// What is shorter stands in every other word.
const HIDDEN_BYTES_MIN: usize = 6;
/// Longer lines of secrets are hidden in pieces, each of them longer than this, so that any of them fits into what is
/// told at once.
const HIDDEN_BYTES_MAX: usize = 1024;
/// More of a secret is not looked for (BuildKit takes none that is larger).
const SECRET_BYTES_MAX: u64 = 500 * 1024;

/// Texts that nobody is told, by their beginnings.
#[derive(Default)]
pub(crate) struct Veil {
    hidden: HashMap<[u8; HIDDEN_BYTES_MIN], Vec<Vec<u8>>>,
}

/// A piece of what a program says, and what is left of it for the next one.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Piece {
    /// With nothing hidden in it.
    pub(crate) told: String,
    /// What may begin something hidden.
    pub(crate) rest: Vec<u8>,
    /// The bytes at the beginning of `rest` that are hidden, whatever follows.
    pub(crate) veiled: usize,
}

impl Veil {
    /// Hides each line of what `secrets` hold. One that cannot be read now, the program cannot read either.
    pub(crate) fn over(secrets: &[RunSecret]) -> Self {
        let mut veil = Self::default();
        for value in secrets.iter().filter_map(value) {
            for line in value.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii) {
                let mut rest = line;
                while rest.len() >= 2 * HIDDEN_BYTES_MAX {
                    let (piece, after) = rest.split_at(HIDDEN_BYTES_MAX);
                    veil.hide(piece);
                    rest = after;
                }
                veil.hide(rest);
            }
        }
        veil
    }

    fn hide(&mut self, text: &[u8]) {
        if let Some(beginning) = text.first_chunk() {
            self.hidden.entry(*beginning).or_default().push(text.to_owned());
        }
    }

    /// A whole line, whose first `veiled` bytes are hidden, with nothing hidden in it.
    pub(crate) fn line(&self, line: &[u8], veiled: usize) -> String {
        told(line, veiled, &self.places(line))
    }

    /// As much of the beginning of a line as can be told, if more may follow.
    pub(crate) fn piece(&self, line: &[u8], veiled: usize) -> Piece {
        let places = self.places(line);
        let end = line.len() - self.begun_at_end(line);
        let crossing = places.iter().filter(|place| place.start < end).map(|place| place.end);
        let hidden_to = crossing.max().unwrap_or(0).max(veiled);
        let told = told(&line[..end], veiled.min(end), &places);
        Piece { told, rest: line[end..].to_owned(), veiled: hidden_to.saturating_sub(end) }
    }

    /// Where in `line` something hidden is, from left to right.
    fn places(&self, line: &[u8]) -> Vec<Range<usize>> {
        let mut places = Vec::new();
        for (start, beginning) in line.windows(HIDDEN_BYTES_MIN).enumerate() {
            let Some(texts) = self.hidden.get(beginning) else { continue };
            let here = texts.iter().filter(|text| line[start..].starts_with(text));
            places.extend(here.map(Vec::len).max().map(|length| start..start + length));
        }
        places
    }

    /// How many bytes at the end of `line`, but not all of it, may be the beginning of something hidden.
    fn begun_at_end(&self, line: &[u8]) -> usize {
        let begun = |text: &Vec<u8>| {
            let longest = text.len().min(line.len()).saturating_sub(1);
            (1..=longest).rev().find(|&length| line.ends_with(&text[..length]))
        };
        self.hidden.values().flatten().filter_map(begun).max().unwrap_or(0)
    }
}

/// `line` with a veil over its first `veiled` bytes and over all `places`.
fn told(line: &[u8], veiled: usize, places: &[Range<usize>]) -> String {
    let mut told = Vec::with_capacity(line.len());
    // A piece before said that what its end begins is hidden.
    let mut at = veiled;
    for place in places {
        if place.start >= line.len() {
            break;
        }
        if place.start >= at {
            told.extend_from_slice(&line[at..place.start]);
            told.extend_from_slice(VEIL.as_bytes());
        }
        at = at.max(place.end);
    }
    told.extend_from_slice(line.get(at..).unwrap_or_default());
    String::from_utf8_lossy(&told).into_owned()
}

fn value(secret: &RunSecret) -> Option<Vec<u8>> {
    match &secret.source {
        RunSecretSource::File(path) => {
            let mut bytes = Vec::new();
            fs::File::open(path).ok()?.take(SECRET_BYTES_MAX).read_to_end(&mut bytes).ok()?;
            Some(bytes)
        }
        RunSecretSource::Variable(name) => {
            std::env::var_os(name).map(std::os::unix::ffi::OsStringExt::into_vec)
        }
        // Nobody is shown a key, only its agent.
        RunSecretSource::Agent(_) => None,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A veil over a file that holds `secret`.
    pub(crate) fn veil(secret: &str) -> Veil {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, secret).unwrap();
        let source = RunSecretSource::File(file.path().to_owned());
        Veil::over(&[RunSecret { id: "a".to_owned(), source }])
    }

    #[test]
    fn every_line_of_a_secret_is_hidden() {
        let veil = veil("user:hunter2\n\n  hunter2-and-more\r\nshort\nabcabcabc\n");
        for (line, expected) in [
            ("+ login user:hunter2 hunter2-and-more.", "+ login ******* *******."),
            ("a short word", "a short word"),
            ("hunter2", "hunter2"),
            ("user:hunter2-and-more", "*******"),
            ("-abcabcabcabc-", "-*******-"),
            ("", ""),
        ] {
            assert_eq!(veil.line(line.as_bytes(), 0), expected);
        }
        assert_eq!(veil.line(b"ter2 is it", 4), " is it");
    }

    #[test]
    fn a_piece_ends_where_nothing_hidden_has_begun() {
        let veil = veil("user:hunter2\nhunter2-and-more\nplanted-secret-p\n");
        for (line, told, rest, veiled) in [
            ("x hunter3", "x hunter3", "", 0),
            ("x user:hun", "x ", "user:hun", 0),
            ("hunter2-an", "hunter2-an", "", 0),
            (" u", " ", "u", 0),
            // A secret that ends as it, or another one, begins.
            ("x planted-secret-p", "x *******", "p", 1),
            ("x user:hunter2", "x *******", "hunter2", 7),
        ] {
            let expected = Piece { told: told.to_owned(), rest: rest.as_bytes().to_owned(), veiled };
            assert_eq!(veil.piece(line.as_bytes(), 0), expected, "{line}");
        }
    }

    #[test]
    fn long_lines_of_secrets_are_hidden_in_pieces() {
        let secret: String = (0..1000).map(|number| format!("{number:05}")).collect();
        let veil = veil(&secret);
        assert_eq!(veil.line(format!("<{secret}>").as_bytes(), 0), format!("<{}>", VEIL.repeat(4)));
    }
}
