#!/usr/bin/env bash
# Runs the tests of RUN on Kubernetes against a real cluster (docs/run-cluster.md says what it must have):
#
#   OCIB_TEST_KUBECONFIG=FILE OCIB_TEST_KUBE_REGISTRY=HOST:PORT [OCIB_TEST_KUBE_PATCH=FILE] tests/cluster.sh
#
# OCIB_TEST_KUBE_LIFE=NAME runs one life of crates/kaniko/tests/cluster/lives.rs alone; arguments go to
# `cargo test`, such as the name of a test.
set -euo pipefail
cd "$(dirname "$0")/.."

main() {
    : "${OCIB_TEST_KUBECONFIG:?names no kubeconfig}" "${OCIB_TEST_KUBE_REGISTRY:?names no registry}"
    local name
    for name in OCIB_TEST_KUBECONFIG OCIB_TEST_KUBE_PATCH; do
        [ -z "${!name:-}" ] || export "$name=$(realpath -e -- "${!name}")"
    done
    export OCIB_TEST_KUBE_REGISTRY OCIB_TEST_KUBE_RUN
    OCIB_TEST_KUBE_RUN="$(date -u +%Y%m%d-%H%M%S)"
    images
    cargo test -p ocib-kaniko --test cluster "$@" -- --nocapture
}

# The stand-in for Kaniko's executor and a base with a shell, made by ocib and pushed to where the nodes pull from.
images() {
    work="$(mktemp -d)"
    trap 'rm -rf "$work"' EXIT
    crates/testkit/executor/assemble "$work/executor"
    mkdir "$work/base"
    cp "$(type -P busybox)" "$work/base/busybox"
    printf 'FROM scratch\nCOPY busybox /bin/busybox\nCOPY busybox /bin/sh\n' > "$work/base/Dockerfile"
    cargo build --bin ocib
    for name in executor base; do
        target/debug/ocib build "$work/$name" --platform linux/amd64 \
            --registry-config "$(insecure)" -t "$OCIB_TEST_KUBE_REGISTRY/ocib-$name:test" --push
    done
}

# A configuration by which the registry is spoken to over plain HTTP wherever it is.
insecure() {
    printf '[[registry]]\nlocation = "%s"\ninsecure = true\n' "$OCIB_TEST_KUBE_REGISTRY" > "$work/registries.conf"
    echo "$work/registries.conf"
}

main "$@"
