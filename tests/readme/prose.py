"""Extracts the prose of a source file: comments, doc strings and messages stay in place, and all other text becomes blank. Offsets and lines do
not change."""

import io
import re
import tokenize

START = "\x01"  # marks the beginning of a comment, a string, a paragraph or a table cell

C_TOKEN = re.compile(r'//[^\n]*(?:\n[ \t]*//[^\n]*)*|/\*.*?\*/|R"\w*\(.*?\)\w*"|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL)
C_MARK = re.compile(r"^([ \t]*)(?://[/!]?<?|/\*+<?|\*(?!/))|\*+/", re.MULTILINE)
CODE_SPAN = re.compile(r"`[^`\n]*`")
LITERAL = re.compile(r"\\[nt\"]|%[-\d.]*[a-z]+")


def blank(text):
    return re.sub(r"[^\n]", " ", text)


def marked(text):
    """The text with a mark instead of the blank before its first word, if there is one."""
    match = re.search(r"\S", text)
    if not match:
        return text
    at = match.start()
    return text[: max(at - 1, 0)] + START + text[at:]


def of_c(text):
    def comment(token):
        plain = C_MARK.sub(lambda m: " " * len(m[0]), token)
        lines = plain.split("\n")
        first = True
        for i, line in enumerate(lines):
            if first and line.strip():
                lines[i], first = marked(line), False
            elif not line.strip():
                first = True
            elif re.match(r"\s*@(?:param|retval|return|brief|copydoc)", line):
                lines[i] = re.sub(r"@(?:param(?:\[[a-z,]+\])?\s+\w+|retval\s+\w+|return|brief|copydoc\s+\w+)\s?", lambda m: " " * (len(m[0]) - 1) + START, line)
            elif re.match(r"\s+-\s", line):
                lines[i] = marked(line.replace("-", " ", 1))
        return "\n".join(lines)

    out, at = [], 0
    for match in C_TOKEN.finditer(text):
        out.append(blank(text[at : match.start()]))
        token = match[0]
        if token.startswith("/"):
            out.append(comment(token))
        elif token.startswith('"') and " " in token:
            out.append(marked(" " + LITERAL.sub(lambda m: " " * len(m[0]), token[1:-1]) + " "))
        else:
            out.append(blank(token))
        at = match.end()
    out.append(blank(text[at:]))
    return "".join(out)


def of_python(text):
    lines = text.split("\n")
    out = [list(" " * len(line)) for line in lines]
    kinds = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", -1)}
    previous = None
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in kinds:
            continue
        body = token.string
        if token.type == tokenize.COMMENT:
            body = " " + body[1:]
            follows = previous == (token.start[0] - 1, token.start[1])
            previous = token.start
        else:
            follows = False
            head = re.match(r"[A-Za-z]*('''|\"\"\"|'|\")", body)
            if head:
                quote = head[1]
                body = " " * len(head[0]) + body[len(head[0]) : -len(quote)] + " " * len(quote)
            if " " not in body.strip():
                continue
            body = LITERAL.sub(lambda m: " " * len(m[0]), body)
        parts = body.split("\n")
        if not follows:
            parts[0] = marked(parts[0])
        for i, part in enumerate(parts):
            row = token.start[0] - 1 + i
            column = token.start[1] if i == 0 else 0
            out[row][column : column + len(part)] = list(part)
            if i and not parts[i - 1].strip() and part.strip():
                out[row] = list(marked("".join(out[row])))
    return "\n".join("".join(line) for line in out)


def of_markdown(text):
    lines, fenced, previous = text.split("\n"), False, ""
    for i, line in enumerate(lines):
        if line.lstrip().startswith("```"):
            fenced = not fenced
            lines[i] = blank(line)
        elif fenced or (line.startswith("    ") and not re.match(r"\s*(?:[-*]|\d+\.)\s", line) and not previous.strip()):
            lines[i] = blank(line)
            continue  # an indented block ends at the first line without indentation
        elif line.startswith("|"):
            lines[i] = line.replace("|", START)
        elif not previous.strip() or re.match(r"\s*(?:[-*#>]+|\d+\.)\s", line):
            lines[i] = marked(re.sub(r"^(\s*)([-*#>]+|\d+\.)(?=\s)", lambda m: m[1] + " " * len(m[2]), line))
        previous = line if not line.startswith("    ") else ""
    return "\n".join(lines)


def of_script(text):
    """Comments after `#` in CMake, shell, make, YAML and TOML, and the texts of `message(` and `echo`."""
    lines, previous = text.split("\n"), False
    for i, line in enumerate(lines):
        match = re.search(r"(?:^|\s)#+(?!!)(.*)$", line)
        shown = re.search(r"(?:message\(\w+|echo|description:)\s+[\"'](.*)[\"']", line)
        start = match.start(1) if match else shown.start(1) if shown else None
        if start is None:
            lines[i], previous = " " * len(line), False
            continue
        rest = line[start:] if match else line[start : shown.end(1)].ljust(len(line) - start)
        alone = match is not None and not line[: match.start()].strip()
        lines[i] = " " * start + (rest if alone and previous else marked(" " + rest)[1:] if not rest.startswith(" ") else marked(rest))
        previous = alone
    return "\n".join(lines)


def of(path, text):
    """The prose of a file, or None for a file whose prose is not checked."""
    name, ending = path.name, path.suffix
    if ending in {".c", ".cc", ".h"}:
        prose = of_c(text)
    elif ending in {".py", ".pyi"} or name == "netlab":
        prose = of_python(text)
    elif ending in {".md", ".rst"}:
        prose = of_markdown(text)
    elif name == "Makefile" or name == "CMakeLists.txt" or ending in {".cmake", ".sh", ".yml", ".toml", ".txt"}:
        prose = of_script(text)
    elif ending == ".patch":
        head = re.split(r"^(?:diff |--- )", text, maxsplit=1, flags=re.MULTILINE)[0]
        prose = head + blank(text[len(head) :])
    else:
        return None
    return CODE_SPAN.sub(lambda m: "`" + "x" * (len(m[0]) - 2) + "`" if len(m[0]) > 1 else m[0], prose)
