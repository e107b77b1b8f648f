//! What a push costs, beside what other tools need for the same.
//!
//! `cargo bench --bench push` prints the tables of `docs/performance.md`; it needs Debian's
//! docker-registry, skopeo, umoci, openssl, strace and time, 8 GB in `/dev/shm` and some minutes. Sections
//! can be named (`-- model files context again memory`), and `--quick` only shows that all of it works.
//!
//! Inputs and the registry's storage lie in memory, so that no disk is measured; what a tool
//! writes besides goes to a disk and is counted. Everything is made before and removed after.
#![allow(clippy::print_stdout, reason = "the tables are the result")]

mod again;
mod calls;
mod contenders;
mod inputs;
#[allow(dead_code, reason = "only models pass through narrow ones")]
mod link;
mod measure;
mod memory;
mod race;
mod report;
mod site;
mod text;

use inputs::Scale;
use report::Options;
use site::Site;

fn main() {
    let Some(options) = Options::from_arguments() else { return };
    let scale = if options.quick { Scale::QUICK } else { Scale::FULL };
    let site = Site::new();
    println!("{}\n", report::machine());
    if options.wants("model") {
        let model = inputs::model(&site, &scale);
        println!("## {}\n\n{}", model.title, race::run(&site, &model, &contenders::for_model(), scale.runs));
    }
    if options.wants("files") {
        let files = inputs::small_files(&site, &scale);
        println!("## {}\n\n{}", files.title, race::run(&site, &files, &contenders::for_files(), scale.runs));
    }
    if options.wants("context") {
        let input = inputs::small_copy(&site, &scale);
        let contenders = contenders::for_small_copy();
        println!("## {}\n\n{}", input.title, race::run(&site, &input, &contenders, scale.runs));
        println!("{}", calls::run(&site, &input, &contenders));
    }
    if options.wants("again") {
        println!("## The same image again\n\n{}", again::run(&site, &scale));
    }
    if options.wants("memory") {
        println!("## Peak memory\n\n{}\n{}", memory::codecs(&site, &scale), memory::entries(&site, &scale));
    }
}
