//! cli: to come.

pub mod bench;
pub mod plot;
pub mod reproduce;

/// Runs the binary.
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
