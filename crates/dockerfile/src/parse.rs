//! From text to stages.

use crate::{
    Directives, Error, Instruction, Position, Stage, Warning,
    heredoc::{self, Heredoc},
    instruction::{self, Command, Keyword, Parsed, Statement},
    line::LineReader,
};

/// A Dockerfile, understood but not yet expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dockerfile {
    /// The text as given. Bytes that are no UTF-8 are replaced by U+FFFD; every [`Span`](crate::Span)
    /// counts in this text.
    pub text: String,
    /// The parser directives at its top.
    pub directives: Directives,
    /// The escape character: a backslash unless a directive names the backtick.
    pub escape: char,
    /// What stands before the first FROM: only [`Command::Arg`].
    pub global_args: Vec<Instruction>,
    /// The stages, at least one.
    pub stages: Vec<Stage>,
    /// What parsing alone finds fault with; [`lint`](crate::lint()) finds more.
    pub warnings: Vec<Warning>,
}

impl Dockerfile {
    /// The number of the stage that `wanted` names as a target: by name in any case, the last of that name.
    /// Numbers name none, as in BuildKit (`resolveTarget`).
    pub fn stage(&self, wanted: &str) -> Option<usize> {
        let wanted = wanted.to_lowercase();
        let is_wanted = |stage: &Stage| stage.name.as_ref().is_some_and(|name| name.value == wanted);
        self.stages.iter().rposition(is_wanted)
    }

    /// The names of stages, in order.
    pub fn stage_names(&self) -> impl Iterator<Item = &str> {
        self.stages.iter().filter_map(|stage| stage.name.as_ref()).map(|name| name.value.as_str())
    }

    /// Line and column of a byte of [`Dockerfile::text`].
    pub fn position(&self, offset: usize) -> Position {
        Position::of(&self.text, offset)
    }
}

/// Understands a Dockerfile.
///
/// ```
/// let dockerfile = ocib_dockerfile::parse(b"FROM scratch AS models\nCOPY --chmod=0644 *.bin /models/\n")?;
/// let stage = &dockerfile.stages[0];
/// assert_eq!(stage.name.as_ref().map(|name| name.value.as_str()), Some("models"));
/// let ocib_dockerfile::Command::Copy(copy) = &stage.instructions[0].command else { unreachable!() };
/// assert_eq!(copy.destination.value, "/models/");
/// assert_eq!(dockerfile.position(copy.destination.span.start).line, 2);
/// # Ok::<(), ocib_dockerfile::Error>(())
/// ```
///
/// # Errors
/// The first thing that is wrong, with its place; everything that BuildKit refuses before it
/// expands a variable.
pub fn parse(text: &[u8]) -> Result<Dockerfile, Error> {
    if text.is_empty() {
        return Err(Error::Empty);
    }
    let text = String::from_utf8_lossy(text).into_owned();
    let mut reader = LineReader::new(&text);
    let (mut global_args, mut stages) = (Vec::new(), Vec::<Stage>::new());
    while let Some(parsed) = next(&mut reader)? {
        match (parsed, stages.last_mut()) {
            (Parsed::Stage(start), _) => stages.push(start.stage(stages.len())),
            (Parsed::Instruction(instruction), Some(stage)) => stage.instructions.push(instruction),
            (Parsed::Instruction(instruction), None) => global_args.push(global_arg(instruction)?),
        }
    }
    if stages.is_empty() {
        return Err(if global_args.is_empty() { Error::NoInstructions } else { Error::NoStages });
    }
    let (escape, warnings, directives) =
        (reader.directives.escape(), reader.warnings, reader.directives.found);
    Ok(Dockerfile { text, directives, escape, global_args, stages, warnings })
}

/// Understands an element of a base image's `OnBuild`. Spans count in `text`.
///
/// # Errors
/// Those of [`parse`]; [`Error::TriggerCount`] unless it is one instruction,
/// [`Error::BadTrigger`] if that is FROM.
pub fn parse_trigger(text: &str) -> Result<Instruction, Error> {
    let mut reader = LineReader::new(text);
    let mut found = Vec::new();
    while let Some(parsed) = next(&mut reader)? {
        found.push(parsed);
    }
    let count = found.len();
    match (found.pop(), count) {
        (Some(Parsed::Instruction(instruction)), 1) => Ok(instruction),
        (Some(Parsed::Stage(start)), 1) => {
            Err(Error::BadTrigger { trigger: Keyword::From.name(), span: start.stage(0).span })
        }
        _ => Err(Error::TriggerCount { found: count }),
    }
}

/// The next instruction with its heredocs; `None` at the end.
fn next(reader: &mut LineReader<'_>) -> Result<Option<Parsed>, Error> {
    let Some(line) = reader.logical()? else { return Ok(None) };
    let statement = Statement::split(line.all(), reader.directives.escape());
    let heredocs: Vec<Heredoc> =
        if statement.takes_heredocs()? { heredoc::read(&line, reader)? } else { Vec::new() };
    instruction::parse(&statement, heredocs).map(Some)
}

fn global_arg(instruction: Instruction) -> Result<Instruction, Error> {
    if matches!(instruction.command, Command::Arg(_)) {
        return Ok(instruction);
    }
    let word = instruction.original.split_whitespace().next().unwrap_or_default();
    let name = Keyword::of(word).map_or("an instruction", Keyword::name);
    let span = instruction.span;
    Err(Error::BeforeFrom { instruction: name, span })
}
