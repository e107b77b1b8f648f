//! The same model in one layer and in ocib's layout: how long a node waits for it.

use ocib_testkit::{Registry, skopeo};
use serde_json::Value;

use crate::{
    Model, Scale,
    link::{Link, Width},
    measure::{Script, Usage},
    pullers::PULLERS,
    report::{Table, ratio},
    site::Site,
};

const SHARDS: u64 = 8;
/// What one request for an object of S3 gets (Amazon S3, "Performance guidelines": 85 to 90 MB/s).
const OBJECT_STORE: Width = Width::Connection(90_000_000);
const WIDTHS: [(&str, Width); 2] = [("loopback", Width::Unlimited), ("90 MB/s a connection", OBJECT_STORE)];

/// The layouts: what they are called, and the flag that makes them.
const LAYOUTS: [(&str, &str); 2] = [("one layer", "--layer-size 1TB"), ("a layer a shard", "")];

/// Tables of the pushes and the pulls.
pub(crate) fn run(site: &Site, scale: &Scale) -> String {
    let model = Model::new(site, SHARDS, scale.layouts_bytes);
    let mut pushes = Table::new(&["push", "wall s", "CPU s", "peak RSS MiB", "MB to disk"]);
    // One registry at a time: both layouts would fill the memory.
    let pulls = LAYOUTS.map(|(name, flag)| {
        let registry = site.registry();
        let reference = format!("{}/bench/model:1", registry.host());
        let script = format!(
            r#""$OCIB" model build "$CONTEXT" -q --platform linux/amd64 --no-cache --push -t "$REF" {flag}"#
        );
        let pushed =
            Script { text: &script, context: &model.directory, reference: &reference }.measured(site);
        pushes.row(&[&[name.to_owned()][..], &pushed.cells()].concat());
        pulls(site, &registry)
    });
    let [one, shards] = pulls;
    let title = format!("{:.2} GB of weights in {SHARDS} files, one run each.", model.bytes as f64 / 1e9);
    format!("{title}\n\n{pushes}\n{}", table(&one, &shards))
}

/// What each puller took at each width; nothing for those that are absent.
fn pulls(site: &Site, registry: &Registry) -> Vec<Option<Usage>> {
    let digests = layers(&format!("{}/bench/model:1", registry.host()));
    let mut pulls = Vec::new();
    for (_, width) in WIDTHS {
        let host = match width {
            Width::Unlimited => registry.host(),
            width => Link::start(&registry.host(), width).host(),
        };
        let reference = format!("{host}/bench/model:1");
        let urls = digests.iter().map(|hex| format!("http://{host}/v2/bench/model/blobs/sha256:{hex}"));
        let (urls, layers) = (urls.collect::<Vec<_>>().join(" "), digests.join(" "));
        for puller in &PULLERS {
            let script = format!("URLS='{urls}' LAYERS='{layers}'\n{}", puller.script);
            let script = Script { text: &script, context: &site.input(""), reference: &reference };
            pulls.push(puller.is_there(site).then(|| script.measured(site)));
        }
    }
    pulls
}

/// Digests of an image's layers, without their algorithm.
fn layers(reference: &str) -> Vec<String> {
    let raw = skopeo(&["inspect", "--tls-verify=false", "--raw", &format!("docker://{reference}")]);
    let manifest: Value = serde_json::from_str(&raw).expect("a manifest is JSON");
    let layers = manifest["layers"].as_array().expect("a manifest has layers");
    let hex = |layer: &Value| layer["digest"].as_str()?.strip_prefix("sha256:").map(str::to_owned);
    layers.iter().map(|layer| hex(layer).expect("a layer has a digest")).collect()
}

fn table(one: &[Option<Usage>], shards: &[Option<Usage>]) -> Table {
    let mut table = Table::new(&[
        "pull",
        "one layer: wall s",
        "a layer a shard: wall s",
        "÷ one layer",
        "÷ best peer",
        "CPU s",
        "peak RSS MiB",
        "MB to disk",
    ]);
    let wall_s = |usage: &Usage| usage.wall.as_secs_f64();
    let rows = one.iter().zip(shards).collect::<Vec<_>>();
    for ((link, _), rows) in WIDTHS.iter().zip(rows.chunks(PULLERS.len())) {
        let peers = PULLERS.iter().zip(rows).filter(|(puller, _)| puller.is_peer);
        let best =
            peers.filter_map(|(_, (_, shards))| shards.as_ref().map(wall_s)).fold(f64::INFINITY, f64::min);
        for (puller, row) in PULLERS.iter().zip(rows) {
            let mut cells = vec![format!("{link}: {}", puller.name)];
            if let (Some(one), Some(shards)) = row {
                let [wall, cpu, rss, disk] = shards.cells();
                cells.extend([format!("{:.2}", wall_s(one)), wall]);
                cells.extend([ratio(wall_s(shards), wall_s(one)), ratio(wall_s(shards), best)]);
                cells.extend([cpu, rss, disk]);
            } else {
                cells.push("absent".to_owned());
                cells.resize(8, String::new());
            }
            table.row(&cells);
        }
    }
    table
}
