//! RUN on this host: a delegated part of a build is handed to a binary such as buildah.
