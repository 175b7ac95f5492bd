#!/usr/bin/env bash
# The one gate. It changes no file of the repository (cargo writes to its target directory only).
#   scripts/check.sh                   everything
#   scripts/check.sh --without-tests   all but `cargo test`, for callers that have just run it
# SIM_SEEDS sets how many simulation seeds are run (300).
set -euo pipefail
cd "$(dirname "$0")/.."

with_tests=yes
case "${1:-}" in
    "") ;;
    --without-tests) with_tests=no ;;
    *) echo "usage: scripts/check.sh [--without-tests]" >&2; exit 2 ;;
esac
sim_seeds="${SIM_SEEDS:-300}"

step() {
    local name="$1" began=$SECONDS
    shift
    echo "== $name"
    if ! "$@"; then
        echo "== FAILED: $name, after $((SECONDS - began)) s: $*" >&2
        exit 1
    fi
    echo "== $name: $((SECONDS - began)) s"
}

documentation() {
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps
}

# What is committed must mean the same on every machine.
no_machine_paths() {
    local found
    found=$(git grep -nIE '(^|[^A-Za-z0-9_.~/$}-])/(home|Users|root|work|tmp/[a-z]+_jobs[^ ]*)/[A-Za-z0-9_.-]+' -- \
        ':!scripts/check.sh' ':!*.svg' || true)
    if [ -n "$found" ]; then
        echo "absolute paths of one machine are committed:" >&2
        echo "$found" >&2
        return 1
    fi
}

only_crates_io() {
    local found
    found=$(grep -n '^source = ' Cargo.lock \
        | grep -v '"registry+https://github.com/rust-lang/crates.io-index"' || true)
    if [ -n "$found" ]; then
        echo "Cargo.lock has sources other than crates.io:" >&2
        echo "$found" >&2
        return 1
    fi
}

# Every experiment file is read by both profiles; nothing is run.
experiments_parse() {
    local out
    out=$(mktemp -d)
    local profile status=0
    for profile in quick paper; do
        ./"$release" reproduce --profile "$profile" --dry-run --out "$out" || status=1
    done
    rm -rf "$out"
    return "$status"
}

simulation() {
    ./"$release" sim --seeds "$sim_seeds"
}

release_build() {
    cargo build --locked --release
}

# CARGO_TARGET_DIR may be absolute or absent.
target="${CARGO_TARGET_DIR:-target}"
case "$target" in
    /*) release=$(realpath -m --relative-to=. "$target")/release/distkv ;;
    *) release="$target/release/distkv" ;;
esac

# What the fuzz targets do is in tests/fuzz, which `cargo test` runs. That the crate compiles is checked without
# libFuzzer's own C++, which only linking needs (and a nightly compiler instruments).
fuzz_targets() {
    CUSTOM_LIBFUZZER_PATH="$PWD/fuzz/Cargo.toml" CARGO_TARGET_DIR="$target" \
        cargo check --locked --manifest-path fuzz/Cargo.toml
}

step "no paths of one machine" no_machine_paths
step "only crates.io" only_crates_io
step "format" cargo fmt --check
step "pure core" cargo check --locked --lib --no-default-features
step "clippy" cargo clippy --locked --all-targets -- -D warnings
step "clippy with etcd and PDF" cargo clippy --locked --all-targets --features etcd,pdf -- -D warnings
[ "$with_tests" = no ] || step "tests" cargo test --locked
# Against real servers; those that are not installed are passed over, unless DISTKV_REQUIRE_EXTERNAL=1.
step "other stores, PDF" cargo test --locked --features etcd,pdf --test targets --test report
step "docs" documentation
step "fuzz targets" fuzz_targets
step "benches compile" cargo bench --locked --no-run
step "release build" release_build
step "experiment files" experiments_parse
step "simulation, $sim_seeds seeds" simulation
echo "== all good: $SECONDS s"
