//! Several files behind URLs as one tree, found without their bytes.

use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use ocib_image::{Timestamp, Tree};
use ocib_net::{Redacted, retry};
use tokio::runtime::Handle;

use super::{
    Web, WebLocation,
    file::{Found, measured},
    remote::Remote,
};
use crate::{
    Error,
    flat::Flat,
    listed::{Expected, Listed, Member, Transfers, said_size},
};

/// Files that are looked for at a time.
const LOOKS: usize = 8;

impl Web {
    pub(super) async fn list(&self, locations: &[WebLocation]) -> Result<Arc<dyn Tree>, Error> {
        let members = stream::iter(locations).map(|location| self.member(location));
        let members: Vec<Member> = members.buffered(LOOKS).try_collect().await?;
        let mut files = Flat::default();
        for (location, member) in locations.iter().zip(members) {
            files.insert(location.name(), member).map_err(|why| Error::BadMember {
                archive: "the URLs".to_owned(),
                member: ocib_net::printable(location.name(), 100),
                why,
            })?;
        }
        let (backoff, ahead, runtime) = (self.backoff, self.ahead.clone(), Handle::current());
        let transfers = Transfers { backoff, ahead, runtime };
        let name = WebLocation::common(locations).unwrap_or_else(|| "several servers".to_owned());
        Ok(Arc::new(Listed { name, files, transfers }))
    }

    async fn member(&self, location: &WebLocation) -> Result<Member, Error> {
        let client = || Arc::clone(&self.client);
        let remote = retry(self.backoff, async || Remote::look(client(), &location.target).await).await?;
        if let Some(why) = remote.is_no_file() {
            return Err(Error::BadUrl { url: Redacted::of(&location.target.url).to_string(), why });
        }
        let remote = Arc::new(remote);
        let (size, digest) = match remote.plain_length() {
            Some(size) => {
                let url = || Redacted::of(&location.target.url).to_string();
                let size = said_size(size).map_err(|why| Error::BadUrl { url: url(), why })?;
                (size, location.digest)
            }
            None => {
                let found = Found {
                    name: location.name().into(),
                    remote: Arc::clone(&remote),
                    backoff: self.backoff,
                    runtime: Handle::current(),
                };
                let (size, actual) = measured(&found, None).await?;
                match location.digest {
                    Some(expected) if expected != actual => {
                        return Err(Error::WrongDigest { expected, actual });
                    }
                    _ => (size, Some(actual)),
                }
            }
        };
        let identity = match digest {
            Some(digest) => Some(digest.to_string().into_bytes().into()),
            None => remote.identity(),
        };
        let expected = match location.digest {
            Some(given) => Some(Expected::Given(given)),
            None => digest.map(Expected::Sha256),
        };
        let modified = Timestamp::default();
        Ok(Member { stored: remote, size, modified, expected, identity })
    }
}
