"""Checks that README.md and docs/ agree with the tree: the programs that they quote, and the functions, messages, fields, files and values that they name."""

import pathlib
import re
import sys
import textwrap

import values

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)|<img[^>]* src=\"([^\"]+)\"")
EXCERPT = re.compile(r"<!-- excerpt of (\S+) -->\n+```\w+\n(.*?)```", re.DOTALL)
MARK = re.compile(r"\[(/?)readme\]")
MESSAGE = re.compile(r"^#### (\d+) (\w+)\n(.*?)(?=^#|\Z)", re.MULTILINE | re.DOTALL)
VISIT = re.compile(r"void visit\(V &v?, (\w+) &m?\) \{(.*?)\}", re.DOTALL)


def anchor(heading):
    """The name of a heading in links, by GitHub's rule."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def without_code(text):
    return re.sub(r"`[^`\n]*`", "", FENCE.sub("", text))


def pages_of(root):
    return [root / "README.md", root / "CONTRIBUTING.md", *sorted((root / "docs").rglob("*.md"))]


def excerpt_of(path):
    """The part of a program that a page quotes: the lines between [readme] and [/readme] marks, or all lines if there are no marks."""
    lines = path.read_text().splitlines()
    marks = [line for line in lines if MARK.search(line)]
    if not marks:
        return "\n".join(lines) + "\n"
    regions, inside = [], False
    for line in lines:
        mark = MARK.search(line)
        if mark:
            inside = not mark[1]
            if inside:
                regions.append([])
        elif inside:
            regions[-1].append(line)
    return "".join(textwrap.dedent("\n".join(region)) + "\n" for region in regions)


def excerpts(root):
    """A code block after `<!-- excerpt of FILE -->` equals that file's excerpt. Tests compile and run the file."""
    found = 0
    for page in pages_of(root):
        for path, body in EXCERPT.findall(page.read_text()):
            found += 1
            if not (root / path).exists():
                yield f"{page.name}: quotes {path}, which does not exist"
            elif body != excerpt_of(root / path):
                yield f"{page.name}: the block after the comment is not the excerpt of {path}; `tests/readme/texts.py --write` replaces it"
    if found < 2:
        yield "README.md: no excerpt of a program"


def write_excerpts(root):
    """Writes the present excerpts into the pages."""
    for page in pages_of(root):
        text = page.read_text()
        new = EXCERPT.sub(lambda m: m[0][: len(m[0]) - len(m[2]) - 3] + excerpt_of(root / m[1]) + "```", text)
        if new != text:
            page.write_text(new)


def links(root):
    for page in pages_of(root):
        for match in LINK.finditer(without_code(page.read_text())):
            target, _, part = (match[1] or match[2]).partition("#")
            if "://" in target:
                continue
            to = (page.parent / target).resolve() if target else page
            if not to.exists():
                yield f"{page.name}: links to {target}, which does not exist"
            elif part and part not in {anchor(h) for h in re.findall(r"^#+ (.*)$", to.read_text(), re.MULTILINE)}:
                yield f"{page.name}: links to #{part} of {to.name}, which has no such heading"


def named_files(root):
    for page in pages_of(root):
        for path in re.findall(r"`((?:src|tests|include|tools|docs|examples|cmake)/[\w./-]+)`", page.read_text()):
            if not (root / path).exists():
                yield f"{page.name}: names {path}, which does not exist"


def functions(root):
    """Every `pcclName` that a page names is declared in a header."""
    known = "\n".join(path.read_text() for path in sorted((root / "include").rglob("*.h")))
    for page in pages_of(root):
        text = page.read_text().split("\n## Dropped words\n", 1)[0]
        for name in sorted(set(re.findall(r"`(pccl[A-Z]\w+)`", text)) - {"pcclVerbNoun", "pcclNoun_t"}):
            if not re.search(rf"\b{name}\b", known):
                yield f"{page.name}: names {name}, which is not in include/"


def make_targets(root):
    targets = set(re.findall(r"^(\w+):", (root / "Makefile").read_text(), re.MULTILINE))
    for page in [root / "README.md", root / "CONTRIBUTING.md"]:
        for target in re.findall(r"(?:^    |`)make (\w+)", page.read_text(), re.MULTILINE):
            if target not in targets:
                yield f"{page.name}: there is no `make {target}`"


def messages(root):
    """Each message has its number and its fields, in order."""
    header = (root / "src/wire/messages.h").read_text()
    structs = header + (root / "src/wire/tags.h").read_text()
    fields = {name: re.findall(r"\bm\.(\w+)", body) for name, body in VISIT.findall(structs)}
    document = (root / "docs/internals/protocol.md").read_text()
    first, second = document.split("### Peer to master", 1)[1].split("### Master to peer", 1)
    for variant, part in (("ToMaster", first), ("ToPeer", second.split("\n## ", 1)[0])):
        listed = re.search(rf"using {variant} = std::variant<(.*?)>;", header, re.DOTALL)[1]
        names = re.findall(r"\w+", listed)
        described = [(number, name, body) for number, name, body in MESSAGE.findall(part)]
        if [(int(number), name) for number, name, _ in described] != list(enumerate(names)):
            yield f"docs/internals/protocol.md: the messages of {variant} are {', '.join(f'{i} {n}' for i, n in enumerate(names))}"
        for _, name, body in described:
            table = [field for field in re.findall(r"^\| (\w+) \|", body, re.MULTILINE) if field != "field"]
            if table != fields.get(name):
                yield f"docs/internals/protocol.md: the fields of {name} are {fields.get(name)}, not {table}"


def frames(root):
    header = (root / "src/wire/frame.h").read_text()
    kinds = re.findall(r"^    (\w+)(?: = 0)?,", re.search(r"enum class FrameKind.*?\{(.*?)\};", header, re.DOTALL)[1], re.MULTILINE)
    members = re.findall(r"^    [\w:]+ (\w+)(?: = \w+|\{\})?;", re.search(r"struct FrameHeader \{(.*?)\n\n", header, re.DOTALL)[1], re.MULTILINE)
    document = (root / "docs/internals/protocol.md").read_text()
    for number, kind in enumerate(kinds):
        if f"| {number} | {kind} |" not in document:
            yield f"docs/internals/protocol.md: frame kind {number} is {kind}"
    table = re.findall(r"^\| \d+ \| (\w+) \| u\d+ \|", document, re.MULTILINE)
    if table != members:
        yield f"docs/internals/protocol.md: a frame's header is {members}, not {table}"


def main():
    arguments = [word for word in sys.argv[1:] if word != "--write"]
    root = pathlib.Path(arguments[0] if arguments else pathlib.Path(__file__).parent.parent.parent).resolve()
    if "--write" in sys.argv:
        write_excerpts(root)
    checks = (excerpts, links, named_files, functions, make_targets, messages, frames, *values.CHECKS)
    problems = [problem for check in checks for problem in check(root)]
    print("\n".join(problems) or "ok")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
