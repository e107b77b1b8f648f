//! `--run buildah`, `podman` and `docker`: a program of this host.

use std::{path::PathBuf, sync::Arc};

use clap::Args;
use ocib_image::RunBackend;
use ocib_local::{Local, LocalOptions, Tool};

use crate::{args, environment};

#[derive(Args, Debug)]
pub(crate) struct LocalFlags {
    /// The program of --run buildah, podman or docker [default: the one of that name in PATH].
    #[arg(long, value_name = "FILE")]
    run_program: Option<PathBuf>,

    /// How buildah and podman keep layers while they run: vfs works everywhere, overlay copies less.
    #[arg(long, value_name = "DRIVER", default_value = "vfs")]
    run_storage_driver: String,

    /// What holds the commands of buildah and podman: chroot, oci or rootless.
    #[arg(long, value_name = "KIND", default_value = "chroot")]
    run_isolation: String,
}

impl LocalFlags {
    pub(crate) fn backend(&self, tool: Tool, build: &args::Build) -> Arc<dyn RunBackend> {
        let mut options = LocalOptions::new(tool);
        if let Some(program) = &self.run_program {
            options.program = program.into();
        }
        if let Some(scratch) = &build.scratch_dir {
            options.scratch.clone_from(scratch);
        }
        options.storage_driver.clone_from(&self.run_storage_driver);
        options.isolation.clone_from(&self.run_isolation);
        options.auth_file = environment::variable("REGISTRY_AUTH_FILE").map(PathBuf::from);
        options.insecure_registries.clone_from(&build.shared.insecure_registries);
        Arc::new(Local::new(options))
    }
}
