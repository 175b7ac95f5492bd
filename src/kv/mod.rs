//! The key-value state machine and the clients' protocol.
//!
//! Commands are applied in slot order and are deterministic: the same slots give the same state on
//! every node. A node's state machine holds keys, versions and lengths, never payloads: those rest
//! as shards in the log. It knows nothing of ballots, quorums or sockets.

mod admin;
mod command;
mod request;
mod state;

pub use admin::Admin;
pub use command::{Command, CommandError, Operation};
pub use request::{
    NodeStatus, Op, Outcome, PeerStatus, Read, ReadMode, Refusal, Request, Response, Role, Row,
};
pub use state::{Applied, Bounds, Entry, Execution, State, value_digest};
