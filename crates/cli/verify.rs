//! `ocib verify`: whether an image is what its digests say, or what a build gives.

mod context;

use ocib_store::{Checked, CheckedKind, Images, VerifyOptions, verify_image};

use crate::{
    args,
    copy::AS_IT_IS,
    diagnostic::{Exit, Failure},
    places, progress, registries, report, terminal, wiring,
};

/// Runs the command.
pub(crate) fn run(verify: &args::Verify) -> Result<(), Failure> {
    if let Some(context) = &verify.context {
        return context::run(verify, context);
    }
    let name = places::name(&verify.image)?;
    let events = progress::watch(verify.shared.progress, verify.shared.quiet);
    let layers = wiring::sealer(&verify.shared, AS_IT_IS)?.budget().layers;
    let images = Images {
        registries: registries::registries(&verify.shared, &wiring::http(&verify.shared)?, events.clone())?,
    };
    let options = VerifyOptions { platform: verify.platform.clone(), layers };
    let checked = wiring::run(async move {
        let (options, events) = (&options, &events);
        let checked =
            images.read(&name, |origin| async move { verify_image(&origin, options, events).await });
        checked.await.map_err(|error| places::unread(&name, &error))
    })?;
    checked.iter().for_each(|checked| report::result(&line(checked)));
    match checked.iter().filter(|checked| checked.wrong.is_some()).count() {
        0 => Ok(()),
        wrong => {
            let message = format!("{wrong} of {} parts of {} are wrong", checked.len(), verify.image);
            Err(Failure::new(Exit::Failed, message).help("do not use the image, and tell its owner"))
        }
    }
}

fn line(checked: &Checked) -> String {
    let Checked { kind, digest, size, wrong } = checked;
    let (state, why) = match (wrong, kind) {
        (Some(why), _) => ("wrong", format!(": {}", terminal::printable(why))),
        (None, CheckedKind::Foreign) => ("unread", ": its owner keeps it elsewhere".to_owned()),
        (None, _) => ("ok", String::new()),
    };
    format!("{state:<6} {kind:<8} {digest} {size}{why}")
}
