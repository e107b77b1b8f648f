#!/usr/bin/env bash
# Runs the tests of RUN on Kubernetes against a real cluster (docs/run-cluster.md says what it must have):
#
#   OCIB_TEST_KUBECONFIG=FILE OCIB_TEST_KUBE_REGISTRY=HOST:PORT [OCIB_TEST_KUBE_PATCH=FILE] tests/cluster.sh
#
# OCIB_TEST_KUBE_CLAIM is the value of --run-context for a persistent volume claim whose volume is here, too.
# OCIB_TEST_KUBE_HOST is an address of this machine by which pods reach it, 127.0.0.1 where they have its network.
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
    buckets
    modelcar
    if [ -n "${OCIB_TEST_KUBE_OUTAGE:-}" ]; then
        cargo test -p ocib-kaniko --test outage -- --nocapture
    else
        echo "OCIB_TEST_KUBE_OUTAGE names no command: nothing was tested without an API server"
    fi
}

# The stand-in for Kaniko's executor and a base with a shell, made by ocib and pushed to where the nodes pull from.
images() {
    work="$(mktemp -d)" server= made=()
    trap 'clean' EXIT
    crates/testkit/executor/assemble "$work/executor"
    mkdir -p "$work/base/bin"
    cp "$(type -P busybox)" "$work/base/bin/busybox"
    local applet
    for applet in sh ln ls sleep; do
        ln -s busybox "$work/base/bin/$applet"
    done
    printf 'FROM scratch\nCOPY bin /bin/\n' > "$work/base/Dockerfile"
    cargo build --bin ocib
    for name in executor base; do
        target/debug/ocib build "$work/$name" --platform linux/amd64 \
            --registry-config "$(insecure)" -t "$OCIB_TEST_KUBE_REGISTRY/ocib-$name:$OCIB_TEST_KUBE_RUN" --push
    done
}

clean() {
    [ -z "$server" ] || kill "$server"
    [ "${#made[@]}" = 0 ] || kube delete "${made[@]}" --wait=false
    rm -rf "$work"
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

# Files by buckets of a server that stands for both clouds' (moto). It gives an object to whoever signs; one
# bucket is everybody's, as clients of Google do not sign where an emulator is named.
buckets() {
    if [ -z "${OCIB_TEST_KUBE_HOST:-}" ]; then
        echo "OCIB_TEST_KUBE_HOST names no address: no file came by a bucket"
        return
    fi
    local python="$PWD/target/test-data/moto/bin/python" port
    [ -x "$python" ] || fail "moto is missing: run tests/run.sh once, which installs it"
    port="$("$python" -c 'import socket, sys; s = socket.socket(); s.bind((sys.argv[1], 0)); print(s.getsockname()[1])' "$OCIB_TEST_KUBE_HOST")"
    "${python%/*}/moto_server" -H "$OCIB_TEST_KUBE_HOST" -p "$port" > "$work/moto" 2>&1 &
    server=$!
    export AWS_ENDPOINT_URL_S3="http://$OCIB_TEST_KUBE_HOST:$port" AWS_REGION=us-east-1
    export STORAGE_EMULATOR_HOST="$AWS_ENDPOINT_URL_S3" AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY="key-$RANDOM$RANDOM"
    until curl -s -o "$work/answer" "$AWS_ENDPOINT_URL_S3"; do
        kill -0 "$server" 2> "$work/answer" || fail "moto_server has ended: $(cat "$work/moto")"
        sleep 0.1
    done
    bucket private -X PUT
    bucket public -X PUT
    bucket 'public?policy' -X PUT -H 'Content-Type: application/json' -d '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*",
        "Action": "s3:*", "Resource": "arn:aws:s3:::public/*"}]}' > "$work/answer"

    # Whoever the pod is, it cannot read the object.
    app_dockerfile stranger
    ! build_app s3://private/ci stranger > "$work/said" || fail "a pod without an identity read an object"
    grep -q 'error\[run-context-read\]: .* 403' "$work/said" || fail "it is not said that the object cannot be read: $(cat "$work/said")"
    pods_left

    # Its identity is a secret's.
    kube create secret generic ocib-test-bucket --from-literal=id="$AWS_ACCESS_KEY_ID" --from-literal=key="$AWS_SECRET_ACCESS_KEY"
    made=(secret/ocib-test-bucket)
    identified "$python" > "$work/identified.json"
    OCIB_TEST_KUBE_PATCH="$work/identified.json" app s3://private/ci "s3-$OCIB_TEST_KUBE_RUN"
    kube delete "${made[@]}" --wait=false
    made=()
    app gs://public/ci "gs-$OCIB_TEST_KUBE_RUN"
    pods_left
    local name
    for name in private public; do
        ! bucket "$name?list-type=2" | grep '<Key>' || fail "something is left in the bucket $name"
    done
}

bucket() {
    local path="$1"
    shift
    curl -fsS --aws-sigv4 "aws:amz:$AWS_REGION:s3" --user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" "$@" \
        "$AWS_ENDPOINT_URL_S3/$path"
}

# The patch for pods, with an identity of AWS in the container's environment.
identified() {
    "$1" - "${OCIB_TEST_KUBE_PATCH:-/dev/null}" << 'EOF'
import json, sys, yaml
patch = yaml.safe_load(open(sys.argv[1])) or {}
containers = patch.setdefault("spec", {}).setdefault("containers", [])
if not any(one["name"] == "kaniko" for one in containers):
    containers.append({"name": "kaniko"})
container = next(one for one in containers if one["name"] == "kaniko")
for name, key in ("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "key"):
    source = {"secretKeyRef": {"name": "ocib-test-bucket", "key": key}}
    container.setdefault("env", []).append({"name": name, "valueFrom": source})
print(json.dumps(patch))
EOF
}

pods_left() {
    KUBECONFIG="$OCIB_TEST_KUBECONFIG" target/debug/ocib run-pods list > "$work/pods"
    ! grep "app:" "$work/pods" || fail "a pod is left"
}

kube() {
    kubectl --kubeconfig "$OCIB_TEST_KUBECONFIG" "$@"
}

# A model's image in the pod that KServe makes of it: a server of another image reads the model, as KServe's user and as
# one that OpenShift would choose.
modelcar() {
    local python="$PWD/target/test-data/moto/bin/python" image uid
    [ -x "$python" ] || fail "PyYAML is missing: run tests/run.sh once, which installs it with moto"
    cp -r testdata/modelcar/model "$work/model"
    image="$(target/debug/ocib model build "$work/model" --base "$OCIB_TEST_KUBE_REGISTRY/ocib-base:$OCIB_TEST_KUBE_RUN" --quiet \
        --registry-config "$(insecure)" -t "$OCIB_TEST_KUBE_REGISTRY/ocib-modelcar:$OCIB_TEST_KUBE_RUN" --push)"
    target/debug/ocib model check "$image" --registry-config "$(insecure)"
    (cd "$work/model" && find . -type f ! -path '*/.*' | sort | xargs -d '\n' sha256sum) > "$work/expected"
    for uid in 1010 1000710000; do
        modelcar_pod "$python" "$image" "$uid" > "$work/pod.json"
        kube create -f "$work/pod.json"
        made=("pod/ocib-modelcar-$uid")
        for _ in $(seq 120); do
            ! kube logs "ocib-modelcar-$uid" -c kserve-container > "$work/said" 2>&1 || ! grep -qx read "$work/said" || break
            sleep 1
        done
        kube logs "ocib-modelcar-$uid" -c modelcar-init | grep 'OK ... Prefetched' ||
            fail "the model's image did not start: $(kube get pod "ocib-modelcar-$uid" -o yaml)"
        grep -vx read "$work/said" | diff "$work/expected" - || fail "UID $uid did not read the model"
        echo "UID $uid reads $(wc -l < "$work/expected") files by /mnt/models"
        kube delete "${made[@]}"
        made=()
    done
}

# modelcar_pod PYTHON IMAGE UID: that of the guide with these, a server that reads, and what the patch says of every pod.
modelcar_pod() {
    "$1" - docs/examples/kubernetes/modelcar.yaml "${OCIB_TEST_KUBE_PATCH:-/dev/null}" "$2" "$3" \
        "$OCIB_TEST_KUBE_REGISTRY/ocib-base:$OCIB_TEST_KUBE_RUN" << 'EOF'
import json, re, sys, yaml
manifest, patch, image, uid, server_image = sys.argv[1:]
pod = yaml.safe_load(re.sub(r"registry\.example/models/tiny@sha256:[0-9a-f]{64}", image, open(manifest).read()))
pod["metadata"]["name"] = f"ocib-modelcar-{uid}"
of_every_pod = (yaml.safe_load(open(patch)) or {}).get("spec", {})
pod["spec"].update({name: value for name, value in of_every_pod.items() if name != "containers"})
server, modelcar = pod["spec"]["containers"]
server["image"] = server_image
server["command"] = ["sh", "-c", """
until cd /mnt/models/; do sleep 1; done 2> /dev/null
busybox find . -type f ! -path '*/.*' | busybox sort | busybox xargs busybox sha256sum
echo read
sleep infinity"""]
del server["args"]
server["securityContext"]["runAsUser"] = modelcar["securityContext"]["runAsUser"] = int(uid)
print(json.dumps(pod))
EOF
}

# app WAY NAME: under this name the RUN is a new one.
app() {
    app_dockerfile "$2"
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

app_dockerfile() {
    printf 'FROM %s\nCOPY before /\nRUN busybox cat /before > /made; echo "run %s"\nCOPY between /\nRUN busybox cat /between >> /made\nCOPY after /\n' \
        "$OCIB_TEST_KUBE_REGISTRY/ocib-base:$OCIB_TEST_KUBE_RUN" "$1" > "$work/app/Dockerfile"
}

build_app() {
    KUBECONFIG="$OCIB_TEST_KUBECONFIG" target/debug/ocib build "$work/app" --platform linux/amd64 --progress plain \
        --registry-config "$(insecure)" -t "$OCIB_TEST_KUBE_REGISTRY/ocib-app:$2" --push \
        --run kaniko --run-image "$OCIB_TEST_KUBE_REGISTRY/ocib-executor:$OCIB_TEST_KUBE_RUN" --run-context "$1" \
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
