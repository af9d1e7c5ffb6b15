"""Checks that every tracked C and C++ file has the format of clang-format with .clang-format. --write formats the files.

Releases of clang-format format some code differently. Debian's clang-format-14 is the reference. CLANG_FORMAT names
another program. Exit status: 0 if all files are formatted, 1 if not, 77 (skipped) without clang-format 14 or outside a git tree."""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys

VERSION = 14
SKIPPED = 77
PATTERNS = ["*.c", "*.cc", "*.h"]


def find_formatter():
    """The first clang-format of the reference version."""
    for name in [os.environ.get("CLANG_FORMAT"), f"clang-format-{VERSION}", "clang-format"]:
        program = name and shutil.which(name)
        if not program:
            continue
        shown = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
        found = re.search(r"version (\d+)", shown)
        if found and int(found[1]) == VERSION:
            return program
    return None


def tracked_files(root):
    listed = subprocess.run(["git", "-C", str(root), "ls-files", "-z", *PATTERNS], capture_output=True, text=True)
    if listed.returncode != 0:
        return None
    return [name for name in listed.stdout.split("\0") if name and (root / name).exists()]


def unformatted(formatter, root, names):
    """The names of the files whose layout differs."""
    shown = subprocess.run([formatter, "--dry-run", *names], capture_output=True, text=True, cwd=root)
    return sorted({line.split(":", 1)[0] for line in shown.stderr.splitlines() if "-Wclang-format-violations" in line})


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="lay the files out instead of checking them")
    parser.add_argument("root", nargs="?", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent.parent.parent)
    arguments = parser.parse_args()
    formatter = find_formatter()
    if not formatter:
        print(f"no clang-format {VERSION}: install the Debian package clang-format-{VERSION}, or set CLANG_FORMAT")
        return SKIPPED
    names = tracked_files(arguments.root)
    if names is None:
        print(f"{arguments.root} is not a git tree: the list of files is unknown")
        return SKIPPED
    if arguments.write:
        return subprocess.run([formatter, "-i", *names], cwd=arguments.root).returncode
    wrong = unformatted(formatter, arguments.root, names)
    for name in wrong:
        print(f"{name}: not formatted. Run `make format`")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
