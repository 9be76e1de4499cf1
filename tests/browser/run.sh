#!/usr/bin/env bash
# Checks with a real browser what only a real browser shows; see each *.spec.mjs. Arguments are handed to
# mocha: run.sh --grep page
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"

# An installation takes longer than the tests, so it is repeated only when there is something new. The
# stamp is inside what `npm ci` removes first, so a failed installation leaves none. The servers are
# those of the spec, which has packages of its own.
for folder in ../spec .; do
    stamp=$folder/node_modules/.installed-package-lock.json
    if ! cmp --silent "$folder/package-lock.json" "$stamp"; then
        (cd -- "$folder" && npm ci --no-audit --no-fund)
        cp "$folder/package-lock.json" "$stamp"
    fi
done

# Only Cargo knows where it puts a program: the folder and the target can be configured in many places.
if [[ -z ${STREAMER_BINARY:-} ]]; then
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

# The tests start it with no environment but the PATH, and it must be found all the same.
CHROMIUM=${CHROMIUM:-$(command -v chromium)}
export CHROMIUM

exec node_modules/.bin/mocha "$@"
