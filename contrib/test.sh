#!/usr/bin/env bash
# Installs what the tests need and runs all of them: format, lints, documentation, the API spec against the real program,
# the tests with a browser, with Python clients, with Prometheus and with Graphite, and `cargo test`. Stops at the first
# failure, with its exit code.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

# No standard input, so that a step that asks a question fails instead of hanging.
exec </dev/null

# Thousands of clients need thousands of descriptors; raise the limit as far as allowed.
ulimit -S -n "$(ulimit -H -n)" || true

# Debian installs servers in sbin, which may not be in PATH, and neither may the directory of rustup.
PATH=$PATH:/usr/sbin:/sbin:${HOME:-}/.cargo/bin

# Each program that the tests need, and its Debian package.
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
    systemd-socket-activate systemd
)

# The Python module that virtual environments need; in Debian a separate package without a program.
readonly python_module=ensurepip python_package=python3-venv

# A RabbitMQ client, which Debian packages for its own Python.
readonly pika_module=pika pika_package=python3-pika

# The oldest Node.js that mocha and EventSource support, which is the one of Debian 12.
readonly node_major_min=18

fail() {
    printf 'contrib/test.sh: %s\n' "$*" >&2
    exit 1
}

has() {
    command -v -- "$1" >/dev/null
}

# Prints the elapsed time and a command, and runs it.
step() {
    printf '\n==> %d s: %s\n' "$SECONDS" "$*"
    "$@"
}

# Prints the missing packages.
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
    # One package list may fail to update although the others have the packages.
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

# Keeps packages from starting their services, which would go on running; the tests start their own servers. Debian asks
# this file before it starts a service; an existing file is left alone.
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
step env REQUIRE_RABBITMQ=1 cargo test --locked --all-features --lib --test amqp --test fuzz
step cargo test --locked --doc
# Comes last, so that the output ends with its counts. Without the variables, tests without redis-server, nginx or systemd's
# programs would be skipped.
step env REQUIRE_REDIS=1 REQUIRE_NGINX=1 REQUIRE_SYSTEMD=1 cargo test --locked --lib --bins --tests
