//! Integration tests: the built program against real registries and other people's readers.
//!
//! One program, a file for each subject; [`program`] runs what is tested. What a test needs of the
//! machine is installed by `tests/run.sh`; where it is missing the test fails and names it. Tests
//! that need minutes or many gigabytes run where `OCIB_TEST_FULL` is set.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

#[cfg(feature = "ecr")]
mod aws_ways;
mod bases;
mod check;
mod conformance;
mod copy;
mod ecr;
#[cfg(feature = "ecr")]
mod ecr_layers;
#[cfg(feature = "ecr")]
mod ecr_login;
#[cfg(feature = "ecr")]
mod ecr_public;
mod ecr_resume;
mod errors;
mod examples;
mod executor_image;
mod explain;
#[cfg(feature = "ecr")]
mod faults;
#[cfg(all(feature = "model", feature = "s3"))]
mod faults_sources;
mod git;
mod hostile;
mod house;
mod inspect;
mod interrupted;
mod killed;
mod large;
mod memory;
mod metadata;
#[cfg(feature = "model")]
mod model;
#[cfg(feature = "model")]
mod model_artifacts;
#[cfg(feature = "model")]
mod model_check;
#[cfg(feature = "model")]
mod model_guide;
#[cfg(feature = "model")]
mod model_images;
#[cfg(feature = "model")]
mod model_inspect;
#[cfg(feature = "model")]
mod model_large;
#[cfg(feature = "model")]
mod model_layers;
#[cfg(feature = "model")]
mod model_moves;
#[cfg(feature = "model")]
mod model_pull;
#[cfg(feature = "model")]
mod model_urls;
mod native_random;
mod native_run;
mod outputs;
mod page;
mod plan;
mod platforms;
#[cfg(feature = "ecr")]
mod preflight;
mod problems;
mod program;
mod push;
mod registry_config;
mod reproducible;
mod reuse;
#[cfg(feature = "kaniko")]
mod run_contexts;
mod run_docker;
mod run_failures;
#[cfg(feature = "kaniko")]
mod run_kaniko;
mod run_local;
mod run_mounts;
mod runs;
mod slow;
mod sources;
mod stdin;
mod verify;
