//! `ocib model pull` and `ocib model check`: a model out of its image.

use std::sync::Arc;

use bytesize::ByteSize;
use ocib_image::{Event, ImageName, Platform};
use ocib_model::{PullOptions, Ways, check, pull};
use ocib_net::Backoff;
use ocib_store::Images;

use super::flags::{Check, Pull};
use crate::{
    args::Shared,
    copy::AS_IT_IS,
    diagnostic::{Exit, Failure},
    places, progress,
    registries::Clients,
    report, wiring,
};

/// Runs `ocib model pull`.
pub(super) fn run(options: &Pull) -> Result<(), Failure> {
    let (clients, images) = clients(&options.shared)?;
    let events = progress::watch(options.shared.progress, options.shared.quiet);
    let name = places::name(&options.image)?;
    let budget = wiring::sealer(&options.shared, AS_IT_IS)?.budget();
    let how = PullOptions {
        prefix: options.prefix.trim_matches('/').to_owned(),
        platform: options.platform.clone().unwrap_or_else(Platform::linux_amd64),
        streams: budget.layers,
    };
    let directory = options.directory.clone();
    let told = Arc::clone(&events);
    let pulled = wiring::run(async move {
        let origin = places::open(&images, &name).await?;
        let pulled = pull(&*origin, &directory, &how, &events).await;
        pulled.map_err(|error| clients.explained(Failure::of_model(&error)))
    })?;
    let size = |bytes| ByteSize::b(bytes).display().iec().to_string();
    let text = format!(
        "{} files, {}; {} of the layers were there already",
        pulled.files,
        size(pulled.bytes),
        size(pulled.present_bytes)
    );
    told.emit(Event::Note(&text));
    Ok(())
}

/// Runs `ocib model check`.
pub(super) fn run_check(options: &Check) -> Result<(), Failure> {
    let (clients, images) = clients(&options.shared)?;
    let name = places::name(&options.image)?;
    let platform = options.platform.clone().unwrap_or_else(Platform::linux_amd64);
    let is_latest = matches!(&name, ImageName::Registry(reference) if reference.digest().is_none() && reference.tag() == Some("latest"));
    let ways: Ways = wiring::run(async move {
        let origin = places::open(&images, &name).await?;
        let ways = check(&*origin, &platform).await;
        ways.map_err(|error| clients.explained(Failure::of_model(&error)))
    })?;
    let mut is_good = true;
    for (way, problems) in ways.all() {
        match problems.is_empty() {
            true => report::result(&format!("good     {way}")),
            false => {
                is_good = false;
                problems.iter().for_each(|problem| {
                    report::result(&format!("problem  {way}: {}", crate::terminal::line(problem, 200)));
                });
            }
        }
    }
    if is_latest {
        report::result(
            "note     the tag is latest: nodes that have an older image under it may go on with that",
        );
    }
    match is_good {
        true => Ok(()),
        false => Err(Failure::new(Exit::Failed, "KServe would not find the model in every way").help(
            "docs/models.md says what each way needs; the sidecar wants a --base with sh, ln and sleep",
        )),
    }
}

fn clients(shared: &Shared) -> Result<(Clients, Images), Failure> {
    let events = progress::watch(shared.progress, shared.quiet);
    let clients = Clients::new(shared, &wiring::http(shared)?, Backoff::default(), events)?;
    let images = Images { registries: clients.registries.clone() };
    Ok((clients, images))
}
