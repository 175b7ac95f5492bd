//! Results, their statistics, and the figures drawn from them.
//!
//! Runs nothing: all is drawn from result files alone, and twice from the same files is the same
//! bytes.

pub mod bound;
pub mod caption;
pub mod claims;
pub mod compare;
pub mod data;
pub mod draw;
pub mod figure;
pub mod figure_spec;
pub mod hlog;
pub mod metric;
mod model_error;
mod noise;
pub mod page;
pub mod paired;
pub mod paper;
pub mod phase_parts;
pub mod quantity;
pub mod remarks;
pub mod result;
pub mod stats;
pub mod summary;
pub mod table;

pub use result::{SCHEMA_VERSION, TrialResult};
