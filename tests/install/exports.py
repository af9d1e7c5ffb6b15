"""libpccl.so exports every function of the public headers, and nothing else."""

import argparse
import pathlib
import re
import subprocess
import sys


def exported(nm, library):
    """Names of defined dynamic symbols; version nodes ("A") are not symbols."""
    out = subprocess.run([nm, "-D", "--defined-only", library], check=True, capture_output=True, text=True).stdout
    rows = [line.split() for line in out.splitlines()]
    return {row[-1].split("@")[0] for row in rows if row[-2] != "A"}


def declared(include):
    text = "\n".join(path.read_text() for path in sorted(pathlib.Path(include).rglob("*.h")))
    return set(re.findall(r"^PCCL_EXPORT\b[^;(]*?\b(pccl\w+)\s*\(", text, re.MULTILINE))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--library", required=True)
    parser.add_argument("--include", required=True)
    parser.add_argument("--nm", default="nm")
    args = parser.parse_args()

    names, wanted = exported(args.nm, args.library), declared(args.include)
    problems = [f"exported, but not declared in the headers: {name}" for name in sorted(names - wanted)]
    problems += [f"declared, but not exported: {name}" for name in sorted(wanted - names)]
    if not wanted:
        problems.append("the headers declare nothing")
    print("\n".join(problems) or f"{len(names)} functions")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
