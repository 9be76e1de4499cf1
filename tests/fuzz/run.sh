#!/usr/bin/env bash
# Runs the fuzz targets under libFuzzer, which looks for inputs that reach new code. Inputs that it finds are kept in
# target/fuzz/corpus, and one that fails in target/fuzz/failures: copy it to tests/fuzz/corpus/TARGET, and `cargo test
# --test fuzz` repeats it.
#
# Usage: [RUNS=N] tests/fuzz/run.sh SECONDS [TARGET...]    (default: all targets, each for SECONDS or N inputs at most)
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.."

(($# > 0)) || {
    sed --quiet 's/^# \(Usage.*\)/\1/p' "${BASH_SOURCE[0]}" >&2
    exit 2
}
readonly seconds=$1
shift
mapfile -t all < <(sed --quiet 's/^name = "\([a-z]*\)"$/\1/p' tests/fuzz/libfuzzer/Cargo.toml | tail --lines=+2)
targets=("${@:-${all[@]}}")

export CARGO_TARGET_DIR=$PWD/target/fuzz/build
command -v cargo-fuzz >/dev/null || cargo install cargo-fuzz --locked
# A sanitizer would need a nightly compiler, and the project has no `unsafe` code for one to watch.
for target in "${targets[@]}"; do
    (cd tests/fuzz/libfuzzer && cargo fuzz build --fuzz-dir . --sanitizer none --release "$target")
done

failed=0
for target in "${targets[@]}"; do
    mkdir --parents "target/fuzz/corpus/$target" "target/fuzz/failures/$target"
    printf '\n==> %s for %s s or %s inputs\n' "$target" "$seconds" "${RUNS:-any number of}"
    "$CARGO_TARGET_DIR"/*/release/"$target" -max_total_time="$seconds" -runs="${RUNS:--1}" -timeout=10 -rss_limit_mb=2048 \
        -print_final_stats=1 -artifact_prefix="target/fuzz/failures/$target/" \
        "target/fuzz/corpus/$target" "tests/fuzz/corpus/$target" 2>&1 |
        grep --extended-regexp 'number_of_executed_units|peak_rss_mb|ERROR|panicked|Test unit' || true
    # libFuzzer's exit code is hidden by the pipe; a failure leaves a file.
    if [[ -n $(ls -A "target/fuzz/failures/$target") ]]; then
        failed=1
        printf 'tests/fuzz/run.sh: %s failed: see target/fuzz/failures/%s\n' "$target" "$target" >&2
    fi
done
exit "$failed"
