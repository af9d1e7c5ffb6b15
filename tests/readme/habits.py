"""Finds ten habits that make a text hard to read, in all comments, messages and pages of the tree. Run by ctest as `words.habits`.

    habits.py [ROOT]                  every hit as file:line; fails if a hit is not on the list of exceptions
    habits.py --self-test             each pattern against sentences that it must find and sentences that it must not
    habits.py --paths src/peer docs   only these files and folders

CONTRIBUTING.md has the sentences to write instead. A habit has at most three exceptions, each with its reason.
"""

import argparse
import collections
import pathlib
import re
import subprocess
import sys

import prose

FOLDERS = ("include", "src", "docs", "bindings", "tests", "tools", "examples", "bench", "cmake", ".github")
FILES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "Makefile", "CMakeLists.txt")
EXCLUDED = ("tests/readme/habits.py", "tests/readme/prose.py", "docs/reference/glossary.md", "corpus")
MOST_EXCEPTIONS = 3

# A sentence begins after a full stop, a colon or a semicolon, or where a comment, a message, a paragraph or a cell begins.
BEGIN = rf"(?:{prose.START}|[.:;]\s)\s*"
FIRST = rf"{prose.START}\s*"
PEER = r"(?:peers?|members?|masters?|newcomers?|senders?|receivers?|holders?|neighbours?|owners?|survivors?|others|all|those|one|process(?:es)?|trainers?|islands?|halves|dialler|successor|predecessor|side)"
SPEAKER = rf"(?:{PEER}|it|they|each|both|nobody|somebody|everybody|who|everyone)"
AUXILIARY = r"(?:is|are|has|have|had|was|were|can|cannot|may|must|will|does|did|do)"

HABITS = {
    "a clause as subject": rf"{BEGIN}(?:What (?!if\b|to\b|[^.\n]*\?)[a-z][^?\n]{{3,}}?(?=[.;:,|\n{prose.START}]|$)|Who(?:ever)? (?![^.\n]*\?)[a-z]|Whom\b|Those (?:who|that)\b)",
    "who for a peer": rf"\b{PEER},? who\b|\b(?:of|from|by|to|for|with|at|and|or) who(?:ever)? {AUXILIARY}\b|\bwho (?:joins?|comes?|leaves?|dies?|is lost|was lost)\b",
    "a fragment with Of": rf"{BEGIN}Of [a-z]",
    "so long, so many": r"\b[Ss]o (?:long|many|few|often)\b(?!\s+(?:as|that)\b)",
    "also before what it includes": r"\b[Aa]lso (?:at|of|where|with|for|in|by|to|from|when|after|before|one|those|if|while|as|over|on)\b",
    "is to be": r"\b(?:is|are|was|were|be) to (?:be|come|go|have|wait|do|get|hold|send|stay|make|take|give|end|know|keep|meet|receive)\b",
    "goes on, anew, alike": r"\b(?:goes|go|going|went|gone) on\b(?! to\b)|\banew\b|\balike\b|\bunder way\b|\bto be had\b|\b(?<!other )in words\b|\bstands?\b(?! for\b|[\s-]+alone)|\bbeside\b",
    "say and tell for messages": rf"\b(?:is|are|was|were|be|been|being|not|never|have|has) told\b|\b(?:tells?|telling|told) (?:the (?:master|peers?|members?|others)|a (?:peer|member)|all|each|them|him|him|others|every|everybody|nobody|members|peers|one another)\b(?![^.;\n]*\bapart\b)|\b(?:hears?|heard|hearing) (?:of|from|it|the|that|by|so|nothing|no|all|about)\b|\b{SPEAKER} (?:says?|said)\b|\bsaid (?:again|to|by|so)\b",
    "lie, stranger, mate": r"\b(?:lies|lied|lying|liars?)\b(?!\s+(?:in|between|within|on)\b)|\bstrangers?\b|\b(?:island )?mates?\b|\bgood-bye\b|\bpatien(?:ce|t)\b",
    "the same, as a whole sentence": rf"{FIRST}(?:The same(?=\s*[.,;:(]|\s+(?:of|as|for|but|with|to|from|at|again|by)\b|\s*$|\s*{prose.START})|Likewise\b|As (?:above|before|ever)\b)|{prose.START}\s*the same\s*(?={prose.START})|{BEGIN}Likewise\b",
}  # fmt: skip
PATTERNS = {name: re.compile(pattern, re.MULTILINE) for name, pattern in HABITS.items()}

# habit -> [(file, the words around it, the reason)]
ALLOWED = {}

BAD = {
    "a clause as subject": ["What comes before its operation is posted goes to pooled memory.", "Who is lost gives no answer.", "Those that wait are woken."],
    "who for a peer": ["A member who is gone holds nothing.", "Requests from who does not read the answers."],
    "a fragment with Of": ["Of the calling thread alone, until set again.", "Bytes. Of one lane."],
    "so long, so many": ["and so once every so long", "So many bytes are in flight."],
    "also before what it includes": ["at every survivor, also at one that calls later"],
    "is to be": ["buffers that are to be sent", "The average is to come."],
    "goes on, anew, alike": ["The ring begins anew.", "It goes on alone.", "Members choose alike.", "the master, beside the peers", "The reason in words.", "bbr is not to be had here"],
    "say and tell for messages": ["The master tells all members.", "A peer that is told of a commit.", "No member has heard of it.", "The receiver says post_end."],
    "lie, stranger, mate": ["A frame that waits is a lie, or it lies.", "strangers are closed", "A clean good-bye."],
    "the same, as a whole sentence": ["The same, of an island.", "Likewise for gather.", "The same"],
}
GOOD = [
    "What if a peer is lost?", "What is a ring?", "Who may call this?", "Frames that arrive early are stored.", "the number of peers of the group",
    "as long as the link is up", "so many that the list is full", "It is also a sum.", "The peer is to the left of the master.",
    "goes on to the next step", "in other words, a ring", "network namespaces stand for hosts", "a stand-alone program", "It can tell them apart by their number.",
    "The difference lies in the order.", "The same order holds at all members.", "a function `alike(x)` and `what()`", "The error says which setting differs.",
]  # fmt: skip


def hits_in(text):
    """(offset, habit, the words)"""
    for habit, pattern in PATTERNS.items():
        for match in pattern.finditer(text):
            at = match.start() + len(re.match(rf"[{prose.START}.:;\s]*", match[0])[0])
            line = text[text.rfind("\n", 0, at) + 1 : text.find("\n", at) if "\n" in text[at:] else len(text)]
            yield at, habit, " ".join(line.replace(prose.START, " ").split())


def files(root, paths):
    listed = subprocess.run(["git", "ls-files", *(paths or [*FOLDERS, *FILES])], cwd=root, capture_output=True, text=True, check=False)
    if listed.returncode == 0 and listed.stdout:
        names = listed.stdout.splitlines()
    else:  # a source tree without git
        names = [str(p.relative_to(root)) for base in paths or [*FOLDERS, *FILES] for p in ([root / base] if (root / base).is_file() else (root / base).rglob("*"))]
    for name in sorted(names):
        if not any(part in name for part in EXCLUDED) and (root / name).is_file():
            yield root / name


def check(root, paths):
    used, counts, lines = set(), collections.Counter(), []
    for path in files(root, paths):
        try:
            text = prose.of(path, path.read_text())
        except (UnicodeDecodeError, SyntaxError):
            continue
        if text is None:
            continue
        name = str(path.relative_to(root))
        for at, habit, words in hits_in(text):
            exception = next(((f, w) for f, w, _ in ALLOWED.get(habit, []) if f == name and w in words), None)
            if exception:
                used.add((habit, *exception))
                continue
            counts[habit] += 1
            lines.append(f"{name}:{text.count(chr(10), 0, at) + 1}: {habit}: {words[:110]}")
    for habit, exceptions in ALLOWED.items():
        if len(exceptions) > MOST_EXCEPTIONS:
            lines.append(f"habits.py: {len(exceptions)} exceptions of '{habit}'; at most {MOST_EXCEPTIONS} are allowed")
        lines += [f"habits.py: the exception '{w}' in {f} is not needed" for f, w, _ in exceptions if not paths and (habit, f, w) not in used]
    if counts:
        lines.append("in all: " + ", ".join(f"{count} of '{habit}'" for habit, count in counts.most_common()))
    return lines


def self_test():
    problems = []
    for habit, sentences in BAD.items():
        for sentence in sentences:
            for name, text in (("a.h", f"/// {sentence}\nint x;\n"), ("a.py", f"# {sentence}\n"), ("a.md", f"{sentence}\n"), ("CMakeLists.txt", f"# {sentence}\n")):
                if habit not in {h for _, h, _ in hits_in(prose.of(pathlib.Path(name), text))}:
                    problems.append(f"{name}: '{habit}' is not found in: {sentence}")
    for sentence in GOOD:
        for name, text in (("a.h", f"/// {sentence}\nint x;\n"), ("a.py", f"# {sentence}\n"), ("a.md", f"{sentence}\n")):
            problems += [f"{name}: '{habit}' is found in: {sentence}" for _, habit, _ in hits_in(prose.of(pathlib.Path(name), text))]
    for name, text in (("a.cc", "bool alike = error.what() && Of(what) && beside;\n"), ("a.py", "alike = say(heard)\nname = 'beside'\n"), ("a.md", "```\nanew\n```\n")):
        problems += [f"{name}: '{habit}' is found in code" for _, habit, _ in hits_in(prose.of(pathlib.Path(name), text))]
    place = [text.count("\n", 0, at) + 1 for text in [prose.of(pathlib.Path("a.h"), "int x;\n\n/// One.\n/// Two goes on.\n")] for at, _, _ in hits_in(text)]
    if place != [4]:
        problems.append(f"a hit of line 4 is reported in {place}")
    return problems


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", nargs="?", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent.parent.parent)
    parser.add_argument("--paths", nargs="+", default=[])
    parser.add_argument("--self-test", action="store_true")
    arguments = parser.parse_args()
    problems = self_test() if arguments.self_test else check(arguments.root.resolve(), arguments.paths)
    print("\n".join(problems) or "ok")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
