//! Heredocs: `<<EOF` on an instruction's line, and the lines up to `EOF` behind it.

use crate::{
    Error, ExpandError, Span,
    expand::{Lexer, Quoting},
    line::{LineReader, LogicalLine, Slice},
};

/// A heredoc of COPY, ADD or RUN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// The delimiter without quotes: also the file name that COPY and ADD give the content.
    pub name: String,
    /// Whether variables are replaced in the content: not if any part of the delimiter is quoted.
    /// In RUN it is the shell that does it, in COPY and ADD [`Expander::heredoc`](crate::Expander::heredoc).
    pub expand: bool,
    /// `<<-`: tabs at the beginning of lines go away.
    pub chomp: bool,
    /// The number before `<<`, 0 if there is none. It means something to RUN's shell only.
    pub file_descriptor: u32,
    /// The lines with their line ends, unexpanded. In COPY and ADD the tabs of a `<<-` are
    /// gone already; in RUN they stay, since the shell removes them.
    pub content: String,
    /// The `<<` word.
    pub span: Span,
}

impl Heredoc {
    /// The content without the tabs that `<<-` removes.
    pub fn chomped(&self) -> String {
        if self.chomp { without_leading_tabs(&self.content) } else { self.content.clone() }
    }
}

/// The heredocs that `line` announces, with the bodies that follow in `reader`.
///
/// # Errors
/// [`Error::UnterminatedHeredoc`] where the file ends before a body does.
pub(crate) fn read(line: &LogicalLine, reader: &mut LineReader<'_>) -> Result<Vec<Heredoc>, Error> {
    let mut heredocs = announced(line.all())?;
    for heredoc in &mut heredocs {
        loop {
            let Some(line) = reader.physical()? else {
                return Err(Error::UnterminatedHeredoc { name: heredoc.name.clone(), span: heredoc.span });
            };
            let end = line.content();
            let end = if heredoc.chomp { end.trim_start_matches('\t') } else { end };
            if end == heredoc.name {
                break;
            }
            heredoc.content.push_str(line.raw);
        }
    }
    Ok(heredocs)
}

/// BuildKit's `heredocsFromLine`: shell words, always with the backslash as the escape character.
fn announced(line: Slice<'_>) -> Result<Vec<Heredoc>, Error> {
    if !line.text().contains("<<") {
        return Ok(Vec::new());
    }
    let quoting = Quoting { keep_quotes: true, keep_escapes: true, keep_unset: true, ..Quoting::default() };
    // A line that is no shell words, such as one with an odd quote, has no heredocs.
    let words = words(line.text(), quoting).unwrap_or_default();
    let mut from = 0;
    let mut heredocs = Vec::new();
    for word in words {
        let found = line.text()[from..].find(&word).map(|at| from + at);
        let span = found.map_or_else(|| line.span(), |at| line.part(at, at + word.len()).span());
        from = found.map_or(from, |at| at + word.len());
        match parse_word(&word) {
            Ok(Some(heredoc)) => heredocs.push(Heredoc { span, ..heredoc }),
            Ok(None) => {}
            Err(reason) => return Err(Error::BadHeredoc { reason, span }),
        }
    }
    Ok(heredocs)
}

/// The heredoc that a single word announces, without content and place: BuildKit's
/// `^(\d*)<<(-?)([^<]*)$` with a delimiter of exactly one shell word.
pub(crate) fn parse_word(word: &str) -> Result<Option<Heredoc>, ExpandError> {
    let descriptor_end = word.find(|c: char| !c.is_ascii_digit()).unwrap_or(word.len());
    let (descriptor, rest) = word.split_at(descriptor_end);
    let Some(rest) = rest.strip_prefix("<<") else { return Ok(None) };
    let (chomp, delimiter) = rest.strip_prefix('-').map_or((false, rest), |rest| (true, rest));
    if delimiter.is_empty() || delimiter.contains('<') {
        return Ok(None);
    }
    let plain = words(delimiter, Quoting { keep_unset: true, ..Quoting::default() })?;
    let [name] = plain.as_slice() else { return Ok(None) };
    let quoted = words(delimiter, Quoting { keep_unset: true, keep_quotes: true, ..Quoting::default() })?;
    let expand = quoted.iter().map(|word| quotes(word)).sum::<usize>() == quotes(name);
    Ok(Some(Heredoc {
        name: name.clone(),
        expand,
        chomp,
        file_descriptor: descriptor.parse().unwrap_or(0),
        content: String::new(),
        span: Span::default(),
    }))
}

/// `text` without the tabs at the beginning of its lines.
pub(crate) fn without_leading_tabs(text: &str) -> String {
    text.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
}

fn words(text: &str, quoting: Quoting) -> Result<Vec<String>, ExpandError> {
    let unset = |_: &str| None;
    Lexer::new(text, &unset, quoting).run(text).map(|expansion| expansion.words)
}

fn quotes(word: &str) -> usize {
    word.matches(['\'', '"']).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heredocs(text: &str) -> Result<(Vec<Heredoc>, Option<String>), Error> {
        let mut reader = LineReader::new(text);
        let line = reader.logical()?.unwrap();
        let found = read(&line, &mut reader)?;
        Ok((found, reader.logical()?.map(|line| line.text)))
    }

    fn heredoc(name: &str, content: &str, start: usize, end: usize) -> Heredoc {
        Heredoc {
            name: name.to_owned(),
            expand: true,
            chomp: false,
            file_descriptor: 0,
            content: content.to_owned(),
            span: Span { start, end },
        }
    }

    #[test]
    fn bodies() {
        let cases = [
            ("COPY <<EOF /f\na\n b\nEOF\nRUN x", vec![heredoc("EOF", "a\n b\n", 5, 10)], Some("RUN x")),
            ("COPY <<EOF /f\r\na\r\nEOF\r\n", vec![heredoc("EOF", "a\r\n", 5, 10)], None),
            (
                "RUN cat <<A <<\"B\" && 3<<-C\n1\nA\n2\nB\n\t3\n\tC\n",
                vec![
                    heredoc("A", "1\n", 8, 11),
                    Heredoc { expand: false, ..heredoc("B", "2\n", 12, 17) },
                    Heredoc { chomp: true, file_descriptor: 3, ..heredoc("C", "\t3\n", 21, 26) },
                ],
                None,
            ),
            ("RUN a \\\n <<E\n# in\n\nE", vec![heredoc("E", "# in\n\n", 9, 12)], None),
            ("RUN a <<'E\"F'\nE\"F", vec![Heredoc { expand: false, ..heredoc("E\"F", "", 6, 13) }], None),
            ("RUN ${X:=1} <<E\nE\n", vec![heredoc("E", "", 12, 15)], None),
            ("RUN a <<\\E\nE\n", vec![heredoc("E", "", 6, 10)], None),
            ("RUN a <<$E\n$E\n", vec![heredoc("$E", "", 6, 10)], None),
        ];
        for (text, expected, rest) in cases {
            assert_eq!(heredocs(text), Ok((expected, rest.map(str::to_owned))), "{text:?}");
        }
    }

    #[test]
    fn no_heredocs() {
        for text in [
            "RUN a << EOF",
            "RUN a <<<EOF",
            "RUN a \"<<EOF\"",
            "RUN a\\<<EOF",
            "RUN it's <<EOF",
            "RUN a<<E",
            "RUN <<-",
        ] {
            assert_eq!(heredocs(text), Ok((Vec::new(), None)), "{text}");
        }
    }

    #[test]
    fn unterminated() {
        let error = heredocs("COPY <<EOF /f\nno end\n EOF\n").unwrap_err();
        assert_eq!(error.to_string(), "unterminated heredoc: no line holds just EOF");
        assert_eq!(error.span(), Some(Span { start: 5, end: 10 }));
    }

    #[test]
    fn tabs() {
        let heredoc = Heredoc { chomp: true, ..heredoc("E", "\t\ta\n\t b\n \tc\n\t", 0, 0) };
        assert_eq!(heredoc.chomped(), "a\n b\n \tc\n");
    }
}
