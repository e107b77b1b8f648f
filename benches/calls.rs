//! How often everybody asks the kernel.

use crate::{contenders::Contender, inputs::Input, measure::Script, report::Table, site::Site};

/// A table of the system calls of one run of each contender.
pub(crate) fn run(site: &Site, input: &Input, contenders: &[Contender]) -> Table {
    let mut table = Table::new(&["", "system calls"]);
    for contender in contenders.iter().filter(|contender| contender.is_present()) {
        let registry = site.registry();
        let reference = format!("{}/bench/image:1", registry.host());
        let script = Script { text: contender.script, context: &input.context, reference: &reference };
        table.row(&[contender.name.to_owned(), script.system_calls(site).to_string()]);
    }
    table
}
