"""Writes results as text, as Markdown, and between the markers of docs/internals/performance.md. bench.py collects a result."""

import re

import charts

BEGIN, END = "<!-- bench.py: begin -->", "<!-- bench.py: end -->"
MET = {True: "met", False: "missed"}


def check_cell(one):
    """0.93 (≥ 0.9: met)"""
    if one["value"] is None:
        return ""
    value = f"{one['value']:.2f}" if one["value"] < 100 else f"{one['value']:.0f}"
    if one["met"] is None:
        return value
    return f"{value} ({one['sign']} {one['bar']:g}: {MET[one['met']]})"


def table(regime):
    """(head, rows of text): the cells, then the checks that have a value in any row."""
    whats = list(dict.fromkeys(one["what"] for row in regime["rows"] for one in row["checks"] if one["value"] is not None))
    rows = []
    for row in regime["rows"]:
        of = {one["what"]: one for one in row["checks"]}
        rows.append([*row["cells"], *(check_cell(of[what]) if what in of else "" for what in whats)])
    return [*regime["head"], *whats], rows


def tally(result):
    """(met, missed) over all bars."""
    met = [one["met"] for regime in result["regimes"] for row in regime["rows"] for one in row["checks"]]
    return met.count(True), met.count(False)


def as_text(head, rows):
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths)).rstrip() for row in [head, *rows])


def as_markdown(head, rows):
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---:"] * len(head), *rows])


def origin(result):
    machine = result["machine"]
    return (f"Measured {result['date']} at {result['commit']}, {result['mode']} mode, medians of {result['rounds']} interleaved rounds "
            f"({result['lab_rounds']} over the wide area), on {machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, "
            f"TCP congestion control {machine['congestion']}, load {machine['load']} before. {result['versions']}").strip()


def as_document(result, plots):
    """`plots`: [(file name in the folder of the document, regime that it follows, alternative text)]."""
    lines = [origin(result), ""]
    for regime in result["regimes"]:
        lines += [f"## {regime['title']}", "", regime["words"], "", as_markdown(*table(regime)), ""]
        for name, after, words in plots:
            if after == regime["name"]:
                lines += [f"![{words}]({name})", ""]
    return "\n".join(lines)


def write_document(path, result):
    """Replaces the text between the markers, and draws the plots into the folder of the document."""
    plots = []
    for name, after, words, svg in charts.of(result):
        (path.parent / name).write_text(svg)
        plots.append((name, after, words))
    fresh, found = re.subn(re.escape(BEGIN) + ".*?" + re.escape(END), lambda _: f"{BEGIN}\n{as_document(result, plots)}{END}",
                           path.read_text(), flags=re.DOTALL)
    if found != 1:
        raise SystemExit(f"cannot write {path}: it must contain the markers {BEGIN} and {END} exactly once")
    path.write_text(fresh)
