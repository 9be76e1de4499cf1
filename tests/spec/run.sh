#!/usr/bin/env bash
# Checks the Emojitracker Streaming API with a real EventSource; see streaming_api.spec.mjs for what can
# be set. Arguments are handed to mocha: run.sh --grep eps
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"

# An installation takes longer than the tests, so it is repeated only when there is something new. The
# stamp is inside what `npm ci` removes first, so a failed installation leaves none.
stamp=node_modules/.installed-package-lock.json
if ! cmp --silent package-lock.json "$stamp"; then
    npm ci --no-audit --no-fund
    cp package-lock.json "$stamp"
fi

# Only Cargo knows where it puts a program: the folder and the target can be configured in many places.
if [[ -z ${STREAM_SERVER:-} && -z ${STREAMER_BINARY:-} ]]; then
    STREAMER_BINARY=$(
        cargo build --locked --bin emojitrack-streamer --message-format json-render-diagnostics |
            node --input-type=module --eval '
                import { createInterface } from "node:readline";
                for await (const line of createInterface({ input: process.stdin })) {
                    const { executable } = JSON.parse(line);
                    if (executable) console.log(executable);
                }'
    )
    export STREAMER_BINARY
fi

exec node_modules/.bin/mocha "$@"
