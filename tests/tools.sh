# shellcheck shell=bash
# Helpers for the tests that need other tools: each run.sh sources this file to install and build what is missing.

# Installs the packages of a folder with npm, only if they have changed, because that takes longer than the tests. The
# stamp is in the directory that `npm ci` removes first, so a failed installation leaves none.
install_packages() {
    local folder=$1
    local stamp=$folder/node_modules/.installed-package-lock.json
    if ! cmp --silent "$folder/package-lock.json" "$stamp"; then
        (cd -- "$folder" && npm ci --no-audit --no-fund)
        cp "$folder/package-lock.json" "$stamp"
    fi
}

# Creates the virtual environment `target/NAME` with the packages of requirements.txt unless it exists, and sets
# `python` to its interpreter. An upgrade of the system's Python breaks it, so import a module to check it.
install_python_packages() {
    local name=$1 module=$2
    local environment=../../target/$name
    local stamp=$environment/installed-requirements.txt
    if ! cmp --silent requirements.txt "$stamp" ||
        ! "$environment/bin/python" -c "import $module"; then
        python3 -m venv --clear "$environment"
        "$environment/bin/pip" --quiet --disable-pip-version-check install \
            --require-hashes --only-binary :all: --requirement requirements.txt
        cp requirements.txt "$stamp"
    fi
    # shellcheck disable=SC2034
    python=$environment/bin/python
}

# Builds the program unless STREAMER_BINARY is set, and exports its path. The path comes from Cargo's JSON messages,
# because the target directory can be configured in many places; only the program's message names an executable.
build_program() {
    if [[ -z ${STREAMER_BINARY:-} ]]; then
        STREAMER_BINARY=$(
            cargo build --locked --bin emojitrack-streamer --message-format json-render-diagnostics |
                sed --quiet 's/.*"executable":"\([^"]*\)".*/\1/p'
        )
        export STREAMER_BINARY
    fi
}
