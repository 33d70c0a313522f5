#!/usr/bin/env bash
# Runs every check, in .venv, which is made if it is missing:
#
#   ./tools/test.sh                  format, lint, types, tests, doctests
#   ./tools/test.sh tests/web -k x   only pytest, with these arguments
#
# It ends with pytest's summary. Stops at the first check that fails.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source tools/venv.sh
make_venv

if [ $# -gt 0 ]; then
  exec .venv/bin/python -m pytest "$@"
fi
.venv/bin/ruff format --check .
.venv/bin/ruff check .
.venv/bin/pyright
# A file's tests share what they compile, so they stay in one process.
# In their order: the longest files have few tests, and would come last.
exec .venv/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder
