//! Who races: each is a script, so that a reader can repeat by hand what was measured.

/// What a row of a table is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Less than this cannot be done: reading, hashing, compressing alone.
    Floor,
    /// Another tool.
    Peer,
    /// This one.
    Ocib,
}

/// One who races.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// Programs without which it is absent.
    pub(crate) needs: &'static [&'static str],
    /// For bash; see [`crate::measure::Script`].
    pub(crate) script: &'static str,
    /// What the registry holds afterwards.
    pub(crate) pushed: Pushed,
}

/// What the registry holds afterwards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pushed {
    /// Nothing: the script does not push.
    Nothing,
    /// An image, whose layers are archives of all files.
    Image,
    /// An artifact, whose layers are the files themselves.
    Artifact,
}

/// For a model of some large files: one layer for each, and one for all documents.
pub(crate) fn for_model() -> Vec<Contender> {
    vec![
        floor("read the files", r#"cat "$CONTEXT"/model/* > /dev/null"#),
        floor("digest the files (openssl)", r#"openssl dgst -sha256 "$CONTEXT"/model/* > /dev/null"#),
        ocib("**ocib** (auto: plain)", r#""$OCIB" build "$CONTEXT" -q --push -t "$REF""#),
        ocib("**ocib**, gzip", r#""$OCIB" build "$CONTEXT" -q --push --compression gzip -t "$REF""#),
        ocib("**ocib**, zstd", r#""$OCIB" build "$CONTEXT" -q --push --compression zstd -t "$REF""#),
        layout(r#""$OCIB" build "$CONTEXT" -q -o "type=oci,tar=false,dest=$RAM/layout""#),
        Contender {
            name: "oras (artifact: no tar, no config)",
            needs: &["oras"],
            script: r#"cd "$CONTEXT/model" && oras push --plain-http "$REF" *"#,
            pushed: Pushed::Artifact,
            ..PEER
        },
        crane(r#"tar -C "$CONTEXT" -cf - model | crane append --insecure -f - -t "$REF""#),
        umoci(UMOCI_MODEL),
    ]
}

/// For many small files in one layer.
pub(crate) fn for_files() -> Vec<Contender> {
    vec![
        floor("tar, digest (openssl)", r#"tar -C "$CONTEXT" -cf - tree | openssl dgst -sha256 > /dev/null"#),
        floor("tar, gzip -6", r#"tar -C "$CONTEXT" -cf - tree | gzip -6 > /dev/null"#),
        ocib("**ocib**, gzip", r#""$OCIB" build "$CONTEXT" -q --push --compression gzip -t "$REF""#),
        ocib("**ocib** (auto: gzip)", r#""$OCIB" build "$CONTEXT" -q --push -t "$REF""#),
        ocib("**ocib**, zstd", r#""$OCIB" build "$CONTEXT" -q --push --compression zstd -t "$REF""#),
        ocib("**ocib**, plain", r#""$OCIB" build "$CONTEXT" -q --push --compression none -t "$REF""#),
        layout(r#""$OCIB" build "$CONTEXT" -q --compression gzip -o "type=oci,tar=false,dest=$RAM/layout""#),
        Contender {
            name: "oras (artifact)",
            needs: &["oras"],
            script: r#"cd "$CONTEXT" && oras push --plain-http "$REF" tree"#,
            ..PEER
        },
        crane(r#"tar -C "$CONTEXT" -cf - tree | crane append --insecure -f - -t "$REF""#),
        umoci(UMOCI_FILES),
    ]
}

/// For a few files out of a large context.
pub(crate) fn for_small_copy() -> Vec<Contender> {
    vec![
        floor("list the context (find)", r#"find "$CONTEXT" > /dev/null"#),
        ocib("**ocib**", r#""$OCIB" build "$CONTEXT" -q --push -t "$REF""#),
        Contender { name: "buildah (vfs, chroot)", needs: &["buildah"], script: BUILDAH, ..PEER },
    ]
}

/// The storage lies in memory, as nothing else does that it writes.
const BUILDAH: &str = r#"
buildah() {
    command buildah --root "$RAM/root" --runroot "$RAM/run" --storage-driver vfs "$@"
}
buildah bud --isolation chroot --quiet --tag made "$CONTEXT"
buildah push --quiet --tls-verify=false made "docker://$REF""#;

/// The peers that can push what the registry has already, and ocib.
pub(crate) fn for_pushing_again() -> Vec<Contender> {
    vec![ocib("**ocib**", r#""$OCIB" build "$CONTEXT" -q --push -t "$REF""#), umoci(UMOCI_MODEL)]
}

/// umoci compresses every layer by gzip.
const UMOCI_MODEL: &str = r#"
umoci init --layout "$WORK/layout"
umoci new --image "$WORK/layout:x"
cd "$CONTEXT"
tar -cf - model/*.json | umoci raw add-layer --image "$WORK/layout:x" /dev/stdin
for shard in model/*.safetensors; do
    tar -cf - "$shard" | umoci raw add-layer --image "$WORK/layout:x" /dev/stdin
done
skopeo --insecure-policy copy --quiet --dest-tls-verify=false "oci:$WORK/layout:x" "docker://$REF""#;

const UMOCI_FILES: &str = r#"
umoci init --layout "$WORK/layout"
umoci new --image "$WORK/layout:x"
tar -C "$CONTEXT" -cf - tree | umoci raw add-layer --image "$WORK/layout:x" /dev/stdin
skopeo --insecure-policy copy --quiet --dest-tls-verify=false "oci:$WORK/layout:x" "docker://$REF""#;

const PEER: Contender =
    Contender { name: "", kind: Kind::Peer, needs: &[], script: "", pushed: Pushed::Image };

fn floor(name: &'static str, script: &'static str) -> Contender {
    let needs = &["openssl", "gzip", "tar"];
    Contender { name, kind: Kind::Floor, needs, script, pushed: Pushed::Nothing }
}

fn ocib(name: &'static str, script: &'static str) -> Contender {
    Contender { name, kind: Kind::Ocib, script, ..PEER }
}

/// No registry on the other side, and the same work on this one.
fn layout(script: &'static str) -> Contender {
    Contender { pushed: Pushed::Nothing, ..ocib("**ocib** to a layout in memory", script) }
}

fn crane(script: &'static str) -> Contender {
    Contender { name: "tar, crane append (one layer, gzip)", needs: &["tar", "crane"], script, ..PEER }
}

fn umoci(script: &'static str) -> Contender {
    Contender { name: "tar, umoci, skopeo (gzip)", needs: &["tar", "umoci", "skopeo"], script, ..PEER }
}
