#!/usr/bin/env bash
# Runs every fuzzer of a build for some minutes, starting from its corpus. Fails if one finds a failure; the input that reproduces it is then
# in <build>/found/. `--keep` also packs the minimal set of inputs with the same coverage into the corpus.
#
# Usage: tests/fuzz/run.sh BUILD MINUTES [--keep]
set -euo pipefail

build="$1"
seconds=$(($2 * 60))
here="$(dirname "$0")"
mkdir -p "$build/found"
failed=()
for fuzzer in "$build"/bin/fuzz-*; do
    name="${fuzzer##*/fuzz-}"
    inputs="$build/inputs/$name"
    mkdir -p "$inputs"
    [[ -f $here/corpus/$name.pack ]] && python3 "$here/corpus.py" unpack "$here/corpus/$name.pack" "$inputs"
    echo "== $name: $seconds s"
    "$fuzzer" "$inputs" -max_total_time="$seconds" -len_control=0 -max_len=500 -print_final_stats=1 \
        -artifact_prefix="$build/found/$name-" >"$build/found/$name.log" 2>&1 || failed+=("$name")
    grep -E "number_of_executed_units|does not hold|ERROR|SUMMARY" "$build/found/$name.log" || true
    if [[ ${3-} == --keep ]]; then
        minimal="$(mktemp -d)"
        "$fuzzer" -set_cover_merge=1 "$minimal" "$inputs" >"$build/found/$name.merge.log" 2>&1
        python3 "$here/corpus.py" pack "$minimal" "$here/corpus/$name.pack"
        rm -r "$minimal"
    fi
done
if ((${#failed[@]} > 0)); then
    echo "failures found by: ${failed[*]} (see $build/found/)"
    exit 1
fi
