//! A real node: the replica machine under tokio, with its socket and disk.

pub mod socket;
