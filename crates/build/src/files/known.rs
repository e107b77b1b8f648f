//! The inputs of a layer, as the digest cache knows them.

use ocib_image::{Compression, Digest, Identity, Inputs, InputsDigester, LayerError};

use super::{content::Content, unpack::Archive};

/// The inputs of a layer, told one entry after another in the layer's order.
pub(super) struct Telling<'a> {
    digester: InputsDigester,
    /// Whether every file so far has something that says that it is the same.
    is_known: bool,
    /// The archive that was asked about last, and its identity.
    archive: Option<(&'a Archive, Option<Identity>)>,
}

impl<'a> Telling<'a> {
    /// Nothing of a layer that is stored as `compression` says.
    pub(super) fn new(compression: Compression) -> Self {
        Self { digester: InputsDigester::new(compression), is_known: true, archive: None }
    }

    /// Adds the entry `name`, whose encoded header is given.
    pub(super) fn entry(
        &mut self,
        header: &[u8],
        name: &[u8],
        content: &'a Content,
    ) -> Result<(), LayerError> {
        // Once a file is not known the rest makes no difference.
        if self.is_known {
            self.digester.header(header);
            self.is_known = self.content(name, content)?;
        }
        Ok(())
    }

    /// The inputs; `None` if any file has nothing that says that it is the same.
    pub(super) fn finish(self) -> Option<Inputs> {
        self.is_known.then(|| self.digester.finish())
    }

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
