"""Breaks src/protocol on purpose, one line at a time, and sees that the simulator notices.

Each tests/sim/mutations/*.patch is one mistake that somebody could make, with a line that says why it is one. It is applied to a copy
of the tree, pccl-sim is built from it and runs seeds from 1 upward until one of its checkers objects. A mutant that survives 2 000
seeds of every profile, or a patch that no longer fits, fails the whole.

Usage: mutations.py [--seeds N] [--build FOLDER] [name ...]
"""

import argparse
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PATCHES = ROOT / "tests/sim/mutations"
BATCH = 20
VIOLATION = re.compile(r"^(\S+) seed (\d+): ([^:]+): (.*)$", re.MULTILINE)


def run(*command, cwd=None):
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


def copy_tree(tree):
    """What pccl-sim is built from; files that did not change keep their time, so that little is built again."""
    names = run("git", "ls-files", "CMakeLists.txt", "cmake", "include", "src", "tests/CMakeLists.txt", "tests/sim", cwd=ROOT).stdout.split()
    for name in names:
        source, copy = ROOT / name, tree / name
        if not source.exists() or (copy.exists() and copy.read_bytes() == source.read_bytes()):
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, copy)


def build(tree, out):
    if not (out / "build.ninja").exists():
        done = run("cmake", "-S", str(tree), "-B", str(out), "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", "-DPCCL_BUILD_TOOLS=OFF")
        if done.returncode != 0:
            sys.exit(done.stdout + done.stderr)
    return run("ninja", "-C", str(out), "pccl-sim")


def first_violation(simulator, seeds):
    for first in range(1, seeds + 1, BATCH):
        last = min(first + BATCH - 1, seeds)
        try:
            output = subprocess.run([simulator, "--seeds", f"{first}..{last}"], capture_output=True, text=True, timeout=600).stdout
        except subprocess.TimeoutExpired:
            return first, "?", "?", "does not end"
        found = [(int(seed), profile, checker, text) for profile, seed, checker, text in VIOLATION.findall(output)]
        if found:
            return min(found)
    return None


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    arguments.add_argument("--seeds", type=int, default=2000, help="of each profile (2000)")
    arguments.add_argument("--build", default=str(ROOT / "build-mutations"), help="scratch folder (build-mutations)")
    arguments.add_argument("names", nargs="*", help="patches without .patch; all if none is given")
    options = arguments.parse_args()
    scratch = pathlib.Path(options.build)
    tree, out = scratch / "tree", scratch / "out"
    survivors = 0
    print(f"{'mutant':34} {'seed':>5}  {'profile':12} checker")
    for patch in sorted(PATCHES.glob("*.patch")):
        if options.names and patch.stem not in options.names:
            continue
        copy_tree(tree)
        applied = run("patch", "-p1", "--forward", "--fuzz=0", "-i", str(patch), cwd=tree)
        built = build(tree, out) if applied.returncode == 0 else applied
        if built.returncode != 0:
            print(f"{patch.stem:34} does not {'build' if built is not applied else 'apply'}:\n{built.stdout}{built.stderr}")
            survivors += 1
            continue
        caught = first_violation(str(out / "bin/pccl-sim"), options.seeds)
        survivors += caught is None
        seed, profile, checker, text = caught or ("-", "-", "survives", "")
        print(f"{patch.stem:34} {seed:>5}  {profile:12} {checker}: {text[:80]}", flush=True)
    sys.exit(1 if survivors else 0)


if __name__ == "__main__":
    main()
