//! How fast a layer is sealed: tar, digest, codec, digest, without disk or network.
//!
//! `cargo bench --bench seal` prints a table for `docs/performance.md`; with `-- --quick` it only
//! shows that it works. The floor is the digest of the same bytes alone.
#![allow(clippy::print_stdout, reason = "the table is the result")]

#[allow(dead_code, reason = "the others have peers")]
mod report;
mod text;
mod weights;

use std::{
    io::{self, Read, Write},
    sync::Arc,
    time::Instant,
};

use ocib_image::{
    Annotations, Budget, Codec, Compression, Digester, Entry, EntryKind, Foreknown, LayerError, LayerSource,
    Limits, Sealer, TarWriter, Timestamp, Unsealed,
};
use ocib_testkit::Noise;
use report::{Options, Table};
use rustix::time::{ClockId, clock_gettime};
use text::Text;
use weights::weights;

const MEMORY_BYTES: u64 = 64 << 20;
const CODECS: [Compression; 4] = [
    Compression::Fixed(Codec::Plain),
    Compression::Fixed(Codec::GZIP),
    Compression::Fixed(Codec::ZSTD),
    Compression::Auto,
];

fn main() {
    let Some(options) = Options::from_arguments() else { return };
    let scale = if options.quick { Scale { kept: 4 << 20, times: 1, runs: 1 } } else { Scale::FULL };
    println!("{}\n", report::machine());
    let mut table = Table::new(&[
        "content",
        "codec",
        "threads",
        "stored as",
        "% of size",
        "MB/s",
        "MB per CPU s",
        "% of the digest alone",
    ]);
    for (name, content) in contents(scale.kept).into_iter().filter(|(name, _)| options.wants(name)) {
        let source = Arc::new(Repeated { content, times: scale.times });
        let floor = median_of(scale.runs, || digest_alone(&source));
        let per_cpu = floor.per_cpu_s(source.file_bytes());
        table.row(&row([name, "sha256 alone", "1", "–", "–"], &floor, source.file_bytes(), per_cpu));
        for compression in CODECS {
            for threads in [1, 2] {
                let mut stored = Stored::default();
                let cost = median_of(scale.runs, || stored = seal(&source, compression, threads));
                let share = 100.0 * stored.bytes as f64 / source.file_bytes() as f64;
                let labels =
                    [name, &stored.asked, &threads.to_string(), &stored.codec, &format!("{share:.0}")];
                table.row(&row(labels, &cost, source.file_bytes(), per_cpu));
            }
        }
    }
    println!("{table}");
}

/// How much is sealed, and how often.
struct Scale {
    /// Bytes in memory.
    kept: usize,
    /// How often they follow each other in the layer. The distance is beyond what any codec sees.
    times: u64,
    /// Runs, of which the median counts.
    runs: usize,
}

impl Scale {
    const FULL: Self = Self { kept: 64 << 20, times: 3, runs: 3 };
}

fn contents(bytes: usize) -> [(&'static str, Vec<u8>); 3] {
    [("random", Noise::bytes(1, bytes)), ("text", Text::new(2).take(bytes)), ("weights", weights(3, bytes))]
}

/// A layer of one file that repeats what is in memory.
#[derive(Debug)]
struct Repeated {
    content: Vec<u8>,
    times: u64,
}

impl Repeated {
    fn file_bytes(&self) -> u64 {
        self.content.len() as u64 * self.times
    }

    fn entry(&self) -> Entry {
        Entry {
            name: b"models/weights".as_slice().into(),
            kind: EntryKind::File { size: self.file_bytes() },
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: Timestamp::from_seconds(0),
            xattrs: None,
        }
    }
}

impl LayerSource for Repeated {
    fn write(&self, out: &mut dyn Write) -> Result<(), LayerError> {
        let mut tar = TarWriter::new(out);
        let mut file: Box<dyn Read + '_> = Box::new(io::empty());
        for _ in 0..self.times {
            file = Box::new(file.chain(&self.content[..]));
        }
        tar.file(&self.entry(), &mut file, &|| "weights".to_owned())?;
        tar.finish().map(drop)
    }

    fn bytes(&self) -> Option<u64> {
        None
    }

    fn sample(&self, take: &mut dyn FnMut(&[u8])) -> Result<(), LayerError> {
        let step = self.content.len() / 64;
        self.content.chunks(step).for_each(|piece| take(&piece[..piece.len().min(16 << 10)]));
        Ok(())
    }
}

/// What became of a layer.
#[derive(Default)]
struct Stored {
    asked: String,
    codec: String,
    bytes: u64,
}

fn seal(source: &Arc<Repeated>, compression: Compression, threads: usize) -> Stored {
    let (asked, codec) = match compression {
        Compression::Auto => ("auto".to_owned(), Codec::GZIP),
        Compression::Fixed(codec) => (codec.to_string(), codec),
    };
    let limits = Limits { memory_bytes: MEMORY_BYTES, jobs: 1, cores: threads };
    let sealer = Sealer::new(Budget::new(limits, codec).expect("64 MiB are enough for one layer"));
    let unsealed = Unsealed {
        source: source.clone(),
        compression,
        annotations: Annotations::new(),
        foreknown: Foreknown::default(),
    };
    let layer = unsealed.seal(&sealer, &mut |_| Ok(())).expect("memory can be read");
    let media_type = layer.descriptor.media_type.to_string();
    let codec = media_type.rsplit_once('+').map_or("tar", |(_, codec)| codec).to_owned();
    Stored { asked, codec, bytes: layer.descriptor.size }
}

fn digest_alone(source: &Repeated) {
    let mut digester = Digester::new();
    for _ in 0..source.times {
        source.content.chunks(256 << 10).for_each(|piece| digester.update(piece));
    }
    assert_eq!(digester.bytes(), source.file_bytes());
    std::hint::black_box(digester.finish());
}

/// What a run took.
struct Cost {
    wall_s: f64,
    cpu_s: f64,
}

impl Cost {
    fn per_cpu_s(&self, bytes: u64) -> f64 {
        bytes as f64 / 1e6 / self.cpu_s
    }
}

fn median_of(runs: usize, mut run: impl FnMut()) -> Cost {
    let costs: Vec<(f64, f64)> = (0..runs)
        .map(|_| {
            let (start, cpu_s) = (Instant::now(), process_cpu_s());
            run();
            (start.elapsed().as_secs_f64(), process_cpu_s() - cpu_s)
        })
        .collect();
    let (walls, cpus): (Vec<f64>, Vec<f64>) = costs.into_iter().unzip();
    Cost { wall_s: report::median(walls), cpu_s: report::median(cpus) }
}

/// Processor time of all threads, in seconds.
fn process_cpu_s() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn row(labels: [&str; 5], cost: &Cost, bytes: u64, floor_per_cpu_s: f64) -> [String; 8] {
    let [content, codec, threads, stored, share] = labels.map(str::to_owned);
    let per_cpu_s = cost.per_cpu_s(bytes);
    let speed = format!("{:.0}", bytes as f64 / 1e6 / cost.wall_s);
    let of_floor = format!("{:.0}", 100.0 * per_cpu_s / floor_per_cpu_s);
    [content, codec, threads, stored, share, speed, format!("{per_cpu_s:.0}"), of_floor]
}
