//! `ocib model`: models into images, and out of them.

mod build;
mod check;
mod flags;
mod inspect;
mod pull;
mod report;
mod source;

pub(crate) use flags::{Build, Model};

use flags::ModelCommand;

use crate::diagnostic::Failure;

/// Runs the command.
pub(crate) fn run(model: &Model) -> Result<(), Failure> {
    match &model.command {
        ModelCommand::Build(build) => build::run(build),
        ModelCommand::Inspect(inspect) => inspect::run(inspect),
        ModelCommand::Pull(pull) => pull::run(pull),
        ModelCommand::Check(check) => check::run(check),
    }
}
