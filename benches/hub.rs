//! From the Hub into a registry: straight through by parts, or by way of a disk, as it is done today.

use ocib_testkit::{HubContent, HubServer};

use crate::{
    Scale,
    measure::{Script, Usage, are_there},
    report::{Table, ratio},
    site::Site,
};

/// What one connection to the Hub's store gives in a second; see `layouts`.
const CONNECTION: u64 = 90_000_000;

/// Who gets the model, by a script, and whether it ends in a registry.
struct Way {
    name: &'static str,
    is_peer: bool,
    needs: &'static [&'static str],
    script: &'static str,
}

/// The Hub's own client, without its second protocol (Xet), which the stand-in does not speak.
const DOWNLOAD: &str = r#"
export HF_HOME="$WORK/hf" HF_HUB_DISABLE_XET=1 HF_HUB_DISABLE_TELEMETRY=1 HF_HUB_DISABLE_UPDATE_CHECK=1
hf download org/model --local-dir "$WORK/model" > /dev/null 2>&1
"#;

const WAYS: [Way; 6] = [
    Way {
        name: "curl, to nothing, one connection",
        is_peer: false,
        needs: &["curl"],
        script: r#"for url in $URLS; do curl -sSfL -o /dev/null "$url"; done"#,
    },
    Way { name: "hf download, to a disk", is_peer: false, needs: &["hf"], script: "" },
    Way {
        name: "**ocib** hf:// to a registry",
        is_peer: false,
        needs: &[],
        script: r#""$OCIB" model build hf://org/model -q --push -t "$REF""#,
    },
    Way {
        name: "hf download, **ocib** of the directory",
        is_peer: true,
        needs: &["hf"],
        script: r#""$OCIB" model build "$WORK/model" -q --no-cache --push -t "$REF""#,
    },
    Way {
        name: "hf download, tar, umoci, skopeo (gzip)",
        is_peer: true,
        needs: &["hf", "tar", "umoci", "skopeo"],
        script: r#"
umoci init --layout "$WORK/layout"
umoci new --image "$WORK/layout:x"
for file in "$WORK"/model/*.bin; do
    tar -C "$WORK" -cf - "model/${file##*/}" | umoci raw add-layer --image "$WORK/layout:x" /dev/stdin
done
skopeo --insecure-policy copy -q --dest-tls-verify=false "oci:$WORK/layout:x" "docker://$REF""#,
    },
    Way {
        name: "hf download, tar, crane append (one layer, gzip)",
        is_peer: true,
        needs: &["hf", "tar", "crane"],
        script: r#"tar -C "$WORK" -cf - model | crane append --insecure -f - -t "$REF""#,
    },
];

/// A table for a model in one file and one for the same amount in four.
pub(crate) fn run(site: &Site, scale: &Scale) -> String {
    let tables = [1, 4].map(|files| {
        let (size, rate) = (scale.hub_bytes as f64 / 1e9, CONNECTION / 1_000_000);
        let names = if files == 1 { "one file".to_owned() } else { format!("{files} files") };
        let title = format!("{size:.2} GB in {names}, {rate} MB/s a connection.");
        format!("{title}\n\n{}", table(site, files, scale))
    });
    tables.join("\n")
}

fn table(site: &Site, files: u64, scale: &Scale) -> Table {
    let server = HubServer::start();
    let bytes = scale.hub_bytes / files;
    let named = |seed| (format!("pytorch_model-{seed}.bin"), HubContent::Made { seed, bytes });
    let named: Vec<(String, HubContent)> = (1..=files).map(named).collect();
    let published: Vec<(&str, HubContent)> =
        named.iter().map(|(name, content)| (name.as_str(), content.clone())).collect();
    let commit = server.publish("org/model", &published);
    server.throttle(Some(CONNECTION));
    let url = |name: &str| format!("{}/org/model/resolve/{commit}/{name}", server.endpoint());
    let urls: Vec<String> = named.iter().map(|(name, _)| url(name)).collect();
    let before = format!("export HF_ENDPOINT='{}' URLS='{}'\n", server.endpoint(), urls.join(" "));

    let usages =
        WAYS.each_ref().map(|way| are_there(way.needs).then(|| measured(site, way, &before, scale.runs)));
    let wall_s = |usage: &Usage| usage.wall.as_secs_f64();
    let peers = WAYS.iter().zip(&usages).filter(|(way, _)| way.is_peer);
    let best = peers.filter_map(|(_, usage)| usage.as_ref().map(wall_s)).fold(f64::INFINITY, f64::min);
    let mut table = Table::new(&["", "wall s", "CPU s", "peak RSS MiB", "MB to disk", "wall ÷ best peer"]);
    for (way, usage) in WAYS.iter().zip(&usages) {
        let mut cells = vec![way.name.to_owned()];
        match usage {
            Some(usage) => {
                cells.extend(usage.cells());
                cells.push(ratio(wall_s(usage), best));
            }
            None => cells.push("absent".to_owned()),
        }
        cells.resize(6, String::new());
        table.row(&cells);
    }
    table
}

fn measured(site: &Site, way: &Way, before: &str, runs: usize) -> Usage {
    let download = if way.needs.contains(&"hf") { DOWNLOAD } else { "" };
    let text = format!("{before}{download}{}", way.script);
    let run = |_| {
        let registry = site.registry();
        let reference = format!("{}/bench/model:1", registry.host());
        Script { text: &text, context: &site.input(""), reference: &reference }.measured(site)
    };
    Usage::median(&(0..runs).map(run).collect::<Vec<_>>())
}
