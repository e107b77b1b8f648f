//! Whom `chown` and USER mean.

use ocib_dockerfile::simple::{Group, Owner};

use super::{Shell, Stop, doubt};
use crate::files::account;

const PASSWD: &[u8] = b"etc/passwd";
const GROUP: &[u8] = b"etc/group";

/// What USER and its group are called where they are not numbers.
const ROOT: &str = "root";

impl Shell<'_> {
    /// That `user`, one of those that are taken for the superuser, is that here: a name means what the image says.
    pub(super) fn require_superuser(&self, user: &str) -> Result<(), Stop> {
        let (user, group) = user.split_once(':').unwrap_or((user, ""));
        if user == ROOT {
            let owner = Owner { user: Some(user.to_owned()), group: Some(Group::Primary) };
            if self.ids_of(&owner)? != (Some(0), Some(0)) {
                return doubt("root is not the superuser here");
            }
        }
        if group == ROOT && self.id_of(GROUP, group)? != 0 {
            return doubt("the group root is not the superuser's here");
        }
        Ok(())
    }

    /// The user's and the group's number; `None` leaves what is there.
    pub(super) fn ids_of(&self, owner: &Owner) -> Result<(Option<u32>, Option<u32>), Stop> {
        let user = owner.user.as_deref();
        let uid = user.map(|name| self.id_of(PASSWD, name)).transpose()?;
        let gid = match &owner.group {
            None => None,
            Some(Group::Called(name)) => Some(self.id_of(GROUP, name)?),
            Some(Group::Primary) => {
                let name = user.unwrap_or_default();
                match self.fields(PASSWD, name)?.and_then(|fields| fields.get(3)?.parse().ok()) {
                    Some(gid) => Some(gid),
                    None => return doubt(format!("{name} is not in /etc/passwd")),
                }
            }
        };
        Ok((uid, gid))
    }

    /// A number, or what a name stands for; names come first, and some are numbers.
    fn id_of(&self, file: &[u8], name: &str) -> Result<u32, Stop> {
        let number = name.parse::<u32>().ok();
        let fields = self.fields(file, name)?;
        let listed = fields.map(|fields| fields.get(2).and_then(|id| id.parse::<u32>().ok()));
        match (number, listed) {
            // The last number is for "leave it".
            (Some(number), None) if number < u32::MAX => Ok(number),
            (None, Some(Some(id))) => Ok(id),
            _ => doubt(format!("who {name} is, is not certain from /{}", String::from_utf8_lossy(file))),
        }
    }

    fn fields(&self, file: &[u8], name: &str) -> Result<Option<Vec<String>>, Stop> {
        if self.builder.has_changed(file) {
            return doubt(format!("/{} was changed by the same RUN", String::from_utf8_lossy(file)));
        }
        Ok(account(self.below, file, name)?)
    }
}
