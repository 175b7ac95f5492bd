//! What clients saw of a store, and the checkers that judge it.
//!
//! [`History::check`] believes the slots in answers and covers everything; [`search`] does not and
//! looks for a linear order key by key; eventual reads are held to monotonicity. The simulator uses
//! them on what it ran, `distkv check` on [`Recorded`] lines from files (`docs/history.md`). Nothing
//! here knows a cluster: histories of any linearizable store with versions can be judged.

mod eventual;
mod line;
mod linear;
mod order;
#[cfg(feature = "edge")]
mod read;
mod recorded;
#[cfg(test)]
mod tests;

pub use line::{Line, LineError, LineOp, LineOutcome, LineRow};
pub use linear::{Search, search, search_from};
pub use order::{History, Operation, Outcome, Request, Violation};
#[cfg(feature = "edge")]
pub use read::{ReadError, read_file, read_lines};
pub use recorded::{Recorded, Summary};
