"""Every public header compiles alone and twice in one file, as C99 and as C++, without a warning."""

import argparse
import pathlib
import subprocess
import sys

WARNINGS = ["-pedantic", "-Wall", "-Wextra", "-Werror"]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--include", required=True)
    parser.add_argument("--cc", default="cc")
    parser.add_argument("--cxx", default="c++")
    args = parser.parse_args()

    include = pathlib.Path(args.include)
    languages = [(args.cc, "c", "c99"), (args.cc, "c", "c11"), (args.cxx, "c++", "c++11"), (args.cxx, "c++", "c++20")]
    failed = 0
    for header in sorted(include.rglob("*.h")):
        name = header.relative_to(include)
        source = f"#include <{name}>\n#include <{name}>\nint the_standard_wants_something_here;\n"
        for compiler, language, standard in languages:
            command = [compiler, f"-std={standard}", *WARNINGS, "-x", language, f"-I{include}", "-fsyntax-only", "-"]
            result = subprocess.run(command, input=source, capture_output=True, text=True)
            print("ok  " if result.returncode == 0 else "FAIL", standard, name)
            if result.returncode != 0:
                failed += 1
                print(result.stderr)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
