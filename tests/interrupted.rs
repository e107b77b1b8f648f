//! A build that is ended in the middle: nothing half-done is to be seen, and it says what happened.

use std::{process::Child, sync::Arc};

use ocib_testkit::{FaultProxy, Noise, Registry, RegistryOptions, RequestKind, sparse_file};

use crate::program::{Ended, Site, names, signal, started, tag_digest, until, uploaded_bytes, wait};

/// A registry behind a line on which a push comes to rest, whose tag `a:1` names an old image that the site would replace.
struct Slow {
    registry: Arc<Registry>,
    proxy: FaultProxy,
    site: Site,
    tag: String,
    old: String,
}

impl Slow {
    fn new() -> Self {
        let registry = Registry::start(RegistryOptions::default());
        let proxy = FaultProxy::start(&registry.host());
        let tag = format!("{}/a:1", proxy.host());
        let site = Site::new("FROM scratch\nLABEL old=image\n");
        let old = site.built(&["--push", "-t", &tag]).digest().to_owned();
        site.file("context/Dockerfile", "FROM scratch\nCOPY small /\nCOPY big /\n");
        site.file("context/small", "s\n").file("context/big", Noise::bytes(1, 32 << 20));
        proxy.pause_after(&[RequestKind::UploadPatch, RequestKind::UploadPut], 4 << 20);
        Self { registry: Arc::new(registry), proxy, site, tag, old }
    }

    /// A push that is under way.
    fn push(&self) -> Child {
        let arguments = ["--quiet", "--compression", "none", "--push", "-t", &self.tag];
        let mut child = started(&mut self.site.build(&arguments));
        until(&mut child, "bytes arrive", || uploaded_bytes(&self.registry, "a") > 1 << 20);
        child
    }

    fn assert_untouched(&self) {
        assert_eq!(tag_digest(&self.registry, "a", "1").as_deref(), Some(&*self.old));
        let tags = self.registry.storage().join("docker/registry/v2/repositories/a/_manifests/tags");
        assert_eq!(names(&tags), ["1"]);
        assert_eq!(self.site.leftovers(), Vec::<String>::new());
    }

    /// The same command again, when nothing stands in its way.
    fn push_again(&self) -> Ended {
        self.proxy.resume();
        let done = self.site.built(&["--compression", "none", "--push", "-t", &self.tag]);
        assert_eq!(tag_digest(&self.registry, "a", "1").as_deref(), Some(done.digest()));
        done
    }
}

#[test]
fn signals_end_a_push_without_moving_the_tag() {
    for name in ["INT", "TERM"] {
        let slow = Slow::new();
        let child = slow.push();
        signal(&child, name);
        let said = wait(child).failed(130);
        let expected = format!(
            "error: interrupted by SIG{name}\n |\nhelp: no tag was moved; the same command can be run again\n"
        );
        assert_eq!(said, expected);
        slow.assert_untouched();
        slow.push_again();
    }
}

#[test]
fn a_registry_that_dies_ends_the_push_without_moving_the_tag() {
    let slow = Slow::new();
    let child = slow.push();
    slow.registry.kill();
    let said = wait(child).failed(5);
    assert!(said.starts_with("error[connection-re"), "{said}");
    assert!(said.contains(&format!("http://{}/v2/", slow.proxy.host())), "{said}");
    // Whatever listens between here and there decides how it looks.
    let helps = ["help: run the command again: ", "help: check the host name, the port and the proxy; "];
    assert!(helps.iter().any(|help| said.contains(help)), "{said}");
    slow.assert_untouched();
    slow.registry.restart();
    slow.push_again();
}

#[test]
fn a_registry_that_comes_back_in_time_gets_the_image() {
    let slow = Slow::new();
    let child = slow.push();
    // However long it takes to start: its clients wait for it.
    slow.proxy.hold(true);
    slow.registry.kill();
    slow.registry.restart();
    slow.proxy.resume();
    slow.proxy.hold(false);
    let done = wait(child).done();
    assert_eq!(tag_digest(&slow.registry, "a", "1").as_deref(), Some(done.digest()));
}

#[test]
fn signals_leave_no_files_of_an_archive() {
    let site = Site::new("FROM scratch\nCOPY zeros /\n");
    // Takes minutes to compress, and no room.
    sparse_file(&site.path("context/zeros"), 100 << 30);
    site.file("existing.tar", "what was there");
    for (output, before) in [
        ("type=oci,dest=out.tar", vec!["existing.tar"]),
        ("type=docker,dest=out.tar", vec!["existing.tar"]),
        ("type=oci,dest=existing.tar", vec!["existing.tar"]),
    ] {
        let mut child = started(&mut site.build(&["--quiet", "--compression", "gzip:1", "-o", output]));
        until(&mut child, "the archive is begun", || site.leftovers() != before);
        signal(&child, "INT");
        wait(child).failed(130);
        assert_eq!(site.leftovers(), before, "{output}");
        assert_eq!(std::fs::read(site.path("existing.tar")).unwrap(), b"what was there");
    }
}

#[test]
fn a_signal_leaves_a_layout_without_a_half_done_blob() {
    let site = Site::new("FROM scratch\nCOPY zeros /\n");
    sparse_file(&site.path("context/zeros"), 100 << 30);
    let mut child = started(&mut site.build(&["--quiet", "--compression", "gzip:1"]));
    let blobs = site.path("ocib-out/blobs/sha256");
    let is_begun = || site.path("ocib-out").is_dir() && walk(&site).iter().any(|name| name.contains("tmp"));
    until(&mut child, "a blob is begun", || blobs.is_dir() || is_begun());
    signal(&child, "TERM");
    wait(child).failed(130);
    assert_eq!(walk(&site), Vec::<String>::new());
}

/// Files of the default layout, the marker aside.
fn walk(site: &Site) -> Vec<String> {
    let mut files = Vec::new();
    let mut todo = vec![site.path("ocib-out")];
    while let Some(path) = todo.pop() {
        // What is temporary may go while it is looked at.
        let Ok(entries) = std::fs::read_dir(&path) else { continue };
        for entry in entries.flatten() {
            match entry.path().is_dir() {
                true => todo.push(entry.path()),
                false => files.push(entry.path().display().to_string()),
            }
        }
    }
    files.retain(|name| !name.ends_with("/oci-layout"));
    files
}
