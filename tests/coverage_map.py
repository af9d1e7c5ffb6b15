"""Checks the map of tests/README.md: every .cc of src has a unit test of its name or an entry, and entries name files that exist.

Prints one line per violation and fails if there is one. Run by ctest.

Usage: coverage_map.py [root of the repository]; coverage_map.py --self-test
"""

import pathlib
import re
import sys
import tempfile

ENTRY = re.compile(r"^\| `(src/[^`]+\.cc)` \|(.*)\|$", re.MULTILINE)
TEST = re.compile(r"`((?:unit|sim|integration|netlab|fuzz|stress)/[^`]*)`")


def unit_test_of(source):
    return f"unit/{source.parent.name}_{source.stem}_test.cc"


def violations(root):
    entries = dict(ENTRY.findall((root / "tests/README.md").read_text()))
    sources = {path.relative_to(root).as_posix() for path in (root / "src").rglob("*.cc")}
    for source in sorted(sources - entries.keys()):
        test = unit_test_of(pathlib.PurePath(source))
        if not (root / "tests" / test).exists():
            yield f"{source}: has no test. Add tests/{test}, or an entry to the map of tests/README.md"
    for source in sorted(entries.keys() - sources):
        yield f"tests/README.md: the map has an entry of {source}, which does not exist. Remove or rename it"
    for source, tests in entries.items():
        named = TEST.findall(tests)
        if not named:
            yield f"tests/README.md: the entry of {source} names no test"
        for test in named:
            if not (root / "tests" / test).exists():
                yield f"tests/README.md: the entry of {source} names tests/{test}, which does not exist"


def self_test():
    """A tree with each violation once."""
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        for name in ["src/peer/tested.cc", "src/peer/mapped.cc", "src/peer/forgotten.cc", "src/peer/stale_test.cc", "src/peer/bare.cc",
                     "tests/unit/peer_tested_test.cc"]:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).touch()
        (root / "tests/README.md").write_text(
            "| `src/peer/mapped.cc` | `unit/peer_tested_test.cc` |\n| `src/peer/removed.cc` | `unit/peer_tested_test.cc` |\n"
            "| `src/peer/stale_test.cc` | `unit/peer_renamed_test.cc` |\n| `src/peer/bare.cc` | none |\n")
        found = "\n".join(violations(root))
    expected = ["forgotten.cc: has no test", "entry of src/peer/removed.cc", "unit/peer_renamed_test.cc, which", "src/peer/bare.cc names no test"]
    missing = [text for text in expected if text not in found]
    if missing or found.count("\n") + 1 != len(expected):
        sys.exit(f"the self-test expected {expected} and found:\n{found}")


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    root = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parent.parent
    found = list(violations(root))
    print("\n".join(found) or "every source has a test")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
