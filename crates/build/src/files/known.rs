//! The inputs of a layer, as the digest cache knows them.

use ocib_image::{Compression, Digest, Identity, Inputs, InputsDigester, LayerError, encode_header};

use super::{content::Content, layer::FilesLayer, unpack::Archive};

/// The inputs of `layer`, stored as `compression` says; `None` if any file has nothing that says
/// that it is the same.
pub(crate) fn inputs(layer: &FilesLayer, compression: Compression) -> Result<Option<Inputs>, LayerError> {
    let mut inputs = Digesting { digester: InputsDigester::new(compression), archive: None };
    let mut header = Vec::new();
    for (name, entry) in layer.in_order() {
        header.clear();
        encode_header(&mut header, &entry.at(name))?;
        inputs.digester.header(&header);
        if !inputs.content(name, &entry.content)? {
            return Ok(None);
        }
    }
    Ok(Some(inputs.digester.finish()))
}

struct Digesting<'a> {
    digester: InputsDigester,
    /// The archive that was asked about last, and its identity.
    archive: Option<(&'a Archive, Option<Identity>)>,
}

impl<'a> Digesting<'a> {
    /// Adds what says which bytes follow the header of `name`; false if nothing does.
    fn content(&mut self, name: &[u8], content: &'a Content) -> Result<bool, LayerError> {
        match content {
            Content::Nothing => {}
            Content::Inline(bytes) => self.digester.part(b'i', Digest::of(bytes).to_string().as_bytes()),
            Content::Packed { layer, offset } => {
                self.digester.part(b'p', format!("{} {offset}", layer.diff_id.0).as_bytes());
            }
            Content::Tree(origin) => {
                let identity = origin.tree.identity(&origin.path(name))?;
                return Ok(self.digester.identity(identity.as_ref()));
            }
            Content::Archived { archive, number } => {
                let identity = match &self.archive {
                    Some((known, identity)) if std::ptr::eq(*known, &**archive) => identity.clone(),
                    _ => archive.identity()?,
                };
                self.digester.part(b'a', number.to_string().as_bytes());
                let is_known = self.digester.identity(identity.as_ref());
                self.archive = Some((archive, identity));
                return Ok(is_known);
            }
        }
        Ok(true)
    }
}
