//! Clients at the edge: the client machine on a socket.
//!
//! [`ClientDriver`] is one thread for any number of sessions, [`Client`] a blocking session for
//! commands, [`ClusterTarget`] what the load generator drives, [`StoreAddress`] stores of other
//! makes for it, [`export`] and [`import`] carry all rows out and in. Retries, sessions and the
//! search for the leader are [`crate::replica::client_machine`]'s.

mod archive;
mod blocking;
mod carry;
mod driver;
#[cfg(feature = "etcd")]
mod etcd_store;
#[cfg(feature = "redis")]
mod redis_store;
#[cfg(any(feature = "redis", feature = "etcd"))]
mod remote;
mod store_address;
pub(crate) mod target;

pub use archive::{ArchiveError, ArchiveReader, ArchiveRow, ArchiveWriter};
pub use blocking::{Client, ClientError};
pub use carry::{Carried, CarryError, export, import, verify};
pub use driver::{ClientDriver, DriverError};
pub use store_address::{StoreAddress, StoreAddressError, StoreOptions};
pub use target::ClusterTarget;
