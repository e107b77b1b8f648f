#!/usr/bin/env bash
# Fuzzes with libFuzzer what reads hostile input.
#
#   tests/fuzz.sh SECONDS [TARGET]...     each target for so long; by default all of them
#
# The targets and what they assert are in crates/*/fuzz. Needs a nightly toolchain and g++. An input that
# fails is kept in target/fuzz and shown; what is learnt stays there too, for the next run.
set -euo pipefail
cd "$(dirname "$0")/.."

# The crate, the target and the longest input in bytes.
TARGETS=(dockerfile:dockerfile:4096 dockerfile:ignore:1024 image:tar:65536)
# An input that takes longer, or more memory, is a failure.
SECONDS_EACH=10
MEMORY_MIB=1024

main() {
    local seconds="${1:?expected the number of seconds for each target}"
    shift
    local entry crate target longest
    for entry in "${TARGETS[@]}"; do
        IFS=: read -r crate target longest <<< "$entry"
        if [ "$#" = 0 ] || [[ " $* " == *" $target "* ]]; then
            build "$crate" "$target"
            seeds_of "$target" "target/fuzz/seeds/$target"
            fuzz "$target" "$longest" "$seconds"
        fi
    done
}

# The instrumentation is cargo-fuzz's. `--target` keeps it out of build scripts, and the project's own lock
# file gives the fuzzed code the dependencies that it is released with.
build() {
    local crate="$1" target="$2"
    cp Cargo.lock "crates/$crate/fuzz/Cargo.lock"
    RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
        -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 --cfg fuzzing" \
        cargo +nightly build --quiet --release --manifest-path "crates/$crate/fuzz/Cargo.toml" \
        --target "$(host)" --target-dir target/fuzz --bin "$target"
}

host() {
    rustc -vV | sed -n 's/^host: //p'
}

# seeds_of TARGET DIR: what the target begins with, out of the project's own cases.
seeds_of() {
    local target="$1" seeds="$2" file
    rm -rf "$seeds"
    mkdir -p "$seeds"
    case "$target" in
        dockerfile) with_digest Dockerfile ;;
        ignore)
            printf 'docs\n!docs/README.md\n**/*.bin\0docs/a\0docs/README.md\0m/w.bin' > "$seeds/1"
            printf '**\n!a?/*\nx**\n[a-c]\\*\0ab/c\0xy/z\0b*' > "$seeds/2"
            ;;
        tar)
            with_digest '*.tar'
            tar --create --file "$seeds/docs" --directory docs/rules .
            for codec in gzip bzip2 xz zstd; do
                "$codec" --stdout --quiet "$seeds/docs" > "$seeds/docs.$codec"
            done
            ;;
    esac
}

# Copies files of the test data under names that cannot clash.
with_digest() {
    find testdata -type f -name "$1" -size -64k | while read -r file; do
        cp "$file" "$seeds/$(sha256sum < "$file" | cut -c 1-16)"
    done
}

fuzz() {
    local target="$1" longest="$2" seconds="$3"
    local corpus="target/fuzz/corpus/$target"
    mkdir -p "$corpus"
    echo "fuzzing $target for $seconds s"
    "target/fuzz/$(host)/release/$target" -max_total_time="$seconds" -timeout="$SECONDS_EACH" \
        -rss_limit_mb="$MEMORY_MIB" -max_len="$longest" -artifact_prefix="target/fuzz/$target-" \
        -print_final_stats=1 -verbosity=1 "$corpus" "target/fuzz/seeds/$target" 2> "target/fuzz/$target.log" \
        || { tail -n 40 "target/fuzz/$target.log" >&2; exit 1; }
    grep -E '^stat::(number_of_executed_units|peak_rss_mb)' "target/fuzz/$target.log"
}

main "$@"
