//! RUN on Kubernetes: a delegated part of a build becomes a pod with Kaniko's executor, and a digest.
//!
//! ```text
//!  RunJob ── pod (pure) ──▶ create ──▶ watch ─┬─ waiting too long, refused, lost ──▶ an End, by name
//!     └─ context: a volume, a bucket          ├─ or attach: the context
//!                                             ├─ logs: told as progress, never believed
//!                                             └─ the executor's own end ──▶ digest or End
//!                                                                            then the pod is removed
//! ```
//!
//! - [`Cluster`] is where: a kubeconfig, a context, or the pod that ocib itself runs in.
//! - [`Options`] is how: namespace, executor, credentials, resources. [`pod`] makes of a job and options
//!   the pod, without looking at anything else.
//! - [`Kaniko`] is the backend. Every way that a pod can end has a row in [`End`], with what to do.
//! - [`run_pods`] finds pods that nobody removed; [`preflight`] says beforehand what would go wrong.
//!
//! The Dockerfile travels in an annotation of the pod, which a downward API volume shows to the executor as
//! a file below `/kaniko`: it needs no object, right or clean-up of its own, and comes and goes with the pod.
//! Registries are not spoken to here; whoever runs a job asks the registry for what the pod says it pushed.
//!
//! Start with [`Kaniko`]'s `run` in `backend.rs`.

mod attach;
mod backend;
mod claim;
mod cleanup;
mod cluster;
mod context;
mod create;
mod credentials;
mod delivery;
mod ends;
mod logs;
mod options;
mod patch;
mod pod;
pub mod preflight;
mod quota;
pub mod run_pods;
mod state;
mod verdict;
mod watch;

pub use backend::Kaniko;
pub use claim::Claim;
pub use cluster::{Access, Cluster};
pub use context::{ContextAt, ContextError, ContextStore, ContextUrl, ContextWay, PackedContext};
pub use ends::End;
pub use options::{DEFAULT_IMAGE, Options, Patience, RegistryAccess, Toleration};
pub use patch::pod_patch;
pub use pod::{Names, Owner, pod};
