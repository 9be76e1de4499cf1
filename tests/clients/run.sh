#!/usr/bin/env bash
# Checks what clients in Python see of the streams: run.sh
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"
source ../tools.sh

# What Python compiles would lie among the sources.
export PYTHONDONTWRITEBYTECODE=1

install_python_packages clients-python httpx_sse
build_program

# The programs are started and stopped as for the metrics.
PYTHONPATH=../metrics exec "$python" check_httpx_sse.py
