//! `--registry-config` and proxies: where images are pulled from, and whom a connection trusts.

use std::process::Command;

use ocib_testkit::{ConnectProxy, Noise, ProxyRequest, Registry, RegistryOptions};

use crate::program::{Ended, Site, ended, manifest, tag_digest};

/// A site whose image is one file on a base.
fn site(base: &str, content: &str) -> Site {
    let site = Site::new(&format!("FROM {base}\nCOPY --link file /\n"));
    site.file("context/file", content);
    site
}

/// Pushes a base of one file; gives its digest.
fn push_base(tag: &str, seed: u64) -> String {
    let base = Site::new("FROM scratch\nCOPY noise /\n");
    base.file("context/noise", Noise::bytes(seed, 100_000));
    base.built(&["--push", "-t", tag]).digest().to_owned()
}

/// `ocib build --push` of `tag` by what `config/` of the site says.
fn push(site: &Site, tag: &str) -> Ended {
    ended(&mut push_command(site, tag))
}

fn push_command(site: &Site, tag: &str) -> Command {
    site.build(&["--quiet", "--push", "-t", tag, "--registry-config", "config"])
}

/// A registry over TLS that wants to know clients by their certificates.
fn private_registry() -> Registry {
    let login = Some(("me".to_owned(), "planted-password".to_owned()));
    Registry::start(RegistryOptions { tls: true, client_certificate: true, login, in_memory: true })
}

/// Puts the certificates that a registry wants into `config/certs.d`.
fn add_certificates(site: &Site, host: &str, registry: &Registry) {
    let (certificate, key) = registry.client_pem();
    for (name, path) in [("ca.crt", registry.ca_pem()), ("client.cert", certificate), ("client.key", key)] {
        site.file(format!("config/certs.d/{host}/{name}"), std::fs::read(path).unwrap());
    }
}

fn add_login(site: &Site, host: &str) {
    // `me:planted-password`.
    let auths = format!(r#"{{"auths":{{"{host}":{{"auth":"bWU6cGxhbnRlZC1wYXNzd29yZA=="}}}}}}"#);
    site.file("auth/config.json", auths);
}

#[test]
fn certificates_are_for_their_host_alone() {
    let (registry, other) = (private_registry(), private_registry());
    let site = site("scratch", "x");
    add_certificates(&site, &registry.host(), &registry);
    add_login(&site, &registry.host());
    let run = |host: &str| {
        let mut command = push_command(&site, &format!("{host}/a:1"));
        ended(command.env("DOCKER_CONFIG", site.path("auth")))
    };
    let done = run(&registry.host()).done();
    assert!(done.stderr.is_empty(), "{}", done.stderr);

    // What preflight asks for before anything else goes by the same certificates.
    let mut look = Command::new(env!("CARGO_BIN_EXE_ocib"));
    let tag = format!("{}/a:2", registry.host());
    look.args(["preflight", "context", "-t", &tag, "--registry-config", "config"]);
    site.clean(&mut look);
    let looked = ended(look.env("DOCKER_CONFIG", site.path("auth"))).done();
    let printed = String::from_utf8_lossy(&looked.stdout).into_owned();
    assert!(printed.contains(&format!("ok       registry    {}: it answers", registry.host())), "{printed}");

    // The other registry has another CA of the same name.
    let said = run(&other.host()).failed(5);
    let untrusted = format!(
        "error[certificate-unknown]: GET https://{}/v2/ failed: the server's certificate is not trusted: invalid peer certificate: ",
        other.host()
    );
    assert!(said.starts_with(&untrusted), "{said}");

    std::fs::remove_file(site.path(format!("config/certs.d/{}/client.cert", registry.host()))).unwrap();
    let said = run(&registry.host()).failed(1);
    let key = format!("config/certs.d/{}/client.key", registry.host());
    assert_eq!(said, format!("error: cannot use {key}: its certificate client.cert is not beside it\n"));
    std::fs::remove_file(site.path(key)).unwrap();
    let said = run(&registry.host()).failed(5);
    let nobody = format!(
        "error: GET https://{}/v2/ failed: the server wants a client certificate that it trusts: received fatal \
         alert: BadCertificate\n",
        registry.host()
    );
    assert_eq!(said, nobody);
}

#[test]
fn pulls_ask_mirrors_and_pushes_do_not() {
    let (primary, mirror) =
        (Registry::start(RegistryOptions::default()), Registry::start(RegistryOptions::default()));
    let empty = Registry::start(RegistryOptions::default());
    let down = Registry::start(RegistryOptions::default());
    down.stop();
    push_base(&format!("{}/team/base:1", primary.host()), 1);
    push_base(&format!("{}/cache/base:1", mirror.host()), 2);
    let site = site("registry.test/team/base:1", "x");
    let mirrors = [&down, &empty, &mirror]
        .map(|mirror| format!("[[registry.mirror]]\nlocation = \"{}/cache\"\n", mirror.host()));
    let rule =
        format!("[[registry]]\nprefix = \"registry.test/team\"\nlocation = \"{}/team\"\n", primary.host());
    site.file("config/registries.conf", rule + &mirrors.concat());
    let tag = format!("{}/team/app:1", primary.host());

    let before = [&primary, &mirror].map(Registry::requests);
    let first = ended(&mut site.build(&["--push", "-t", &tag, "--registry-config", "config"])).done();
    let note =
        format!("registry.test/team/base:1 is not taken from the mirror {}/cache/base:1: ", down.host());
    assert_eq!(first.stderr.matches(&note).count(), 1, "{}", first.stderr);
    assert_eq!(tag_digest(&primary, "team/app", "1").as_deref(), Some(first.digest()));
    let [to_primary, to_mirror] = [(&primary, &before[0]), (&mirror, &before[1])]
        .map(|(registry, before)| registry.requests().since(before));
    assert_eq!(to_primary.with("GET", "/team/base/"), Vec::<&ocib_testkit::Request>::new());
    assert_eq!(to_mirror.fetched().len(), 2, "a config and a layer: {to_mirror:?}");
    assert!(
        to_mirror.0.iter().all(|request| request.method == "GET" || request.method == "HEAD"),
        "{to_mirror:?}"
    );
    assert!(empty.requests().0.iter().all(|request| request.method == "GET"));

    // Without any mirror the image is what it is at home.
    mirror.stop();
    let second = push(&site, &tag).done();
    assert_ne!(first.digest(), second.digest());
    primary.stop();
    let said = push(&site, &format!("{}/x:1", empty.host())).failed(5);
    let refused = |registry: &Registry| {
        format!("GET http://{}/v2/ failed: Connection refused (os error 111)", registry.host())
    };
    let expected = format!(
        "{}; before that its mirrors failed too: {}; GET http://{}/v2/cache/base/manifests/1 answered 404: \
         MANIFEST_UNKNOWN: manifest unknown; {}\n",
        refused(&primary),
        refused(&down),
        empty.host(),
        refused(&mirror)
    );
    assert!(said.contains(&expected), "{said}\n{expected}");
}

/// The config is part of what is shown, so a mirror that lacks it does not have the image.
#[test]
fn an_image_is_inspected_in_a_mirror_that_has_all_of_it() {
    let [primary, lacking, mirror] = [(); 3].map(|()| Registry::start(RegistryOptions::default()));
    primary.stop();
    for registry in [&lacking, &mirror] {
        push_base(&format!("{}/team/base:1", registry.host()), 1);
    }
    let tag = format!("{}/team/base:1", lacking.host());
    let config = manifest(&tag)["config"]["digest"].as_str().unwrap().to_owned();
    let hex = config.strip_prefix("sha256:").unwrap();
    let blob = format!("docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]);
    std::fs::remove_file(lacking.storage().join(blob)).unwrap();
    let site = Site::new("FROM scratch\n");
    let mirrors = [&lacking, &mirror]
        .map(|mirror| format!("[[registry.mirror]]\nlocation = \"{}/team\"\n", mirror.host()));
    let rule =
        format!("[[registry]]\nprefix = \"registry.test/team\"\nlocation = \"{}/team\"\n", primary.host());
    site.file("config/registries.conf", rule + &mirrors.concat());
    let image = "registry.test/team/base:1";
    for flags in [&[][..], &["--json"], &["--config"]] {
        let arguments = [&["inspect", "--registry-config", "config", image], flags].concat();
        let mut inspect = Command::new(env!("CARGO_BIN_EXE_ocib"));
        site.clean(inspect.args(arguments));
        let shown = ended(&mut inspect).done();
        let note = format!("{image} is not taken from the mirror {tag}: GET http://{}/v2/", lacking.host());
        assert!(shown.stderr.contains(&note) && shown.stderr.contains(hex), "{}", shown.stderr);
        assert!(!shown.stdout.is_empty());
    }
}

#[test]
fn an_insecure_mirror_is_insecure_alone() {
    let primary = Registry::start(RegistryOptions::default());
    let mirror = Registry::start(RegistryOptions { tls: true, ..RegistryOptions::default() });
    let site = site("registry.test/base:1", "x");
    let own = push_base(&format!("{}/base:1", primary.host()), 1);
    let copy = |tag: &str| {
        let base = Site::new("FROM scratch\nCOPY noise /\n");
        base.file("context/noise", Noise::bytes(2, 100_000));
        let ca = mirror.ca_pem().display().to_string();
        base.built(&["--push", "-t", tag, "--ca-file", &ca]).digest().to_owned()
    };
    let theirs = copy(&format!("{}/base:1", mirror.host()));
    assert_ne!(own, theirs);
    let digest = |is_insecure: bool| {
        let text = format!(
            "[[registry]]\nprefix = \"registry.test\"\nlocation = \"{}\"\n[[registry.mirror]]\nlocation = \"{}\"\n\
             insecure = {is_insecure}\n",
            primary.host(),
            mirror.host()
        );
        site.file("config/registries.conf", text);
        push(&site, &format!("{}/app:1", primary.host())).done().digest().to_owned()
    };
    assert_ne!(digest(true), digest(false));
    // The mirror's insecurity is not the registry's own name's.
    let said = push(&site, &format!("{}/app:1", mirror.host())).failed(5);
    assert!(said.contains("the server's certificate is not trusted"), "{said}");
}

#[test]
fn mistakes_are_shown_at_their_place() {
    let site = site("scratch", "x");
    let run = |path: &str| ended(&mut site.build(&["--registry-config", path, "-o", "type=oci,dest=x.tar"]));
    site.file("r.conf", "[[registry]]\nlocation = \"https://a.example\"\n");
    let help = "help: it should be as containers-registries.conf(5) says, version 2; --registry-config names another\n";
    let expected = format!(
        "error: this is a URL, expected HOST[:PORT][/PATH]\n --> r.conf:2:12\n  |\n2 | location = \
         \"https://a.example\"\n  |            ^^^^^^^^^^^^^^^^^^^\n  |\n{help}"
    );
    let said = run("r.conf").failed(2);
    assert!(said.ends_with(&expected), "{said}");
    let said = run("missing.conf").failed(2);
    let expected =
        format!("error: cannot read missing.conf: No such file or directory (os error 2)\n |\n{help}");
    assert!(said.ends_with(&expected), "{said}");

    site.file(
        "r.conf",
        "short-name-mode = \"enforcing\"\n[[registry]]\nlocation = \"a.example\"\ninsecrue = true\n",
    );
    let done = run("r.conf").done();
    for note in [
        "r.conf:1: `short-name-mode` makes no difference: short names are completed as Docker does, with docker.io",
        "r.conf:4: `insecrue` makes no difference: there is no such key",
    ] {
        assert!(done.stderr.contains(note), "{}", done.stderr);
    }
    let mut named = site.build(&["-o", "type=oci,dest=x.tar"]);
    let done = ended(named.env("CONTAINERS_REGISTRIES_CONF", site.path("r.conf"))).done();
    assert!(done.stderr.contains("`insecrue` makes no difference"), "{}", done.stderr);
}

#[test]
fn through_a_proxy_that_knows_who_asks() {
    let registry = private_registry();
    let site = site("scratch", "x");
    add_certificates(&site, "registry.test", &registry);
    add_login(&site, "registry.test");
    // `me:planted/proxy`.
    let authorization = "Basic bWU6cGxhbnRlZC9wcm94eQ==";
    let proxy = ConnectProxy::start(&[("registry.test:443", &registry.host())], Some(authorization));
    let run = |password: &str| {
        let mut command = push_command(&site, "registry.test/a:1");
        command.env("DOCKER_CONFIG", site.path("auth"));
        command.env("NO_PROXY", "other.test,registry.test:5000,10.0.0.0/8");
        ended(command.env("HTTPS_PROXY", format!("http://me:{password}@{}", proxy.host())))
    };
    let done = run("planted%2Fproxy").done();
    assert!(done.references()[0].starts_with("registry.test/a@sha256:"), "{done:?}");
    let connected = ProxyRequest {
        line: "CONNECT registry.test:443".to_owned(),
        authorization: Some(authorization.to_owned()),
        status: 200,
    };
    let requests = proxy.requests();
    assert!(!requests.is_empty() && requests.iter().all(|request| *request == connected), "{requests:?}");

    let said = run("planted%2Fwrong").failed(5);
    let expected = format!(
        "error[proxy-login]: GET https://registry.test/v2/a/manifests/1 failed: the proxy http://{}/ wants a user and \
         a password that it knows\n |\nhelp: give it in HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT, or name the \
         registry in NO_PROXY\n",
        proxy.host()
    );
    assert_eq!(said, expected);
    assert_eq!(proxy.requests().len(), requests.len() + 1, "a refusal is not tried again");

    let mut command = push_command(&site, "registry.test/a:1");
    let said = ended(command.env("HTTPS_PROXY", "socks5://me:planted@127.0.0.1:1")).failed(2);
    let why = "its scheme is unknown, expected http://[USER:PASSWORD@]HOST[:PORT]";
    assert_eq!(said, format!("error: HTTPS_PROXY names no proxy: {why}\n"));
}
