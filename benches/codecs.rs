//! When it pays to compress weights: pushes and pulls over links of different widths.

use crate::{
    Model, Scale,
    link::{Link, Width},
    measure::{Script, Usage},
    report::{Table, ratio},
    site::{Site, bytes_below},
};

const SHARDS: u64 = 4;
const CODECS: [&str; 3] = ["none", "zstd:1", "gzip"];
const WIDTHS: [(&str, Width); 4] = [
    ("loopback", Width::Unlimited),
    ("400 MB/s", Width::Shared(400_000_000)),
    ("1 Gbit/s", Width::Shared(125_000_000)),
    ("100 MB/s", Width::Shared(100_000_000)),
];

/// A row for each link and codec.
pub(crate) fn run(site: &Site, scale: &Scale) -> String {
    let model = Model::new(site, SHARDS, scale.codecs_bytes);
    let mut table = Table::new(&[
        "link",
        "codec",
        "% of size",
        "push: wall s",
        "÷ plain",
        "CPU s",
        "peak RSS MiB",
        "pull: wall s",
        "÷ plain",
        "CPU s",
        "peak RSS MiB",
    ]);
    for (link, width) in WIDTHS {
        let mut plain_s = None;
        for codec in CODECS {
            let runs: Vec<Moved> = (0..scale.runs).map(|_| moved(site, &model, width, codec)).collect();
            let [push, pull] =
                [0, 1].map(|way| Usage::median(&runs.iter().map(|run| run.ways[way]).collect::<Vec<_>>()));
            let [push_s, pull_s] = [push, pull].map(|usage| usage.wall.as_secs_f64());
            let (plain_push_s, plain_pull_s) = *plain_s.get_or_insert((push_s, pull_s));
            let share = format!("{:.1}", 100.0 * runs[0].stored_bytes as f64 / model.bytes as f64);
            let [push_wall, push_cpu, push_rss, _] = push.cells();
            let [pull_wall, pull_cpu, pull_rss, _] = pull.cells();
            let (pushed, pulled) = (ratio(push_s, plain_push_s), ratio(pull_s, plain_pull_s));
            let [link, codec] = [link, codec].map(str::to_owned);
            table.row(&[
                link, codec, share, push_wall, pushed, push_cpu, push_rss, pull_wall, pulled, pull_cpu,
                pull_rss,
            ]);
        }
    }
    let title = format!("{:.2} GB of weights in {SHARDS} files.", model.bytes as f64 / 1e9);
    format!("{title}\n\n{table}")
}

/// A push and a pull of it, and what the registry had in between.
struct Moved {
    ways: [Usage; 2],
    stored_bytes: u64,
}

fn moved(site: &Site, model: &Model, width: Width, codec: &str) -> Moved {
    let registry = site.registry();
    let host = match width {
        Width::Unlimited => registry.host(),
        width => Link::start(&registry.host(), width).host(),
    };
    let reference = format!("{host}/bench/model:1");
    let push =
        format!(r#""$OCIB" model build "$CONTEXT" -q --no-cache --compression {codec} --push -t "$REF""#);
    let pull = r#""$OCIB" model pull -q "$REF" "$RAM/pulled""#;
    let measured =
        |text: &str| Script { text, context: &model.directory, reference: &reference }.measured(site);
    let push = measured(&push);
    let stored_bytes = bytes_below(&registry.storage());
    Moved { ways: [push, measured(pull)], stored_bytes }
}
