//! How ocib speaks HTTP.
//!
//! [`Http`] sends a [`Request`] and gives a [`Response`], and on that way keeps the promises that
//! every place and source needs: https unless the host is this machine or named insecure, never
//! from https to http, credentials never along a redirect to another origin, no wait without an
//! end, nothing secret in an [`Error`]. It knows no registry, no token and no retry loop of its
//! own: [`retry`] and [`Backoff`] are for those who know what may be done twice. [`read_blocking`] is
//! how threads that may block read what arrives.
//!
//! With the feature `ecr`, `aws` knows who ocib is in AWS; with `google`, `google` who it is in Google
//! Cloud. Both speak through [`Http`] and say of an [`Identity`] what supplied it and until when.
//!
//! Start with [`Http::send`].

#[cfg(feature = "ecr")]
pub mod aws;
mod body;
mod bridge;
#[cfg(any(feature = "ecr", feature = "google"))]
mod cloud;
mod error;
#[cfg(feature = "google")]
pub mod google;
mod http;
mod identity;
mod printable;
mod proxy;
mod redact;
mod response;
mod retry;
mod trust;

pub use body::Body;
pub use bridge::read_blocking;
#[cfg(any(feature = "ecr", feature = "google"))]
pub use cloud::half_life;
pub use error::Error;
pub use http::{Http, HttpOptions, Request};
pub use identity::{Attempt, Identity};
pub use printable::printable;
pub use proxy::{Proxies, Proxy};
pub use redact::Redacted;
pub use reqwest::{Method, StatusCode, Url, header};
pub use response::Response;
pub use retry::{Backoff, Failures, Retry, Verdict, retry};
pub use trust::HostTrust;
