#!/usr/bin/env bash
# Checks the metrics with Prometheus' and Graphite's own software: run.sh [prometheus|graphite]
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"
source ../tools.sh

# Keep compiled Python files out of the source tree.
export PYTHONDONTWRITEBYTECODE=1

install_python_packages metrics-python prometheus_client
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
