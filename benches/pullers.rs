//! Who pulls a model: each is a script, so that a reader can repeat by hand what was measured.

use std::process::Command;

use crate::{measure::are_there, site::Site};

/// Who pulls, by a script. `$URLS` are those of the layers, `$LAYERS` their digests without the algorithm.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Puller {
    pub(crate) name: &'static str,
    pub(crate) is_peer: bool,
    /// Programs without which it is absent.
    needs: &'static [&'static str],
    /// Whether it mounts layers over each other, which only root may.
    mounts: bool,
    pub(crate) script: &'static str,
}

/// A tool that unpacks nothing.
const PEER: Puller = Puller { name: "", is_peer: true, needs: &[], mounts: false, script: "" };
const FLOOR: Puller = Puller { is_peer: false, ..PEER };

/// containerd as `$RAM/containerd.toml` says, until the script ends; `ctr` speaks to it. It is a client like the
/// others here, so its start and its end are in the figures, and a row of their own says what they take.
/// Without the services that nobody asks, it writes nothing outside of `$RAM`.
macro_rules! with_containerd {
    ($script:literal) => {
        concat!(
            r#"
cat > "$RAM/containerd.toml" <<END
version = 2
root = "$RAM/root"
state = "$RAM/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
[grpc]
address = "$RAM/containerd.sock"
END
containerd --config "$RAM/containerd.toml" --log-level error &
daemon=$!
trap 'kill $daemon; wait $daemon || true' EXIT
ctr() {
    command ctr --address "$RAM/containerd.sock" "$@"
}
until ctr version > /dev/null 2>&1; do
    kill -0 $daemon
    sleep 0.01
done
"#,
            $script
        )
    };
}

pub(crate) const PULLERS: [Puller; 11] = [
    Puller {
        name: "blobs one after another (curl)",
        needs: &["curl"],
        script: r#"for url in $URLS; do curl -sSf -o /dev/null "$url"; done"#,
        ..FLOOR
    },
    Puller {
        name: "blobs all at once (curl)",
        needs: &["curl"],
        script: r#"for url in $URLS; do echo "-o /dev/null $url"; done | xargs curl -sSf --parallel"#,
        ..FLOOR
    },
    Puller { name: "**ocib** model pull", script: r#""$OCIB" model pull -q "$REF" "$RAM/pulled""#, ..FLOOR },
    Puller {
        name: "skopeo copy (layers, not unpacked)",
        needs: &["skopeo"],
        script: r#"skopeo --insecure-policy copy -q --src-tls-verify=false "docker://$REF" "dir:$RAM/pulled""#,
        ..PEER
    },
    Puller {
        name: "skopeo copy, tar",
        needs: &["skopeo", "tar"],
        script: r#"
skopeo --insecure-policy copy -q --src-tls-verify=false "docker://$REF" "dir:$RAM/pulled"
for layer in $LAYERS; do
    tar -C "$RAM" -xf "$RAM/pulled/$layer"
    rm "$RAM/pulled/$layer"
done"#,
        ..PEER
    },
    Puller {
        name: "containerd, started and stopped",
        needs: &["containerd", "ctr"],
        script: with_containerd!(""),
        ..FLOOR
    },
    Puller {
        name: "containerd, all layers at once (not unpacked)",
        needs: &["containerd", "ctr"],
        script: with_containerd!(r#"ctr content fetch --plain-http "$REF" > /dev/null"#),
        ..PEER
    },
    Puller {
        // Three is what containerd's CRI plugin has for `max_concurrent_downloads`, so what nodes of Kubernetes do.
        name: "containerd, 3 layers at once, unpacked (overlayfs)",
        needs: &["containerd", "ctr"],
        mounts: true,
        script: with_containerd!(
            r#"
ctr images pull --plain-http --max-concurrent-downloads 3 --snapshotter overlayfs "$REF" > /dev/null"#
        ),
        ..PEER
    },
    Puller {
        // Up to six layers at once, its own default (`image_parallel_copies` of containers.conf).
        name: "podman pull, 6 layers at once, unpacked (overlay)",
        needs: &["podman"],
        mounts: true,
        script: r#"
export TMPDIR="$RAM"
podman --root "$RAM/root" --runroot "$RAM/run" --storage-driver overlay pull -q --tls-verify=false "$REF""#,
        ..PEER
    },
    Puller {
        name: "crane pull (layers, not unpacked)",
        needs: &["crane"],
        script: r#"crane pull --insecure --format oci "$REF" "$RAM/pulled""#,
        ..PEER
    },
    Puller {
        name: "oras copy (layers, not unpacked)",
        needs: &["oras"],
        script: r#"oras copy --from-plain-http --to-oci-layout "$REF" "$RAM/pulled:1""#,
        ..PEER
    },
];

impl Puller {
    /// Whether it can run here.
    pub(crate) fn is_there(&self, site: &Site) -> bool {
        are_there(self.needs) && (!self.mounts || can_mount(site))
    }
}

/// Whether directories can be mounted over each other here; tried where nobody else sees it.
fn can_mount(site: &Site) -> bool {
    const MOUNT: &str = r#"
mkdir lower upper work merged
mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work merged"#;
    let work = site.work();
    let mut unshare = Command::new("unshare");
    let tried = unshare.args(["--mount", "bash", "-euc", MOUNT]).current_dir(work.memory()).output();
    tried.is_ok_and(|output| output.status.success())
}
