//! A change of members under `stateright` (docs/model.md, "Members"): a slot that may hold the entry
//! that ends the change, and the slot behind it, under old members and new.
//!
//! It asks the real `decide` and the real `Proposal::is_chosen_in`. What nodes and leaders do with the
//! answers is restated in `protocol`, and must follow `paxos/propose.rs`, `acceptor.rs` and
//! `Paxos::enter_configuration`. Left out: codes (k = 1), what was before the entry (every node holds
//! it), the change after this one, pages, timing.
//!
//! The large runs: `cargo test --release --lib paxos::tests::model::members::exhaustive::full --
//! --ignored --nocapture --test-threads=1`, with the settings of `super::exhaustive`; and
//! `...::walks::full` likewise.

mod exhaustive;
mod mutants;
mod protocol;
mod rules;
mod setup;
mod state;
mod walks;
