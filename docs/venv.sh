#!/usr/bin/env bash
# Makes, once, the virtual environment in which the documentation is built: venv.sh FOLDER. Does nothing if it is up to date.
set -euo pipefail

folder="$1"
here="$(cd "$(dirname "$0")" && pwd)"
wanted="$(cat "$here/venv.sh" "$here/requirements.txt" | sha256sum)"
if [[ -f $folder/ready && $(cat "$folder/ready") == "$wanted" ]]; then
    exit 0
fi
echo "docs: preparing $folder"
[[ -x $folder/bin/python ]] || "${PYTHON:-python3}" -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"
echo "$wanted" >"$folder/ready"
