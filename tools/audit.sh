#!/usr/bin/env bash
# Known vulnerabilities of the packages in constraints.txt, looked up by pip-audit in an environment of its own.
# 'make audit' calls it. Without a network nothing can be looked up: it says so, and is no failure.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${AUDIT_VENV:-.audit}
tool=pip-audit==2.10.1

unreachable() {
    echo "audit: nothing was looked up, because $1 cannot be reached; run it again with a network" >&2
    exit 0
}

if ! "$venv/bin/pip-audit" --version 2>/dev/null | grep -q "${tool#*==}"; then
    python=$(bash tools/find_python.sh)
    "$python" -m venv --clear "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --retries 1 "$tool" || unreachable "the package index"
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
"$venv/bin/pip-audit" --progress-spinner off --no-deps --disable-pip --timeout 15 -r constraints.txt > "$log" 2>&1 || status=$?
cat "$log"
if [ "$status" != 0 ] && grep -qE "ConnectionError|Max retries|Could not connect|ServiceError|timed out" "$log"; then
    unreachable "the service of advisories"
fi
exit "$status"
