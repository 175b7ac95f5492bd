//! cli: to come.

pub mod bench;

/// Runs the binary.
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
