#!/usr/bin/env python3
"""Builds the documentation's site: the C reference by Doxygen, command lines from --help, all of it by Sphinx. Fails on any warning.

`make docs` calls it with the interpreter of build/docs-venv, after the library, the programs and the Python package have been built.
"""

import argparse
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROGRAMS = {
    "pccl-master": "the master of a run",
    "pccl-perf": "measures collectives",
}


def help_of(program):
    result = subprocess.run([program, "--help"], capture_output=True, text=True, check=True)
    return result.stdout.rstrip()


def write_commands(build, page):
    """The page of command lines: what each program's --help prints."""
    parts = ["# Command lines\n", "This page is generated from what each program prints for `--help`.\n"]
    for name, purpose in PROGRAMS.items():
        parts.append(f"## {name}\n\n`{name}`: {purpose}.\n\n```text\n{help_of(build / 'bin' / name)}\n```\n")
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text("\n".join(parts))


def outside_links_as_code(source):
    """A page links to files of the tree outside docs/, as the repository shows them. The site has no such files: it names them instead."""
    for page in source.rglob("*.md"):
        original = ROOT / "docs" / page.relative_to(source)

        def replace(match, original=original):
            words, target = match[1], match[2].partition("#")[0]
            to = (original.parent / target).resolve()
            if "://" in match[2] or not target or to.is_relative_to(ROOT / "docs"):
                return match[0]
            if not to.exists():
                raise SystemExit(f"{original}: links to {match[2]}, which does not exist")
            name = str(to.relative_to(ROOT))
            return f"`{name}`" if words.strip("`") in name else f"{words} (`{name}`)"

        page.write_text(re.sub(r"(?<!!)\[([^\]]*)\]\(([^)\s]+)\)", replace, page.read_text()))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build", help="build directory (default: %(default)s)")
    parser.add_argument("--out", type=pathlib.Path, help="the site's folder (default: BUILD/docs/site)")
    options = parser.parse_args()
    work = options.build / "docs"
    site = options.out or work / "site"
    (work / "doxygen").mkdir(parents=True, exist_ok=True)
    print("docs: reading the headers with Doxygen", flush=True)
    subprocess.run(["doxygen", "docs/Doxyfile"], cwd=ROOT, check=True)
    print("docs: building the pages with Sphinx", flush=True)
    source = work / "source"
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(ROOT / "docs", source, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "docs/conf.py", source / "conf.py")
    outside_links_as_code(source)
    write_commands(options.build, source / "reference/commands.md")
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "-q", "-c", ROOT / "docs", "-b", "html", source, site]
    status = subprocess.run(command, check=False).returncode
    if status == 0:
        print(f"docs: {site / 'index.html'}")
    return status


if __name__ == "__main__":
    sys.exit(main())
