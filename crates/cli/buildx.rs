//! Flags of `docker buildx build` that mean little or nothing here: accepted with a note, so that
//! scripts carry over, or refused with the reason. `docs/build.md` has a row for each.

use clap::Args;
use ocib_image::{Event, Events};

use crate::diagnostic::Failure;

#[derive(Args, Debug)]
pub(crate) struct Buildx {
    #[arg(long, hide = true, value_name = "HOST:IP")]
    add_host: Vec<String>,
    #[arg(long, hide = true)]
    allow: Vec<String>,
    #[arg(long, hide = true)]
    attest: Vec<String>,
    #[arg(long, hide = true)]
    builder: Option<String>,
    #[arg(long, hide = true)]
    cache_to: Vec<String>,
    #[arg(long, hide = true)]
    call: Option<String>,
    #[arg(long, hide = true)]
    cgroup_parent: Option<String>,
    #[arg(long, hide = true)]
    check: bool,
    #[arg(short = 'D', long, hide = true)]
    debug: bool,
    #[arg(long, hide = true)]
    load: bool,
    #[arg(long, hide = true)]
    network: Option<String>,
    #[arg(long, hide = true)]
    no_cache: bool,
    #[arg(long, hide = true)]
    no_cache_filter: Vec<String>,
    #[arg(long, hide = true)]
    policy: Vec<String>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    provenance: Option<String>,
    #[arg(long, hide = true)]
    pull: bool,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    sbom: Option<String>,
    #[arg(long, hide = true)]
    shm_size: Option<String>,
    #[arg(long, hide = true)]
    ulimit: Vec<String>,
}

const FOR_RUN: &str = "it concerns RUN only, and no backend is told of it";
const NO_CACHE: &str = "a layer is taken from a cache only where its inputs are the same";

impl Buildx {
    /// Refuses what would be missed, and tells `events` of what makes no difference. Commands miss more than
    /// files do: `runs` says whether any is carried out.
    pub(crate) fn answer(&self, events: &dyn Events, runs: bool) -> Result<(), Failure> {
        let missed = if runs { self.missed_by_run().to_vec() } else { Vec::new() };
        let mut all = self.refused().into_iter().chain(missed);
        if let Some((flag, why, instead)) = all.find(|(_, why, _)| !why.is_empty()) {
            return Err(Failure::usage(format!("{flag}: {why}")).help(instead));
        }
        for (flag, why) in self.ignored() {
            events.emit(Event::Note(&format!("{flag} makes no difference: {why}")));
        }
        Ok(())
    }

    /// Whether `--no-cache` was given: then what is known of base layers is found out again.
    pub(crate) fn no_cache(&self) -> bool {
        self.no_cache
    }

    fn refused(&self) -> [(&'static str, &'static str, &'static str); 6] {
        let asked =
            |flag: &Option<String>| flag.as_ref().is_some_and(|value| !matches!(&**value, "false" | "0"));
        let when = |is_given: bool, why: &'static str| if is_given { why } else { "" };
        let nothing_attached = "this version attaches nothing to images";
        let warnings = "the checks that a Dockerfile alone decides are warnings of every build";
        [
            (
                "--load",
                when(self.load, "there is no daemon to load the image into"),
                "write an archive, as in --output type=docker,dest=- | docker load",
            ),
            ("--attest", when(!self.attest.is_empty(), nothing_attached), "leave the flag out"),
            (
                "--provenance",
                when(asked(&self.provenance), nothing_attached),
                "leave the flag out, or say =false",
            ),
            ("--sbom", when(asked(&self.sbom), nothing_attached), "leave the flag out, or say =false"),
            (
                "--call",
                when(self.call.as_deref().is_some_and(|call| call != "build") || self.check, warnings),
                "build, and read stderr",
            ),
            ("--policy", when(!self.policy.is_empty(), "there are no policies"), "leave the flag out"),
        ]
    }

    /// What a command would miss.
    fn missed_by_run(&self) -> [(&'static str, &'static str, &'static str); 2] {
        const MISSED: &str = "backends of RUN are not given it, so a command would miss it";
        let when = |is_given: bool| if is_given { MISSED } else { "" };
        let is_plain = self.network.as_deref().is_none_or(|network| network == "default");
        [
            ("--network", when(!is_plain), "leave the flag out; RUN --network is for single commands"),
            ("--add-host", when(!self.add_host.is_empty()), "leave the flag out"),
        ]
    }

    fn ignored(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let all = [
            (!self.add_host.is_empty(), "--add-host", FOR_RUN),
            (!self.allow.is_empty(), "--allow", FOR_RUN),
            (self.builder.is_some(), "--builder", "there is no builder to choose, ocib is one process"),
            (!self.cache_to.is_empty(), "--cache-to", "an image is its own cache: give it to --cache-from"),
            (self.cgroup_parent.is_some(), "--cgroup-parent", FOR_RUN),
            (self.debug, "--debug", "there are no debug logs"),
            (self.network.is_some(), "--network", FOR_RUN),
            (!self.no_cache_filter.is_empty(), "--no-cache-filter", NO_CACHE),
            (self.pull, "--pull", "bases are always resolved anew"),
            (self.shm_size.is_some(), "--shm-size", FOR_RUN),
            (!self.ulimit.is_empty(), "--ulimit", FOR_RUN),
        ];
        all.into_iter().filter(|(is_given, ..)| *is_given).map(|(_, flag, why)| (flag, why))
    }
}
