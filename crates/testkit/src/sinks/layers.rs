//! Layers that behave, fail or stall.

use std::{
    io::Write,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, Sender, channel},
    },
};

use bytes::Bytes;
use futures_channel::oneshot;
use ocib_image::{
    Annotations, Blob, Codec, Compression, DiffId, Digest, Entry, EntryKind, Foreknown, Layer, LayerError,
    LayerSource, MediaType, TarWriter, Timestamp, Unsealed, archive_bytes,
};

use crate::Noise;

/// A layer of one file `name`, mode 0644, owner 0:0, mtime 0.
pub fn file_layer(name: &str, content: Vec<u8>, compression: Compression) -> Unsealed {
    unsealed(FileLayer { name: name.to_owned(), mode: 0o644, content }, compression)
}

/// The same with mode 0755.
pub fn program_layer(name: &str, content: Vec<u8>, compression: Compression) -> Unsealed {
    unsealed(FileLayer { name: name.to_owned(), mode: 0o755, content }, compression)
}

/// The same as a plain layer that was sealed elsewhere.
pub(super) fn known_layer(name: &str, content: Vec<u8>) -> (Blob, Layer) {
    let mut tar = Vec::new();
    let source = FileLayer { name: name.to_owned(), mode: 0o644, content };
    source.write(&mut tar).expect("writing to memory does not fail");
    let diff_id = DiffId(Digest::of(&tar));
    let blob = Blob::in_memory(MediaType::LayerTar, Bytes::from(tar));
    let layer = Layer { descriptor: blob.descriptor.clone(), diff_id };
    (blob, layer)
}

/// A layer whose source fails after a few pieces.
pub(super) fn failing() -> Unsealed {
    unsealed(FailingLayer, Compression::Fixed(Codec::Plain))
}

/// What a failing layer says.
pub(super) const FAILURE: &str = "data/a changed while it was read: it grew";

/// A layer that stops in its middle until [`Stalling::resume`] is dropped.
pub(super) fn stalling() -> (Unsealed, Stalling) {
    let (has_begun, begun) = oneshot::channel();
    let (resume, wait) = channel();
    let layer = StallingLayer { has_begun: Mutex::new(Some(has_begun)), wait: Mutex::new(wait) };
    (unsealed(layer, Compression::Fixed(Codec::Plain)), Stalling { begun, resume })
}

/// The other end of a stalling layer.
#[derive(Debug)]
pub(super) struct Stalling {
    /// Tells that a part of the layer was written.
    pub(super) begun: oneshot::Receiver<()>,
    /// Keeps the layer waiting while it exists.
    pub(super) resume: Sender<()>,
}

fn unsealed(source: impl LayerSource + 'static, compression: Compression) -> Unsealed {
    Unsealed {
        source: Arc::new(source),
        compression,
        annotations: Annotations::new(),
        foreknown: Foreknown::default(),
    }
}

#[derive(Debug)]
struct FileLayer {
    name: String,
    mode: u32,
    content: Vec<u8>,
}

impl FileLayer {
    fn entry(&self) -> Entry {
        Entry {
            name: self.name.as_bytes().into(),
            kind: EntryKind::File { size: self.content.len() as u64 },
            mode: self.mode,
            uid: 0,
            gid: 0,
            mtime: Timestamp::default(),
            xattrs: None,
        }
    }
}

impl LayerSource for FileLayer {
    fn write(&self, out: &mut dyn Write) -> Result<(), LayerError> {
        let mut tar = TarWriter::new(out);
        tar.file(&self.entry(), &mut &self.content[..], &|| self.name.clone())?;
        tar.finish().map(|_| ())
    }

    fn bytes(&self) -> Option<u64> {
        archive_bytes([self.entry()].into_iter()).ok()
    }

    fn sample(&self, take: &mut dyn FnMut(&[u8])) -> Result<(), LayerError> {
        take(&self.content[..self.content.len().min(1 << 20)]);
        Ok(())
    }
}

#[derive(Debug)]
struct FailingLayer;

impl LayerSource for FailingLayer {
    fn write(&self, out: &mut dyn Write) -> Result<(), LayerError> {
        out.write_all(&Noise::bytes(3, 1_500_000)).map_err(LayerError::Output)?;
        Err(LayerError::Changed { name: "data/a".to_owned(), what: "it grew".to_owned() })
    }

    fn bytes(&self) -> Option<u64> {
        None
    }

    fn sample(&self, _: &mut dyn FnMut(&[u8])) -> Result<(), LayerError> {
        Ok(())
    }
}

#[derive(Debug)]
struct StallingLayer {
    has_begun: Mutex<Option<oneshot::Sender<()>>>,
    wait: Mutex<Receiver<()>>,
}

impl LayerSource for StallingLayer {
    fn write(&self, out: &mut dyn Write) -> Result<(), LayerError> {
        let half = Noise::bytes(9, 600_000);
        out.write_all(&half).map_err(LayerError::Output)?;
        if let Some(has_begun) = self.has_begun.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // Nobody listens any more if the suite has failed meanwhile.
            let _ = has_begun.send(());
        }
        // Ends with an error when the sender is dropped, which is the sign to go on.
        let _ = self.wait.lock().unwrap_or_else(PoisonError::into_inner).recv();
        out.write_all(&half).map_err(LayerError::Output)
    }

    fn bytes(&self) -> Option<u64> {
        None
    }

    fn sample(&self, _: &mut dyn FnMut(&[u8])) -> Result<(), LayerError> {
        Ok(())
    }
}
