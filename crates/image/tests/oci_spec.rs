//! A second opinion on documents: the `oci-spec` package reads what we write, and names mean to it
//! what they mean to us. (It loses unknown fields, so it is a judge here and no part of the program:
//! `docs/decisions/0002-packages.md`.)

use ocib_image::{
    Annotations, ContainerConfig, Descriptor, DiffId, Digest, History, Index, Manifest, MediaType, Platform,
    Reference,
};

fn config() -> ContainerConfig {
    let platform = Platform { variant: Some("v7".to_owned()), ..Platform::new("linux", "arm") };
    let mut config = ContainerConfig::scratch(&platform);
    config.set_created("1970-01-01T00:00:00Z");
    config.diff_ids = vec![DiffId(Digest::of(b"layer"))];
    let mut line = History::default();
    line.created_by = "COPY a /".into();
    config.history = vec![line];
    config.runtime.env = vec!["A=b".into()];
    config.runtime.entrypoint = Some(vec!["/a".into()]);
    config.runtime.exposed_ports = ["80/tcp".to_owned()].into();
    config.runtime.volumes = ["/data".to_owned()].into();
    config.runtime.labels = [("k".to_owned(), "v".to_owned())].into();
    config
}

#[test]
fn documents_are_what_the_specification_says() {
    let config = config();
    let read = oci_spec::image::ImageConfiguration::from_reader(&config.to_bytes()[..]).unwrap();
    assert_eq!((read.os().to_string(), read.architecture().to_string()), ("linux".into(), "arm".into()));
    assert_eq!(read.variant().as_deref(), Some("v7"));
    assert_eq!(read.rootfs().diff_ids(), &[Digest::of(b"layer").to_string()]);
    let run = read.config().as_ref().unwrap();
    assert_eq!(run.env().as_deref(), Some(&["A=b".to_owned()][..]));
    assert_eq!(run.exposed_ports().as_deref(), Some(&["80/tcp".to_owned()][..]));
    assert_eq!(run.volumes().as_deref(), Some(&["/data".to_owned()][..]));

    let annotations: Annotations = [("a".to_owned(), "b".to_owned())].into();
    let layer = Descriptor::of(MediaType::LayerZstd, b"layer");
    let manifest = Manifest::new(
        Descriptor::of(MediaType::Config, &config.to_bytes()),
        vec![layer],
        annotations.clone(),
    );
    let read = oci_spec::image::ImageManifest::from_reader(&manifest.raw()[..]).unwrap();
    assert_eq!(read.config().digest().to_string(), manifest.config().digest.to_string());
    assert_eq!(read.layers()[0].media_type(), &oci_spec::image::MediaType::ImageLayerZstd);
    assert_eq!(read.annotations().as_ref().unwrap()["a"], "b");

    let listed = Descriptor { platform: config.platform(), ..manifest.descriptor() };
    let index = Index::new(vec![listed], annotations);
    let read = oci_spec::image::ImageIndex::from_reader(&index.raw()[..]).unwrap();
    let platform = read.manifests()[0].platform().as_ref().unwrap();
    assert_eq!(
        (platform.architecture().to_string(), platform.variant().as_deref()),
        ("arm".into(), Some("v7"))
    );
    assert_eq!(read.manifests()[0].size(), manifest.raw().len() as u64);
}

#[test]
fn references_mean_the_same() {
    let digest = Digest::of(b"x");
    for text in [
        "busybox".to_owned(),
        "busybox:1.36".to_owned(),
        "org/app".to_owned(),
        "localhost:5000/a/b:t".to_owned(),
        "ghcr.io/a__b/c-d.e:V1_x".to_owned(),
        format!("a.b/c@{digest}"),
        format!("a.b/c:t@{digest}"),
    ] {
        let ours: Reference = text.parse().unwrap();
        let theirs: oci_spec::distribution::Reference = text.parse().unwrap();
        let tag = |tag: Option<&str>| tag.map(str::to_owned);
        assert_eq!(
            (ours.registry(), ours.repository(), ours.digest().map(Digest::to_string)),
            (theirs.registry(), theirs.repository(), theirs.digest().map(str::to_owned)),
            "{text}"
        );
        // It writes `latest` where we keep that nothing was written.
        let ours_tag = tag(ours.tag()).or_else(|| ours.digest().is_none().then(|| "latest".to_owned()));
        assert_eq!(ours_tag, tag(theirs.tag()), "{text}");
    }
}
