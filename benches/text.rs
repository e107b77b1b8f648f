//! Text that compresses as source code does: gzip at level 6 leaves about 35 %.

use std::io::Read;

use ocib_testkit::Noise;

const WORDS: usize = 1_500;
const WORDS_PER_LINE: u64 = 9;
const ENDINGS: [&[u8]; 8] = [b" ", b" ", b" ", b"(", b") ", b", ", b" = ", b"."];

/// An endless text, the same for the same seed.
#[derive(Debug)]
pub(crate) struct Text {
    noise: Noise,
    words: Vec<Vec<u8>>,
}

impl Text {
    pub(crate) fn new(seed: u64) -> Self {
        let mut noise = Noise::new(seed, u64::MAX);
        let words = (0..WORDS).map(|_| word(&mut noise)).collect();
        Self { noise, words }
    }

    /// The next `bytes` bytes.
    pub(crate) fn take(&mut self, bytes: usize) -> Vec<u8> {
        let mut text = Vec::with_capacity(bytes + 32);
        while text.len() < bytes {
            let choice = next(&mut self.noise);
            // Few words are frequent, most are rare.
            let place = fraction(choice).powi(5) * WORDS as f64;
            text.extend_from_slice(&self.words[place as usize]);
            match choice % WORDS_PER_LINE {
                0 => text.extend_from_slice(b";\n    "),
                _ => text.extend_from_slice(ENDINGS[(choice >> 8) as usize % ENDINGS.len()]),
            }
        }
        text.truncate(bytes);
        text
    }
}

/// A number between 0 and 1 out of the upper half of a word.
pub(crate) fn fraction(word: u64) -> f64 {
    (word >> 32) as f64 / f64::from(u32::MAX) * (1.0 - f64::EPSILON)
}

/// The next word of the noise.
pub(crate) fn next(noise: &mut Noise) -> u64 {
    let mut bytes = [0; 8];
    noise.read_exact(&mut bytes).expect("the noise is endless");
    u64::from_le_bytes(bytes)
}

fn word(noise: &mut Noise) -> Vec<u8> {
    let mut choice = next(noise);
    let letters = 2 + choice % 9;
    (0..letters)
        .map(|_| {
            choice /= 26;
            b'a' + (choice % 26) as u8
        })
        .collect()
}
