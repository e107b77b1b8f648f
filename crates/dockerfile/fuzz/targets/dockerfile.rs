//! Parsing, expansion and lint.

#![no_main]

#[path = "../../tests/mutations/checks.rs"]
#[allow(dead_code, reason = "each target has one of the checks")]
mod checks;

libfuzzer_sys::fuzz_target!(|text: &[u8]| {
    checks::dockerfile(text);
});
