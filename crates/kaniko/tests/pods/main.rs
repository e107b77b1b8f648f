//! The backend against an API server: the fake of `ocib-testkit`, and any real one that
//! `OCIB_TEST_KUBECONFIG` names.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod ends;
mod jobs;
mod real;
mod tidy;
mod weather;
