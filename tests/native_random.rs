//! RUNs without a container that nobody thought of: commands at random. What ocib takes to be certain has to end
//! well in the image's own shell, and to leave the same files.

use std::{collections::BTreeSet, path::Path};

use ocib_testkit::is_full;

use crate::{
    native_run::{OUT, both, busybox, coreutils, differing, line_site},
    program::ended,
};

/// Numbers that are the same on every machine (Knuth's MMIX generator).
struct Dice(u64);

impl Dice {
    fn below(&mut self, count: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % count
    }

    fn one<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.below(all.len())]
    }

    fn path(&mut self) -> String {
        const NAMES: [&str; 28] = [
            "f", "x", "empty", "suid", "sgid", "d", "d/a", "d/b", "d/b/c", "g", "g/in", "own", "own/k", "lf",
            "ld", "ld/a", "ld/b", "dangling", "n", "n", "n/o", "m", "d/n", "ld/n", "g/n", "own/n", "d/../n",
            "lf/n",
        ];
        let end = self.one(&["", "", "", "", "", "/", "/.", "//"]);
        let name = self.one(&NAMES);
        format!("@{}{name}{end}", self.one(&["/", "/", "/", "//", "/./"]))
    }

    fn mode(&mut self) -> String {
        const CLAUSES: [&str; 16] = [
            "u+x",
            "+x",
            "a+rX",
            "g=u",
            "o=",
            "go=",
            "u=rwX,go=rX",
            "g+s",
            "ug+s",
            "u-s",
            "+t",
            "a-w",
            "o=g",
            "g+w",
            "u=rw,g=r",
            "go-rwx",
        ];
        match self.below(2) {
            0 => self.one(&CLAUSES).to_owned(),
            _ => format!(
                "{}{}{}{}",
                self.one(&["", "", "0", "1", "2", "4", "6"]),
                self.below(8),
                self.below(8),
                self.below(8)
            ),
        }
    }

    fn command(&mut self) -> String {
        const OWNERS: [&str; 10] =
            ["app", "app:appg", "app:", "1000", "5:6", ":staff", "root", "0:0", "1000:", "nobody"];
        let recursive = self.one(&["", "-R "]);
        match self.below(9) {
            0 => {
                format!("mkdir {} {}", self.one(&["", "-p", "-m 700", "-p -m 2775", "-pm 1777"]), self.path())
            }
            1 => format!("mkdir -p {} {}", self.path(), self.path()),
            2 | 3 => format!("chmod {recursive}{} {}", self.mode(), self.path()),
            4 => format!("chown {recursive}{} {}", self.one(&OWNERS), self.path()),
            5 => format!("chgrp {recursive}{} {}", self.one(&["appg", "0", "7"]), self.path()),
            6 => {
                let target = self.one(&["f", "d", "d/", "/nowhere", "..", "../x", "ld"]);
                format!("ln -s{} {target} {}", self.one(&["", "f", "fn", "n"]), self.path())
            }
            7 => format!("touch {}", self.path()),
            _ => format!("rm {} {}", self.one(&["", "-f", "-r", "-rf", "-rf"]), self.path()),
        }
    }

    fn line(&mut self) -> String {
        let commands: Vec<String> = (0..=self.below(3)).map(|_| self.command()).collect();
        commands.join(self.one(&[" && ", "; "]))
    }
}

/// Those of `lines` that ocib carries out itself.
fn certain(lines: Vec<String>, commands: fn(&Path)) -> Vec<String> {
    let (site, trees) = line_site(&["@"], commands);
    let is_certain = |line: &String| {
        site.file("context/Dockerfile", format!("FROM base\nRUN {}\n", line.replace('@', &trees[0])));
        let ended = ended(&mut site.build(&[&OUT[..], &["--run", "none", "--quiet"]].concat()));
        if ended.code() != Some(0) {
            assert!(ended.stderr.contains("error: RUN needs a container"), "{line}: {}", ended.stderr);
        }
        ended.code() == Some(0)
    };
    lines.into_iter().filter(is_certain).collect()
}

fn assert_same(lines: &[String], commands: fn(&Path)) {
    let texts: Vec<&str> = lines.iter().map(String::as_str).collect();
    let (site, named) = line_site(&texts, commands);
    let ours = format!("FROM base\nRUN {}\n", named.join(" && \\\n"));
    // A line that fails is told, and does not keep the others from being compared.
    let told: Vec<String> = named
        .iter()
        .enumerate()
        .map(|(number, line)| format!("sh -ec '{line}' || mkdir -p /failed/{number}"))
        .collect();
    let theirs = format!("FROM base\nRUN {}\n", told.join("; \\\n"));
    let [ours, theirs] = both(&site, &ours, &theirs);
    let failed = theirs[1].1.keys().filter_map(|path| path.strip_prefix("failed/"));
    let failed: BTreeSet<&String> = failed.map(|number| &named[number.parse::<usize>().unwrap()]).collect();
    assert!(failed.is_empty(), "these end well only without a container: {failed:#?}");
    let differing = differing(&named, &ours[1].1, &theirs[1].1);
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

/// A hundred lines, a thousand with `OCIB_TEST_FULL`.
#[test]
fn random_commands_leave_what_a_shell_leaves() {
    let mut dice = Dice(1);
    let count = if is_full() { 1000 } else { 100 };
    let certain = certain((0..count).map(|_| dice.line()).collect(), busybox);
    println!("{} of {count} lines need no container", certain.len());
    assert!(certain.len() * 5 > count, "the dice give too little that is certain: {certain:#?}");
    assert_same(&certain, busybox);
    assert_same(&certain, coreutils);
}
