#!/usr/bin/env bash
# Installs what the tests need, as far as it is missing, and runs all of them: format, lints,
# documentation, the spec of the API against the real program, what only a browser shows, what clients in
# Python see, what Prometheus and Graphite make of the reports, and everything that `cargo test` knows.
# It ends at the first failure, with the exit code of what failed.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

# Nothing here asks questions, so a step that waits for an answer fails instead of hanging.
exec </dev/null

# Thousands of clients are thousands of descriptors. Where the limit cannot be raised, what there is must
# do.
ulimit -S -n "$(ulimit -H -n)" || true

# Debian installs servers where the PATH of ordinary users does not lead, and rustup may not have been
# added to it.
PATH=$PATH:/usr/sbin:/sbin:${HOME:-}/.cargo/bin

# Each program that the tests call, and the Debian package that it comes from.
readonly programs=(
    redis-server redis-server
    node nodejs
    npm npm
    chromium chromium
    nginx nginx
    python3 python3
    carbon-cache graphite-carbon
    whisper-fetch python3-whisper
    rabbitmq-server rabbitmq-server
)

# The module of Python that makes virtual environments complete. Debian has it in a package of its own,
# which brings no program.
readonly python_module=ensurepip python_package=python3-venv

# The same for the other client of RabbitMQ that the tests know, which is there for Debian's Python alone.
readonly pika_module=pika pika_package=python3-pika

# The oldest Node.js that mocha and the EventSource run on; Debian 12 has this one.
readonly node_major_min=18

fail() {
    printf 'contrib/test.sh: %s\n' "$*" >&2
    exit 1
}

has() {
    command -v -- "$1" >/dev/null
}

# Announces a command and the time so far, and runs it.
step() {
    printf '\n==> %d s: %s\n' "$SECONDS" "$*"
    "$@"
}

# Prints the packages of the programs that are not there.
missing_packages() {
    local index
    for ((index = 0; index < ${#programs[@]}; index += 2)); do
        if ! has "${programs[index]}"; then
            printf '%s\n' "${programs[index + 1]}"
        fi
    done
    if ! python3 -c "import $python_module" 2>/dev/null; then
        printf '%s\n' "$python_package"
    fi
    if ! /usr/bin/python3 -c "import $pika_module" 2>/dev/null; then
        printf '%s\n' "$pika_package"
    fi
}

install_missing() {
    local missing by_hand
    mapfile -t missing < <(missing_packages)
    if ((${#missing[@]} == 0)); then
        return
    fi
    by_hand="missing: ${missing[*]}; install by hand with: apt-get install ${missing[*]}"
    has apt-get || fail "there is no apt-get here, so install what provides ${missing[*]}"
    as_root=()
    if ((EUID != 0)); then
        has sudo || fail "packages can be installed only by root or with sudo; $by_hand"
        sudo true || fail "sudo refuses; $by_hand"
        as_root=(sudo)
    fi
    printf '\n==> %d s: installing %s\n' "$SECONDS" "${missing[*]}"
    forbid_services
    # One list that cannot be updated need not be the one that the packages are in.
    apt_get update || printf 'contrib/test.sh: apt-get update failed; trying all the same\n' >&2
    apt_get install --yes --no-install-recommends "${missing[@]}" || fail "apt-get failed; $by_hand"
    allow_services
    mapfile -t missing < <(missing_packages)
    ((${#missing[@]} == 0)) || fail "not found after their installation: ${missing[*]}"
}

apt_get() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get --quiet --option DPkg::Lock::Timeout=120 --option Acquire::Retries=3 "$@"
}

# The tests start servers of their own, on ports of their own; the ones that packages start by themselves
# would stay behind. Debian asks this file first. Where there is one already, somebody has decided.
readonly policy=/usr/sbin/policy-rc.d
forbid_services() {
    if [[ -e $policy ]]; then
        return
    fi
    trap allow_services EXIT
    printf '#!/bin/sh\n# Of contrib/test.sh: no service starts while it installs packages.\nexit 101\n' |
        "${as_root[@]}" tee "$policy" >/dev/null
    "${as_root[@]}" chmod 755 "$policy"
}

allow_services() {
    trap - EXIT
    if grep --quiet 'Of contrib/test.sh' "$policy" 2>/dev/null; then
        "${as_root[@]}" rm --force "$policy"
    fi
}

check_tools() {
    has cargo || fail "cargo is missing; install Rust by hand: https://rustup.rs"
    cargo fmt --version >/dev/null 2>&1 ||
        fail "cargo fmt is missing; install it by hand with: rustup component add rustfmt"
    cargo clippy --version >/dev/null 2>&1 ||
        fail "cargo clippy is missing; install it by hand with: rustup component add clippy"
    local node_major
    node_major=$(node --print 'process.versions.node.split(".")[0]')
    ((node_major >= node_major_min)) ||
        fail "Node.js $node_major is too old for the tests; install $node_major_min or newer by hand"
}

install_missing
check_tools

step cargo fmt --check
step cargo clippy --all-targets --locked -- -D warnings
step cargo clippy --all-targets --locked --all-features -- -D warnings
step env RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --locked
step tests/spec/run.sh
step tests/browser/run.sh
step tests/clients/run.sh
step tests/metrics/run.sh prometheus
step tests/metrics/run.sh graphite
step env REQUIRE_RABBITMQ=1 cargo test --locked --all-features --lib --test amqp
step cargo test --locked --doc
# The last, so that the output closes with its counts. Without the variables, a test that finds no
# redis-server, or no nginx, is skipped.
step env REQUIRE_REDIS=1 REQUIRE_NGINX=1 cargo test --locked --lib --bins --tests
