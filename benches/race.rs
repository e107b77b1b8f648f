//! Everybody pushes the same, in turns.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
    process::Command,
};

use ocib_image::Digester;
use ocib_testkit::{Registry, require, run_command, skopeo};
use serde_json::Value;

use crate::{
    contenders::{Contender, Kind, Pushed},
    inputs::Input,
    measure::{self, Script, Usage},
    report::{Table, median, ratio},
    site::{Site, bytes_below},
};

/// A table of all contenders. They take turns, so that a machine that is busy for a while is busy
/// for all of them; the median of the runs counts.
pub(crate) fn run(site: &Site, input: &Input, contenders: &[Contender], runs: usize) -> Table {
    let mut results: Vec<Vec<Run>> = contenders.iter().map(|_| Vec::new()).collect();
    for turn in 0..runs {
        for (contender, results) in contenders.iter().zip(&mut results) {
            if contender.is_present() {
                results.push(push(site, input, contender, turn == 0));
            }
        }
    }
    table(contenders, &results)
}

/// What a run took, and what the registry has afterwards.
struct Run {
    usage: Usage,
    pushed_mb: f64,
}

fn push(site: &Site, input: &Input, contender: &Contender, verify: bool) -> Run {
    let registry = site.registry();
    let reference = format!("{}/bench/image:1", registry.host());
    let usage =
        Script { text: contender.script, context: &input.context, reference: &reference }.measured(site);
    if contender.pushed != Pushed::Nothing {
        let layers = layers(&registry, &reference);
        if verify {
            layers.iter().for_each(verify_digest);
        }
        if verify && contender.pushed == Pushed::Image {
            let files: usize = layers.iter().map(|(path, _)| files_in(path)).sum();
            assert_eq!(files, input.files, "files in what {} pushed", contender.name);
        }
    }
    Run { usage, pushed_mb: bytes_below(&registry.storage()) as f64 / 1e6 }
}

impl Contender {
    pub(crate) fn is_present(&self) -> bool {
        measure::are_there(self.needs)
    }
}

/// The blobs of the image's layers in the registry's storage, and what the manifest calls them.
fn layers(registry: &Registry, reference: &str) -> Vec<(PathBuf, String)> {
    let raw = skopeo(&["inspect", "--tls-verify=false", "--raw", &format!("docker://{reference}")]);
    let manifest: Value = serde_json::from_str(&raw).expect("a manifest is JSON");
    let layers = manifest["layers"].as_array().expect("a manifest has layers");
    let found = layers.iter().map(|layer| {
        let hex = layer["digest"].as_str().and_then(|digest| digest.strip_prefix("sha256:"));
        let hex = hex.expect("a layer has a digest");
        let blob = format!("docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]);
        let path = registry.storage().join(blob);
        let bytes = fs::metadata(&path).expect("the registry has the layer").len();
        assert_eq!(Some(bytes), layer["size"].as_u64(), "size of layer {hex}");
        (path, hex.to_owned())
    });
    found.collect()
}

fn verify_digest((path, hex): &(PathBuf, String)) {
    let mut file = File::open(path).expect("the registry's files can be read");
    let mut digester = Digester::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).expect("the registry's files can be read") {
            0 => break,
            got => digester.update(&buffer[..got]),
        }
    }
    assert_eq!(digester.finish().hex(), *hex, "digest of a layer");
}

/// Files in an archive, but for directories. GNU tar looks for the compression by itself.
fn files_in(archive: &Path) -> usize {
    let listing = run_command(Command::new(require("tar", "tar")).arg("-tf").arg(archive));
    listing.lines().filter(|line| !line.ends_with('/')).count()
}

fn table(contenders: &[Contender], results: &[Vec<Run>]) -> Table {
    let medians: Vec<Option<Usage>> = results
        .iter()
        .map(|runs| {
            let usages: Vec<Usage> = runs.iter().map(|run| run.usage).collect();
            (!usages.is_empty()).then(|| Usage::median(&usages))
        })
        .collect();
    let best = |number: fn(&Usage) -> f64| {
        let peers = contenders.iter().zip(&medians).filter(|(contender, _)| contender.kind == Kind::Peer);
        peers.filter_map(|(_, usage)| usage.as_ref().map(number)).fold(f64::INFINITY, f64::min)
    };
    let (best_wall_s, best_cpu_s) = (best(|usage| usage.wall.as_secs_f64()), best(|usage| usage.cpu_s));
    let mut table = Table::new(&COLUMNS);
    for ((contender, usage), runs) in contenders.iter().zip(medians).zip(results) {
        let mut cells = vec![contender.name.to_owned()];
        if let Some(usage) = usage {
            cells.extend(usage.cells());
            let pushed = median(runs.iter().map(|run| run.pushed_mb).collect());
            cells.push(if pushed > 0.0 { format!("{pushed:.1}") } else { "–".to_owned() });
            cells.push(ratio(usage.wall.as_secs_f64(), best_wall_s));
            cells.push(ratio(usage.cpu_s, best_cpu_s));
        } else {
            cells.push("absent".to_owned());
            cells.resize(COLUMNS.len(), String::new());
        }
        table.row(&cells);
    }
    table
}

const COLUMNS: [&str; 8] = [
    "",
    "wall s",
    "CPU s",
    "peak RSS MiB",
    "MB to disk",
    "MB in the registry",
    "wall ÷ best peer",
    "CPU ÷ best peer",
];
