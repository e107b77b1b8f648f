//! ocib builds OCI images as a stream.
