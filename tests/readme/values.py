"""Compares values in the documentation with the constants of the sources. texts.py runs these checks."""

import re

UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def constants_of(path):
    """name -> value of each `constexpr` number of a file. Seconds, milliseconds and minutes are in milliseconds."""
    known = {}
    text = re.sub(r"//[^\n]*", "", path.read_text())
    for kind, name, braced, given in re.findall(r"constexpr ([\w:<> ]*?)\b(k[A-Z]\w*)(?:\{([^;{}]*)\}| = ([^;]+));", text):
        expression = braced or given
        unit = next((unit for unit in ("milliseconds", "seconds", "minutes") if unit in kind or f"{unit}(" in expression), None)
        scale = {"milliseconds": 1, "seconds": 1000, "minutes": 60000, None: 1}[unit]
        plain = re.sub(r"std::(?:size_t|uint\d+_t)\{([^{}]*)\}", r"(\1)", expression)
        plain = re.sub(r"std::chrono::\w+\(([^()]*)\)", r"(\1)", plain)
        plain = re.sub(r"\bwire::", "", plain)
        plain = re.sub(r"\bk[A-Z]\w*", lambda m: str(known.get(m[0], m[0])), plain)
        plain = plain.replace("'", "")
        if re.fullmatch(r"[\d\s()<>*+/-]+", plain):
            known[name] = eval(plain.replace("/", "//"), {}) * scale  # noqa: S307 - digits and operators alone
    return known


def spellings(value, is_time):
    """The ways to write a value in a page."""
    if is_time:
        yield f"{value} ms"
        if value % 1000 == 0:
            yield f"{value // 1000} s"
        return
    yield str(value)
    if value > 1 and value & (value - 1) == 0:
        yield f"2^{value.bit_length() - 1}"
    for unit, size in UNITS.items():
        if value >= size and value % size == 0:
            yield f"{value // size} {unit}"


def limits(root):
    """Each row of the table of limits that names constants has their values, and each constant of limits.h is in a row."""
    page = (root / "docs/internals/protocol.md").read_text()
    section = page.split("\n## Limits\n", 1)[1].split("\n## ", 1)[0]
    named = set()
    for row in re.findall(r"^\|(.*)\|$", section, re.MULTILINE):
        cells = [cell.strip() for cell in row.split("|")]
        if len(cells) < 3:
            yield f"protocol.md: a row of the limits without a column for constants: {row}"
            continue
        where = re.search(r"`(src/[\w/.]+)`", cells[2])
        path = root / (where[1] if where else "src/wire/limits.h")
        if not path.exists():
            yield f"protocol.md: {path.relative_to(root)} does not exist"
            continue
        known = constants_of(path)
        times = {name for name in known if re.search(rf"(?:seconds|Duration|minutes)\b[^;\n]*\b{name}\b", path.read_text())}
        for name in re.findall(r"`(k[A-Z]\w+)`", cells[2]):
            named.add(name)
            if name not in known:
                yield f"protocol.md: {name} is not a number in {path.relative_to(root)}"
            elif not any(re.search(rf"(?<![\d.]){re.escape(s)}(?![\d]| [KMG]iB)", cells[1]) for s in spellings(known[name], name in times)):
                yield f"protocol.md: {name} is {' or '.join(spellings(known[name], name in times))}, but the table says: {cells[1]}"
    for name in constants_of(root / "src/wire/limits.h").keys() - named:
        yield f"protocol.md: the table of limits does not have {name} of src/wire/limits.h"


def version(root):
    number = re.search(r"\bkVersion = (\d+);", (root / "src/wire/messages.h").read_text())[1]
    page = (root / "docs/internals/protocol.md").read_text()
    fields = re.findall(r"^\| version \| u16 \| (\d+) \|$", page, re.MULTILINE)
    if fields != [number, number]:
        yield f"protocol.md: Hello and Welcome carry version {number}, not {fields}"
    if f"version of the protocol, {number}." not in page:
        yield f"protocol.md: 'Versions' does not say that the version of the protocol is {number}"


def lanes(root):
    """The number of lanes by round trip: (limit in ms, lanes). The last entry has no limit."""
    source = next((p.read_text() for p in sorted((root / "src/peer").rglob("*.cc")) if "wanted_lanes() const {" in p.read_text()), None)
    if source is None:
        yield "src/peer: no wanted_lanes()"
        return
    body = source.split("wanted_lanes() const {", 1)[1].split("\n}", 1)[0]
    steps = re.findall(r"milliseconds\((\d+)\)\) return (\d+);", body)
    last = re.findall(r"^\s*return (\d+);", body, re.MULTILINE)[-1]
    table = "".join(f"| below {ms} ms | {count} |\n" for ms, count in steps) + f"| {steps[-1][0]} ms and more | {last} |\n"
    if table not in (root / "docs/internals/data-path.md").read_text():
        yield f"data-path.md: the table of lanes is not\n{table}"
    words = ", ".join(f"{count} below {ms} ms" for ms, count in steps) + f", {last} from {steps[-1][0]} ms on"
    if words not in (root / "docs/internals/protocol.md").read_text():
        yield f"protocol.md: the lanes of OpenLink are not '{words}'"
    counts = ", ".join([count for _, count in steps]) + f" or {last}"
    for page in ("docs/operate/network.md", "docs/internals/data-path.md"):
        if counts not in (root / page).read_text():
            yield f"{page}: a link has {counts} lanes"


def tables_of_op(root):
    """The values of an operation's fields, by the names of the tables in src/op."""
    page = (root / "docs/internals/protocol.md").read_text()
    for field, path, pattern in (
        ("collective", "src/op/operation_spec.h", r"kCollectiveTable\[[^=]*= \{(.*?)\n\};"),
        ("algorithm", "src/op/operation_spec.h", r"kAlgorithmNames\[[^=]*= \{(.*?)\};"),
        ("quantization", "src/op/quantization.h", r"kQuantTable\[[^=]*= \{(.*?)\n\};"),
    ):
        names = re.findall(r'"([^"]+)"', re.search(pattern, (root / path).read_text(), re.DOTALL)[1])
        row = f"| {field} | {', '.join(f'{i} {name}' for i, name in enumerate(names))} |"
        if row not in page:
            yield f"protocol.md: the table of enums has no row {row}"


def kinds(root):
    """The documentation has no more frame kinds and messages than the code."""
    page = (root / "docs/internals/protocol.md").read_text()
    count = int(re.search(r"kFrameKinds = (\d+);", (root / "src/wire/frame.h").read_text())[1])
    rows = re.findall(r"^\| \d+ \| [a-z_]+ \| (?!u\d+ \|)", page, re.MULTILINE)
    if len(rows) != count:
        yield f"protocol.md: the table of frames has {len(rows)} rows, and there are {count} kinds"


def mutations(root):
    page = (root / "docs/internals/reliability.md").read_text()
    section = page.split("\n## Mutations\n", 1)[1]
    listed = set(re.findall(r"^\| (\w+) \| (?!noticed|seed|detected)", section, re.MULTILINE)) - {"mutant"}
    there = {p.stem for folder in ("mutations", "trainers/mutations") for p in (root / "tests/sim" / folder).glob("*.patch")}
    for name in sorted(there - listed):
        yield f"reliability.md: the tables of mutants do not have {name}"
    for name in sorted(listed - there):
        yield f"reliability.md: there is no mutant {name}"


def labels(root):
    """CONTRIBUTING.md lists the label of every test."""
    used = set()
    for path in root.glob("**/CMakeLists.txt"):
        if not path.relative_to(root).parts[0].startswith("build"):
            for given in re.findall(r"\bLABELS \"?([a-z;]+)\"?", path.read_text()):
                used |= set(given.split(";"))
    page = (root / "CONTRIBUTING.md").read_text()
    for label in sorted(used):
        if not re.search(rf"^\| `{label}` \|", page, re.MULTILINE):
            yield f"CONTRIBUTING.md: the table of labels does not have `{label}`"


def layers(root):
    folders = {p.name for p in (root / "src").iterdir() if p.is_dir()}
    page = (root / "docs/internals/architecture.md").read_text()
    listed = set(re.findall(r"^\| `(\w+)` \|", page.split("\n## Layers\n", 1)[1].split("\n## ", 1)[0], re.MULTILINE))
    if listed != folders:
        yield f"architecture.md: the layers are {sorted(folders)}, not {sorted(listed)}"
    line = re.search(r"^    (base .*)$", (root / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    if not line or set(re.findall(r"\w+", line[1])) != folders:
        yield f"CONTRIBUTING.md: the list of layers is not that of src/: {sorted(folders)}"


CHECKS = (limits, version, lanes, tables_of_op, kinds, mutations, labels, layers)
