#!/usr/bin/env bash
# Checks with a real browser what only a real browser shows; see each *.spec.mjs. Arguments are handed to
# mocha: run.sh --grep page
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"
source ../tools.sh

# The servers are those of the spec, which has packages of its own.
install_packages ../spec
install_packages .
build_program

# The tests start it with no environment but the PATH, and it must be found all the same.
CHROMIUM=${CHROMIUM:-$(command -v chromium)}
export CHROMIUM

exec node_modules/.bin/mocha "$@"
