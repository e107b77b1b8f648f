//! Peak memory of ocib: by codec and layers in flight, and by entries of a layer.

use crate::{
    inputs::{self, Input, Scale},
    measure::{Script, Usage},
    report::Table,
    site::Site,
};

/// The budget that ocib keeps to unless told otherwise.
const BUDGET_MIB: f64 = 64.0;
/// zstd at 19 compresses 3 MB/s, so it gets the smaller model only.
const SLOW: &str = "zstd:19";

/// Codecs against layers in flight; each cell is the largest of all runs.
pub(crate) fn codecs(site: &Site, scale: &Scale) -> Table {
    let (model, shards) = (inputs::model(site, scale), inputs::small_shards(site, scale));
    let of_shards = format!("-j 16, {}", shards.title);
    let mut table = Table::new(&[
        "peak RSS in MiB",
        &format!("-j 1, {}", model.title),
        &format!("-j 16, {}", model.title),
        &of_shards,
        "within 64 MiB",
    ]);
    for codec in ["none", "gzip", "zstd", "auto", SLOW] {
        let mut cells = vec![codec.to_owned()];
        let mut peak_mib: f64 = 0.0;
        for (input, jobs) in [(&model, 1), (&model, 16), (&shards, 16)] {
            if codec == SLOW && std::ptr::eq(input, &raw const model) {
                cells.push("–".to_owned());
                continue;
            }
            let usage = pushed(site, input, &format!("--compression {codec} -j {jobs}"));
            peak_mib = peak_mib.max(usage.rss_mib);
            cells.push(format!("{:.1}", usage.rss_mib));
        }
        cells.push(if peak_mib <= BUDGET_MIB { "yes" } else { "**no**" }.to_owned());
        table.row(&cells);
    }
    table
}

/// Layers of more and more entries.
pub(crate) fn entries(site: &Site, scale: &Scale) -> Table {
    let mut table =
        Table::new(&["entries in a layer", "peak RSS in MiB", "bytes an entry, beyond the row above"]);
    let mut before: Option<(usize, f64)> = None;
    for count in [1, scale.entries[0], scale.entries[1]] {
        let input = if count == 1 { inputs::one_file(site) } else { inputs::tiny_files(site, count) };
        let rss_mib = pushed(site, &input, "--compression none").rss_mib;
        let marginal = before.map_or("–".to_owned(), |(fewer, less_mib)| {
            format!("{:.0}", (rss_mib - less_mib) * f64::from(1 << 20) / (count - fewer) as f64)
        });
        table.row(&[count.to_string(), format!("{rss_mib:.1}"), marginal]);
        before = Some((count, rss_mib));
    }
    table
}

fn pushed(site: &Site, input: &Input, flags: &str) -> Usage {
    let registry = site.registry();
    let reference = format!("{}/bench/image:1", registry.host());
    let text = format!(r#""$OCIB" build "$CONTEXT" -q --push -t "$REF" {flags}"#);
    Script { text: &text, context: &input.context, reference: &reference }.measured(site)
}
