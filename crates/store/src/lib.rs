//! Where images live: registries, OCI layouts and docker archives.
