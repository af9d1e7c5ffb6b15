"""Checks that README.md and docs/ agree with the tree: the program they quote, the functions, messages, fields and files they name."""

import pathlib
import re
import sys

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)|<img[^>]* src=\"([^\"]+)\"")
MESSAGE = re.compile(r"^#### (\d+) (\w+)\n(.*?)(?=^#|\Z)", re.MULTILINE | re.DOTALL)
VISIT = re.compile(r"void visit\(V &v?, (\w+) &m?\) \{(.*?)\}", re.DOTALL)


def anchor(heading):
    """The name that a heading has in links, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def without_code(text):
    return re.sub(r"`[^`\n]*`", "", FENCE.sub("", text))


def quoted_program(root):
    blocks = [body for language, body in FENCE.findall((root / "README.md").read_text()) if language == "c"]
    for name in ("hello.c", "train.c"):
        if (root / "examples/hello" / name).read_text() not in blocks:
            yield f"README.md: no ```c block equals examples/hello/{name}"


def links(root):
    for page in [root / "README.md", root / "CONTRIBUTING.md", *sorted((root / "docs").glob("*.md"))]:
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
    for page in [root / "README.md", *sorted((root / "docs").glob("*.md"))]:
        for path in re.findall(r"`((?:src|tests|include|tools|docs|examples|cmake)/[\w./-]+)`", page.read_text()):
            if not (root / path).exists():
                yield f"{page.name}: names {path}, which does not exist"


def functions(root):
    headers = {path.name: path.read_text() for path in sorted((root / "include/pccl").glob("*.h"))}
    known = "\n".join(headers.values())
    declared = set(re.findall(r"PCCL_EXPORT [\w ]+?\W(pccl\w+)\(", headers["pccl.h"] + headers["collectives.h"]))
    named = set(re.findall(r"`(pccl[A-Z]\w+)`", (root / "README.md").read_text()))
    for name in sorted(declared - named):
        yield f"README.md: does not mention {name}"
    for name in sorted(named):
        if not re.search(rf"\b{name}\b", known):
            yield f"README.md: names {name}, which is not in include/pccl"


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
    document = (root / "docs/protocol.md").read_text()
    first, second = document.split("### Peer to master", 1)[1].split("### Master to peer", 1)
    for variant, part in (("ToMaster", first), ("ToPeer", second.split("\n## ", 1)[0])):
        listed = re.search(rf"using {variant} = std::variant<(.*?)>;", header, re.DOTALL)[1]
        names = re.findall(r"\w+", listed)
        described = [(number, name, body) for number, name, body in MESSAGE.findall(part)]
        if [(int(number), name) for number, name, _ in described] != list(enumerate(names)):
            yield f"docs/protocol.md: the messages of {variant} are {', '.join(f'{i} {n}' for i, n in enumerate(names))}"
        for _, name, body in described:
            table = [field for field in re.findall(r"^\| (\w+) \|", body, re.MULTILINE) if field != "field"]
            if table != fields.get(name):
                yield f"docs/protocol.md: the fields of {name} are {fields.get(name)}, not {table}"


def frames(root):
    header = (root / "src/wire/frame.h").read_text()
    kinds = re.findall(r"^    (\w+)(?: = 0)?,", re.search(r"enum class FrameKind.*?\{(.*?)\};", header, re.DOTALL)[1], re.MULTILINE)
    members = re.findall(r"^    [\w:]+ (\w+)(?: = \w+|\{\})?;", re.search(r"struct FrameHeader \{(.*?)\n\n", header, re.DOTALL)[1], re.MULTILINE)
    document = (root / "docs/protocol.md").read_text()
    for number, kind in enumerate(kinds):
        if f"| {number} | {kind} |" not in document:
            yield f"docs/protocol.md: frame kind {number} is {kind}"
    table = re.findall(r"^\| \d+ \| (\w+) \| u\d+ \|", document, re.MULTILINE)
    if table != members:
        yield f"docs/protocol.md: a frame's header is {members}, not {table}"


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent.parent).resolve()
    checks = (quoted_program, links, named_files, functions, make_targets, messages, frames)
    problems = [problem for check in checks for problem in check(root)]
    print("\n".join(problems) or "ok")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
