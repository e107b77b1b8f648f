//! What a push takes of the machine: memory within its budget, and no disk at all.
//!
//! The measured program runs as a user who may write nowhere. Its working directory is the context,
//! so that the checkout may lie where that user cannot go.

use std::{
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
};

use ocib_testkit::{Noise, Registry, RegistryOptions, checkout, is_full, noise_file, require, run_command};

use crate::program::{Ended, Site, as_nobody, ended, names, set_mode, tag_digest};

/// DESIGN's default budget, which is a promise.
pub(crate) const PEAK_KIB_MAX: u64 = 64 << 10;

/// What the program is told of the limit where it fills it: with codecs' workers, and files over the network. Budgets
/// are for the program that users have: of 64 MiB, 52,700 KiB were measured. This one is not optimised and has some
/// 10 MiB more resident.
pub(crate) const DISTANT_BUDGET: &str = "--memory=56MiB";

/// Reading a file changes its time of access, and the page that holds it counts as written.
pub(crate) const BYTES_WRITTEN_MAX: u64 = 256 << 10;

/// A directory of files for layers of their own, with a Dockerfile, kept between runs: writing
/// gigabytes of noise takes longer than pushing them.
fn weights(name: &str, file_bytes: u64) -> PathBuf {
    static WRITING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = checkout().join("target/test-data").join(name);
    let mut dockerfile = "FROM scratch\n".to_owned();
    for number in 1..=4 {
        let file = format!("weights-{number}-of-4");
        let path = directory.join(&file);
        if fs::metadata(&path).is_ok_and(|metadata| metadata.len() != file_bytes) || !path.exists() {
            noise_file(&path, number, file_bytes);
        }
        dockerfile.push_str(&format!("COPY {file} /models/\n"));
    }
    fs::write(directory.join("Dockerfile"), dockerfile).unwrap();
    set_mode(&directory, 0o755);
    directory
}

/// Replaces half of the files by text, which compresses, so that all parts of a codec work.
fn mixed(file_bytes: u64) -> PathBuf {
    let directory = weights("mixed", file_bytes);
    for number in [2, 4] {
        let path = directory.join(format!("weights-{number}-of-4"));
        let mut start = [0; 64];
        fs::File::open(&path).unwrap().read_exact(&mut start).unwrap();
        if start.is_ascii() {
            continue;
        }
        let mut file = std::io::BufWriter::new(fs::File::create(&path).unwrap());
        let mut noise = Noise::new(number, file_bytes / 2);
        let mut piece = [0; 1024];
        while let Ok(got @ 1..) = noise.read(&mut piece) {
            let text: String = piece[..got].iter().map(|byte| format!("{byte:02x}")).collect();
            file.write_all(text.as_bytes()).unwrap();
        }
        file.flush().unwrap();
    }
    directory
}

/// What a run took.
pub(crate) struct Used {
    pub(crate) ended: Ended,
    pub(crate) peak_kib: u64,
    /// Bytes that were written to file systems.
    pub(crate) bytes_written: u64,
}

/// Runs `ocib` with these arguments and variables in `context`, as nobody.
pub(crate) fn measured(site: &Site, context: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Used {
    let program = site.path("ocib");
    if !program.exists() {
        fs::copy(env!("CARGO_BIN_EXE_ocib"), &program).unwrap();
        fs::create_dir(site.path("void")).unwrap();
        set_mode(site.path("void"), 0o555);
        set_mode(site.path(""), 0o755);
    }
    let nobody = as_nobody(&program);
    let mut time = Command::new(require("time", "time"));
    time.args(["--quiet", "-f", "%M %O", "-o"]).arg(site.path("used"));
    time.arg(nobody.get_program()).args(nobody.get_args()).args(arguments);
    site.clean(&mut time);
    for variable in ["HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"] {
        time.env(variable, site.path("void"));
    }
    time.envs(variables.iter().copied());
    let ended = ended(time.current_dir(context)).done();
    let used = fs::read_to_string(site.path("used")).unwrap();
    let numbers: Vec<u64> = used.split_whitespace().map(|number| number.parse().unwrap()).collect();
    // Linux counts in blocks of 512 bytes, whatever the file system has (getrusage(2), ru_oublock).
    Used { ended, peak_kib: numbers[0], bytes_written: numbers[1] * 512 }
}

/// Pushes a context with as many layers at a time as the budget allows.
fn push(registry: &Registry, site: &Site, context: &Path, codec: &str) -> String {
    let tag = format!("{}/model:{codec}", registry.host());
    let before = names(context);
    let arguments =
        ["build", ".", DISTANT_BUDGET, "--compression", codec, "--jobs", "16", "--push", "-t", &tag];
    let used = measured(site, context, &arguments, &[]);
    assert_eq!(tag_digest(registry, "model", codec).as_deref(), Some(used.ended.digest()));
    assert!(used.peak_kib < PEAK_KIB_MAX, "{codec}: a peak of {} KiB", used.peak_kib);
    let written = used.bytes_written;
    assert!(written < BYTES_WRITTEN_MAX, "{codec}: {written} bytes were written");
    assert_eq!(names(context), before);
    assert_eq!(names(&site.path("void")), Vec::<String>::new());
    assert_eq!(site.leftovers(), ["ocib", "used", "void"]);
    tag
}

/// Copies what was pushed with skopeo, unpacks it with umoci and compares each file.
fn assert_intact(site: &Site, tag: &str, context: &Path) {
    let files = site.unpacked(&format!("docker://{tag}"), "amd64");
    let unpacked = files.join("models");
    assert_eq!(names(&unpacked).len(), 4);
    for name in names(&unpacked) {
        run_command(
            Command::new(require("cmp", "diffutils")).arg(unpacked.join(&name)).arg(context.join(&name)),
        );
    }
}

/// 2 GiB take the registry and ocib some ten seconds together, and umoci twice that.
#[test]
fn two_gigabytes_of_weights_pass_through_64_mib() {
    let context = weights("weights", 512 << 20);
    let registry = Registry::start(RegistryOptions::default());
    let site = Site::new("");
    let tag = push(&registry, &site, &context, "none");
    if is_full() {
        assert_intact(&site, &tag, &context);
        for codec in ["auto", "gzip", "zstd"] {
            let registry = Registry::start(RegistryOptions::default());
            push(&registry, &Site::new(""), &context, codec);
        }
    }
}

#[test]
fn every_codec_stays_within_64_mib() {
    let context = mixed(64 << 20);
    let registry = Registry::start(RegistryOptions::default());
    for codec in ["auto", "gzip", "zstd", "none"] {
        let site = Site::new("");
        let tag = push(&registry, &site, &context, codec);
        // Debian's umoci does not know zstd.
        if codec == "auto" {
            assert_intact(&site, &tag, &context);
        }
    }
}

/// Links, of which ocib keeps more than of files: some file systems take a minute to make so many
/// files, which `OCIB_TEST_FULL` waits for.
#[test]
fn fifty_thousand_files_stay_within_64_mib() {
    let registry = Registry::start(RegistryOptions::default());
    let site = Site::new("FROM scratch\nCOPY files /files/\n");
    for directory in 0..100 {
        let directory = site.path(format!("context/files/directory-with-a-longer-name-{directory}"));
        fs::create_dir_all(&directory).unwrap();
        let first = directory.join("file-0.txt");
        fs::write(&first, "content\n").unwrap();
        for number in 1..500 {
            let path = directory.join(format!("file-{number}.txt"));
            match is_full() {
                true => fs::write(path, "content\n").unwrap(),
                false => fs::hard_link(&first, path).unwrap(),
            }
        }
    }
    let tag = format!("{}/files:1", registry.host());
    let used =
        measured(&site, &site.path("context"), &["build", ".", "--jobs", "16", "--push", "-t", &tag], &[]);
    assert!(used.peak_kib < PEAK_KIB_MAX, "a peak of {} KiB", used.peak_kib);
}

#[test]
fn a_gigabyte_is_copied_and_verified_within_64_mib() {
    let context = weights("copied", 256 << 20);
    let registry = Registry::start(RegistryOptions::default());
    let site = Site::new("");
    let tag = push(&registry, &site, &context, "none");
    let other = Registry::start(RegistryOptions::default());
    let copy = format!("{}/copy:1", other.host());
    for arguments in [&["copy", "--jobs", "16", &tag, &copy][..], &["verify", "--jobs", "16", &copy]] {
        let used = measured(&site, &context, arguments, &[]);
        assert!(used.peak_kib < PEAK_KIB_MAX, "{arguments:?}: a peak of {} KiB", used.peak_kib);
        assert!(used.bytes_written < BYTES_WRITTEN_MAX, "{arguments:?}: {}", used.bytes_written);
    }
    assert_eq!(tag_digest(&other, "copy", "1"), tag_digest(&registry, "model", "none"));
}
