//! Who owns what COPY makes: `--chown` and USER, by number or by name.

use std::io::Read;

use ocib_image::{LayerError, NodeKind};

use super::{
    content::Content,
    layer::read_packed,
    rootfs::{Files, Rootfs, follow_in},
};

/// An owner and a group; `None` leaves what is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Owner {
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
}

/// Why an owner could not be found out.
#[derive(Debug)]
pub(crate) enum OwnerError {
    /// A name where no file system is that could know it (BuildKit: "invalid user index: -1").
    NoAccounts,
    /// The accounts could not be read.
    Layer(LayerError),
}

impl From<LayerError> for OwnerError {
    fn from(error: LayerError) -> Self {
        Self::Layer(error)
    }
}

/// The owner that `USER[:GROUP]` means in `rootfs`, as BuildKit finds it: digits are ids, a user's
/// name brings its primary group, unknown names are silently root.
pub(crate) fn resolve_owner(written: &str, rootfs: Option<&Rootfs>) -> Result<Owner, OwnerError> {
    let (user, group) = written.split_once(':').map_or((written, None), |(user, group)| (user, Some(group)));
    let (uid, primary) = match parse_id(user) {
        Some(id) => (id, id),
        None => {
            let found = known_account(rootfs, b"etc/passwd", user)?;
            let field = |at: usize| found.as_ref().and_then(|line| line.get(at)?.parse().ok()).unwrap_or(0);
            (Some(field(2)), Some(field(3)))
        }
    };
    let gid = match group {
        None => primary,
        Some(group) => match parse_id(group) {
            Some(id) => id,
            None => {
                // An unknown group leaves the user's own; an empty one is root's.
                let unknown = if group.is_empty() { Some(0) } else { primary };
                match known_account(rootfs, b"etc/group", group)? {
                    Some(line) => Some(line.get(2).and_then(|id| id.parse().ok()).unwrap_or(0)),
                    None => unknown,
                }
            }
        },
    };
    Ok(Owner { uid, gid })
}

/// A number as Go's `ParseInt(…, 10, 32)` reads it; the kernel takes -1 for "leave it".
#[expect(clippy::option_option, reason = "not a number, leave it, and an id are three answers")]
fn parse_id(text: &str) -> Option<Option<u32>> {
    match text {
        "root" => Some(Some(0)),
        text => text.parse::<i32>().ok().map(|id| u32::try_from(id).ok()),
    }
}

fn known_account(
    rootfs: Option<&Rootfs>,
    file: &[u8],
    name: &str,
) -> Result<Option<Vec<String>>, OwnerError> {
    let rootfs = rootfs.filter(|rootfs| !rootfs.is_bare()).ok_or(OwnerError::NoAccounts)?;
    Ok(account(rootfs, file, name)?)
}

/// The fields of the first line of `file` (of accounts) that begins with `name`.
pub(crate) fn account(rootfs: &Rootfs, file: &[u8], name: &str) -> Result<Option<Vec<String>>, LayerError> {
    let place = follow_in(rootfs, file)?;
    let Some(found) = rootfs.find(&place)? else { return Ok(None) };
    let mut bytes = Vec::new();
    match &found.content {
        Content::Nothing => {}
        Content::Archived { archive, number } => {
            let mut members = archive.open()?;
            if let Some(content) = members.content(archive, *number)? {
                let read = content.take(ACCOUNTS_MAX).read_to_end(&mut bytes);
                read.map_err(|source| LayerError::Read { name: archive.display(), source })?;
            }
        }
        Content::Inline(inline) => bytes = inline.to_vec(),
        Content::Tree(origin) => {
            let path = origin.path(&place);
            let read = origin.tree.open(&path, 0)?.take(ACCOUNTS_MAX).read_to_end(&mut bytes);
            read.map_err(|source| LayerError::Read { name: origin.tree.display(&path), source })?;
        }
        Content::Packed { layer, offset } => {
            let NodeKind::File { size } = found.node.kind else { return Ok(None) };
            bytes = read_packed(layer, *offset, size.min(ACCOUNTS_MAX))?;
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.lines().map(|line| line.trim().split(':').map(str::to_owned).collect::<Vec<_>>());
    Ok(lines.find(|fields| fields[0] == name && !name.is_empty()))
}

/// No real file of accounts is longer.
const ACCOUNTS_MAX: u64 = 16 << 20;
