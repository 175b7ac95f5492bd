//! The libraries that do the arithmetic, by name.

use super::coder::ErasureCode;
use super::{reed_solomon_erasure, reed_solomon_simd, rusty_erasure};
use crate::types::Code;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// A library for Reed-Solomon codes. The default is the fastest of them, by `benches/coding.rs`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// `reed-solomon-erasure` with its SIMD code in C.
    ReedSolomonErasure,
    /// `reed-solomon-simd`: O(n log n), made for many and large shards.
    ReedSolomonSimd,
    /// `rusty_erasure`: the arithmetic of ISA-L in Rust.
    #[default]
    RustyErasure,
}

/// Not a backend.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("'{0}' is none of reed-solomon-erasure, reed-solomon-simd, rusty-erasure")]
pub struct BackendError(pub String);

impl Backend {
    /// All of them.
    pub const ALL: [Self; 3] =
        [Self::ReedSolomonErasure, Self::ReedSolomonSimd, Self::RustyErasure];

    /// Its code (k, m); k and m are at least 1 and k + m at most 32, which every library can do.
    pub(super) fn open(self, code: Code) -> Box<dyn ErasureCode> {
        match self {
            Self::ReedSolomonErasure => Box::new(reed_solomon_erasure::Library::new(code)),
            Self::ReedSolomonSimd => Box::new(reed_solomon_simd::Library::new(code)),
            Self::RustyErasure => Box::new(rusty_erasure::Library::new(code)),
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReedSolomonErasure => "reed-solomon-erasure",
            Self::ReedSolomonSimd => "reed-solomon-simd",
            Self::RustyErasure => "rusty-erasure",
        })
    }
}

impl FromStr for Backend {
    type Err = BackendError;

    fn from_str(text: &str) -> Result<Self, BackendError> {
        Self::ALL
            .into_iter()
            .find(|backend| backend.to_string() == text)
            .ok_or_else(|| BackendError(text.to_owned()))
    }
}
