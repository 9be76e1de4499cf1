#!/usr/bin/env bash
# Runs the tests that need a real browser; see each *.spec.mjs. Arguments are passed to mocha: run.sh --grep page
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"
source ../tools.sh

# The helpers of tests/spec need packages of their own.
install_packages ../spec
install_packages .
build_program

# The tests start programs with no environment but PATH, so find Chromium here.
CHROMIUM=${CHROMIUM:-$(command -v chromium)}
export CHROMIUM

exec node_modules/.bin/mocha "$@"
