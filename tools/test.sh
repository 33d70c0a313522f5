#!/usr/bin/env bash
# Runs every check, in .venv, which is made if it is missing:
#
#   ./tools/test.sh                  format, lint, arrows, types, tests, doctests
#   ./tools/test.sh tests/web -k x   only pytest, with these arguments
#   ./tools/test.sh --nightly ...    the same with the long tests, hours of them
#
# Stops at the first check that fails. Ends with pytest's summary; above it
# stand the minutes of CPU time that all checks took.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source tools/venv.sh
make_venv web beam test

which_tests=()
if [ "${1:-}" = --nightly ]; then
  shift
  which_tests=(-m '')
  # Machine code as users have it; tests/conftest.py says what it is elsewhere.
  export XLA_FLAGS="${XLA_FLAGS:-} --xla_backend_optimization_level=3"
fi
if [ $# -gt 0 ]; then
  exec .venv/bin/python -m pytest ${which_tests[@]+"${which_tests[@]}"} "$@"
fi
.venv/bin/ruff format --check .
.venv/bin/ruff check .
.venv/bin/lint-imports --no-logo --cache-dir .cache/import_linter
.venv/bin/pyright
# A file's tests share what they compile, so they stay in one process.
# In their order: the longest files have few tests, and would come last.
exec .venv/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder \
  ${which_tests[@]+"${which_tests[@]}"}
