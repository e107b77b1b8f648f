use super::*;

fn variables(name: &str) -> Option<String> {
    let value = match name {
        "V" => "val",
        "E" => "",
        "SP" => "a b  c",
        "P" => "/usr/local/lib/libx.so.1.2",
        "D" => "a-b-a-b",
        "S" => "a*b?c\\d/e}f",
        "NL" => "one\ntwo",
        "ab_1" => "name",
        "é" => "accent",
        _ => return None,
    };
    Some(value.to_owned())
}

fn word(raw: &str) -> String {
    Expander::new('\\').word(raw, &variables).unwrap_or_else(|error| format!("ERROR {}", error.reason))
}

#[test]
fn quotes_and_escapes() {
    for (raw, expected) in [
        ("", ""),
        ("plain text", "plain text"),
        (r"\$V", "$V"),
        (r#""\$V $V""#, "$V val"),
        ("'$V'", "$V"),
        (r#""a\b""#, r"a\b"),
        (r"a\b", "ab"),
        (r#"a\"b"#, "a\"b"),
        (r#""x'y'z""#, "x'y'z"),
        (r#"'x"y"z'"#, "x\"y\"z"),
        (r#"\"$V\""#, "\"val\""),
        (r#""\\""#, r"\"),
        (r#"a"b"c"#, "abc"),
        (r"C:\\x", r"C:\x"),
        (r"end\", "end"),
        ("\u{feff}x", "x"),
        ("'open", "ERROR unexpected end of statement while looking for matching single-quote"),
        ("\"open", "ERROR unexpected end of statement while looking for matching double-quote"),
        (r#""open\"#, "ERROR unexpected end of statement while looking for matching double-quote"),
    ] {
        assert_eq!(word(raw), expected, "{raw}");
    }
}

#[test]
fn backtick_escapes() {
    for (raw, expected) in [
        (r"`$V\n", r"$V\n"),
        (r#""`$V""#, "$V"),
        (r"\$V", r"\val"),
        (r#""\$V""#, r"\val"),
        ("'`$V'", "`$V"),
        ("a`bc", "abc"),
        (r"C:\tmp\new", r"C:\tmp\new"),
        (r#"x`"y"#, "x\"y"),
    ] {
        assert_eq!(Expander::new('`').word(raw, &variables), Ok(expected.to_owned()), "{raw}");
    }
}

#[test]
fn names() {
    for (raw, expected) in [
        ("$V$V", "valval"),
        ("${V}x", "valx"),
        ("$Vx", ""),
        ("$V-x", "val-x"),
        ("$ab_1.x", "name.x"),
        ("$é", "accent"),
        ("$", "$"),
        ("a$ b", "a$ b"),
        ("$/", "$/"),
        ("$$V", "V"),
        ("$@x$*$#$?$-$!", "x"),
        ("$1a$10b", "ab"),
        ("${1}", ""),
        ("\"$\"", "$"),
        ("${", "ERROR syntax error: missing '}'"),
        ("${}", "ERROR syntax error: bad substitution"),
        ("${{V}}", "ERROR syntax error: bad substitution"),
        ("${:x}", "ERROR syntax error: bad substitution"),
        ("${V", "ERROR unsupported modifier (\u{fffd}) in substitution"),
        ("${V x}", "ERROR unsupported modifier ( ) in substitution"),
        ("${V=x}", "ERROR unsupported modifier (=) in substitution"),
        ("${V:=x}", "ERROR unsupported modifier (:=) in substitution"),
        ("${V:", "ERROR syntax error: missing '}'"),
        ("${V:1:2", "ERROR syntax error: missing '}'"),
        ("${V:#v}", "ERROR unsupported modifier (:#) in substitution"),
        ("${V:%v", "ERROR unsupported modifier (:%) in substitution"),
    ] {
        assert_eq!(word(raw), expected, "{raw}");
    }
}

#[test]
fn defaults_and_requirements() {
    for (raw, expected) in [
        ("${U:-d}|${U-d}|${U:+a}|${U+a}", "d|d||"),
        ("${E:-d}|${E-d}|${E:+a}|${E+a}", "d|||a"),
        ("${V:-d}|${V-d}|${V:+a}|${V+a}", "val|val|a|a"),
        ("${U:-}|${U:-${V}x}|${V:+${U:-deep}}", "|valx|deep"),
        ("\"${U:-in quotes}\"", "in quotes"),
        ("${U:-'}'}", "}"),
        (r"${U:-\}}", "}"),
        (r#"${U:-"a b"}"#, "a b"),
        ("${V?no}${V:?no}${E?no}", "valval"),
        ("${U?}", "ERROR U: is not allowed to be unset"),
        ("${U:?say $V}", "ERROR U: say val"),
        ("${E:?}", "ERROR E: is not allowed to be empty"),
        ("${E:?empty}", "ERROR E: empty"),
        ("${U:-x", "ERROR syntax error: missing '}'"),
        ("${U:-\"x}", "ERROR syntax error: missing '}'"),
        ("${U:-${}}", "ERROR syntax error: bad substitution"),
        ("${U:-${", "ERROR syntax error: missing '}'"),
    ] {
        assert_eq!(word(raw), expected, "{raw}");
    }
}

#[test]
fn trimming() {
    for (raw, expected) in [
        ("${P#*/}", "usr/local/lib/libx.so.1.2"),
        ("${P##*/}", "libx.so.1.2"),
        ("${P%.*}", "/usr/local/lib/libx.so.1"),
        ("${P%%.*}", "/usr/local/lib/libx"),
        ("${P#nomatch}", "/usr/local/lib/libx.so.1.2"),
        ("${P%?}", "/usr/local/lib/libx.so.1."),
        ("${P##/*l}", "ibx.so.1.2"),
        ("${P%%/*}", ""),
        ("${U#x}.", "."),
        ("${P#}", "/usr/local/lib/libx.so.1.2"),
        (r"${S#a\*b\?c}", r"\d/e}f"),
        (r"${S##*\\}", "d/e}f"),
        (r"${S%\/e\}f}", r"a*b?c\d"),
        (r"${S%\}*}", r"a*b?c\d/e"),
        ("${NL#*t}", "one\ntwo"),
        ("${NL##*}", "\ntwo"),
        ("${V#'v'}", "al"),
        (r"${V#\v}", r"ERROR invalid pattern (\v) in substitution: invalid escape '\v'"),
        (r"${V%x\v}", r"ERROR invalid pattern (x\v) in substitution: invalid escape '\v'"),
    ] {
        assert_eq!(word(raw), expected, "{raw}");
    }
}

#[test]
fn replacing() {
    for (raw, expected) in [
        ("${D/a/X}", "X-b-a-b"),
        ("${D//a/X}", "X-b-X-b"),
        ("${D/-*-/+}", "a+b"),
        ("${D//?/z}", "zzzzzzz"),
        ("${D/nope/X}", "a-b-a-b"),
        ("${D//-/}", "abab"),
        ("${D/b/$U}", "a--a-b"),
        ("${V//*/x}", "x"),
        ("${V///x}", "xvxaxlx"),
        (r"${V/a/\}}", r"v\}l"),
        (r"${D//a/\$0}", r"\a-b-\a-b"),
        (r"${D//a/\$x}", r"\-b-\-b"),
        ("${D//a/$.}", "$.-b-$.-b"),
        ("${D/a", "ERROR syntax error: missing '/' in ${}"),
        ("${D/a/b", "ERROR syntax error: missing '}'"),
        (r"${D/\a/b}", r"ERROR invalid pattern (\a) in substitution: invalid escape '\a'"),
    ] {
        assert_eq!(word(raw), expected, "{raw}");
    }
}

#[test]
fn splitting() {
    let cases: [(&str, &[&str]); 7] = [
        ("$SP", &["a", "b", "c"]),
        ("x$SP/udp", &["xa", "b", "c/udp"]),
        ("\"$SP\"", &["a b  c"]),
        (" 'a b' c\\ d ", &["a b", "c d"]),
        ("$U", &[]),
        ("", &[]),
        ("''", &[]),
    ];
    for (raw, expected) in cases {
        let expected = expected.iter().map(|&word| word.to_owned()).collect();
        assert_eq!(Expander::new('\\').words(raw, &variables), Ok(expected), "{raw}");
    }
}

#[test]
fn heredoc_bodies() {
    for (content, expected) in [
        ("hello $V, ${U:-d}\n", "hello val, d\n"),
        ("\\$V and \\\\ and \"d $V\" and 's $V'\n", "$V and \\ and \"d val\" and 's val'\n"),
        ("a\\nb \"open\n", "anb \"open\n"),
        ("`$V\n", "`val\n"),
    ] {
        assert_eq!(Expander::new('`').heredoc(content, &variables), Ok(expected.to_owned()), "{content}");
    }
}

#[test]
fn undefined_names() {
    let expansion = Expander::new('\\').expand("$U1 ${U2} ${U3:-x} ${U4+x} ${U5#x} $V", &variables).unwrap();
    let undefined: Vec<_> = expansion.undefined.iter().map(String::as_str).collect();
    assert_eq!(undefined, ["U1", "U2", "U5"]);
}

#[test]
fn errors_name_the_word() {
    let error = Expander::new('\\').word("/${A:?empty}/f", &|_: &str| Some(String::new())).unwrap_err();
    assert_eq!(error.to_string(), "failed to process \"/${A:?empty}/f\": A: empty");
}

#[test]
fn deep_nesting_is_an_error() {
    let fits = format!("{}x{}", "${U:-".repeat(100), "}".repeat(100));
    assert_eq!(word(&fits), "x");
    let deep = format!("{}x{}", "${U:-".repeat(50_000), "}".repeat(50_000));
    assert_eq!(word(&deep), "ERROR substitutions are nested more than 128 deep");
}

/// Each level makes as many times as much as the value has characters.
#[test]
fn expansions_that_multiply_are_an_error() {
    let nested = |levels: usize| format!("{}x{}", "${SP//?/".repeat(levels), "}".repeat(levels));
    assert_eq!(word(&nested(1)), "x".repeat(6));
    let long = nested(20);
    let expected = format!("ERROR the expansion is longer than {} bytes", (1 << 20) + long.len());
    assert_eq!(word(&long), expected);
    let large = |_: &str| Some("v".repeat(1 << 18));
    for (raw, fits) in
        [("$A$A$A$A", true), ("$A$A$A$A$A", false), ("\"$A$A\"$A$A$A", false), ("${B:-$A$A$A$A}", true)]
    {
        let expanded = Expander::new('\\').word(raw, &large);
        let length = expanded.as_ref().map(String::len).map_err(|error| error.reason.clone());
        let limit = (1 << 20) + raw.len();
        assert_eq!(length.is_ok(), fits, "{raw}: {length:?}");
        assert!(fits || length == Err(ExpandReason::TooLong { limit }), "{raw}");
    }
}

#[test]
fn replacing_takes_one_pass() {
    // With a search from each place anew this would take hours.
    let large = |_: &str| Some("a".repeat(1 << 19));
    let replaced = Expander::new('\\').word("${A//a*b/x}${A/a*b/x}", &large).unwrap();
    assert_eq!(replaced.len(), 1 << 20);
}
