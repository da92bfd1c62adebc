#!/usr/bin/env bash
# Creates .venv and installs the pinned packages; does nothing when they are already there. 'make install' calls it;
# 'setup.sh dev', for the tests, adds theirs.
# Where no conda is found, it also writes the stand-in that lets a plain 'mlflow run .' use this environment.
# It creates the project's mlflow.db if there is none.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${VENV:-.venv}
stamp=$venv/.pins
extras=${1:+"[$1,server,export,gym,sweep,recordings,slurm,ray]"}

pins() {
    cat requirements*.txt constraints.txt pyproject.toml tools/setup.sh | git hash-object --stdin
}

install_packages() {
    if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
        local python
        python=$(bash tools/find_python.sh)
        echo "Creating $venv with $("$python" --version)" >&2
        "$python" -m venv --clear "$venv"
    fi
    echo "Installing the pinned packages into $venv (the first time takes a few minutes)" >&2
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable ".$extras" --constraint constraints.txt
    # Its own requirements contradict ours (requirements-jax2onnx.txt).
    [ -z "$extras" ] || "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-jax2onnx.txt
    # 'python -m projects.<entry point>' then works in the safe mode too (PYTHONSAFEPATH), where Python leaves the
    # working directory out. Only in this project's own environment: an installed package brings no 'projects'.
    echo "$PWD" > "$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/drone_cbf_projects.pth"
    echo "$(pins) $extras" > "$stamp"
}

real_conda() {
    [ -n "${CONDA_EXE:-}${MLFLOW_CONDA_HOME:-}" ] && return 0
    local found
    while read -r found; do
        grep -qs conda_standin "$found" || return 0  # neither ours nor that of another checkout, active just now
    done < <(type -ap conda)
    return 1
}

write_conda_standin() {
    if real_conda; then
        grep -qs conda_standin "$venv/bin/conda" && rm "$venv/bin/conda"
        return 0
    fi
    cat > "$venv/bin/conda" <<'STANDIN'
#!/bin/sh
# Written by tools/setup.sh because no conda was found: 'mlflow run' then uses this virtual environment.
here=$(cd "$(dirname "$0")" && pwd)
exec "$here/python" "PROJECT/tools/conda_standin.py" "$@"
STANDIN
    "$venv/bin/python" - "$venv/bin/conda" "$PWD" <<'FILL'
import pathlib, sys
script = pathlib.Path(sys.argv[1])
script.write_text(script.read_text().replace("PROJECT", sys.argv[2].replace('"', '\\"')))
script.chmod(0o755)
FILL
}

installed() {
    local known
    known=$(cat "$stamp" 2>/dev/null) && "$venv/bin/python" -c '' 2>/dev/null || return 1
    [ "${known%% *}" = "$(pins)" ] && [[ "${known#* }" == *"$extras" ]]  # with more than is asked for, it is there too
}

create_store() {  # before several programs open it at once: MLflow creates a missing sqlite file without a lock
    [ -n "${MLFLOW_TRACKING_URI:-}" ] || [ -s mlflow.db ] || "$venv/bin/python" -m drone_cbf.tracking.runs.tracking_store
}

installed || install_packages
write_conda_standin
create_store
