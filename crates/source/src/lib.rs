//! Where bytes come from: directories.
