//! The `ocib` command: flags in, wiring, pictures and diagnostics out. Nothing here is for reuse.

mod args;
mod build;
mod buildx;
mod check;
mod copy;
mod diagnostic;
mod dockerfile;
#[cfg(feature = "ecr")]
mod ecr;
mod environment;
mod explain;
mod git;
mod inspect;
#[cfg(feature = "model")]
mod model;
mod output;
mod places;
mod plan;
mod preflight;
mod progress;
mod registries;
mod report;
mod run;
#[cfg(feature = "kaniko")]
mod run_pods;
mod sources;
mod tag;
mod terminal;
mod tree;
mod verify;
mod wiring;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = args::Cli::parse();
    let result = match cli.command {
        args::Command::Build(build) => build::run(&build),
        args::Command::Plan(plan) => plan::run(&plan),
        args::Command::Check(check) => check::run(&check),
        args::Command::Copy(copy) => copy::run(&copy),
        args::Command::Tag(tag) => tag::run(&tag),
        args::Command::Inspect(inspect) => inspect::run(&inspect),
        args::Command::Verify(verify) => verify::run(&verify),
        args::Command::Preflight(preflight) => preflight::run(&preflight),
        #[cfg(feature = "kaniko")]
        args::Command::RunPods(run_pods) => run_pods::run(&run_pods),
        args::Command::Explain(explain) => explain::run(&explain),
        #[cfg(feature = "model")]
        args::Command::Model(model) => model::run(&model),
        args::Command::Version => report::version(),
    };
    match result.and_then(|()| report::complete()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
