//! The cluster that RUN goes to: what is there, and what may be done.

use ocib_image::{ImageSource, Platform};
use ocib_kaniko::{
    End,
    preflight::{self, Found},
};
use ocib_store::Images;

use super::findings::{Finding, Findings};
use crate::{args, diagnostic::Failure};

/// Looks at all that pods for `platforms` need.
pub(super) async fn check(
    build: &args::Build,
    platforms: &[Platform],
    images: &Images,
    findings: &mut Findings,
) {
    let options = match build.run.kaniko.options(build) {
        Ok(options) => options,
        Err(failure) => return findings.add(Finding::failed("cluster", "", &failure)),
    };
    let cluster = match build.run.kaniko.cluster().connect().await {
        Ok(cluster) => cluster,
        Err(error) => return findings.add(Finding::failed("cluster", "", &Failure::of_run(&error))),
    };
    for found in preflight::check(&cluster, &options, platforms).await {
        findings.add(match found.state {
            Found::Good(seen) => Finding::ok("cluster", found.what, seen),
            Found::Unknown(why) => Finding::unknown("cluster", found.what, why),
            Found::Bad(end, seen) => Finding::failed("cluster", found.what, &failure(end, &seen)),
        });
    }
    executor(&options.image, platforms, images, findings).await;
}

/// What a pod would end with.
fn failure(end: End, seen: &str) -> Failure {
    let error =
        ocib_image::RunError::new(end.kind(), end.cause(), format!("{}: {seen}", end.what()), end.remedy());
    Failure::of_run(&error)
}

/// Nodes pull the executor's image with rights of their own, so that it is there from here says enough, and
/// that it is not says nothing.
async fn executor(image: &str, platforms: &[Platform], images: &Images, findings: &mut Findings) {
    let Ok(name) = image.parse() else {
        return findings.add(Finding::failed("cluster", image, &failure(End::ImageName, image)));
    };
    for platform in platforms {
        findings.add(match images.resolve(&name, platform).await {
            Ok(_) => Finding::ok("cluster", image, format!("the executor's image is there for {platform}")),
            Err(error) => Finding::unknown(
                "cluster",
                image,
                format!("whether nodes can pull it for {platform}: {error}"),
            ),
        });
    }
}
