//! The key-value state machine and the clients' protocol.
//!
//! Commands are applied in slot order and are deterministic: the same slots give the same state on
//! every node. A node's state machine holds keys, versions and lengths, never payloads: those rest
//! as shards in the log. It knows nothing of ballots, quorums or sockets.

mod admin;
mod command;
mod image;
mod request;
mod response;
mod state;
mod status;

pub use admin::Admin;
pub use command::{Bounds, Command, CommandError, Operation};
pub use request::{Op, Read, Request};
pub use response::{Outcome, Refusal, Response, Row};
pub use state::{Applied, Entry, Execution, State, value_digest};
pub use status::{
    ChangeStatus, MemberStatus, NodeStatus, PeerStatus, Role, Standing, StorageStatus,
};
