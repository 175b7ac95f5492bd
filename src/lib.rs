//! DistKV: a distributed key-value store that agrees by Multi-Paxos and stores its values
//! erasure-coded, and the harness that measures it.
//!
//! The core (everything but the `edge` feature) never reads a clock, a socket, a file, a thread or
//! an environment variable: time and randomness are arguments, effects are outputs. Layers, lowest
//! first: [`types`], [`time`], [`rng`], [`mutant`], [`config`]; [`coding`]; [`paxos`], [`transport`],
//! [`kv`], [`storage`], [`netem`], [`history`]; [`replica`]; [`sim`]; and the edge. Imports point
//! downward only.
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::cast_possible_truncation,
        clippy::disallowed_methods,
        clippy::disallowed_types
    )
)]

pub mod coding;
pub mod config;
pub mod history;
pub mod kv;
pub mod mutant;
pub mod netem;
pub mod paxos;
pub mod replica;
pub mod rng;
pub mod sim;
pub mod storage;
pub mod time;
pub mod transport;
pub mod types;

#[cfg(feature = "edge")]
#[allow(clippy::disallowed_methods, clippy::disallowed_types)]
pub mod bench;
#[cfg(feature = "edge")]
#[allow(clippy::disallowed_methods, clippy::disallowed_types)]
pub mod cli;
#[cfg(feature = "edge")]
#[allow(clippy::disallowed_methods, clippy::disallowed_types)]
pub mod client;
#[cfg(feature = "edge")]
#[allow(clippy::disallowed_methods, clippy::disallowed_types)]
pub mod experiment;
#[cfg(feature = "edge")]
#[allow(clippy::disallowed_methods, clippy::disallowed_types)]
pub mod node;
#[cfg(feature = "edge")]
#[allow(clippy::disallowed_methods, clippy::disallowed_types)]
pub mod report;
