# shellcheck shell=bash
# What the tests that run tools of others have in common: each run.sh sources it, and installs and builds
# with it what is missing.

# Installs the packages of a folder with npm. An installation takes longer than the tests, so it is
# repeated only when there is something new. The stamp is inside what `npm ci` removes first, so a failed
# installation leaves none.
install_packages() {
    local folder=$1
    local stamp=$folder/node_modules/.installed-package-lock.json
    if ! cmp --silent "$folder/package-lock.json" "$stamp"; then
        (cd -- "$folder" && npm ci --no-audit --no-fund)
        cp "$folder/package-lock.json" "$stamp"
    fi
}

# Builds the program, unless STREAMER_BINARY names one already, and exports that. Only Cargo knows where it
# puts a program: the folder and the target can be configured in many places. Its messages are lines of JSON,
# of which only the program's own names an executable.
build_program() {
    if [[ -z ${STREAMER_BINARY:-} ]]; then
        STREAMER_BINARY=$(
            cargo build --locked --bin emojitrack-streamer --message-format json-render-diagnostics |
                sed --quiet 's/.*"executable":"\([^"]*\)".*/\1/p'
        )
        export STREAMER_BINARY
    fi
}
