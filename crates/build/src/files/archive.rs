//! Which files ADD takes for archives: by content, never by name.

use std::io::Read;

use ocib_image::{MediaType, decode};

/// Whether a file that begins with `start` is a tar archive, plain or compressed.
pub(crate) fn is_archive(start: &[u8]) -> bool {
    let decoded = |media_type| {
        let mut header = Vec::new();
        let stored = Box::new(std::io::Cursor::new(start.to_vec()));
        let stream = decode(&media_type, stored).ok();
        // The start of a stream ends in the middle, which is no error here.
        let _ = stream.map(|stream| stream.take(512).read_to_end(&mut header));
        is_tar_header(&header)
    };
    match start {
        [0x1f, 0x8b, ..] => decoded(MediaType::LayerGzip),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => decoded(MediaType::LayerZstd),
        // No decoder for these is at hand; nothing but archives is stored so.
        [b'B', b'Z', b'h', ..] | [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => true,
        _ => is_tar_header(start),
    }
}

/// A block whose checksum is right; a block of zeros has none.
fn is_tar_header(block: &[u8]) -> bool {
    let Some(block) = block.get(..512) else { return false };
    let field: String = block[148..156].iter().map(|&b| char::from(b)).collect();
    let written = u32::from_str_radix(field.trim_matches(['\0', ' ']), 8);
    let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
    let own: u32 = block[148..156].iter().map(|&b| u32::from(b)).sum();
    written == Ok(sum - own + 8 * 32)
}
