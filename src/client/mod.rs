//! Clients at the edge: the client machine on a socket.
//!
//! [`ClientDriver`] is one thread for any number of sessions, [`Client`] a blocking session for
//! commands, [`ClusterTarget`] what the load generator drives. Retries, sessions and the search for
//! the leader are [`crate::replica::client_machine`]'s.

mod blocking;
mod driver;
mod target;

pub use blocking::{Client, ClientError};
pub use driver::{ClientDriver, DriverError};
pub use target::ClusterTarget;
