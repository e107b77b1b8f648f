//! OCI layouts, read without a line of ocib's own code: what is judged must not judge itself.

mod rootfs;

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use serde_json::Value;
use sha2::{Digest, Sha256};

pub use rootfs::{FileType, RootfsFile, layers_with_history, rootfs};

/// Derives every digest of an OCI layout directory again, from `index.json` down: sizes and digests
/// of all manifests, configs and layers, and the diff IDs of the layers from their uncompressed
/// bytes. Panics with the path of what is wrong.
pub fn verify_layout(dir: &Path) {
    let marker = json(&dir.join("oci-layout"), &read(&dir.join("oci-layout")));
    assert_eq!(marker["imageLayoutVersion"], "1.0.0", "{}", dir.join("oci-layout").display());
    let index = json(&dir.join("index.json"), &read(&dir.join("index.json")));
    assert_eq!(index["schemaVersion"], 2, "{}", dir.join("index.json").display());
    images(dir).iter().for_each(Image::verify);
    for blob in std::fs::read_dir(dir.join("blobs/sha256")).expect("a layout has blobs/sha256") {
        let path = blob.expect("a directory that can be read").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        assert_eq!(name, hex_digest(&mut open(&path)).0, "{} is not called by its digest", path.display());
    }
}

/// One image of a layout.
struct Image {
    dir: PathBuf,
    manifest: Value,
    config: Value,
}

/// Every image that `index.json` leads to, in its order, nested indexes included. Each document is
/// verified against the descriptor that led to it.
fn images(dir: &Path) -> Vec<Image> {
    let index = json(&dir.join("index.json"), &read(&dir.join("index.json")));
    let mut found = Vec::new();
    collect(dir, &index, &mut found);
    found
}

fn collect(dir: &Path, index: &Value, found: &mut Vec<Image>) {
    for descriptor in list(&index["manifests"]) {
        let document = verified_json(dir, descriptor);
        if let Some(own) = document["mediaType"].as_str() {
            assert_eq!(descriptor["mediaType"], own, "{}", blob_path(dir, descriptor).display());
        }
        if document.get("manifests").is_some() {
            collect(dir, &document, found);
        } else {
            let config = verified_json(dir, &document["config"]);
            found.push(Image { dir: dir.to_owned(), manifest: document, config });
        }
    }
}

impl Image {
    /// `os/architecture[/variant]` of the config.
    fn platform(&self) -> String {
        let part = |key: &str| self.config[key].as_str();
        [part("os"), part("architecture"), part("variant")]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join("/")
    }

    fn layers(&self) -> &[Value] {
        list(&self.manifest["layers"])
    }

    fn verify(&self) {
        let diff_ids = list(&self.config["rootfs"]["diff_ids"]);
        let config = blob_path(&self.dir, &self.manifest["config"]);
        assert_eq!(diff_ids.len(), self.layers().len(), "number of diff IDs in {}", config.display());
        for (descriptor, diff_id) in self.layers().iter().zip(diff_ids) {
            verify_blob(&self.dir, descriptor);
            let actual = hex_digest(&mut open_layer(&self.dir, descriptor)).0;
            let layer = blob_path(&self.dir, descriptor);
            assert_eq!(*diff_id, format!("sha256:{actual}"), "diff ID of {}", layer.display());
        }
    }
}

/// The uncompressed tar of a layer, by its media type's suffix.
fn open_layer(dir: &Path, descriptor: &Value) -> Box<dyn Read> {
    let path = blob_path(dir, descriptor);
    let media_type = descriptor["mediaType"].as_str().unwrap_or_default();
    match media_type.rsplit_once(['+', '.']).map(|(_, suffix)| suffix) {
        Some("gzip") => Box::new(flate2::read::MultiGzDecoder::new(open(&path))),
        Some("zstd") => Box::new(zstd::Decoder::new(open(&path)).expect("a decoder can be made")),
        Some("tar") => Box::new(open(&path)),
        _ => panic!("{} has media type {media_type:?}, which is no layer", path.display()),
    }
}

fn verified_json(dir: &Path, descriptor: &Value) -> Value {
    verify_blob(dir, descriptor);
    let path = blob_path(dir, descriptor);
    json(&path, &read(&path))
}

fn verify_blob(dir: &Path, descriptor: &Value) {
    let path = blob_path(dir, descriptor);
    let (hex, bytes) = hex_digest(&mut open(&path));
    assert_eq!(descriptor["digest"], format!("sha256:{hex}"), "digest of {}", path.display());
    assert_eq!(descriptor["size"], bytes, "size of {}", path.display());
}

fn blob_path(dir: &Path, descriptor: &Value) -> PathBuf {
    let digest = descriptor["digest"].as_str().unwrap_or_default();
    let hex = digest.strip_prefix("sha256:").unwrap_or_else(|| panic!("{descriptor} has no sha256 digest"));
    dir.join("blobs/sha256").join(hex)
}

fn hex_digest(reader: &mut dyn Read) -> (String, u64) {
    let (mut hasher, mut total, mut buffer) = (Sha256::new(), 0, vec![0; 256 << 10]);
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(got) => {
                hasher.update(&buffer[..got]);
                total += got as u64;
            }
            Err(error) => panic!("a blob cannot be read after {total} bytes: {error}"),
        }
    }
    (hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect(), total)
}

fn open(path: &Path) -> File {
    File::open(path).unwrap_or_else(|error| panic!("cannot open {}: {error}", path.display()))
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
}

fn json(path: &Path, bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|error| panic!("{} is no JSON: {error}", path.display()))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs, process::Command};

    use super::*;
    use crate::{Registry, RegistryOptions, run_command, skopeo, umoci};

    /// An image of two layers made by umoci: the second changes the mode of one file, removes
    /// another one and replaces a directory.
    fn layout_of_umoci(dir: &Path) -> String {
        let image = format!("{}:tag", dir.join("layout").display());
        umoci(&["init", "--layout", &dir.join("layout").display().to_string()]);
        umoci(&["new", "--image", &image]);
        let bundle = dir.join("bundle").display().to_string();
        umoci(&["unpack", "--image", &image, &bundle]);
        let change = |script: &str| {
            run_command(
                Command::new("sh")
                    .args(["-euc", &format!("umask 022; {script}")])
                    .current_dir(dir.join("bundle/rootfs")),
            );
            umoci(&["repack", "--refresh-bundle", "--image", &image, &bundle]);
        };
        change(
            "mkdir -p a/b gone opaque; echo hello > a/b/file; echo x > gone/x; echo y > opaque/y; ln -s b a/link",
        );
        change("chmod 0755 a/b/file; rm -r gone opaque; mkdir opaque; echo z > opaque/z; ln a/b/file a/hard");
        image
    }

    #[test]
    fn judges_a_layout_made_by_others() {
        let dir = tempfile::tempdir().unwrap();
        let image = layout_of_umoci(dir.path());
        let registry = Registry::start(RegistryOptions::default());
        let (reference, copy) = (format!("docker://{}/a:1", registry.host()), dir.path().join("copy"));
        skopeo(&["copy", "--dest-tls-verify=false", &format!("oci:{image}"), &reference]);
        let target = format!("oci:{}:1", copy.display());
        skopeo(&["copy", "--src-tls-verify=false", &reference, &target]);
        assert_eq!(registry.requests().fetched().len(), 3);
        verify_layout(&copy);
        let files = rootfs(&copy, "linux/amd64");
        let shown: BTreeMap<_, _> = files.iter().map(|(path, file)| (&path[..], file.to_string())).collect();
        let expected = [
            ("", "d 0755 0:0 0"),
            ("a", "d 0755 0:0 0"),
            ("a/b", "d 0755 0:0 0"),
            ("a/b/file", "f 0755 0:0 6"),
            ("a/hard", "f 0755 0:0 6 -> a/b/file"),
            ("a/link", "l 0777 0:0 0 -> b"),
            ("opaque", "d 0755 0:0 0"),
            ("opaque/z", "f 0644 0:0 2"),
        ];
        assert_eq!(shown, expected.map(|(path, file)| (path, file.to_owned())).into());
        let hello = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        assert_eq!(files["a/b/file"].sha256.as_deref(), Some(hello));
    }

    #[test]
    #[should_panic(expected = "digest of ")]
    fn a_changed_byte_is_found() {
        let dir = tempfile::tempdir().unwrap();
        layout_of_umoci(dir.path());
        let layout = dir.path().join("layout");
        let largest = fs::read_dir(layout.join("blobs/sha256")).unwrap().map(|blob| blob.unwrap().path());
        let largest = largest.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
        let mut bytes = fs::read(&largest).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&largest, bytes).unwrap();
        verify_layout(&layout);
    }
}
