//! What every command that moves images is wired with: a client, a budget, a runtime, and an ear for
//! signals.

use std::{
    future::Future,
    panic::{self, AssertUnwindSafe},
    time::Duration,
};

use ocib_image::{Budget, Codec, Compression, Limits, Sealer};
use ocib_net::{HttpOptions, Proxies};
use ocib_source::ReadAhead;
use tokio::runtime::Runtime;

use crate::{
    args::Shared,
    diagnostic::{Exit, Failure},
    dockerfile, environment,
};

/// How long threads that read files may take to notice that the build was given up.
const SHUTDOWN: Duration = Duration::from_secs(5);

/// A runtime to wait for the network with.
pub(crate) fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(environment::cores().min(4))
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot start: {error}")))
}

/// Waits for `work`, or for a signal that ends it in order.
pub(crate) fn wait<T>(
    runtime: &Runtime,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    runtime.block_on(async {
        tokio::select! {
            result = work => result,
            signal = interrupted() => Err(Failure::new(Exit::Interrupted, format!("interrupted by {signal}"))
                .help("no tag was moved; the same command can be run again")),
        }
    })
}

/// Runs `work`, which is all that a command does. See [`finish`].
pub(crate) fn run<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    finish(runtime()?, work)
}

/// The last work of a command: whatever it owns is dropped before this returns, so files under temporary
/// names go away, and bars with whoever draws them.
pub(crate) fn finish<T>(
    runtime: Runtime,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let result = wait(&runtime, work);
    runtime.shutdown_timeout(SHUTDOWN);
    result
}

/// The same for work that leaves something behind which is to be removed: waits for that, also if the work panics,
/// unless another signal says that nobody wants to wait.
pub(crate) fn finish_tidily<T>(
    runtime: Runtime,
    work: impl Future<Output = Result<T, Failure>>,
    tidied: impl Future<Output = ()>,
) -> Result<T, Failure> {
    // Nothing of the work is looked at afterwards.
    let result = panic::catch_unwind(AssertUnwindSafe(|| wait(&runtime, work)));
    runtime.block_on(async {
        tokio::select! {
            () = tidied => {}
            _ = interrupted() => {}
        }
    });
    runtime.shutdown_timeout(SHUTDOWN);
    result.unwrap_or_else(|panic| panic::resume_unwind(panic))
}

/// Waits for the signals that end a build in order: Ctrl-C, and what Kubernetes sends.
async fn interrupted() -> &'static str {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        // Without handlers the signals end the process by themselves.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
    }
}

/// What makes layers within the budget that the flags give.
pub(crate) fn sealer(shared: &Shared, compression: Compression) -> Result<Sealer, Failure> {
    sealer_within(memory_bytes(shared), shared, compression)
}

/// The same for layers whose files come over the network and take memory on their way too: what is read ahead,
/// and what each connection needs.
pub(crate) fn distant_sealer(shared: &Shared, compression: Compression) -> Result<Sealer, Failure> {
    let ReadAhead { parts, part_bytes } = read_ahead(shared);
    let taken = parts as u64 * (part_bytes + CONNECTION_BYTES);
    let sealer = sealer_within(memory_bytes(shared).saturating_sub(taken), shared, compression)?;
    let budget = sealer.budget();
    Ok(Sealer::new(Budget { layers: budget.layers_of(DISTANT_LAYER_BYTES), ..budget }))
}

/// Two of hyper's largest buffers, of which a connection fills one while the other is emptied.
const CONNECTION_BYTES: u64 = 800 << 10;
/// What a layer takes whose file comes over a connection: 2 MiB as any plain layer, its connection, and what the
/// allocator keeps for its threads. Measured: 3 to 5 MiB for each further layer in flight (`tests/sources.rs`).
const DISTANT_LAYER_BYTES: u64 = 5 << 20;

/// How far sources are read ahead: an eighth of the memory.
pub(crate) fn read_ahead(shared: &Shared) -> ReadAhead {
    const SHARE: u64 = 8;
    let ReadAhead { parts, part_bytes } = ReadAhead::default();
    let fitting = memory_bytes(shared) / SHARE / part_bytes;
    ReadAhead { parts: usize::try_from(fitting).unwrap_or(usize::MAX).min(4 * parts), part_bytes }
}

fn memory_bytes(shared: &Shared) -> u64 {
    shared.memory.map_or_else(environment::default_memory_bytes, |memory| memory.as_u64())
}

fn sealer_within(memory_bytes: u64, shared: &Shared, compression: Compression) -> Result<Sealer, Failure> {
    // `auto` may choose gzip for any layer.
    let codec = match compression {
        Compression::Auto => Codec::GZIP,
        Compression::Fixed(codec) => codec,
    };
    let jobs = shared.jobs.map_or(0, Into::into);
    let limits = Limits { memory_bytes, jobs, cores: environment::cores() };
    let budget = Budget::new(limits, codec).map_err(|error| {
        Failure::usage(error.to_string()).help("give more with --memory, or a cheaper --compression")
    })?;
    Ok(Sealer::new(budget))
}

/// How HTTP is spoken, as the flags and the environment's proxies say.
pub(crate) fn http(shared: &Shared) -> Result<HttpOptions, Failure> {
    let mut extra_certificates = Vec::new();
    for path in &shared.ca_files {
        extra_certificates.push(dockerfile::read(path, "certificates")?);
    }
    let insecure_hosts = shared.insecure_registries.iter().cloned().collect();
    let proxies = Proxies::from_environment(&environment::variable)
        .map_err(|error| Failure::usage(error.to_string()))?;
    Ok(HttpOptions { extra_certificates, insecure_hosts, proxies, ..HttpOptions::default() })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn what_is_left_is_removed_after_a_panic_too() {
        let is_removed = AtomicBool::new(false);
        let finished = panic::catch_unwind(|| {
            let work = async { panic!("on purpose") };
            finish_tidily::<()>(runtime().unwrap(), work, async { is_removed.store(true, Ordering::Relaxed) })
        });
        assert!(finished.is_err() && is_removed.load(Ordering::Relaxed));
    }
}
