#!/usr/bin/env bash
# Runs the tests of RUN on Kubernetes against a real cluster (docs/run-cluster.md says what it must have):
#
#   OCIB_TEST_KUBECONFIG=FILE OCIB_TEST_KUBE_REGISTRY=HOST:PORT [OCIB_TEST_KUBE_PATCH=FILE] tests/cluster.sh
#
# OCIB_TEST_KUBE_CLAIM is the value of --run-context for a persistent volume claim whose volume is here, too.
# OCIB_TEST_KUBE_OUTAGE is a command that kills the API server and starts it again: what it is needed for runs last.
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
    program
    if [ -n "${OCIB_TEST_KUBE_OUTAGE:-}" ]; then
        cargo test -p ocib-kaniko --test outage -- --nocapture
    else
        echo "OCIB_TEST_KUBE_OUTAGE names no command: nothing was tested without an API server"
    fi
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

# The built program, with each way for files: what is run in a pod is in the image, and is not run again.
program() {
    local way
    mkdir "$work/app"
    for way in before between after; do
        echo "$way" > "$work/app/$way"
    done
    for way in registry attach ${OCIB_TEST_KUBE_CLAIM:+"$OCIB_TEST_KUBE_CLAIM"}; do
        app "$way" "${way%%:*}-$OCIB_TEST_KUBE_RUN"
    done
    [ -n "${OCIB_TEST_KUBE_CLAIM:-}" ] || echo "OCIB_TEST_KUBE_CLAIM names no claim: no file came on a volume"
}

# app WAY NAME: under this name the RUN is a new one.
app() {
    printf 'FROM %s\nCOPY before /\nRUN busybox cat /before > /made; echo "run %s"\nCOPY between /\nRUN busybox cat /between >> /made\nCOPY after /\n' \
        "$OCIB_TEST_KUBE_REGISTRY/ocib-base:test" "$2" > "$work/app/Dockerfile"
    build_app "$1" "$2" | tee "$work/said"
    grep -q "pod .* was created" "$work/said" || fail "no pod was made"
    grep -q "run $2" "$work/said" || fail "the log was not shown"
    build_app "$1" "$2" | tee "$work/said"
    ! grep -q "pod .* was created" "$work/said" || fail "what was there was run again"
    rm -rf "$work/layout" "$work/bundle"
    skopeo copy --quiet --src-tls-verify=false "docker://$OCIB_TEST_KUBE_REGISTRY/ocib-app:$2" "oci:$work/layout:app"
    umoci unpack --rootless --image "$work/layout:app" "$work/bundle"
    [ "$(cd "$work/bundle/rootfs" && cat before made after)" = $'before\nbefore\nbetween\nafter' ] || fail "the image is not as it should be"
}

build_app() {
    KUBECONFIG="$OCIB_TEST_KUBECONFIG" target/debug/ocib build "$work/app" --platform linux/amd64 --progress plain \
        --registry-config "$(insecure)" -t "$OCIB_TEST_KUBE_REGISTRY/ocib-app:$2" --push \
        --run kaniko --run-image "$OCIB_TEST_KUBE_REGISTRY/ocib-executor:test" --run-context "$1" \
        ${OCIB_TEST_KUBE_PATCH:+--run-pod-patch "$OCIB_TEST_KUBE_PATCH"} 2>&1
}

fail() {
    echo "tests/cluster.sh: $*" >&2
    exit 1
}

# A configuration by which the registry is spoken to over plain HTTP wherever it is.
insecure() {
    printf '[[registry]]\nlocation = "%s"\ninsecure = true\n' "$OCIB_TEST_KUBE_REGISTRY" > "$work/registries.conf"
    echo "$work/registries.conf"
}

main "$@"
