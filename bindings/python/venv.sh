#!/usr/bin/env bash
# Makes, once, the virtual environment in which the Python package is built and tested: venv.sh FOLDER. Does nothing if it is up to date.
# PYTHON is the interpreter (python3). PyTorch is installed if there is a build for the CPU alone; the tests that need it are skipped
# otherwise, and say so. To have them run, install any PyTorch into FOLDER.
set -euo pipefail

folder="$1"
here="$(cd "$(dirname "$0")" && pwd)"
python="$folder/bin/python"
wanted="$(cat "$here/venv.sh" "$here/requirements.txt" | sha256sum)"

if [[ -x $python && -f $folder/ready && $(cat "$folder/ready") == "$wanted" ]]; then
    exit 0
fi
echo "python: preparing $folder"
[[ -x $python ]] || "${PYTHON:-python3}" -m venv "$folder"
"$python" -m pip install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"
if ! "$python" -c "import torch" 2>/dev/null; then
    "$python" -m pip install --quiet --disable-pip-version-check "torch==2.13.0+cpu" ||
        echo "python: PyTorch for the CPU could not be installed; the tests that need it will be skipped"
fi
echo "$wanted" >"$folder/ready"
