"""Checks that no identifier contains a word that docs/reference/glossary.md lists as dropped: dropped_words.py [ROOT]; --self-test."""

import pathlib
import re
import subprocess
import sys

FOLDERS = ("include", "src", "bindings", "tools", "tests", "examples", "bench")
ENDINGS = {".c", ".cc", ".h", ".py", ".pyi"}
ROW = re.compile(r"^\| (`[^|]+`) \| ([^|]+?) \|([^|]*)\|$", re.MULTILINE)
NOT_CODE = re.compile(r'//[^\n]*|/\*.*?\*/|"""(?:.*?)"""|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|(?<![\w"\'])#(?!\s*(?:include|define|if|endif|else|pragma|undef|error|line))[^\n]*',
                      re.DOTALL)  # fmt: skip


def dropped(page):
    """word -> (the word to use, the folder in which it is dropped; empty: everywhere)"""
    section = page.split("\n## Dropped words\n", 1)[1]
    words = {}
    for old, new, where in ROW.findall(section):
        for word in re.findall(r"`([^`]+)`", old):
            words[word] = (new.strip(), tuple(re.findall(r"`([\w/]+)`", where)))
    return words


def breaches(words, name, text):
    code = NOT_CODE.sub(lambda m: re.sub(r"[^\n]", " ", m[0]), text)
    for match in re.finditer(r"[A-Za-z_]\w*", code):
        new, where = words.get(match[0], (None, ()))
        if new and (not where or any(name.startswith(folder) for folder in where)):
            yield f"{name}:{code.count(chr(10), 0, match.start()) + 1}: {match[0]} is a dropped word: {new}"


def self_test():
    words = dropped("\n## Dropped words\n\n| dropped | use | where |\n|---|---|---|\n| `owed`, `owe` | `pending` | `src` |\n| `Say` | `Log` | |\n")
    assert words == {"owed": ("`pending`", ("src",)), "owe": ("`pending`", ("src",)), "Say": ("`Log`", ())}, words
    assert len(list(breaches(words, "src/a.cc", "int owed; // owed\nSay x(\"owed\"); owed_;\n"))) == 2
    assert not list(breaches(words, "tests/a.cc", "int owed;\n"))
    print("ok")


def main():
    if "--self-test" in sys.argv:
        return self_test()
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent.parent).resolve()
    words = dropped((root / "docs/reference/glossary.md").read_text())
    listed = subprocess.run(["git", "ls-files", *FOLDERS], cwd=root, capture_output=True, text=True, check=False).stdout.splitlines()
    names = listed or [str(p.relative_to(root)) for folder in FOLDERS for p in (root / folder).rglob("*")]
    problems = []
    for name in names:
        path = root / name
        if path.suffix in ENDINGS and path.is_file() and path.name != "dropped_words.py":
            problems += breaches(words, name, path.read_text())
    print("\n".join(problems) or "ok")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
