//! What holds for one host alone: whom it may prove itself by, and how ocib proves itself to it.

use std::fmt;

use reqwest::{Certificate, Client, Identity};

use crate::{Error, error::innermost};

/// Certificates that are trusted in one host alone, and the certificate that ocib shows to it.
///
/// ```
/// use ocib_net::HostTrust;
/// let error = HostTrust::default().trust(b"not a certificate").unwrap_err();
/// assert_eq!(error.to_string(), "https cannot be used: there is no certificate in PEM form");
/// ```
#[derive(Clone, Default)]
pub struct HostTrust {
    pub(crate) certificates: Vec<Certificate>,
    pub(crate) identity: Option<Identity>,
}

impl HostTrust {
    /// Trusts the certificates of a PEM bundle, besides those that are trusted everywhere.
    ///
    /// # Errors
    /// [`Error::Tls`] if there is none, or one that is none of a CA.
    pub fn trust(&mut self, pem: &[u8]) -> Result<(), Error> {
        let certificates = Certificate::from_pem_bundle(pem).map_err(|error| unusable(&error))?;
        if certificates.is_empty() {
            return Err(Error::Tls { why: "there is no certificate in PEM form".to_owned() });
        }
        Client::builder()
            .tls_certs_only(certificates.iter().cloned())
            .build()
            .map_err(|error| unusable(&error))?;
        self.certificates.extend(certificates);
        Ok(())
    }

    /// Shows the certificate, with those that prove it, to whoever asks for one there. Both are PEM.
    ///
    /// # Errors
    /// [`Error::Tls`] if the key is not that of the first certificate, or is encrypted.
    pub fn identify(&mut self, certificate: &[u8], key: &[u8]) -> Result<(), Error> {
        let identity =
            Identity::from_pem(&[certificate, b"\n", key].concat()).map_err(|error| unusable(&error))?;
        let builder = Client::builder().tls_certs_only([]).identity(identity.clone());
        builder.build().map_err(|error| unusable(&error))?;
        self.identity = Some(identity);
        Ok(())
    }
}

impl fmt::Debug for HostTrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostTrust")
            .field("certificates", &self.certificates.len())
            .field("identity", &self.identity.as_ref().map(|_| "[secret]"))
            .finish()
    }
}

/// Neither quotes what it could not read: that may be a key.
pub(crate) fn unusable(error: &reqwest::Error) -> Error {
    Error::Tls { why: innermost(error) }
}
