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

# Makes the virtual environment `target/NAME` with the packages of the folder's requirements.txt, unless it is
# there already, and sets `python` to its interpreter. An interpreter of the system that was replaced by a newer
# one makes it useless, so a module is imported to see whether it works.
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
