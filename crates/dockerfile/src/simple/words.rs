//! The shell's language, as little of it as means the same everywhere: words, quotes, known variables,
//! and `&&`, `;` or a new line between commands. Everything else has no reading here.

use std::{collections::BTreeMap, iter::Peekable, str::Chars};

/// Variables that a shell sets itself, whatever its environment says.
const OF_THE_SHELL: [&str; 20] = [
    "DIRSTACK", "EUID", "FUNCNAME", "GROUPS", "HISTCMD", "HOSTNAME", "HOSTTYPE", "LINENO", "MACHTYPE",
    "OLDPWD", "OPTARG", "OPTIND", "OSTYPE", "PPID", "PS4", "PWD", "RANDOM", "SECONDS", "SHLVL", "UID",
];

enum Token {
    Word(String),
    /// `&&`.
    And,
    /// `;`.
    Semicolon,
    Line,
}

/// The words of each command of a script, quotes removed and variables replaced.
pub(super) fn read(script: &str, variables: &BTreeMap<String, String>) -> Option<Vec<Vec<String>>> {
    let mut reader = Reader { rest: script.chars().peekable(), variables };
    let mut commands: Vec<Vec<String>> = Vec::new();
    let mut words = Vec::new();
    // Whether another command has to follow.
    let mut is_open = false;
    while let Some(token) = reader.token()? {
        match token {
            Token::Word(word) => words.push(word),
            // A blank line, also after `&&`.
            Token::Line if words.is_empty() => {}
            _ if words.is_empty() => return None,
            other => {
                commands.push(std::mem::take(&mut words));
                is_open = matches!(other, Token::And);
            }
        }
    }
    match (words.is_empty(), is_open) {
        (true, true) => return None,
        (true, false) => {}
        (false, _) => commands.push(words),
    }
    Some(commands)
}

struct Reader<'a> {
    rest: Peekable<Chars<'a>>,
    variables: &'a BTreeMap<String, String>,
}

impl Reader<'_> {
    /// The next token, or that there is none, or `None` for what has no reading.
    #[expect(clippy::option_option, reason = "no reading, the end and a token are three answers")]
    fn token(&mut self) -> Option<Option<Token>> {
        while self.rest.next_if(|&c| c == ' ' || c == '\t').is_some() {}
        let Some(&first) = self.rest.peek() else { return Some(None) };
        let token = match first {
            '\n' => self.skip(Token::Line),
            ';' => self.skip(Token::Semicolon),
            '&' => {
                self.rest.next();
                self.rest.next_if_eq(&'&')?;
                Token::And
            }
            '#' => {
                while self.rest.next_if(|&c| c != '\n').is_some() {}
                return self.token();
            }
            _ => Token::Word(self.word()?),
        };
        Some(Some(token))
    }

    fn skip(&mut self, token: Token) -> Token {
        self.rest.next();
        token
    }

    fn word(&mut self) -> Option<String> {
        let mut word = String::new();
        while let Some(c) = self.rest.next_if(|c| !" \t\n;&".contains(*c)) {
            match c {
                '\'' => loop {
                    match self.rest.next()? {
                        '\'' => break,
                        c if c.is_control() => return None,
                        c => word.push(c),
                    }
                },
                '"' => self.quoted(&mut word)?,
                '$' => {
                    let value = self.variable()?;
                    // Not split, not matched against files, and not gone.
                    if value.is_empty() || !value.chars().all(is_plain) {
                        return None;
                    }
                    word.push_str(value);
                }
                '#' => word.push('#'),
                c if is_plain(c) => word.push(c),
                _ => return None,
            }
        }
        Some(word)
    }

    /// The rest of what stands in double quotes.
    fn quoted(&mut self, word: &mut String) -> Option<()> {
        loop {
            match self.rest.next()? {
                '"' => return Some(()),
                '$' => {
                    let value = self.variable()?;
                    if value.contains(char::is_control) {
                        return None;
                    }
                    word.push_str(value);
                }
                '`' | '\\' => return None,
                c if c.is_control() => return None,
                c => word.push(c),
            }
        }
    }

    /// The value of `NAME` or `{NAME}` behind a `$`.
    fn variable(&mut self) -> Option<&str> {
        let is_braced = self.rest.next_if_eq(&'{').is_some();
        let mut name = String::new();
        while let Some(c) = self.rest.next_if(|&c| c == '_' || c.is_ascii_alphanumeric()) {
            name.push(c);
        }
        if is_braced {
            self.rest.next_if_eq(&'}')?;
        }
        let is_name = name.starts_with(|c: char| c == '_' || c.is_ascii_alphabetic());
        if !is_name || name == "_" || OF_THE_SHELL.contains(&&*name) {
            return None;
        }
        self.variables.get(&name).map(String::as_str)
    }
}

/// Whether a character stands for itself, outside of quotes and anywhere in a word.
fn is_plain(c: char) -> bool {
    c.is_alphanumeric() || "-_./,:+@%=".contains(c)
}
