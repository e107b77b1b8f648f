//! Archives, plain and compressed.

#![no_main]

#[path = "../../tests/untar_mutations/checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    checks::archive(bytes);
    checks::archive(&checks::sealed(bytes));
});
