//! cli: to come.

/// Runs the binary.
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
