//! RUNs without a container: their layers are those that the image's own shell makes, and what is not
//! certain is left to it.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{chown, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use ocib_testkit::{Buildah, Podman, RootfsFile, layers_with_history, require, rootfs, run_command};

use crate::program::{Site, set_mode};

/// What is done to files that are all alike; `@` is the directory that each line has for itself.
const LINES: [&str; 71] = [
    "mkdir @/n && chmod 775 @/n",
    "mkdir @/n @/m/ ",
    "mkdir -p @/n/o/p",
    "mkdir -p @/d/b/q @/d",
    "mkdir -m 700 @/n",
    "mkdir -p -m 0711 @/n/o",
    "mkdir -pm1777 @/n",
    "mkdir @/g/n",
    "mkdir -p @/g/n/o",
    "touch @/g/n",
    "ln -s t @/g/n",
    "mkdir -p @/ld/n",
    "mkdir -p @/d",
    "chmod 600 @/f",
    "chmod 644 @/f",
    "chmod u+x,g=u,o= @/f",
    "chmod -R 700 @/d",
    "chmod -R a+rX @/own",
    "chmod -R g=u @/own",
    "chmod 4755 @/x",
    "chmod ug+s @/x",
    "chmod 600 @/lf",
    "chmod +x @/f @/empty",
    "chmod 1777 @/d",
    "chmod 2775 @/g",
    "chmod 600 @/f && chmod 644 @/f",
    "chown 1000 @/f",
    "chown app @/f",
    "chown app: @/f",
    "chown app:staff @/d",
    "chown -R 1000:1001 @/d",
    "chown :staff @/f",
    "chown -R app: @",
    "chown 0:0 @/suid",
    "chown 1000 @/sgid",
    "chgrp -R 0 @/own && chmod -R g=u @/own",
    "chown 0 @/f",
    "chown app @/ld",
    "chgrp staff @/own/k",
    "ln -s target @/n",
    "ln -s target @/ld",
    "ln -sf target @/f",
    "ln -sfn target @/ld",
    "ln -sf ../x/y/ @/d",
    "touch @/n @/m",
    "touch @/f",
    "touch @/lf",
    "touch @/dangling",
    "touch @/d",
    "rm -f @/f",
    "rm @/f @/x && rm -r @/d",
    "rm -rf @/d",
    "rm -rf @/d/b",
    "rm -rf @/d && mkdir @/d",
    "rm -rf @/d && mkdir -p @/d/b",
    "rm -rf @/d && touch @/d",
    "rm @/f && mkdir @/f",
    "rm -rf @/missing/more",
    "rm -f",
    "rm @/lf",
    "rm -rf @/ld",
    "rm -rf @",
    "mkdir @/n && rm -rf @/n",
    "touch @/n && rm @/n && true",
    "true",
    "set -e; mkdir @/n; touch @/n/f",
    "mkdir \"@/with space\" '@/*'",
    "rm -f @/f && touch @/f",
    "rm -rf @/own && mkdir -p -m 700 @/own/x",
    "chmod 700 @/own/k",
    "mkdir -p @/n && chown -R app:appg @/n && chmod 2770 @/n && touch @/n/f && ln -s f @/n/l",
];

/// The commands of an image in its `bin`.
const COMMANDS: [&str; 9] = ["sh", "mkdir", "chmod", "chown", "chgrp", "ln", "touch", "rm", "true"];

/// Everything that buildah's chroot mounts something on, so that it need not make it.
fn skeleton(files: &Path) {
    for directory in ["bin", "etc", "dev", "proc", "run", "sys", "tmp"] {
        fs::create_dir_all(files.join(directory)).unwrap();
    }
    for name in ["etc/hosts", "etc/hostname", "etc/resolv.conf"] {
        fs::write(files.join(name), "").unwrap();
    }
    fs::write(files.join("etc/passwd"), "root:x:0:0::/:/bin/sh\napp:x:1000:1001::/:/bin/sh\n").unwrap();
    fs::write(files.join("etc/group"), "root:x:0:\nappg:x:1001:\nstaff:x:50:\n").unwrap();
}

/// The static busybox with a link for each command.
pub(crate) fn busybox(files: &Path) {
    skeleton(files);
    fs::copy(require("busybox", "busybox-static"), files.join("bin/busybox")).unwrap();
    COMMANDS.iter().for_each(|name| symlink("busybox", files.join("bin").join(name)).unwrap());
}

/// This machine's dash and coreutils, with the libraries that they are linked with.
pub(crate) fn coreutils(files: &Path) {
    skeleton(files);
    for name in COMMANDS {
        let program = Path::new("/bin").join(if name == "sh" { "dash" } else { name });
        fs::copy(&program, files.join("bin").join(name)).unwrap();
        let linked = run_command(Command::new(require("ldd", "libc-bin")).arg(&program));
        for library in linked.split_whitespace().filter(|word| word.starts_with('/')) {
            let target = files.join(library.trim_start_matches('/'));
            fs::create_dir_all(target.parent().unwrap()).unwrap();
            fs::copy(library, target).unwrap();
        }
    }
}

/// The files that a line finds in its directory.
fn tree(at: &Path) {
    fs::create_dir_all(at.join("d/b")).unwrap();
    fs::create_dir_all(at.join("g")).unwrap();
    fs::create_dir_all(at.join("own")).unwrap();
    for (name, mode) in [
        ("f", 0o644),
        ("x", 0o755),
        ("empty", 0o600),
        ("suid", 0o4755),
        ("sgid", 0o2755),
        ("d/a", 0o644),
        ("d/b/c", 0o640),
        ("g/in", 0o664),
        ("own/k", 0o640),
    ] {
        fs::write(at.join(name), if name == "empty" { "" } else { name }).unwrap();
        set_mode(at.join(name), mode);
    }
    symlink("f", at.join("lf")).unwrap();
    symlink("d", at.join("ld")).unwrap();
    symlink("nowhere", at.join("dangling")).unwrap();
    chown(at.join("g"), Some(0), Some(50)).unwrap();
    ["own", "own/k"].iter().for_each(|name| chown(at.join(name), Some(1000), Some(1001)).unwrap());
    set_mode(at.join("g"), 0o2775);
    set_mode(at.join("own"), 0o750);
}

/// A site whose `base` is the layout of an image with these files, and what it is called for ocib.
fn site(dockerfile: &str, fill: impl FnOnce(&Path)) -> Site {
    let site = Site::new("FROM scratch\nADD base.tar /\n");
    let files: PathBuf = site.path("files");
    fs::create_dir(&files).unwrap();
    fill(&files);
    let tar = ["-cf", &site.name("context/base.tar"), "--numeric-owner", "-C", &site.name("files"), "."];
    let mut command = Command::new(require("tar", "tar"));
    // Old files: buildah, which looks at seconds where a base has no more, would not see a `touch` in the same one.
    run_command(command.args(["--mtime", "@1000000000"]).args(tar));
    site.built(&["-o", "type=oci,tar=false,dest=base"]);
    fs::remove_file(site.path("context/base.tar")).unwrap();
    site.file("context/Dockerfile", dockerfile);
    site
}

pub(crate) const OUT: [&str; 4] =
    ["--build-context", "base=oci-layout://base", "-o", "type=oci,tar=false,dest=out"];

/// RUNs of their own, which see what those before them made.
const LATER: [&str; 7] = [
    "true",
    "[\"mkdir\", \"/z\", \"/z/$HOME *\"]",
    "touch /z/a /z/b",
    "rm -rf /z/a /z/none && chmod 700 /z/b",
    // A mode of its own: buildah, which keeps seconds of layers, would not see a `touch` in the second of the RUN before.
    "mkdir -p /w /z && touch /z && chmod 711 /z && chmod 700 /z/b && rm -f /z/a",
    "rm -rf /z",
    "mkdir -p /z/a",
];

/// What both builders can agree on: all but times, and the modes of whiteouts. Buildah's modes have a file's
/// type in them, which tar has a field of its own for.
fn shown(files: &BTreeMap<String, RootfsFile>) -> BTreeMap<String, String> {
    let line = |(path, file): (&String, &RootfsFile)| match path.contains(".wh.") {
        true => (path.clone(), "gone".to_owned()),
        false => {
            let plain = RootfsFile { mode: file.mode & 0o7777, ..file.clone() };
            (path.clone(), format!("{plain} {:?}", file.sha256))
        }
    };
    files.iter().map(line).collect()
}

/// A site with a tree for each of `lines`, and those with the names of their trees in them.
pub(crate) fn line_site(lines: &[&str], commands: impl FnOnce(&Path)) -> (Site, Vec<String>) {
    let site = site("", |files| {
        commands(files);
        (0..lines.len()).for_each(|number| tree(&files.join(format!("w/{number}"))));
    });
    let named = lines.iter().enumerate().map(|(number, line)| line.replace('@', &format!("/w/{number}")));
    let named = named.collect();
    (site, named)
}

/// What ocib and buildah make of their Dockerfiles on the site's base, by layers, with the history of each.
pub(crate) fn both(site: &Site, ours: &str, theirs: &str) -> [Vec<(String, BTreeMap<String, String>)>; 2] {
    site.file("context/Dockerfile", ours);
    site.built(&[&OUT[..], &["--run", "none"]].concat());
    site.file("Dockerfile.theirs", theirs);
    Buildah::new().build(&site.path("Dockerfile.theirs"), &site.path("base"), &site.path("theirs"));
    ["out", "theirs"].map(|name| {
        let layers = layers_with_history(&site.path(name)).into_iter();
        layers.map(|(line, files)| (line, shown(&files))).collect()
    })
}

/// The lines whose trees differ, with what is in them.
pub(crate) fn differing(
    lines: &[String],
    ours: &BTreeMap<String, String>,
    theirs: &BTreeMap<String, String>,
) -> Vec<String> {
    let of_line = |all: &BTreeMap<String, String>, number: usize| -> Vec<String> {
        let own = format!("w/{number}");
        let is_own = |path: &str| {
            path.strip_prefix(&*own).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let gone = format!("w/.wh.{number}");
        let mine = all.iter().filter(|(path, _)| is_own(path) || **path == gone);
        mine.map(|(path, file)| format!("{path} {file}")).collect()
    };
    let differs = |(number, line): (usize, &String)| {
        let (ours, theirs) = (of_line(ours, number), of_line(theirs, number));
        (ours != theirs).then(|| format!("{line}\n  ours   {ours:#?}\n  theirs {theirs:#?}"))
    };
    lines.iter().enumerate().filter_map(differs).collect()
}

/// Builds all lines with ocib and with buildah, and compares what each made.
fn compare(commands: impl FnOnce(&Path)) {
    let (site, lines) = line_site(&LINES, commands);
    let later: String = LATER.iter().map(|line| format!("RUN {line}\n")).collect();
    let dockerfile = format!("FROM base\nRUN {}\n{later}", lines.join(" && \\\n"));
    let [ours, theirs] = both(&site, &dockerfile, &dockerfile);
    assert_eq!((ours.len(), theirs.len()), (LATER.len() + 2, LATER.len() + 2));
    let differing = differing(&lines, &ours[1].1, &theirs[1].1);
    assert!(differing.is_empty(), "{}", differing.join("\n"));
    for ((line, ours), (_, theirs)) in ours.iter().zip(&theirs).skip(1) {
        assert_eq!(ours, theirs, "{line}");
    }
}

#[test]
fn busybox_makes_the_same_layers() {
    compare(busybox);
}

#[test]
fn coreutils_make_the_same_layers() {
    compare(coreutils);
}

const NAME: &str = "registry.example/team/made:1";

/// Podman with the site's image under [`NAME`].
fn loaded(site: &Site) -> Podman {
    let podman = Podman::new();
    let base = &OUT[..2];
    site.built(&[base, &["-t", NAME, "-o", "type=docker,dest=out.tar"]].concat());
    podman.load(&site.path("out.tar"));
    podman
}

/// KServe's documented Dockerfile for a model.
#[test]
fn a_modelcar_needs_no_container() {
    let site = site("FROM base\nRUN mkdir /models && chmod 775 /models\nCOPY data/ /models/\n", busybox);
    site.file("context/data/model.bin", "weights");
    site.built(&[&OUT[..], &["--run", "none"]].concat());
    let plan = site.done(&[&["plan", "context"], &OUT[..2]].concat());
    let plan = String::from_utf8(plan.stdout).unwrap();
    assert!(
        plan.contains(
            "  line 2: RUN mkdir /models && chmod 775 /models\n    0 bytes in 0 files, 1536 bytes as tar\n  line 3: COPY"
        ) && !plan.contains("delegated"),
        "{plan}"
    );
    let layers = layers_with_history(&site.path("out"));
    let [_, (made_by, made), _] = &layers[..] else { panic!("{layers:#?}") };
    assert_eq!(made_by, "RUN /bin/sh -c mkdir /models && chmod 775 /models # buildkit");
    assert_eq!(shown(made), BTreeMap::from([("models".to_owned(), "d 0775 0:0 0 None".to_owned())]));
    let told =
        loaded(&site).run_with(&["--user", "1010"], NAME, &["/bin/busybox", "cat", "/models/model.bin"]);
    assert_eq!(told, "weights");
}

/// What other programs make of whiteouts, and of files that are labelled anew in a layer of their own.
#[test]
fn others_see_what_was_removed_and_changed() {
    let site = site(
        "FROM base AS first\nCOPY --chmod=644 script /tools/script\n\
         RUN chmod +x /tools/script && rm -rf /w/d/b /w/f\n\
         FROM first AS second\nENV D=/w/d\nRUN <<EOF\nset -eu\n# Not for anybody else.\nchown -R app:appg $D\nEOF\n\
         FROM second\nCOPY --from=second /w /v\nWORKDIR /v\nRUN rm x && ln -s /tools/script y\n",
        |files| {
            busybox(files);
            tree(&files.join("w"));
        },
    );
    site.file("context/script", "#!/bin/sh\ntrue\n");
    site.built(&OUT);
    let files = rootfs(&site.path("out"), "linux/amd64");
    for gone in ["w/d/b", "w/d/b/c", "w/f", "v/d/b", "v/f", "v/x"] {
        assert!(!files.contains_key(gone), "{gone}");
    }
    for (path, expected) in [
        ("tools/script", "f 0755 0:0 15"),
        ("w/d", "d 0755 1000:1001 0"),
        ("w/d/a", "f 0644 1000:1001 3"),
        ("v/d/a", "f 0644 1000:1001 3"),
        ("v/y", "l 0777 0:0 0 -> /tools/script"),
    ] {
        assert_eq!(files[path].to_string(), expected, "{path}");
    }
    let unpacked = site.unpacked(&format!("oci:{}", site.name("out")), "amd64");
    assert!(unpacked.join("w/d/a").exists() && unpacked.join("w/x").exists());
    assert!(
        !unpacked.join("w/d/b").exists() && !unpacked.join("w/f").exists() && !unpacked.join("v/x").exists()
    );
    let told =
        loaded(&site).run(NAME, &["/bin/busybox", "sh", "-c", "/bin/busybox ls /w /w/d; ./y && echo ran"]);
    assert_eq!(told, "/w:\nd\ndangling\nempty\ng\nld\nlf\nown\nsgid\nsuid\nx\n\n/w/d:\na\nran\n");
}

/// What is not certain needs a container, and without one the error says why.
#[test]
fn doubts_are_told() {
    let site = site("", |files| {
        busybox(files);
        tree(&files.join("w"));
        fs::hard_link(files.join("w/x"), files.join("w/linked")).unwrap();
        fs::create_dir_all(files.join("opt")).unwrap();
        symlink("/bin/busybox", files.join("opt/touch")).unwrap();
        fs::remove_file(files.join("bin/chgrp")).unwrap();
    });
    site.file("context/passwd", "root:x:0:5::/:/bin/sh\n").file("context/none", "");
    for (dockerfile, why) in [
        ("RUN echo hello", ""),
        ("USER nobody\nRUN mkdir /n", ""),
        ("SHELL [\"/bin/busybox\", \"sh\", \"-c\"]\nRUN mkdir /n", ""),
        ("USER root\nRUN mkdir /n && mkdir /w", "mkdir /w: /w is there already"),
        ("COPY passwd /etc/\nUSER root\nRUN mkdir /n", "root is not the superuser here"),
        ("COPY none /etc/passwd\nUSER root\nRUN mkdir /n", "who root is, is not certain from /etc/passwd"),
        ("COPY none /etc/group\nUSER root:root\nRUN mkdir /n", "who root is, is not certain from /etc/group"),
        ("RUN mkdir /w", "mkdir /w: /w is there already"),
        ("RUN mkdir /n/o", "mkdir /n/o: the directory of /n/o is not there"),
        ("RUN mkdir -p /w/f/x", "mkdir -p /w/f/x: /w/f is no directory"),
        ("RUN mkdir -p -m 700 /w/d", "mkdir -p -m 700 /w/d: /w/d is there with another mode"),
        (
            "RUN mkdir -p -m 700 /n/.",
            "mkdir -p -m 700 /n/.: whose mode is meant by /n/. differs between commands",
        ),
        ("RUN mkdir -m 700 /w/g/n", "mkdir -m 700 /w/g/n: the directory above hands its group on"),
        ("RUN mkdir -p /n/../m", "mkdir -p /n/../m: it goes up"),
        ("RUN chgrp 0 /w/f", "chgrp 0 /w/f: chgrp is not in the image"),
        ("RUN /bin/chgrp 0 /w/f", "/bin/chgrp 0 /w/f: /bin/chgrp is not in the image"),
        ("ENV PATH=/opt:/bin\nRUN touch /n", "touch /n: /opt/touch may be anything"),
        ("ENV PATH=bin\nRUN touch /n", "touch /n: PATH has \"bin\", which is no absolute path"),
        ("RUN chmod 755 /w/missing", "chmod 755 /w/missing: /w/missing is not there"),
        ("RUN chmod 700 /w/x", "chmod 700 /w/x: /w/x has hard links"),
        ("RUN touch /w/ld/a//", "touch /w/ld/a//: /w/ld/a// is no directory"),
        ("RUN touch /w/linked", "touch /w/linked: /w/linked has hard links"),
        ("RUN chmod 755 /w/g", "chmod 755 /w/g: 755 of 2775 differs between commands"),
        ("RUN chmod -R 755 /w/ld", "chmod -R 755 /w/ld: /w/ld is a symbolic link"),
        ("RUN chown ghost /w/f", "chown ghost /w/f: who ghost is, is not certain from /etc/passwd"),
        ("RUN chown 1000: /w/f", "chown 1000: /w/f: 1000 is not in /etc/passwd"),
        ("RUN rm /etc/passwd && chown app /w/f", "chown app /w/f: /etc/passwd was changed by the same RUN"),
        ("RUN touch /etc/hosts", "touch /etc/hosts: a container has something else at /etc/hosts"),
        ("RUN mkdir /dev/x", "mkdir /dev/x: a container has something else at /dev"),
        ("RUN chown -R app /etc", "chown -R app /etc: other file systems are mounted below"),
        ("RUN rm -rf /etc", "rm -rf /etc: other file systems are mounted there, or commands need it"),
        ("RUN rm -rf /", "rm -rf /: it is the root"),
        // The link is removed by one, and the directory emptied by the other.
        ("RUN rm -rf /w/ld/", "rm -rf /w/ld/: /w/ld/ is of another type"),
        ("RUN mkdir /w/dangling/", "mkdir /w/dangling/: /w/dangling/ is there already"),
        ("RUN rm /w/missing", "rm /w/missing: /w/missing is not there"),
        ("RUN rm /w/d", "rm /w/d: /w/d is of another type"),
        ("RUN rm -rf /w/.", "rm -rf /w/.: it names no entry of a directory"),
        ("WORKDIR /w/d\nRUN rm -rf /w", "rm -rf /w: it is the working directory or above it"),
        ("RUN rm /bin/mkdir && mkdir /n", "mkdir /n: mkdir is not in the image"),
        ("RUN ln -s a /w/f", "ln -s a /w/f: /w/f is there already"),
        ("RUN ln -s a /n/o/", "ln -s a /n/o/: the directory of /n/o/ is not there"),
        ("RUN ln -s .. /w/d", "ln -s .. /w/d: .. has no name"),
    ] {
        site.file("context/Dockerfile", format!("FROM base\n{dockerfile}\n"));
        let said = site.refused(3, &[&OUT[..], &["--run", "none"]].concat());
        let why = if why.is_empty() { String::new() } else { format!(" ({why})") };
        let expected =
            format!("error: RUN needs a container, and no backend that could run it is configured{why}\n");
        assert!(said.contains(&expected), "{dockerfile}: {said}");
    }
    site.file("context/Dockerfile", "FROM base\nRUN mkdir /n\n");
    let said = site.refused(3, &[&OUT[..], &["--native-run", "off"]].concat());
    assert!(
        said.contains("error: RUN needs a container, and no backend that could run it is configured\n"),
        "{said}"
    );
    site.built(&[&OUT[..], &["--native-run=auto"]].concat());
}

#[test]
fn on_scratch_there_is_no_shell() {
    let site = Site::new("FROM scratch\nCOPY f /f\nRUN mkdir /models\n");
    site.file("context/f", "f");
    let said = site.refused(3, &["-o", "type=oci,tar=false,dest=out"]);
    let error =
        "error: there is no /bin/sh here that could run it: exec: \"/bin/sh\": no such file or directory\n";
    assert!(said.contains(error) && said.contains("3 | RUN mkdir /models\n"), "{said}");
    assert_eq!(site.leftovers(), [""; 0]);
}
