"""Breaks the library on purpose, one or two lines at a time, and checks that the simulator notices.

Each patch of a set is one plausible mistake; its first line states what is broken. The patch is applied to a copy of the tree, and the
program that must notice it is built from the copy:

  tests/sim/mutations           src/protocol   pccl-sim runs seeds from 1 upward until a checker reports a violation
  tests/sim/trainers/mutations  src/train      sim_trainer_tests runs until a test fails

The exit status is 1 if a mutant survives 2 000 seeds of every profile or all tests, or if a patch no longer applies.

Usage: mutations.py [--seeds N] [--build FOLDER] [name ...]
"""

import argparse
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BATCH = 20
VIOLATION = re.compile(r"^(\S+) seed (\d+): ([^:]+): (.*)$", re.MULTILINE)
FAILED_TEST = re.compile(r"^\[  FAILED  \] \w+/\w+\.(\w+)/(\w+)", re.MULTILINE)
FAILURE = re.compile(r": Failure\n(?:.*\n)*?(.+)\n+Google Test trace")


def run(*command, cwd=None):
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


def copy_tree(tree):
    """Copies the sources of the programs. Files that did not change keep their time, so that little is rebuilt."""
    names = run("git", "ls-files", "CMakeLists.txt", "cmake", "include", "src", "tests/CMakeLists.txt", "tests/sim", "tests/unit/*.h",
                "tools/common/mix.h", cwd=ROOT).stdout.split()
    for name in names:
        source, copy = ROOT / name, tree / name
        if not source.exists() or (copy.exists() and copy.read_bytes() == source.read_bytes()):
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, copy)


def build(tree, out, program):
    if not (out / "build.ninja").exists():
        done = run("cmake", "-S", str(tree), "-B", str(out), "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", "-DPCCL_BUILD_TOOLS=OFF",
                   "-DPCCL_BUILD_PYTHON=OFF")
        if done.returncode != 0:
            sys.exit(done.stdout + done.stderr)
    return run("ninja", "-C", str(out), program)


def first_violation(simulator, seeds):
    for first in range(1, seeds + 1, BATCH):
        last = min(first + BATCH - 1, seeds)
        try:
            output = subprocess.run([simulator, "--seeds", f"{first}..{last}"], capture_output=True, text=True, timeout=600).stdout
        except subprocess.TimeoutExpired:
            return first, "?", "?", "does not end within 600 s"
        found = [(int(seed), profile, checker, text) for profile, seed, checker, text in VIOLATION.findall(output)]
        if found:
            return min(found)
    return None


def first_failure(tests, _):
    """All trainers run with seed 1; the message after which a peer is killed varies."""
    command = [tests, "--gtest_fail_fast", "--gtest_brief=1"]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=600)
    except subprocess.TimeoutExpired:
        return 1, "?", "?", "does not end"
    if ran.returncode == 0:
        return None
    failed, why = FAILED_TEST.search(ran.stdout), FAILURE.search(ran.stdout)
    test, trainer = failed.groups() if failed else ("crash", "?")
    return 1, trainer, test, why.group(1) if why else ran.stderr.strip()


# Folder of patches, program that must notice each, function that runs the program and returns the first report.
SETS = [("tests/sim/mutations", "pccl-sim", first_violation), ("tests/sim/trainers/mutations", "sim_trainer_tests", first_failure)]


def noticed(patch, program, find, scratch, seeds):
    """Prints the result of a mutant. False: it was not noticed, or its patch does not apply or build."""
    tree, out = scratch / "tree", scratch / "out"
    copy_tree(tree)
    applied = run("patch", "-p1", "--forward", "--fuzz=0", "-i", str(patch), cwd=tree)
    built = build(tree, out, program) if applied.returncode == 0 else applied
    if built.returncode != 0:
        print(f"{patch.stem:34} does not {'build' if built is not applied else 'apply'}:\n{built.stdout}{built.stderr}")
        return False
    caught = find(str(out / "bin" / program), seeds)
    seed, profile, checker, text = caught or ("-", "-", "survives", "")
    print(f"{patch.stem:34} {seed:>5}  {profile:20} {checker}: {text[:80]}", flush=True)
    return caught is not None


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    arguments.add_argument("--seeds", type=int, default=2000, help="seeds of each profile (default: 2000)")
    arguments.add_argument("--build", default=str(ROOT / "build-mutations"), help="scratch folder (default: build-mutations)")
    arguments.add_argument("names", nargs="*", help="names of patches without .patch (default: all)")
    options = arguments.parse_args()
    survivors = 0
    print(f"{'mutant':34} {'seed':>5}  {'profile or trainer':20} checker or test")
    for folder, program, find in SETS:
        for patch in sorted((ROOT / folder).glob("*.patch")):
            if not options.names or patch.stem in options.names:
                survivors += not noticed(patch, program, find, pathlib.Path(options.build), options.seeds)
    sys.exit(1 if survivors else 0)


if __name__ == "__main__":
    main()
