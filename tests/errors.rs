//! What is said when something is wrong, word for word where it is always the same, and the exit
//! codes that scripts rely on.

use std::{fs, io::Write, path::Path};

use ocib_testkit::{FaultProxy, Noise, Registry, RegistryOptions, RequestKind, closed_host};

use crate::program::{Ended, Site, ended, started, tag_digest, until, uploaded_bytes, wait};

/// A Dockerfile, further arguments, the exit code and all of stderr.
type Case = (&'static str, &'static [&'static str], i32, &'static str);

const CASES: [Case; 14] = [
    (
        "FROM scratch\nCOPY modle /models/\n",
        &[],
        3,
        "error: /modle: not found
 --> context/Dockerfile:2:6
  |
2 | COPY modle /models/
  |      ^^^^^
  |
help: did you mean model?
",
    ),
    (
        "FROM scratch\nCOPY model/config.jsn model/weights /models/\n",
        &[],
        3,
        "error: /model/config.jsn: not found
 --> context/Dockerfile:2:6
  |
2 | COPY model/config.jsn model/weights /models/
  |      ^^^^^^^^^^^^^^^^
  |
help: did you mean model/config.json?
",
    ),
    (
        "FROM scratch\nCOPY quite/another /models/\n",
        &[],
        3,
        "error: /quite/another: not found
 --> context/Dockerfile:2:6
  |
2 | COPY quite/another /models/
  |      ^^^^^^^^^^^^^
  |
help: sources are relative to the build context's root
",
    ),
    (
        "FROM scratch\nCOPY model secret.txt /models/\n",
        &[],
        3,
        "error: /secret.txt: not found (the ignore file excludes it)
 --> context/Dockerfile:2:12
  |
2 | COPY model secret.txt /models/
  |            ^^^^^^^^^^
  |
help: let it in by a line that begins with ! at the end of the ignore file
",
    ),
    (
        "FROM scratch AS model\nCOPY model /models/\nFROM model AS final\n",
        &["--target", "fnial"],
        3,
        "error: target stage \"fnial\" could not be found
 |
help: the stages are model, final
",
    ),
    (
        "FROM scratch\n\nCPOY model /models/\n",
        &[],
        3,
        "error: unknown instruction: CPOY
 --> context/Dockerfile:3:1
  |
3 | CPOY model /models/
  | ^^^^
  |
help: did you mean COPY?
",
    ),
    (
        "FROM scratch\nCOPY --chwon=1 model /models/\n",
        &[],
        3,
        "error: unknown flag: --chwon
 --> context/Dockerfile:2:6
  |
2 | COPY --chwon=1 model /models/
  |      ^^^^^^^^^
  |
help: did you mean --chown?
",
    ),
    (
        "FROM scratch\nCOPY model /models/\nRUN chmod 775 /models && \\\n    ls\n",
        &[],
        3,
        "error: RUN needs a container, and no backend that could run it is configured
 --> context/Dockerfile:3:1
  |
3 | / RUN chmod 775 /models && \\
4 | |     ls
  | |______^
  |
help: this stage would be delegated from its first RUN to its last, as `ocib plan` shows; allow it with --run \
         kaniko, buildah, podman or docker, or choose a stage without RUN by --target
",
    ),
    (
        "FROM scratch AS files\nFROM scratch AS final\n",
        &["--target", "0"],
        3,
        "error: target stage \"0\" could not be found
 |
help: the stages are files, final
",
    ),
    (
        "FROM scratch AS first\nCOPY --from=later model /\nFROM scratch AS later\n",
        &["--target", "first"],
        3,
        "error: cannot copy from stage \"later\", it needs to be defined before the current stage
 --> context/Dockerfile:2:13
  |
2 | COPY --from=later model /
  |             ^^^^^
  |
help: move that stage up
",
    ),
    (
        "FROM scratch\nCOPY model /models/\n",
        &["--output", "type=local,dest=out"],
        2,
        "error: --output \"type=local,dest=out\": type=local exports a file system, which ocib never unpacks
 |
help: expected type=registry, type=oci,dest=FILE, type=oci,dest=DIR,tar=false or type=docker,dest=FILE
",
    ),
    (
        "FROM scratch\nCOPY model /models/\n",
        &["--push"],
        2,
        "error: there is no name to push to
 |
help: give one with --tag HOST/REPOSITORY:TAG
",
    ),
    (
        "FROM scratch\nCOPY model /models/\n",
        &["--label", "novalue"],
        2,
        "error: --label \"novalue\": expected NAME=VALUE\n",
    ),
    (
        "FROM scratch\nCOPY model /models/\n",
        &["--build-context", "x=nowhere/at/all"],
        3,
        "error: cannot read nowhere/at/all: No such file or directory (os error 2)
 |
help: the build context is an existing directory, a git repository, or - for stdin
",
    ),
];

fn site(dockerfile: &str) -> Site {
    let site = Site::new(dockerfile);
    site.file("context/model/config.json", "{}\n").file("context/model/weights", "w\n");
    site.file("context/secret.txt", "s\n").file("context/.dockerignore", "*.txt\n");
    site
}

#[test]
fn messages_point_at_their_place_and_say_what_to_do() {
    for (dockerfile, arguments, code, expected) in CASES {
        let site = site(dockerfile);
        let said = site.refused(code, &[&["--quiet"], arguments].concat());
        assert_eq!(said, expected, "{dockerfile}");
        assert_eq!(site.leftovers(), Vec::<String>::new(), "{dockerfile}");
    }
}

#[test]
fn flags_that_do_not_exist_are_usage_errors() {
    let site = site("FROM scratch\nCOPY model /models/\n");
    for (arguments, line) in [
        (&["--pusj"][..], "error: unexpected argument '--pusj' found"),
        (&["--memory", "1MiB"], "error: a memory budget of 1048576 bytes is too small, expected at least "),
        (
            &["--platform", "amd64/linux/what/ever"],
            "error: invalid value 'amd64/linux/what/ever' for '--platform <OS/ARCH>'",
        ),
        (&["--compression", "gzip:12"], "error: invalid value 'gzip:12' for '--compression <CODEC>'"),
        (&["--jobs", "0"], "error: invalid value '0' for '--jobs <N>'"),
        (&["-t", "a.example/UPPER"], "error: invalid value 'a.example/UPPER' for '--tag <REF>'"),
        (
            &["--source-date-epoch", "tomorrow"],
            "error: invalid value 'tomorrow' for '--source-date-epoch <SECONDS>': expected seconds since 1970, of a \
             year up to 9999\n",
        ),
    ] {
        let said = site.refused(2, &[&["--quiet"], arguments].concat());
        assert!(said.starts_with(line), "{said}");
    }
}

#[test]
fn a_context_that_is_not_there() {
    let site = site("");
    fs::remove_dir_all(site.path("context")).unwrap();
    let said = site.refused(3, &[]);
    let expected = "error: cannot read context: No such file or directory (os error 2)\n |\n\
         help: the build context is an existing directory, a git repository, or - for stdin\n";
    assert_eq!(said, expected);
}

#[test]
fn a_registry_that_cannot_be_reached() {
    let host = closed_host();
    let help = "help: check the host name, the port and the proxy; nothing was published, and the same command can be \
                run again\n";
    let push = site("FROM scratch\nCOPY model /models/\n");
    let said = push.refused(5, &["--quiet", "--push", "-t", &format!("{host}/a:1")]);
    let why = format!("GET http://{host}/v2/ failed: Connection refused (os error 111)");
    assert_eq!(said, format!("error[connection-refused]: {why}\n |\n{help}"));

    let base = format!("{host}/base:1");
    let pull = site(&format!("FROM {base}\nCOPY model /models/\n"));
    let said = pull.refused(5, &["--quiet"]);
    let expected = format!(
        "error[connection-refused]: cannot resolve {base} for linux/amd64: {why}\n --> context/Dockerfile:1:6\n  |\n1 | FROM {base}\n  \
         |      {}\n  |\n{help}",
        "^".repeat(base.len())
    );
    assert_eq!(said, expected);
}

#[test]
fn a_url_that_is_not_fetched() {
    let url = "http://169.254.169.254/latest";
    let site = site(&format!("FROM scratch\nADD {url} /x\n"));
    let said = site.refused(5, &["--quiet"]);
    let expected = format!(
        "error[url-link-local]: cannot fetch: {url} is not fetched: its host is the link-local address 169.254.169.254\n --> \
         context/Dockerfile:2:5\n  |\n2 | ADD {url} /x\n  |     {}\n  |\nhelp: {}\n",
        "^".repeat(url.len()),
        ocib::store::Cause::named("url-link-local").unwrap().general_remedy(),
    );
    assert_eq!(said, expected);
}

#[test]
fn a_base_that_wants_a_login() {
    let login = Some(("ada".to_owned(), "secret".to_owned()));
    let registry = Registry::start(RegistryOptions { login, ..RegistryOptions::default() });
    let base = format!("{}/base:1", registry.host());
    let site = site(&format!("FROM {base}\nCOPY model /models/\n"));
    let said = site.refused(4, &["--quiet"]);
    let start = format!(
        "error[push-denied-anonymous]: cannot resolve {base} for linux/amd64: GET {}/v2/",
        registry.url()
    );
    assert!(said.starts_with(&start) && said.contains(" answered 401: UNAUTHORIZED: "), "{said}");
    assert!(said.contains(" --> context/Dockerfile:1:6\n"), "{said}");
    assert!(said.ends_with("or set REGISTRY_AUTH_FILE or DOCKER_CONFIG\n"), "{said}");
}

/// More than the buffers of the connections between ocib and the registry hold, so that what comes
/// later was not read yet when the first bytes arrive.
const AHEAD: usize = 32 << 20;

/// Pushes a directory, does something to it when the first bytes have arrived, and lets the rest pass then.
fn changed_meanwhile(change: impl Fn(&Path)) -> Ended {
    let registry = Registry::start(RegistryOptions::default());
    let proxy = FaultProxy::start(&registry.host());
    proxy.pause_after(&[RequestKind::UploadPatch, RequestKind::UploadPut], 1 << 20);
    let site = Site::new("FROM scratch\nCOPY files /files/\n");
    site.file("context/files/first", Noise::bytes(1, AHEAD));
    site.file("context/files/second", Noise::bytes(2, 1 << 20));
    let tag = format!("{}/a:1", proxy.host());
    let mut child = started(&mut site.build(&["--quiet", "--compression", "none", "--push", "-t", &tag]));
    // More than the mark that a push began.
    until(&mut child, "bytes arrive", || uploaded_bytes(&registry, "a") > 1000);
    change(&site.path("context/files"));
    proxy.resume();
    let ended = wait(child);
    assert_eq!(tag_digest(&registry, "a", "1"), None, "{ended:?}");
    let stored = registry.requests().uploads().iter().filter(|request| request.status == 201).count();
    assert_eq!(stored, 1, "the mark that a push began is there, and no layer");
    ended
}

fn open(path: &Path) -> fs::File {
    fs::File::options().read(true).write(true).open(path).unwrap()
}

#[test]
fn a_file_that_changes_while_it_is_read_fails_its_layer_by_name() {
    let append = |path: &Path| {
        let mut file = fs::File::options().append(true).open(path).unwrap();
        file.write_all(b"more").unwrap();
    };
    let place = " --> context/Dockerfile:2:1\n  |\n2 | COPY files /files/\n  | ^^^^^^^^^^^^^^^^^^\n";
    let changed =
        format!("{place}  |\nhelp: something writes to the context: let it finish, or build from a copy\n");
    let first = "error[input-changed]: context/files/first changed while it was read: ";
    let second = "error[input-changed]: context/files/second changed while it was read: ";
    let grown = changed_meanwhile(|files| append(&files.join("first"))).failed(3);
    assert_eq!(grown, format!("{first}it is longer than the {AHEAD} bytes it had\n{changed}"));
    let shrunk = changed_meanwhile(|files| open(&files.join("first")).set_len(31 << 20).unwrap()).failed(3);
    assert_eq!(shrunk, format!("{first}it had {AHEAD} bytes, now it has {}\n{changed}", 31 << 20));
    // The same length: only the time of the change tells.
    let written =
        changed_meanwhile(|files| open(&files.join("first")).write_all(b"other").unwrap()).failed(3);
    assert_eq!(written, format!("{first}it was written to\n{changed}"));

    let grown = changed_meanwhile(|files| append(&files.join("second"))).failed(3);
    assert_eq!(grown, format!("{second}it is longer than the {} bytes it had\n{changed}", 1 << 20));
    let shrunk = changed_meanwhile(|files| open(&files.join("second")).set_len(100).unwrap()).failed(3);
    assert_eq!(shrunk, format!("{second}it ended after 100 of {} bytes\n{changed}", 1 << 20));
    let gone = changed_meanwhile(|files| fs::remove_file(files.join("second")).unwrap()).failed(3);
    let cannot = "error: cannot read context/files/second: No such file or directory (os error 2)\n";
    assert_eq!(gone, format!("{cannot}{place}"));
}

#[test]
fn names_cannot_fake_messages() {
    let site = Site::new("FROM scratch\nCOPY a\u{1b}c\u{202e}b /\n");
    let said = site.refused(3, &["--quiet"]);
    assert!(said.starts_with("error: /a\\u{1b}c\\u{202e}b: not found\n"), "{said}");
    assert!(!said.contains('\u{1b}') && !said.contains('\u{202e}'), "{said:?}");
}

#[test]
fn a_dockerfile_on_stdin_is_called_so() {
    let site = site("");
    let mut command = site.build(&["--quiet", "-f", "-"]);
    let dockerfile =
        fs::File::open(site.file("typed", "FROM scratch\nCOPY nothing /\n").path("typed")).unwrap();
    let said = ended(command.stdin(dockerfile)).failed(3);
    assert!(said.starts_with("error: /nothing: not found\n --> stdin:2:6\n"), "{said}");
}

#[test]
fn excerpts_show_no_secrets() {
    for (line, place) in [
        ("ENV API_TOKEN=hunter2 OTHER=${nothing:?missing}", "2:29"),
        ("ENV API_TOKEN=hunter2 no value", "2:23"),
    ] {
        let site = Site::new(&format!("FROM scratch\n{line}\n"));
        let said = site.refused(3, &["--quiet"]);
        assert!(said.contains(&format!(" --> context/Dockerfile:{place}\n")), "{said}");
        assert!(said.contains("API_TOKEN=*******") && !said.contains("hunter2"), "{said}");
    }
}

/// A script would take what it has for all of it.
#[test]
fn results_that_cannot_be_written_are_an_error() {
    let site = Site::new("FROM scratch\nCOPY f /\n");
    site.file("context/f", "f");
    for arguments in [&["version"][..], &["build", "context", "--quiet", "--metadata-file", "metadata"]] {
        let mut command = site.ocib(arguments);
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let said = ended(command.stdout(full)).failed(1);
        assert!(said.contains("cannot write to stdout: No space left on device"), "{said}");
    }
    assert!(site.path("metadata").exists());
}
