//! Fuzz target `indexes`: the body is shared with `tests/fuzz.rs`.
#![no_main]

#[allow(dead_code)]
#[path = "../../tests/fuzz/bodies.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::indexes(data));
