//! `ocib model`: large models as images.

mod check;
mod pull;

use clap::{Args, Subcommand};

use crate::diagnostic::Failure;

#[derive(Args, Debug)]
pub(crate) struct Model {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Put the files of a model image or artifact into a directory.
    Pull(Box<pull::Pull>),
    /// Say whether KServe's three ways to a model find in an image what they expect.
    Check(Box<check::Check>),
}

/// Runs the command.
pub(crate) fn run(model: &Model) -> Result<(), Failure> {
    match &model.command {
        Command::Pull(pull) => pull::run(pull),
        Command::Check(check) => check::run(check),
    }
}
