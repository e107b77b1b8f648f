//! What `--chmod` says: octal, or symbolic as in POSIX `chmod`.

/// Modes for what COPY and ADD make.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) enum Mode {
    /// Those of the sources.
    #[default]
    Keep,
    /// One for everything that is no symbolic link, directories included: 12 bits.
    Octal(u32),
    /// Changes of the sources' modes.
    Symbolic(Vec<Change>),
}

/// One clause of a symbolic mode, such as `u+rwX`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Change {
    /// Which of user, group and others: their permission bits.
    who: u32,
    operator: u8,
    permissions: Vec<u8>,
}

const ALL: u32 = 0o777;

impl Mode {
    /// Reads the value of `--chmod`; `None` if it is neither.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            return u32::from_str_radix(text, 8).ok().filter(|&mode| mode <= 0o7777).map(Self::Octal);
        }
        let mut changes = Vec::new();
        for clause in text.split(',') {
            changes.extend(parse_clause(clause.as_bytes())?);
        }
        Some(Self::Symbolic(changes))
    }

    /// The mode of something that had `mode`.
    pub(crate) fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        match self {
            Self::Keep => mode,
            Self::Octal(octal) => *octal,
            Self::Symbolic(changes) => {
                changes.iter().fold(mode, |mode, change| change.apply(mode, is_directory))
            }
        }
    }

    /// The mode of directories that are made on the way: octal permissions without setuid, setgid
    /// and sticky, else 0755.
    pub(crate) fn of_parents(&self) -> u32 {
        match self {
            Self::Octal(octal) => octal & ALL,
            Self::Keep | Self::Symbolic(_) => 0o755,
        }
    }
}

fn parse_clause(clause: &[u8]) -> Option<Vec<Change>> {
    let is_operator = |b: &u8| b"+-=".contains(b);
    let operators_at = clause.iter().position(is_operator)?;
    let (who, mut rest) = clause.split_at(operators_at);
    let who = who.iter().try_fold(0, |all, b| {
        let bits = match b {
            b'u' => 0o700,
            b'g' => 0o070,
            b'o' => 0o007,
            b'a' => ALL,
            _ => return None,
        };
        Some(all | bits)
    })?;
    let who = if who == 0 { ALL } else { who };
    let mut changes = Vec::new();
    while let Some((&operator, after)) = rest.split_first() {
        let end = after.iter().position(is_operator).unwrap_or(after.len());
        let permissions = &after[..end];
        let is_copy = matches!(permissions, [b'u' | b'g' | b'o']);
        if !is_copy && !permissions.iter().all(|b| b"rwxXst".contains(b)) {
            return None;
        }
        changes.push(Change { who, operator, permissions: permissions.to_vec() });
        rest = &after[end..];
    }
    Some(changes)
}

impl Change {
    fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        let mut bits = 0;
        let spread = |three: u32| three << 6 | three << 3 | three;
        for permission in &self.permissions {
            bits |= match permission {
                b'r' => 0o444,
                b'w' => 0o222,
                b'x' => 0o111,
                b'X' if is_directory || mode & 0o111 != 0 => 0o111,
                b's' => 0o6000,
                b't' => 0o1000,
                b'u' => spread(mode >> 6 & 7),
                b'g' => spread(mode >> 3 & 7),
                b'o' => spread(mode & 7),
                _ => 0,
            };
        }
        let special = match (self.who & 0o700 != 0, self.who & 0o070 != 0) {
            (true, true) => 0o7000,
            (true, false) => 0o4000,
            (false, true) => 0o2000,
            (false, false) => 0,
        };
        let sticky = if self.who == ALL { 0o1000 } else { 0 };
        let bits = bits & (self.who | special & 0o6000 | sticky);
        match self.operator {
            b'+' => mode | bits,
            b'-' => mode & !bits,
            _ => mode & !(self.who | special & 0o6000 | sticky) | bits,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn applies_as_chmod_does() {
        for (text, before, is_directory, after) in [
            ("755", 0o644, false, 0o755),
            ("4755", 0o644, false, 0o4755),
            ("u+x", 0o644, false, 0o744),
            ("a-w,g+s", 0o666, false, 0o2444),
            ("u=rwX,go=rX", 0o640, false, 0o644),
            ("u=rwX,go=rX", 0o740, false, 0o755),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("go=u", 0o700, false, 0o777),
            ("+t", 0o755, true, 0o1755),
            ("u+rw-x", 0o100, false, 0o600),
            ("o=", 0o777, false, 0o770),
        ] {
            let mode = Mode::parse(text).unwrap();
            assert_eq!(format!("{:o}", mode.apply(before, is_directory)), format!("{after:o}"), "{text}");
        }
        for text in ["", "8", "10000", "u", "z+x", "u+q", "u+x,", "99"] {
            assert_eq!(Mode::parse(text), None, "{text}");
        }
    }
}
