//! Each way to an identity of Google Cloud, against servers on loopback.
