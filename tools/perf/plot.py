#!/usr/bin/env python3
"""Draws one or several saved results of pccl-perf as SVG: bus bandwidth and time over the size. Needs only Python.

  pccl-perf -t 4 --json four.json && pccl-perf-plot four.json -o four.svg
  pccl-perf-plot old.json new.json -o both.svg
  pccl-perf-plot 'before=old.json' 'after=new.json' --title 'Four peers' -o both.svg

The name of a curve is its file name, or the text before `=`. If a file has several types and operators, the name contains them as well.
"""

import argparse
import json
import math
import pathlib
import sys
from dataclasses import dataclass, field
from html import escape

WIDTH, LEFT, RIGHT, GAP = 960, 84, 24, 64
TOP, BOTTOM, ROW_GAP, LEGEND_LINE = 66, 58, 66, 22
INK, SOFT, GRID, GROUND = "#1f2933", "#52606d", "#e4e7eb", "#fafbfc"
COLOURS = ("#1d4ed8", "#c2410c", "#0b6e4f", "#6d28d9", "#b91c1c", "#0e7490", "#a16207", "#be185d")
DASHES = ("", "7 4", "2 4")
FONT = "font-family=\"-apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif\""
LEGEND_LETTER = 7.2  # approximate width of a letter


@dataclass
class Series:
    label: str
    points: list  # (x, y), x ascending


@dataclass
class Panel:
    """Curves over sizes in bytes. The y axis begins at 0, or is logarithmic."""

    title: str
    series: list
    logarithmic: bool = False
    height: int = 250
    left: float = field(default=0, init=False)
    top: float = field(default=0, init=False)
    width: float = field(default=0, init=False)


def text(x, y, words, size=13, colour=INK, anchor="start", weight="normal"):
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}" text-anchor="{anchor}" '
            f'font-weight="{weight}">{escape(words)}</text>')


def line(x1, y1, x2, y2, colour, width=1.0, dash=""):
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width}"{dashes}/>'


def size_label(size):
    for unit, scale in (("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10)):
        if size >= scale:
            return f"{size / scale:.4g}{unit}"
    return f"{size:g}"


def number_label(value):
    """The label of a tick: 0.1, 1, 1k, 1M."""
    for unit, scale in (("M", 1e6), ("k", 1e3)):
        if value >= scale:
            return f"{value / scale:g}{unit}"
    return f"{value:g}"


def nice_step(span, ticks):
    """The smallest of 1, 2, 5 times a power of ten that gives at most about `ticks` ticks."""
    raw = max(span, 1e-12) / ticks
    power = 10 ** math.floor(math.log10(raw))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)


def y_axis(panel):
    """(position of a value between 0 and 1, ticks)"""
    values = [y for series in panel.series for _, y in series.points if y > 0] or [1.0]
    if panel.logarithmic:
        low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)) + 1e-9)
        high = max(high, low + 1)
        return (lambda y: (math.log10(max(y, 10.0 ** low)) - low) / (high - low)), [10.0 ** e for e in range(low, high + 1)]
    step = nice_step(max(values), 5)
    count = math.ceil(max(values) * 1.02 / step)
    return (lambda y: y / (count * step)), [i * step for i in range(count + 1)]


def x_axis(panel):
    sizes = sorted({x for series in panel.series for x, _ in series.points}) or [1]
    low, high = math.log2(sizes[0]), math.log2(sizes[-1])
    if high - low < 1:
        low, high = low - 0.5, high + 0.5
    least = 46 / panel.width * (high - low)  # so that labels do not touch
    ticks = []
    for size in sizes:
        if not ticks or math.log2(size) - math.log2(ticks[-1]) >= least:
            ticks.append(size)
    return (lambda x: (math.log2(x) - low) / (high - low)), ticks


def draw_panel(panel, style):
    at_x, x_ticks = x_axis(panel)
    at_y, y_ticks = y_axis(panel)

    def x(value):
        return panel.left + panel.width * (0.02 + 0.96 * at_x(value))

    def y(value):
        return panel.top + panel.height * (1 - at_y(value))

    bottom, end = panel.top + panel.height, panel.left + panel.width
    parts = [text(panel.left, panel.top - 10, panel.title, 13, INK, weight="600"),
             f'<rect x="{panel.left:.1f}" y="{panel.top:.1f}" width="{panel.width:.1f}" height="{panel.height}" fill="{GROUND}"/>']
    for tick in y_ticks:
        parts += [line(panel.left, y(tick), end, y(tick), GRID), text(panel.left - 8, y(tick) + 4.5, number_label(tick), 12, SOFT, "end")]
    for tick in x_ticks:
        parts += [line(x(tick), bottom, x(tick), bottom + 5, SOFT), text(x(tick), bottom + 19, size_label(tick), 12, SOFT, "middle")]
    for series in panel.series:
        colour, dash = style[series.label]
        places = [(x(a), y(b)) for a, b in series.points if b > 0]
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2.2" stroke-linejoin="round"{dashes}/>')
        parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3.2" fill="{colour}"/>' for a, b in places]
    return parts


def draw_legend(style, top):
    """Rows of names under the title. Returns (parts, y position of their end)."""
    parts, x, y = [], float(LEFT), float(top)
    for label, (colour, dash) in style.items():
        width = 34 + LEGEND_LETTER * len(label) + 22
        if x > LEFT and x + width > WIDTH - RIGHT:
            x, y = float(LEFT), y + LEGEND_LINE
        parts += [line(x, y - 4, x + 26, y - 4, colour, 2.4, dash), text(x + 34, y, label, 12.5)]
        x += width
    return parts, y


def document(title, height, parts):
    head = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0f}" viewBox="0 0 {WIDTH} {height:.0f}" {FONT}>',
            f"<title>{escape(title)}</title>", f'<rect width="{WIDTH}" height="{height:.0f}" fill="#ffffff"/>',
            text(LEFT, 34, title, 17, INK, weight="600")]
    return "\n".join(head + parts + ["</svg>"]) + "\n"


def render(title, panels, columns=1, x_title="size of one buffer, bytes"):
    """The SVG document: panels row by row, one legend for all. Series with the same label have the same style in every panel."""
    labels = list(dict.fromkeys(series.label for panel in panels for series in panel.series))
    style = {label: (COLOURS[i % len(COLOURS)], DASHES[i // len(COLOURS) % len(DASHES)]) for i, label in enumerate(labels)}
    parts, legend_end = draw_legend(style, TOP - 6)
    top, width = legend_end + 46, (WIDTH - LEFT - RIGHT - GAP * (columns - 1)) / columns
    for start in range(0, len(panels), columns):
        row = panels[start:start + columns]
        for column, panel in enumerate(row):
            panel.left, panel.top, panel.width = LEFT + column * (width + GAP), top, width
            parts += draw_panel(panel, style)
        top += max(panel.height for panel in row) + ROW_GAP
    height = top - ROW_GAP + BOTTOM
    parts.append(text(LEFT, height - 14, x_title, 13, SOFT))
    return document(title, height, parts)


def series_of(words, path):
    """{name: rows} of a file's results. The name is `words` alone if the file has one type and operator."""
    rows = json.loads(path.read_text())["rows"]
    kinds = list(dict.fromkeys((row["type"], row["op"]) for row in rows))
    return {words if len(kinds) == 1 else f"{words}, {kind[0]} {kind[1]}": [row for row in rows if (row["type"], row["op"]) == kind]
            for kind in kinds}


def named(argument):
    """(name, path) of `name=path` or `path`."""
    name, equals, path = argument.rpartition("=")
    if equals and not pathlib.Path(argument).exists():
        return name, pathlib.Path(path)
    return pathlib.Path(argument).stem, pathlib.Path(argument)


def main():
    parser = argparse.ArgumentParser(prog="pccl-perf-plot", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", metavar="[NAME=]FILE.json", help="file that pccl-perf --json wrote")
    parser.add_argument("-o", "--out", type=pathlib.Path, required=True, metavar="FILE.svg")
    parser.add_argument("--title", default="All-reduce")
    args = parser.parse_args()
    curves = {}
    try:
        for name, path in map(named, args.results):
            for label, rows in series_of(name, path).items():
                while label in curves:
                    label += "'"
                curves[label] = rows
        svg = render(args.title, [
            Panel("bus bandwidth, GB/s", [Series(k, [(r["bytes"], r["busbw_gbs"]) for r in rows]) for k, rows in curves.items()]),
            Panel("time of one iteration, µs", [Series(k, [(r["bytes"], r["time_us"]) for r in rows]) for k, rows in curves.items()],
                  logarithmic=True)])
        args.out.write_text(svg)
    except OSError as error:
        sys.exit(f"pccl-perf-plot: {error}")
    except (ValueError, KeyError, TypeError) as error:
        sys.exit(f"pccl-perf-plot: not what pccl-perf --json wrote: {error!r}")


if __name__ == "__main__":
    main()
