//! A directory of weights into a registry, with progress, as a program of one's own would do it:
//!
//! ```text
//! cargo add ocib --no-default-features --features model
//! cargo run --example push_model -- ./model registry.example/team/model:1
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is what the program is for")]

use std::{path::Path, sync::Arc};

use ocib::{
    image::{Budget, Codec, Event, Events, Limits, Reference, Sealer},
    model::{Model, Options, publish},
    source::Directory,
    store::{DockerAuth, HashFirst, PushOptions, Registries, RegistriesOptions, RegistrySink},
};

/// Says when a layer is done.
struct Lines;

impl Events for Lines {
    fn emit(&self, event: Event<'_>) {
        match event {
            Event::Started { what, .. } => eprintln!("{what}"),
            Event::Finished { task, outcome } => eprintln!("layer {}: {outcome:?}", task.0),
            _ => {}
        }
    }
}

#[tokio::main(flavor = "multi_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [directory, name] = &arguments[..] else { return Err("expected DIRECTORY REFERENCE".into()) };
    let reference: Reference = name.parse()?;

    let tree = Arc::new(Directory::open(Path::new(directory))?);
    let model = Model::open(tree, Options::default()).await?;
    let facts = model.facts().await?;
    eprintln!("{} parameters in {} layers", facts.size_label().unwrap_or_default(), model.layers().len());

    let limits = Limits { memory_bytes: 64 << 20, jobs: 0, cores: 2 };
    let sink = RegistrySink::new(PushOptions {
        registries: Registries::new(RegistriesOptions {
            credentials: Arc::new(DockerAuth::from_environment(&|name| std::env::var(name).ok())),
            ..RegistriesOptions::default()
        }),
        tags: vec![reference.tag().unwrap_or("latest").to_owned()],
        repository: reference,
        sealer: Sealer::new(Budget::new(limits, Codec::GZIP)?),
        hash_first: HashFirst::Auto,
        cache_from: Vec::new(),
    });
    let events: Arc<dyn Events> = Arc::new(Lines);
    // Dropping this future, as a timeout or a select does, ends the transfers; no tag was moved then.
    let published = publish(&model, &sink, &events).await?;
    println!("{}", published.references[0]);
    Ok(())
}
