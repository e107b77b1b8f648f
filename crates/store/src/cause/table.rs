//! The table of causes, by where they come from.

mod aws;
mod credentials;
mod local;
mod network;
mod registry;
mod source;

use ocib_image::PlaceErrorKind;

use super::Cause;

/// Where two rows fit, the first counts.
pub(super) const ALL: [&[Cause]; 7] = [
    &source::CAUSES,
    &aws::CAUSES,
    &credentials::CAUSES,
    &network::CAUSES,
    &source::FILES,
    &registry::CAUSES,
    &local::CAUSES,
];

/// Stands for a cause that is in no table; nothing fits it.
pub(super) const OTHER: Cause = cause("other", "something else", "", PlaceErrorKind::Refused, &[]);

const fn cause(
    id: &'static str,
    title: &'static str,
    remedy: &'static str,
    kind: PlaceErrorKind,
    signs: &'static [&'static [&'static str]],
) -> Cause {
    Cause { id, title, remedy, kind, signs }
}
