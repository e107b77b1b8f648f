//! Thousands of broken answers: whoever fetches neither panics nor takes memory that it was not given
//! bytes for.
//!
//! Alone in its binary, because it measures what the whole process allocates.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use ocib_image::{Event, Events, GitReference};
use ocib_net::{Backoff, HttpOptions};
use ocib_source::{Git, GitCredentials, GitOptions};
use ocib_testkit::{PackBuilder, git_answer, git_oid, seal_pack};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

const ROUNDS: usize = 3000;
/// A connection, buffers for a pack, and what becomes of a few hundred bytes of objects.
const BYTES_MAX: usize = 8 << 20;

/// Numbers that look random and are the same in every run (xorshift).
struct Noise(u64);

impl Noise {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % limit
    }
}

struct Silence;

impl Events for Silence {
    fn emit(&self, _: Event<'_>) {}
}

/// A pack with one of everything, and the name of its commit.
fn seed() -> (Vec<u8>, String) {
    let mut pack = PackBuilder::default();
    let (text, link) = (b"some text that is a file\n".repeat(20), b"target");
    let base = pack.whole("blob", &text);
    let size = [0xf4, 0x03];
    let delta = [&size[..], &size, &[4, b'n', b'e', b'w', b'!', 0xb1, 4, 0xf0, 0x01]].concat();
    pack.offset_delta(base, &delta);
    let other = [b"new!", &text[4..]].concat();
    pack.named_delta(&git_oid("blob", &other), &[&size[..], &size, &[0xb0, 0xf4, 0x01]].concat());
    pack.whole("blob", link);
    let bytes = |name: &str| -> Vec<u8> {
        (0..40).step_by(2).map(|at| u8::from_str_radix(&name[at..at + 2], 16).unwrap()).collect()
    };
    let entry = |mode: &str, name: &str, object: &str| {
        [mode.as_bytes(), b" ", name.as_bytes(), b"\0", &bytes(object)].concat()
    };
    let below =
        [entry("100755", "a", &git_oid("blob", &text)), entry("100644", "b", &git_oid("blob", &other))]
            .concat();
    pack.whole("tree", &below);
    let root = [entry("40000", "d", &git_oid("tree", &below)), entry("120000", "l", &git_oid("blob", link))]
        .concat();
    pack.whole("tree", &root);
    let commit = format!("tree {}\ncommitter a <b> 1 +0000\n\none\n", git_oid("tree", &root));
    pack.whole("commit", commit.as_bytes());
    (pack.finish(), git_oid("commit", commit.as_bytes()))
}

fn mutate(seed: &[u8], noise: &mut Noise) -> Vec<u8> {
    let mut pack = seed[..seed.len() - 20].to_vec();
    for _ in 0..noise.below(4) {
        let at = noise.below(pack.len());
        match noise.below(6) {
            0 => pack.truncate(at.max(1)),
            1 => pack[at] = [0, 0xff, 0x80, 0x7f][noise.below(4)],
            2 => drop(pack.splice(at..at, [0xff; 9])),
            3 => {
                let to = noise.below(pack.len());
                let moved = pack[at..pack.len().min(at + 40)].to_vec();
                pack.splice(to..to, moved);
            }
            _ => pack[at] ^= 1 << noise.below(8),
        }
    }
    // Most checksums are right, else nothing gets behind them.
    match noise.below(20) {
        0 => pack.extend([0; 20]),
        _ => seal_pack(&mut pack),
    }
    let mut answer = git_answer(&pack);
    if noise.below(10) == 0 {
        let at = noise.below(answer.len());
        answer[at] ^= 1 << noise.below(8);
    }
    answer
}

/// Answers each POST with what `next` holds.
fn serve(next: Arc<Mutex<Vec<u8>>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            // Whoever asked may go away at any time.
            let _ = answer(connection, &next.lock().unwrap());
        }
    });
    origin
}

fn answer(mut connection: TcpStream, pack: &[u8]) -> io::Result<()> {
    let mut input = BufReader::new(connection.try_clone()?);
    let (mut line, mut length, mut is_post) = (String::new(), 0, false);
    while input.read_line(&mut line)? > 2 {
        is_post |= line.starts_with("POST");
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
            length = value.trim().parse().unwrap();
        }
        line.clear();
    }
    io::copy(&mut input.take(length), &mut io::sink())?;
    let (kind, body) = match is_post {
        true => ("result", pack),
        false => ("advertisement", &b"000eversion 2\n000cls-refs\n0012fetch=shallow\n0000"[..]),
    };
    let head = format!(
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/x-git-upload-pack-{kind}\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    connection.write_all(head.as_bytes())?;
    connection.write_all(body)
}

#[tokio::test]
async fn broken_packs_neither_panic_nor_take_memory() {
    let (seed, commit) = seed();
    let next = Arc::new(Mutex::new(git_answer(&seed)));
    let origin = serve(Arc::clone(&next));
    let git = Git::new(GitOptions {
        http: HttpOptions::default(),
        backoff: Backoff { attempts: 1, first: Duration::ZERO, longest: Duration::ZERO },
        scratch: std::env::temp_dir(),
        credentials: GitCredentials::default(),
        events: Arc::new(Silence),
    });
    let reference = GitReference::parse(&format!("{origin}/r.git#{commit}")).unwrap().unwrap();
    let fetched = git.fetch(&reference).await.unwrap();
    assert_eq!(fetched.tree.list(b"d").unwrap().len(), 2);
    drop(fetched);
    let mut noise = Noise(0x5eed_0f0c_1b00_0002);
    let before = ALLOCATED.current_usage();
    ALLOCATED.reset_peak_usage();
    let (mut good, mut bad) = (0, 0);
    for _ in 0..ROUNDS {
        *next.lock().unwrap() = mutate(&seed, &mut noise);
        match git.fetch(&reference).await {
            Ok(fetched) => {
                good += 1;
                let read = move || {
                    let mut content = Vec::new();
                    let file = fetched.tree.open(b"d/b", 250).unwrap();
                    file.take(1 << 20).read_to_end(&mut content).unwrap();
                    content.len()
                };
                assert_eq!(tokio::task::spawn_blocking(read).await.unwrap(), 250);
            }
            Err(error) => {
                assert!(!error.to_string().is_empty());
                bad += 1;
            }
        }
    }
    let peak = ALLOCATED.peak_usage() - before;
    assert!(peak < BYTES_MAX, "{peak} bytes were allocated");
    assert!(good > ROUNDS / 10 && bad > ROUNDS / 10, "{good} good, {bad} bad");
}
