//! Identities of Google Cloud.
