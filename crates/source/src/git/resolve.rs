//! From what a pack holds to objects: deltas undone, everything named.
//!
//! A delta's object has no name before it is put together, so all of them are, once, right after the
//! pack came. They and their bases are written behind the pack in the same file, as they are; so no
//! object needs memory of its size, and a chain of deltas costs no more than its length. How much may
//! come out is bounded as it is for archives.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufReader, BufWriter, Write},
    sync::Arc,
};

use flate2::bufread::ZlibDecoder;

use super::{
    delta::{Base, Delta, DeltaError},
    oid::{Kind, Namer, Oid},
    pack::{Form, Inflater, Packed},
    problem::{Failure, GitProblem},
    store::{Object, Place},
};
use crate::{Error, span::Span};

/// What may come out of any pack, and how much more for each of its bytes: the bounds of archives
/// (`ExpansionLimit::ARCHIVE`). Deflate alone reaches 1032.
const FREE_BYTES: u64 = 1 << 30;
const EXPANSION_MAX: u64 = 1100;

/// Names all objects of the pack of `pack_bytes` at the start of `file`. `failed` is what it means when
/// the file cannot be written.
pub(super) fn resolve(
    file: &Arc<File>,
    packed: &[Packed],
    pack_bytes: u64,
    failed: &dyn Fn(io::Error) -> Error,
) -> Result<Vec<Object>, Failure> {
    let children = Children::of(packed)?;
    let limit = FREE_BYTES.saturating_add(pack_bytes.saturating_mul(EXPANSION_MAX));
    let mut resolver = Resolver {
        file,
        packed,
        objects: vec![None; packed.len()],
        inflater: Inflater::new(),
        plain: BufWriter::new(&**file),
        end: pack_bytes,
        limit,
        failed,
    };
    let mut todo = Vec::new();
    for (at, one) in packed.iter().enumerate() {
        if let Form::Whole(kind, oid) = one.form {
            let place = Place::Deflated(one.data);
            resolver.objects[at] = Some(Object { oid, kind, size: one.size, place });
            todo.push(at);
        }
    }
    while let Some(base) = todo.pop() {
        let Some(oid) = resolver.objects[base].as_ref().map(|object| object.oid) else { continue };
        for &child in children.of_base(base, oid) {
            if resolver.objects[child].is_none() {
                resolver.undo(child, base)?;
                todo.push(child);
            }
        }
    }
    let unfinished = resolver.objects.iter().position(Option::is_none);
    match unfinished {
        Some(at) => Err(broken(&packed[at], "a delta has no base in the pack")),
        None => Ok(resolver.objects.into_iter().flatten().collect()),
    }
}

/// Which deltas wait for which base.
struct Children {
    by_index: HashMap<usize, Vec<usize>>,
    by_name: HashMap<Oid, Vec<usize>>,
}

impl Children {
    fn of(packed: &[Packed]) -> Result<Self, Failure> {
        let (mut by_index, mut by_name) = (HashMap::<_, Vec<_>>::new(), HashMap::<_, Vec<_>>::new());
        for (at, one) in packed.iter().enumerate() {
            match &one.form {
                Form::Whole(..) => {}
                Form::NamedDelta(base) => by_name.entry(*base).or_default().push(at),
                Form::OffsetDelta(base) => {
                    let base = packed.binary_search_by_key(base, |one| one.start);
                    let base = base.map_err(|_| broken(one, "a delta has a base where no object is"))?;
                    by_index.entry(base).or_default().push(at);
                }
            }
        }
        Ok(Self { by_index, by_name })
    }

    fn of_base(&self, index: usize, oid: Oid) -> impl Iterator<Item = &usize> {
        let by_index = self.by_index.get(&index).into_iter().flatten();
        by_index.chain(self.by_name.get(&oid).into_iter().flatten())
    }
}

struct Resolver<'a> {
    file: &'a Arc<File>,
    packed: &'a [Packed],
    objects: Vec<Option<Object>>,
    inflater: Inflater,
    /// Behind what was written so far.
    plain: BufWriter<&'a File>,
    /// Where that is.
    end: u64,
    /// How much more may be written.
    limit: u64,
    failed: &'a dyn Fn(io::Error) -> Error,
}

impl Resolver<'_> {
    /// Makes the object of the delta `child` out of its base, which is known.
    fn undo(&mut self, child: usize, base: usize) -> Result<(), Failure> {
        let (kind, at, base_size) = self.plain_base(base)?;
        let packed = &self.packed[child];
        let why = |error: DeltaError| match error {
            DeltaError::Broken(why) => broken(packed, why),
            DeltaError::Io(error) => error.into(),
        };
        let base = Base::new(self.file, at, base_size)?;
        let deflated = BufReader::new(Span::new(Arc::clone(self.file), packed.data, u64::MAX));
        let delta = Delta::begin(BufReader::new(ZlibDecoder::new(deflated))).map_err(why)?;
        let size = delta.size;
        let place = self.reserve(size)?;
        let mut out = Both { plain: &mut self.plain, namer: Namer::new(kind, size), failed: self.failed };
        delta.apply(&base, &mut out).map_err(why)?;
        let oid = out.namer.finish();
        self.written()?;
        self.objects[child] = Some(Object { oid, kind, size, place: Place::Plain(place) });
        Ok(())
    }

    /// Kind, offset and size of a base, which is written down as it is if it was not yet.
    fn plain_base(&mut self, base: usize) -> Result<(Kind, u64, u64), Failure> {
        let Some(object) = self.objects[base].clone() else {
            return Err(broken(&self.packed[base], "a delta has no base in the pack"));
        };
        let at = match object.place {
            Place::Plain(at) => at,
            Place::Deflated(data) => {
                let place = self.reserve(object.size)?;
                let mut deflated = BufReader::new(Span::new(Arc::clone(self.file), data, u64::MAX));
                let namer = Namer::new(object.kind, object.size);
                let mut out = Both { plain: &mut self.plain, namer, failed: self.failed };
                let inflated = self.inflater.inflate(&mut deflated, object.size, &mut out);
                inflated.map_err(|error| error.at(data))?;
                self.written()?;
                self.objects[base] = Some(Object { place: Place::Plain(place), ..object });
                place
            }
        };
        Ok((object.kind, at, object.size))
    }

    /// Where the next `size` bytes come to lie.
    fn reserve(&mut self, size: u64) -> Result<u64, Failure> {
        self.limit = self.limit.checked_sub(size).ok_or(GitProblem::Limit {
            what: "a pack of whose deltas come, for each of its bytes, more bytes",
            limit: EXPANSION_MAX,
        })?;
        let place = self.end;
        self.end += size;
        Ok(place)
    }

    fn written(&mut self) -> Result<(), Failure> {
        Ok(self.plain.flush().map_err(|error| io::Error::other((self.failed)(error)))?)
    }
}

fn broken(packed: &Packed, why: &'static str) -> Failure {
    GitProblem::BadPack { offset: packed.start, why }.into()
}

/// Writes down and names.
struct Both<'a, W> {
    plain: &'a mut W,
    namer: Namer,
    failed: &'a dyn Fn(io::Error) -> Error,
}

impl<W: Write> Write for Both<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.plain.write_all(bytes).map_err(|error| io::Error::other((self.failed)(error)))?;
        self.namer.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
