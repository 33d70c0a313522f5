# shellcheck shell=bash
# Makes .venv in the repository's root; to be sourced there by bash.
#
# Installs llm_jax with the extras that a script asks for, in the versions of
# constraints.txt, and does nothing when that is already there. It does NOT
# touch the Python that it starts from.

# Prints a Python of a version that constraints.txt was tried with.
find_python() {
  local candidate without_venv=''
  for candidate in python3 python3.13 python3.12 python3.11; do
    "$candidate" -c 'import sys; sys.exit(
        not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
      >/dev/null 2>&1 || continue
    if "$candidate" -c 'import ensurepip, venv' >/dev/null 2>&1; then
      echo "$candidate"
      return
    fi
    without_venv=$candidate
  done
  if [ -n "$without_venv" ]; then
    echo "$without_venv cannot make virtual environments." \
      "On Debian or Ubuntu: apt install python3-venv" >&2
  else
    echo "Python 3.11, 3.12 or 3.13 is needed, and none was found." \
      "On Debian or Ubuntu: apt install python3 python3-venv;" \
      "on macOS: brew install python@3.13" >&2
  fi
  return 1
}

# Installs llm_jax with the extras that are named, beside those there already.
make_venv() {
  local python stamp there extras
  if ! .venv/bin/python -c '' >/dev/null 2>&1; then
    python=$(find_python) || exit 1
    echo "making .venv with $("$python" --version)"
    rm -rf .venv
    "$python" -m venv .venv
  fi
  stamp=$(.venv/bin/python -c 'import hashlib, sys
print(hashlib.sha256(b"".join(
    open(name, "rb").read() for name in sys.argv[1:])).hexdigest())' \
    setup.py constraints.txt pyproject.toml)
  there=$(cut -s -d' ' -f2 .venv/installed 2>/dev/null || true)
  extras=$(printf '%s\n' ${there//,/ } "$@" | sort -u | paste -s -d, -)
  if [ "$(cat .venv/installed 2>/dev/null)" != "$stamp $extras" ]; then
    echo "installing into .venv; this takes a minute or two"
    # The stamp is written last: an interrupted installation is repeated.
    .venv/bin/python -m pip install --quiet --disable-pip-version-check \
      --constraint constraints.txt --editable ".[$extras]"
    echo "$stamp $extras" >.venv/installed
  fi
}
