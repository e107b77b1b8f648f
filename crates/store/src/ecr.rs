//! ECR: logging in, and what its own API knows that the registry's does not.
//!
//! [`EcrAuth`] gives tokens to whoever speaks to the registry. [`EcrRegistry`] looks at repositories,
//! creates them, and uploads layers in parts that survive the process. What an identity may not ask
//! is [`Known::Unknown`], never a default. [`iam_policy`] writes down which permissions it takes.

mod api;
mod auth;
mod host;
mod journal;
mod layers;
mod policy;
mod public;
mod repository;
mod sink;
mod upload;

use std::error::Error as StdError;

use aws_sdk_ecr::error::{ProvideErrorMetadata, SdkError};
use ocib_net::printable;

pub use self::{
    api::EcrRegistry,
    auth::EcrAuth,
    host::EcrHost,
    layers::LayerApi,
    policy::{PolicyOptions, iam_policy},
    public::EcrPublic,
    repository::{EcrRepository, Encryption, NewRepository, TagMutability},
    sink::EcrSink,
    upload::{LayerUpload, Part},
};
use crate::{Error, IamDenial};

/// What can be said of something that not everybody may ask.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Known<T> {
    /// This.
    Known(T),
    /// Nothing: the identity lacks the permission.
    Unknown(IamDenial),
}

impl<T> Known<T> {
    /// A refusal for want of a permission is knowledge of a kind; other errors stay errors.
    fn of(result: Result<T, Error>) -> Result<Self, Error> {
        match result {
            Ok(known) => Ok(Self::Known(known)),
            Err(error) => error.denial().map(Self::Unknown).ok_or(error),
        }
    }
}

const CODE_CHARS: usize = 100;
const MESSAGE_CHARS: usize = 2000;

fn refused(action: &'static str, code: &str, message: &str) -> Error {
    let (code, message) =
        (printable(code.as_bytes(), CODE_CHARS), printable(message.as_bytes(), MESSAGE_CHARS));
    Error::Aws { action, code, message }
}

/// What a failed call of the SDK means: AWS's own words, or what our HTTP says.
fn failure<E, R>(action: &'static str, error: SdkError<E, R>) -> Error
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    R: std::fmt::Debug + Send + Sync + 'static,
{
    if let Some(said) = error.as_service_error() {
        let (code, message) = (said.code().unwrap_or_default(), said.message().unwrap_or_default());
        return refused(action, code, message);
    }
    match error.into_source() {
        Ok(source) => match ours(source) {
            Ok(error) => Error::Http(error),
            Err(why) => refused(action, "", &why),
        },
        Err(error) => refused(action, "", &error.to_string()),
    }
}

/// The error of our HTTP in `source`, or the end of its causes.
fn ours(source: Box<dyn StdError + Send + Sync>) -> Result<ocib_net::Error, String> {
    let connector = match source.downcast::<aws_smithy_runtime_api::client::result::ConnectorError>() {
        Ok(connector) => connector.into_source(),
        Err(source) => source,
    };
    connector.downcast::<ocib_net::Error>().map(|error| *error).map_err(|other| {
        let mut last: &dyn StdError = &*other;
        while let Some(cause) = last.source() {
            last = cause;
        }
        last.to_string()
    })
}
