//! The one binary, `distkv`: everything is in the library's [`distkv::cli`].

/// Messages come and go by the million, and memory is to be given back after a burst.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    distkv::cli::main()
}
