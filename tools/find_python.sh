#!/usr/bin/env bash
# Prints a Python 3.11 to 3.13 that can create virtual environments, or says on stderr what is missing and fails.
# PYTHON=/path/to/python chooses one.
set -u

usable() {
    "$1" -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' >/dev/null 2>&1
}

if [ -n "${PYTHON:-}" ]; then
    usable "$PYTHON" && { echo "$PYTHON"; exit 0; }
    echo "error: PYTHON=$PYTHON is not a Python 3.11 to 3.13 with the venv module; choose another, or unset PYTHON." >&2
    exit 1
fi
for candidate in python3 python3.11 python3.12 python3.13 python; do
    usable "$candidate" && { echo "$candidate"; exit 0; }
done
echo "error: no Python 3.11 to 3.13 with the venv module was found; install one" \
    "(Debian/Ubuntu: apt install python3 python3-venv; macOS: brew install python) or set PYTHON=/path/to/python." >&2
exit 1
