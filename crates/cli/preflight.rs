//! `ocib preflight`: what would keep a build from ending well, found out beforehand. No layer is made or
//! sent, no tag and no repository is touched.

#[cfg(feature = "kaniko")]
mod cluster;
mod findings;
mod machine;
mod registry;

use std::{sync::Arc, time::Duration};

use clap::Args;
use ocib_build::{PartOutline, Prepared, Supplies, bases, outline, prepare};
use ocib_image::RunBackend;
use ocib_net::{Backoff, HttpOptions};

use self::findings::{Finding, Findings};
#[cfg(feature = "kaniko")]
use crate::run::Run;
use crate::{
    args,
    build::Wired,
    diagnostic::Failure,
    output::{Means, Output},
    progress,
    registries::Clients,
    report, run, wiring,
};

#[derive(Args, Debug)]
#[command(after_help = "\
Takes the flags of ocib build. What was found goes to stdout.

Exit codes: 0 no problem was found, else that of the worst one: 4 authentication or permission,
5 registry or network, 6 cluster, 3 Dockerfile or context, 1 anything else; 2 usage.
What cannot be found out is said to be unknown, and is not taken for good.")]
pub(crate) struct Preflight {
    #[command(flatten)]
    pub(crate) build: args::Build,

    /// Print JSON, whatever the exit code.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Who waits for this is in a hurry, so a failure is tried once more and no longer.
const BACKOFF: Backoff =
    Backoff { attempts: 2, first: Duration::from_millis(200), longest: Duration::from_secs(1) };
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs the command.
pub(crate) fn run(preflight: &Preflight) -> Result<(), Failure> {
    let build = &preflight.build;
    let outputs = Output::all(&build.image)?;
    let events = progress::watch(build.shared.progress, true);
    let http = HttpOptions {
        connect_timeout: PATIENCE / 2,
        idle_timeout: PATIENCE,
        answer_timeout: PATIENCE,
        ..wiring::http(&build.shared)?
    };
    let mut findings = Findings::default();
    machine::check(build, &mut findings);
    let references = outputs.iter().find_map(|output| match output {
        Output::Registry(references) => Some(references.clone()),
        _ => None,
    });
    let (clients, wired, runtime) = match Wired::new(build, Arc::clone(&events), &http, BACKOFF) {
        Ok((wired, runtime)) => (wired.clients.clone(), Some(wired), runtime),
        Err(failure) => {
            findings.add(Finding::failed("context", "", &failure));
            (Clients::new(&build.shared, &http, BACKOFF, events)?, None, wiring::runtime()?)
        }
    };
    let sealer = match &wired {
        Some(wired) => wired.sealer(build),
        None => wiring::sealer(&build.shared, build.compression),
    }?;
    let means = Means::of(&build.image, clients.clone(), sealer)?;
    let findings = wiring::finish(runtime, async move {
        let prepared = match &wired {
            Some(wired) if build.run.is_given() => {
                let backend = run::backend(build, &wired.clients)?;
                outlined(wired, &build.run.name(), backend.as_deref(), &mut findings).await;
                #[cfg(feature = "kaniko")]
                if build.run.run == Run::Kaniko {
                    cluster::check(build, &wired.request.platforms, &wired.images, &mut findings).await;
                }
                None
            }
            Some(wired) => prepared(wired, &mut findings).await,
            None => None,
        };
        // Nothing is pushed without --push, but the names say where it would go.
        for push in means.pushes(references.as_deref().unwrap_or(&build.image.tags)) {
            registry::check(&clients, &means, push, prepared.as_ref(), &mut findings).await;
        }
        registry::identities(&clients, &mut findings);
        Ok(findings)
    })?;
    report::result(&match preflight.json {
        true => format!("{:#}", findings.json()),
        false => findings.table(),
    });
    findings.verdict()
}

/// Looks at what a build that delegates would do, which runs nothing.
async fn outlined(
    wired: &Wired,
    name_of_run: &str,
    backend: Option<&dyn RunBackend>,
    findings: &mut Findings,
) {
    let Wired { request, name, images, fetcher, .. } = wired;
    match outline(Arc::clone(request), images, Some(fetcher), backend).await {
        Ok(outline) => {
            let parts =
                outline.targets.iter().flat_map(|target| &target.stages).flat_map(|stage| &stage.parts);
            let count = parts.filter(|part| matches!(part, PartOutline::Delegated(_))).count();
            findings.add(Finding::ok("dockerfile", name, "every instruction can be carried out"));
            let parts = if count == 1 { "part" } else { "parts" };
            let detail =
                format!("{count} {parts} with RUN, for {name_of_run}, unless their results are there");
            findings.add(Finding::ok("run", name_of_run, detail));
        }
        Err(error) => findings.add(Finding::failed("dockerfile", name, &wired.failure(&error))),
    }
}

/// Does all of a build that writes nothing.
async fn prepared(wired: &Wired, findings: &mut Findings) -> Option<Prepared> {
    let Wired { request, name, images, fetcher, .. } = wired;
    let supplies = Supplies { images, fetch: Some(fetcher), runs: None };
    match prepare(Arc::clone(request), supplies).await {
        Ok(prepared) => {
            for (base, platform) in bases(request).unwrap_or_default() {
                let detail = format!("it is there for {platform}");
                findings.add(Finding::ok("base", base.to_string(), detail));
            }
            findings.add(Finding::ok("dockerfile", name, "every instruction can be carried out"));
            findings.add(Finding::ok("cluster", "", "no RUN, so no cluster is needed"));
            Some(prepared)
        }
        Err(error) => {
            let failure = wired.failure(&error);
            let check = if failure.cause().is_some() { "base" } else { "dockerfile" };
            findings.add(Finding::failed(check, name, &failure));
            findings.add(Finding::unknown(
                "cluster",
                "",
                "whether RUN is needed shows when the Dockerfile is right",
            ));
            None
        }
    }
}
