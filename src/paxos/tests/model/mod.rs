//! The consensus core under `stateright`: every interleaving within bounds (docs/model.md).
//!
//! It asks the real `is_chosen`, `decide` and `wanted`; `acceptor` restates what an acceptor does
//! with one slot, and must follow `paxos/acceptor.rs` and `gather.rs`. Left out: elections, pages,
//! timing, several slots. Reductions: docs/model.md.
//!
//! The small runs belong to each `cargo test`. The large ones:
//! `cargo test --release --lib paxos::tests::model::exhaustive::full -- --ignored --nocapture
//! --test-threads=1`, each up to `DISTKV_MODEL_STEPS` steps, those whose name contains
//! `DISTKV_MODEL_RUN`; and `...::walks::full` likewise.

mod acceptor;
mod checking;
mod exhaustive;
mod members;
mod mutants;
mod protocol;
mod rules;
mod setup;
mod state;
mod walks;
