//! Hides lent secrets in what a program says: a command may print what it is shown.

use std::{fs, io::Read};

use ocib_image::{RunSecret, RunSecretSource};

/// Stands in the place of a secret.
const VEIL: &str = "*******";
/// What is shorter stands in every other word.
const HIDDEN_BYTES_MIN: usize = 6;
/// More of a secret is not looked for (BuildKit takes none that is larger).
const SECRET_BYTES_MAX: u64 = 500 * 1024;

/// Texts that nobody is told, the longest first.
#[derive(Default)]
pub(crate) struct Veil {
    hidden: Vec<String>,
}

impl Veil {
    /// Hides each line of what `secrets` hold. One that cannot be read now, the program cannot read either.
    pub(crate) fn over(secrets: &[RunSecret]) -> Self {
        let values: Vec<String> = secrets.iter().filter_map(value).collect();
        let lines = values.iter().flat_map(|value| value.lines()).map(str::trim);
        let mut hidden: Vec<String> =
            lines.filter(|line| line.len() >= HIDDEN_BYTES_MIN).map(str::to_owned).collect();
        hidden.sort_by_key(|line| std::cmp::Reverse(line.len()));
        Self { hidden }
    }

    /// `line` with nothing hidden in it.
    pub(crate) fn drawn_over(&self, mut line: String) -> String {
        for hidden in &self.hidden {
            if line.contains(&**hidden) {
                line = line.replace(&**hidden, VEIL);
            }
        }
        line
    }

    /// How many bytes at the end of `piece`, but not all of it, may be the beginning of something hidden.
    pub(crate) fn begun_at_end(&self, piece: &[u8]) -> usize {
        let begun = |hidden: &String| {
            let longest = hidden.len().min(piece.len()).saturating_sub(1);
            (1..=longest).rev().find(|&length| piece.ends_with(&hidden.as_bytes()[..length]))
        };
        self.hidden.iter().filter_map(begun).max().unwrap_or(0)
    }
}

fn value(secret: &RunSecret) -> Option<String> {
    match &secret.source {
        RunSecretSource::File(path) => {
            let mut bytes = Vec::new();
            fs::File::open(path).ok()?.take(SECRET_BYTES_MAX).read_to_end(&mut bytes).ok()?;
            Some(String::from_utf8_lossy(&bytes).into_owned())
        }
        RunSecretSource::Variable(name) => std::env::var(name).ok(),
        // Nobody is shown a key, only its agent.
        RunSecretSource::Agent(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_a_secret_is_hidden() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, "user:hunter2\n\n  hunter2-and-more\nshort\n").unwrap();
        let source = RunSecretSource::File(file.path().to_owned());
        let veil = Veil::over(&[RunSecret { id: "a".to_owned(), source }]);
        for (line, expected) in [
            ("+ login user:hunter2 hunter2-and-more.", "+ login ******* *******."),
            ("a short word", "a short word"),
            ("hunter2", "hunter2"),
        ] {
            assert_eq!(veil.drawn_over(line.to_owned()), expected);
        }
        for (piece, expected) in [("x hunter3", 0), ("x user:hun", 8), ("hunter2-an", 0), ("u", 0), (" u", 1)]
        {
            assert_eq!(veil.begun_at_end(piece.as_bytes()), expected, "{piece}");
        }
    }
}
