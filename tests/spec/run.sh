#!/usr/bin/env bash
# Checks the Emojitracker Streaming API with a real EventSource; see streaming_api.spec.mjs for what can
# be set. Arguments are handed to mocha: run.sh --grep eps
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"
source ../tools.sh

install_packages .
# A server that is running needs none.
if [[ -z ${STREAM_SERVER:-} ]]; then
    build_program
fi

exec node_modules/.bin/mocha "$@"
