#!/usr/bin/env bash
# Installs the missing packages of a list (by default debian-packages.txt) and prints their names. If none is missing, it does nothing
# and needs no privileges.
set -euo pipefail

list="${1:-$(dirname "$0")/debian-packages.txt}"
if ! command -v dpkg-query >/dev/null; then
    echo "deps: not a Debian system; the libraries to install are those in $list"
    exit 0
fi

missing=()
while read -r package; do
    status="$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)"
    [[ $status == installed ]] || missing+=("$package")
done < <(sed 's/#.*//; /^[[:space:]]*$/d' "$list")

if ((${#missing[@]} == 0)); then
    echo "deps: all packages are installed"
    exit 0
fi

echo "deps: installing ${missing[*]}"
as_root=()
if ((EUID != 0)); then
    if ! command -v sudo >/dev/null; then
        echo "deps: neither root nor sudo; run as root: apt-get install ${missing[*]}" >&2
        exit 1
    fi
    as_root=(sudo)
fi
"${as_root[@]}" apt-get update
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "${missing[@]}"
