//! An unchanged image that the registry has already.

use crate::{
    contenders::{Contender, for_pushing_again},
    inputs::{self, Input, Scale},
    link::{Link, Width},
    measure::{Script, Usage},
    report::Table,
    site::Site,
};

/// A table of what the second push costs and sends.
pub(crate) fn run(site: &Site, scale: &Scale) -> Table {
    let input = inputs::model(site, scale);
    let columns = ["", "wall s", "CPU s", "peak RSS MiB", "MB to disk", "MB sent at first", "MB sent again"];
    let mut table = Table::new(&columns);
    for contender in for_pushing_again() {
        table.row(&row(site, &input, &contender, scale.runs));
    }
    table
}

/// Time is taken without the proxy that counts, which would use the same cores.
fn row(site: &Site, input: &Input, contender: &Contender, runs: usize) -> Vec<String> {
    let registry = site.registry();
    let push = |host: &str| {
        let reference = format!("{host}/bench/image:1");
        Script { text: contender.script, context: &input.context, reference: &reference }.measured(site)
    };
    let link = Link::start(&registry.host(), Width::Unlimited);
    push(&link.host());
    let first_bytes = link.sent_bytes();
    push(&link.host());
    let again_bytes = link.sent_bytes() - first_bytes;
    let usages: Vec<Usage> = (0..runs).map(|_| push(&registry.host())).collect();
    let mut cells = vec![contender.name.to_owned()];
    cells.extend(Usage::median(&usages).cells());
    cells.extend([first_bytes, again_bytes].map(|bytes| format!("{:.3}", bytes as f64 / 1e6)));
    cells
}
