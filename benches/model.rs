//! How a model's layout and codec change the time of its push and pull.
//!
//! `cargo bench --bench model` prints a table. It needs Debian's
//! docker-registry and skopeo, and, for the 4 GiB that are the default, 13 GB in `/dev/shm` with `TMPDIR=/dev/shm`;
//! `-- --gib N` takes another size, `-- --quick` 64 MiB, which only shows that all of it works.
#![allow(clippy::print_stdout, reason = "the tables are the result")]
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on ends")]

use std::{
    fs,
    io::{BufWriter, Write},
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use ocib_testkit::{Noise, Registry, RegistryOptions, require};
use tempfile::TempDir;

const SHARDS: u64 = 8;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.iter().any(|argument| argument == "--list") {
        return;
    }
    let gib =
        arguments.iter().position(|argument| argument == "--gib").map(|at| arguments[at + 1].parse::<u64>());
    let bytes = match arguments.iter().any(|argument| argument == "--quick") {
        true => 64 << 20,
        false => gib.map_or(4, |gib| gib.unwrap()) << 30,
    };
    let memory = TempDir::with_prefix_in("ocib-bench-", "/dev/shm").unwrap();
    let model = memory.path().join("model");
    for number in 1..=SHARDS {
        bf16_file(
            &model.join(format!("model-{number:05}-of-{SHARDS:05}.safetensors")),
            number,
            bytes / SHARDS,
        );
    }
    println!("{SHARDS} shards of bf16 weights, {} MiB in all; load {}", bytes >> 20, load());
    println!("\n|  | push s | MB in the registry | `ocib model pull` s | skopeo copy to a layout s |");
    println!("|---|---:|---:|---:|---:|");
    let one = format!("{}", bytes * 2);
    for (name, flags) in [
        ("one layer, plain", vec!["--layer-size", &one]),
        ("a layer for each shard, plain", vec![]),
        ("a layer for each shard, zstd:1", vec!["--compression", "zstd:1"]),
        ("a layer for each shard, gzip", vec!["--compression", "gzip"]),
    ] {
        // It keeps its storage where temporary files go; a new one each time, so that all rows have the same room.
        let registry = Registry::start(RegistryOptions::default());
        let reference = format!("{}/model:{}", registry.host(), name.replace([' ', ',', ':'], "-"));
        let model = model.to_str().unwrap();
        let build =
            [&["model", "build", model, "--no-cache", "--push", "-t", &reference], &flags[..]].concat();
        let push = seconds(Command::new(env!("CARGO_BIN_EXE_ocib")).args(build));
        let stored = stored_bytes(&reference);
        let target = memory.path().join("pulled");
        let pull = seconds(
            Command::new(env!("CARGO_BIN_EXE_ocib")).args(["model", "pull", &reference]).arg(&target),
        );
        fs::remove_dir_all(&target).unwrap();
        let layout = format!("oci:{}", target.display());
        let source = format!("docker://{reference}");
        let copy = ["--insecure-policy", "copy", "--src-tls-verify=false", &source, &layout];
        let skopeo = seconds(Command::new(require("skopeo", "skopeo")).args(copy));
        fs::remove_dir_all(&target).unwrap();
        println!("| {name} | {push:.2} | {:.1} | {pull:.2} | {skopeo:.2} |", stored as f64 / 1e6);
    }
    println!("\nload at the end {}", load());
}

fn seconds(command: &mut Command) -> f64 {
    let start = Instant::now();
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    assert!(status.success(), "{command:?}");
    start.elapsed().as_secs_f64()
}

fn load() -> String {
    fs::read_to_string("/proc/loadavg").unwrap().split(' ').next().unwrap_or_default().to_owned()
}

fn stored_bytes(reference: &str) -> u64 {
    let raw =
        ocib_testkit::skopeo(&["inspect", "--raw", "--tls-verify=false", &format!("docker://{reference}")]);
    let manifest: serde_json::Value = serde_json::from_str(&raw).unwrap();
    manifest["layers"].as_array().unwrap().iter().map(|layer| layer["size"].as_u64().unwrap()).sum()
}

/// A safetensors file of bf16 numbers that are distributed like weights: a bell with a deviation of 0.02.
fn bf16_file(path: &Path, seed: u64, bytes: u64) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let count = bytes / 2;
    let mut header =
        format!(r#"{{"weight":{{"dtype":"BF16","shape":[{count}],"data_offsets":[0,{}]}}}}"#, count * 2);
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
    let mut file = BufWriter::with_capacity(1 << 20, fs::File::create(path).unwrap());
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    let block = bf16_block(seed);
    let mut left = count * 2;
    while left > 0 {
        let taken = left.min(block.len() as u64);
        file.write_all(&block[..taken as usize]).unwrap();
        left -= taken;
    }
    file.flush().unwrap();
}

/// So many bytes of weights, which then repeat: no codec looks back as far.
fn bf16_block(seed: u64) -> Vec<u8> {
    const BYTES: usize = 16 << 20;
    let words = Noise::bytes(seed, BYTES * 4);
    let weights = words.chunks_exact(8).flat_map(|word| {
        // The sum of four uniform numbers is a bell to the eye.
        let sum: i32 =
            word.chunks_exact(2).map(|pair| i32::from(i16::from_le_bytes([pair[0], pair[1]]))).sum();
        let weight = sum as f32 / 32768.0 * 0.0173;
        ((weight.to_bits() >> 16) as u16).to_le_bytes()
    });
    weights.collect()
}
