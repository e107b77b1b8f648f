//! What words are, and that a real shell agrees.

use std::process::Command as Process;

use super::words;

fn words(script: &str) -> Option<Vec<Vec<String>>> {
    let variables = [("DIR", "/models"), ("TWO", "a b"), ("STAR", "*"), ("NONE", ""), ("UID", "7")];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    words::read(script, &variables)
}

#[test]
fn words_are_read_as_every_shell_reads_them() {
    for (script, expected) in [
        ("mkdir /a", "mkdir,/a"),
        ("  mkdir\t/a  ", "mkdir,/a"),
        ("a&&b", "a|b"),
        ("a && b; c\nd", "a|b|c|d"),
        ("a &&\n\n b\n", "a|b"),
        ("a;\n", "a"),
        ("\n\n# nothing\na # more && less\n", "a"),
        ("a b#c '#d'", "a,b#c,#d"),
        ("a 'b c'\"d e\"f", "a,b cd ef"),
        ("a ''", "a,"),
        ("a '*' \"?[x]\" '$DIR' '~' '`' '\\'", "a,*,?[x],$DIR,~,`,\\"),
        (
            "a $DIR/x ${DIR}x \"$DIR y\" \"${TWO}\" \"$STAR\" \"$NONE\"",
            "a,/models/x,/modelsx,/models y,a b,*,",
        ),
        ("a é", "a,é"),
    ] {
        let found = words(script)
            .map(|commands| commands.iter().map(|words| words.join(",")).collect::<Vec<_>>().join("|"));
        assert_eq!(found.as_deref(), Some(expected), "{script:?}");
    }
}

#[test]
fn what_a_shell_would_expand_is_never_read() {
    for script in [
        "a *",
        "a ?",
        "a [x]",
        "a x*y",
        "a {b,c}",
        "a {",
        "a }",
        "! a",
        "a ~",
        "a ~/x",
        "a x~",
        "~a",
        "a $X",
        "a ${X}",
        "a $TWO",
        "a $STAR",
        "a $NONE",
        "a \"$X\"",
        "a ${DIR:-x}",
        "a ${DIR",
        "a $",
        "a $$",
        "a $1",
        "a $?",
        "a $@",
        "a \"$*\"",
        "a $UID",
        "a $_",
        "a $(b)",
        "a \"$(b)\"",
        "a `b`",
        "a \"`b`\"",
        "a \\b",
        "a \"\\b\"",
        "a \\\nb",
        "a | b",
        "a || b",
        "a |& b",
        "a & b",
        "a &",
        "a &&& b",
        "a;;b",
        "; a",
        "a ; ; b",
        "&& a",
        "a &&",
        "a && ; b",
        "a && && b",
        "a > b",
        "a 2>b",
        "a < b",
        "a <<E\nx\nE",
        "(a)",
        "(a; b)",
        "a)",
        "a ^ b",
        "a 'b",
        "a \"b",
        "a b\rc",
        "a \u{1}",
        "a \u{a0}b",
        "a \u{2028}b",
        "a 'x\ny'",
        "a \u{0}",
    ] {
        assert_eq!(words(script), None, "{script:?}");
    }
}

/// Scripts at random: what has a reading is what this machine's shell makes of it.
#[test]
fn a_shell_reads_the_same() {
    let pieces = [
        "a ", "b", "/c", "'d  e'", "\"f\"", "$DIR", "\"$TWO\"", " ", "\n", ";", "&&", " && a ", "; a ",
        "\na ", "#", "'#'", "*", "$", "`", "\\", "~", "(", "|", "<", "{", "&", "=", ",", "''", "\"*\"",
    ];
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut compared = 0;
    while compared < 300 {
        let mut script = "a ".to_owned();
        for _ in 0..7 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            script.push_str(pieces[(state % pieces.len() as u64) as usize]);
        }
        let Some(commands) = words(&script).filter(|all| all.iter().all(|words| words[0] == "a")) else {
            continue;
        };
        let line =
            |words: &Vec<String>| words[1..].iter().map(|word| format!("<{word}>")).collect::<String>() + ".";
        let expected: String = commands.iter().map(line).collect();
        let told = Process::new("/bin/sh")
            .args(["-c", &format!("a() {{ for w; do printf '<%s>' \"$w\"; done; printf .; }}\n{script}")])
            .env_clear()
            .envs([("DIR", "/models"), ("TWO", "a b")])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&told.stdout), expected, "{script:?}");
        assert!(told.status.success() && told.stderr.is_empty(), "{script:?}: {told:?}");
        compared += 1;
    }
}
