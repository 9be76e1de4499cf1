#!/usr/bin/env bash
# Installs the servers that this one is measured beside, as far as they are missing: nginx with nchan from
# Debian, better-sse and sse-channel from npm, axum from crates.io, sse-starlette from PyPI. What cannot be
# installed is said and left out; the bench does the same.
set -uo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"

target=${CARGO_TARGET_DIR:-../../target}
mkdir -p "$target/bench/peers"
place=$(cd -- "$target/bench/peers" && pwd)
failed=0

# Runs the rest of the arguments as a step of this name.
step() {
    local name=$1
    shift
    printf '==> %s\n' "$name"
    if ! "$@"; then
        printf 'bench/peers/install.sh: %s could not be installed\n' "$name" >&2
        failed=1
    fi
}

debian() {
    if [[ -e /usr/lib/nginx/modules/ngx_nchan_module.so ]] && command -v redis-server >/dev/null; then
        return
    fi
    local as_root=()
    ((EUID == 0)) || as_root=(sudo)
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
        redis-server nginx libnginx-mod-nchan
}

node_packages() {
    (cd node && npm ci --no-audit --no-fund)
}

python_packages() {
    python3 -m venv "$place/python" &&
        "$place/python/bin/pip" install --quiet --requirement python/requirements.txt
}

axum() {
    cargo build --release --locked --manifest-path axum/Cargo.toml --target-dir "$place/axum"
}

step 'Debian: redis-server, nginx, nchan' debian
step 'npm: better-sse, sse-channel' node_packages
step 'PyPI: sse-starlette, uvicorn' python_packages
step 'crates.io: axum' axum
exit "$failed"
