//! The durable log: the acceptor's memory and the values' shards (DESIGN 5).
//!
//! One log per node over a small [`Disk`]: real files, or a simulated disk that can lose its power.
//! Segments of checksummed records, one sync for all that waits, and a start-up that tells a torn
//! tail from damage. Slots that it is told to forget give their space back: dead segments go, and the
//! emptiest are emptied by copying what lives in them. It does not know what the records mean.

mod disk;
mod error;
#[cfg(feature = "edge")]
mod file_disk;
mod identity;
mod images;
mod index;
mod log;
mod memory;
mod options;
mod reclaim;
mod record;
mod recovery;
mod scan;
mod segments;
mod sim_disk;
mod stored;
mod survey;
#[cfg(feature = "edge")]
mod system;
#[cfg(test)]
mod tests;

pub use disk::{Disk, DiskError, FileInfo};
pub use error::{LogError, OpenError};
#[cfg(feature = "edge")]
pub use file_disk::FileDisk;
pub use identity::Identity;
pub use log::{Log, LogUsage};
pub use options::LogOptions;
pub use sim_disk::{DiskStats, SimDisk, TripKind};
pub use stored::{Durability, IndexSnapshot, Recovered, RecoveredEntry, StoredValue};
pub use survey::{Resting, survey};
#[cfg(feature = "edge")]
pub use system::free_bytes;
