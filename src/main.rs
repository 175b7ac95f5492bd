//! The one binary, `distkv`: everything is in the library's [`distkv::cli`].

fn main() -> std::process::ExitCode {
    distkv::cli::main()
}
