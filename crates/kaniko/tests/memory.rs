//! A large context over attach: how much memory the sender needs. It is a process of its own, so that the
//! server's memory does not count. Prints what it measured.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that prints a figure")]

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use ocib_image::{Digest, Platform, Progress, RunBackend as _, RunJob};
use ocib_kaniko::{Access, Cluster, ContextWay, Kaniko, Options};
use ocib_testkit::{KubeFake, KubeOptions, KubeStep, Stdin, is_full, noise_source};

/// What may be resident at most.
const RSS_MIB_MAX: u64 = 96;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.as_slice() {
        [_, send, kubeconfig, bytes] if send == "send" => {
            self::send(Path::new(kubeconfig), bytes.parse().unwrap());
        }
        _ => measure(),
    }
}

/// Starts the server, and the sender as a process.
fn measure() {
    let bytes: u64 = if is_full() { 3 << 30 } else { 256 << 20 };
    for (protocol, options) in [("v5", KubeOptions::default()), ("v4", KubeOptions::v1_20())] {
        let good = KubeStep::Exit(0, "Completed", format!("sha256:{}", "a".repeat(64)));
        let fake = KubeFake::start(options, move |_| {
            vec![KubeStep::Schedule, KubeStep::Running, KubeStep::Read(Stdin::All), good.clone()]
        });
        let mut sender = Command::new(std::env::current_exe().unwrap());
        let output = sender.arg("send").arg(fake.kubeconfig()).arg(bytes.to_string()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        let rss_mib: u64 = said.trim().parse().unwrap();
        let taken = fake.input_bytes();
        println!(
            "{} MiB of context over attach {protocol}: {taken} bytes taken, {rss_mib} MiB resident at most",
            bytes >> 20
        );
        // Noise does not shrink: all of it came.
        assert!(taken >= bytes, "{taken}");
        assert!(rss_mib < RSS_MIB_MAX, "{rss_mib} MiB");
        assert_eq!(fake.left(), Vec::<String>::new());
    }
}

fn send(kubeconfig: &Path, bytes: u64) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let access = Access { kubeconfig: Some(kubeconfig.to_owned()), context: None };
        let options = Options { context: ContextWay::Attach, ..Options::default() };
        let backend = Kaniko::new(Cluster::connect(&access).await.unwrap(), options);
        let job = RunJob {
            key: Digest::of(b"large"),
            title: "large".to_owned(),
            dockerfile: "FROM scratch\nCOPY . /\n".to_owned(),
            lines: vec![1, 2],
            platform: Platform::linux_amd64(),
            destination: "127.0.0.1:1/large:run".parse().unwrap(),
            context: Some(noise_source(bytes)),
            proxies: BTreeMap::new(),
            is_fresh: false,
            secrets: Vec::new(),
            disk_bytes: bytes,
        };
        backend.run(&job, &Progress::unwatched()).await.unwrap();
    });
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    println!("{}", kib.div_ceil(1024));
}
