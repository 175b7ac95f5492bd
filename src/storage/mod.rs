//! The durable log: the acceptor's memory and the values' shards.

mod stored;

pub use stored::{Durability, Recovered, RecoveredEntry, StoredValue};
