//! The page on Dockerfiles names the instructions and flags that there are, and no others.

use std::{collections::BTreeSet, fs};

use ocib::dockerfile::instruction_flags;
use ocib_testkit::checkout;

/// The cells of a row, without blanks around them; `None` for a line that is no row.
fn cells(line: &str) -> Option<Vec<&str>> {
    let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    Some(inner.split('|').map(str::trim).collect())
}

/// Tables of the page: the head, and the rows.
fn tables(page: &str) -> Vec<(Vec<&str>, Vec<Vec<&str>>)> {
    let blocks = page.split("\n\n").map(|block| block.lines().filter_map(cells).collect::<Vec<_>>());
    let is_table = |rows: &Vec<Vec<&str>>| rows.len() > 2;
    blocks.filter(is_table).map(|mut rows| (rows.remove(0), rows.split_off(1))).collect()
}

fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

#[test]
fn the_page_has_all_instructions_and_flags_and_no_others() {
    let page = fs::read_to_string(checkout().join("docs/dockerfile.md")).unwrap();
    let tables = tables(&page);
    let (_, rows) = tables.iter().find(|(head, _)| head[0] == "instruction").unwrap();
    let mut named: Vec<&str> = rows.iter().flat_map(|row| quoted(row[0])).collect();
    named.sort_unstable();
    let there: Vec<&str> = instruction_flags().map(|(instruction, _)| instruction).collect();
    assert_eq!(named, there, "instructions in docs/dockerfile.md, each once");

    let mut named = BTreeSet::new();
    for (head, rows) in tables.iter().filter(|(head, _)| head[0] == "flag") {
        for row in rows {
            let flags = quoted(row[0]);
            let [flag] = flags[..] else { panic!("one flag in a row, not {flags:?}") };
            let columns = head.iter().zip(row).filter(|(name, _)| there.contains(name));
            for (instruction, _) in columns.filter(|(_, cell)| **cell != "–") {
                assert!(named.insert(format!("{instruction} {flag}")), "{instruction} {flag} has two rows");
            }
        }
    }
    let flags = instruction_flags().flat_map(|(instruction, flags)| {
        flags.into_iter().map(move |flag| format!("{instruction} --{flag}"))
    });
    assert_eq!(named, flags.collect(), "flags in docs/dockerfile.md");
}
