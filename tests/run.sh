#!/usr/bin/env bash
# Installs what the tests need from Debian, then runs every check of the project.
#
#   tests/run.sh          formatting, lints, tests, documentation; a minute of fuzzing with a nightly toolchain
#   tests/run.sh --full   also the cases that need minutes or many gigabytes
#
# Needs cargo, and root or sudo only if a package is missing. Nothing is skipped: what cannot be had
# is an error.
set -euo pipefail
cd "$(dirname "$0")/.."

main() {
    case "${1:-}" in
        "") ;;
        --full) export OCIB_TEST_FULL=1 ;;
        *) fail "unknown argument $1, expected --full or nothing" ;;
    esac
    command -v cargo > /dev/null || fail "cargo is missing: install Rust (https://rustup.rs)"
    # Modes of files that tests make do not depend on whoever runs them.
    umask 022
    # Debian keeps runc and others in root's part of the PATH.
    export PATH="$PATH:/usr/sbin:/sbin"

    step "packages" packages
    step "unpacked programs" unpacked_programs
    step "moto" moto
    step "Kubernetes' schemas" kubernetes_schemas
    step "the Hub's client" hub_client
    step "cargo fmt" cargo fmt --all --check
    step "cargo clippy" cargo clippy --workspace --all-targets -- -D warnings
    step "cargo test" cargo test --workspace
    step "fuzzing" fuzzing
    step "cargo doc" env RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
    echo "all good after ${SECONDS} s"
}

fail() {
    echo "tests/run.sh: $*" >&2
    exit 1
}

step() {
    local name="$1" start="$SECONDS"
    shift
    echo "== ${name}"
    "$@"
    echo "== ${name}: $((SECONDS - start)) s"
}

# What tests start, and the package that has it. `.h` stands for a header file.
PROGRAMS=(
    docker-registry:docker-registry skopeo:skopeo umoci:umoci podman:podman runc:runc buildah:buildah
    newuidmap:uidmap
    htpasswd:apache2-utils openssl:openssl setfattr:attr busybox:busybox-static curl:curl git:git tar:tar
    kill:procps python3:python3 xz:xz-utils zstd:zstd bzip2:bzip2 gcc:gcc g++:g++
    /usr/lib/python3/dist-packages/boto3:python3-boto3 /usr/lib/python3/dist-packages/jsonschema:python3-jsonschema
    /usr/share/doc/python3-venv:python3-venv
    strace:strace /usr/bin/time:time /usr/include/stdio.h:libc6-dev /etc/ssl/certs/ca-certificates.crt:ca-certificates
)

packages() {
    local missing=() entry
    for entry in "${PROGRAMS[@]}"; do
        is_there "${entry%%:*}" || missing+=("${entry##*:}")
    done
    [ "${#missing[@]}" -gt 0 ] || return 0
    echo "to install: ${missing[*]}"
    as_root "apt-get install ${missing[*]}" apt-get update -qq
    as_root "apt-get install ${missing[*]}" \
        env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
    for entry in "${PROGRAMS[@]}"; do
        is_there "${entry%%:*}" || fail "${entry%%:*} is still missing after installing ${entry##*:}"
    done
}

is_there() {
    case "$1" in
        /*) [ -e "$1" ] ;;
        # Another busybox than the static one cannot run in an image of its own.
        busybox) command -v busybox > /dev/null && ! ldd "$(command -v busybox)" > /dev/null 2>&1 ;;
        *) command -v "$1" > /dev/null ;;
    esac
}

as_root() {
    local purpose="$1"
    shift
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo > /dev/null; then
        sudo "$@"
    else
        fail "neither root nor sudo: as root, run: ${purpose}"
    fi
}

# The same checks run in `cargo test` on generated input, in crates/*/tests/*mutations. libFuzzer finds more,
# but its instrumentation needs a nightly compiler.
fuzzing() {
    if cargo +nightly --version > /dev/null 2>&1; then
        tests/fuzz.sh 20
    else
        echo "no nightly toolchain: the tests named mutations are all the fuzzing that was done"
    fi
}

# Schemas of several versions of Kubernetes, KServe's own client, and what checks manifests against them
# (tests/manifests.py).
kubernetes_schemas() {
    local python="$PWD/target/test-data/kubernetes-validate/bin/python"
    "$python" -c 'import kubernetes_validate, importlib.util; assert importlib.util.find_spec("kserve")' \
        2> /dev/null && return
    environment kubernetes-validate kubernetes-validate==1.37.0
    # Only read: what it needs to run is large.
    "$python" -m pip install --quiet --disable-pip-version-check --no-deps kserve==0.21.0 ||
        fail "kserve cannot be fetched from PyPI"
}

# The Hugging Face Hub's own client, which judges the stand-in of the Hub.
hub_client() {
    [ -x "$PWD/target/test-data/hub/bin/hf" ] || environment hub huggingface_hub==2.4.0
}

# environment NAME PACKAGE: a Python environment of its own, below target/test-data.
environment() {
    local directory="$PWD/target/test-data/$1"
    rm -rf "$directory"
    python3 -m venv "$directory" || fail "python3 cannot make a virtual environment"
    "$directory/bin/python" -m pip install --quiet --disable-pip-version-check "$2" ||
        fail "$2 cannot be fetched from PyPI"
}

# Docker with its daemon, a static arm64 program and an emulator that runs it. All are taken out of their packages:
# no daemon is started, and neither a foreign architecture nor binfmt handlers are registered on this machine.
unpacked_programs() {
    local data="$PWD/target/test-data" program is_there=true
    for program in busybox-arm64 qemu-aarch64-static docker/docker docker/dockerd docker/containerd; do
        [ -x "$data/$program" ] || is_there=false
    done
    if $is_there; then
        return
    fi
    mkdir -p "$data/docker"
    local work
    work="$(mktemp -d)"
    # shellcheck disable=SC2064 # The directory is a local variable that is gone when the trap runs.
    trap "rm -rf '$work'" EXIT
    unpack "$work/arm64" arm64 busybox-static
    take "$work/arm64" busybox "$data/busybox-arm64"
    unpack "$work/host" "$(dpkg --print-architecture)" qemu-user-static docker.io containerd
    take "$work/host" qemu-aarch64-static "$data/qemu-aarch64-static"
    for program in docker dockerd containerd; do
        take "$work/host" "$program" "$data/docker/$program"
    done
    "$data/qemu-aarch64-static" "$data/busybox-arm64" true || fail "the arm64 programs do not run"
    # Almost a gigabyte, which need not lie around for the rest of the run.
    rm -rf "$work"
    "$data/docker/dockerd" --version > /dev/null || fail "docker's daemon does not run"
}

# A server of S3, from PyPI, with Amazon's client.
moto() {
    [ -x "$PWD/target/test-data/moto/bin/moto_server" ] || environment moto 'moto[server]==5.2.5'
}

# unpack DIR ARCHITECTURE PACKAGE...: with package lists of its own, beneath DIR.
unpack() {
    local dir="$1" architecture="$2" archive
    shift 2
    mkdir -p "$dir/lists/partial" "$dir/archives/partial" "$dir/root"
    local apt=(
        apt-get -qq -o "APT::Architecture=$architecture" -o "APT::Architectures=$architecture"
        -o "Dir::State::lists=$dir/lists" -o "Dir::State::status=/dev/null" -o "Dir::Cache=$dir"
        -o "APT::Sandbox::User=$(id -un)"
    )
    "${apt[@]}" update || fail "the package lists for $architecture cannot be fetched"
    (cd "$dir" && "${apt[@]}" download "$@") || fail "$*:$architecture cannot be fetched"
    for archive in "$dir"/*.deb; do
        dpkg-deb -x "$archive" "$dir/root"
    done
}

# take DIR PROGRAM TARGET: out of what was unpacked there.
take() {
    local found
    found="$(find "$1/root" -type f -path "*bin/$2" | head -n 1)"
    [ -n "$found" ] || fail "no package has $2"
    install -m 0755 "$found" "$3"
}

main "$@"
