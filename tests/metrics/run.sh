#!/usr/bin/env bash
# Checks with the tools of others what is reported to them: run.sh [prometheus|graphite]
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"
source ../tools.sh

# What Python compiles would lie among the sources.
export PYTHONDONTWRITEBYTECODE=1

# What is installed is the same as long as the list of it is; an interpreter that was replaced by a newer
# one makes it useless all the same.
environment=../../target/metrics-python
stamp=$environment/installed-requirements.txt
if ! cmp --silent requirements.txt "$stamp" ||
    ! "$environment/bin/python" -c 'import prometheus_client'; then
    python3 -m venv --clear "$environment"
    "$environment/bin/pip" --quiet --disable-pip-version-check install \
        --require-hashes --only-binary :all: --requirement requirements.txt
    cp requirements.txt "$stamp"
fi
python=$environment/bin/python

build_program

case ${1:-all} in
all) checks=(prometheus graphite) ;;
prometheus | graphite) checks=("$1") ;;
*)
    printf 'usage: run.sh [prometheus|graphite]\n' >&2
    exit 2
    ;;
esac
for check in "${checks[@]}"; do
    if [[ $check == prometheus ]]; then
        "$python" test_check_metrics.py
    fi
    "$python" "$check.py"
done
