//! What ocib's tests need from outside: real registries, real readers of images, faults on the
//! wire, files of any size, and judges that trust nothing of what ocib says of itself.
//!
//! - [`Registry`]: Debian's `docker-registry` on a loopback port; [`FaultProxy`] breaks,
//!   slows, alters or answers what passes to it, [`ConnectProxy`] makes names lead to it.
//! - [`EcrEmulator`]: Amazon ECR's dialect, its API, STS and IAM, and faults on request;
//!   [`GoogleEmulator`]: where Google's tokens come from.
//! - [`HubServer`]: the Hugging Face Hub and the store behind it, with files of any size.
//! - [`S3Server`]: S3 by moto, filled by Amazon's own client, and [`MotoServer`] the rest of AWS;
//!   [`BucketServer`]: objects of any size that nobody keeps.
//! - [`GitServer`]: git's own `http-backend` on a loopback port; [`PackBuilder`] makes what git never sends.
//! - [`KubeFake`]: a Kubernetes API server whose pods live as a test says, or run real programs.
//! - [`Executor`]: a stand-in for the executor of Kaniko, as a process or as an image.
//! - [`FileServer`]: files behind URLs.
//! - [`ScriptedRegistry`]: a registry that misbehaves as it is told.
//! - [`skopeo`], [`umoci`], [`Podman`]: other people's readers; [`Buildah`], [`Docker`]: other
//!   builders.
//! - [`verify_layout`] and [`rootfs`]: every digest and every file of an image, derived again from
//!   its bytes.
//! - [`sink_suite`]: what every [`ocib_image::Sink`] must do.
//!
//! Nothing here is published. What is missing on the machine makes a test fail with the name of the
//! Debian package, never pass. Start with [`Registry::start`].

mod bucket;
mod content;
mod docker;
mod ecr;
mod executor;
mod files;
mod git;
mod google;
mod http;
mod hub;
mod kube;
mod layout;
mod machine;
mod peers;
mod port;
mod process;
mod proxy;
mod registry;
mod s3;
mod scripted;
mod sinks;
mod tls;
mod tunnel;

pub use bucket::BucketServer;
pub use content::{Generated, Noise, noise_file, noise_source, safetensors_file, sparse_file};
pub use docker::Docker;
pub use ecr::{
    AccessKey, AwsAction, EcrCall, EcrEmulator, EcrFault, EcrOptions, EcrRepository, MissingRepository,
    Policy, SecondPatch, SsoClient, Trust, UploadSession,
};
pub use executor::Executor;
pub use files::{FileServer, Manner};
pub use git::{GitRequest, GitServer, GitServerOptions, PackBuilder, git, git_answer, git_oid, seal_pack};
pub use google::GoogleEmulator;
pub use hub::{HubAccess, HubContent, HubFault, HubServer};
pub use kube::{KubeFake, KubeFault, KubeOptions, KubeRequest, KubeStep, Stdin};
pub use layout::{FileType, RootfsFile, layers_with_history, rootfs, verify_layout};
pub use machine::{arm64_busybox, checkout, is_full, run_arm64};
pub use peers::{Buildah, Podman, skopeo, umoci, untar};
pub use port::closed_host;
pub use process::{require, run, run_command};
pub use proxy::{Fault, FaultProxy, RequestKind};
pub use registry::{Registry, RegistryOptions, Request, Served};
pub use s3::{MotoServer, S3Server};
pub use scripted::{Scripted, ScriptedRegistry};
pub use sinks::{SinkCase, file_layer, program_layer, sealer, sink_suite};
pub use tls::TlsFront;
pub use tunnel::{ConnectProxy, ProxyRequest};
