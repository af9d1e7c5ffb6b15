"""Draws the plots of docs/internals/performance.md with the module of pccl-perf-plot."""

import pathlib
import sys

from measuring import size_name

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tools" / "perf"))
import plot  # noqa: E402

BAR, BAR_GAP, LABEL_WIDTH = 20, 5, 250


def rows_of(result, *names):
    return [row["data"] for regime in result["regimes"] if regime["name"] in names for row in regime["rows"]]


def loopback(result):
    """Plots bus bandwidth over size, with a panel for each number of ranks."""
    rows = rows_of(result, "sizes", "large")
    panels = []
    for ranks in sorted({row["ranks"] for row in rows}):
        mine = sorted((row for row in rows if row["ranks"] == ranks), key=lambda row: row["size"])
        factor = 2 * (ranks - 1) / ranks
        series = [plot.Series(name, [(row["size"], row["size"] * factor / row["us"][name] / 1e3) for row in mine if row["us"].get(name)])
                  for name in result["contestants"]]
        panels.append(plot.Panel(f"{ranks} ranks: bus bandwidth, GB/s", [one for one in series if one.points], height=210))
    return plot.render("All-reduce on one machine, float32 sum", panels) if panels else None


def wide_area(result):
    """Draws bars: the bus bandwidth of each link, compared with iperf3."""
    groups = []
    for row in rows_of(result, "wan", "wan-fast"):
        bars = [("iperf3 -P 16", row["iperf3_gbits"], plot.SOFT), ("float32", row["gbits"], plot.COLOURS[0]),
                ("8 bits, as float32", row.get("quantized_gbits"), plot.COLOURS[2])]
        groups.append((f"{row['ranks']} hosts, {row['round_trip_ms']} ms, {row['rate']}, {size_name(row['size'])}",
                       [bar for bar in bars if bar[1]]))
    groups = [group for group in groups if group[1]]
    if not groups:
        return None
    left, most = plot.LEFT + LABEL_WIDTH, max(value for _, bars in groups for _, value, _ in bars)
    scale = (plot.WIDTH - left - 230) / most
    parts, y = [], plot.TOP
    for words, bars in groups:
        parts.append(plot.text(left - 14, y + len(bars) * (BAR + BAR_GAP) / 2, words, 13, plot.INK, "end"))
        for name, value, colour in bars:
            parts.append(f'<rect x="{left}" y="{y}" width="{value * scale:.1f}" height="{BAR}" fill="{colour}"/>')
            parts.append(plot.text(left + value * scale + 8, y + BAR - 5, f"{value:.2f} Gbit/s, {name}", 12.5, plot.SOFT))
            y += BAR + BAR_GAP
        y += 14
    return plot.document("Bus bandwidth over a wide area", y + 12, parts)


def of(result):
    """(file name, regime that it follows, alternative text, SVG) of each plot that has data."""
    measured = [regime["name"] for regime in result["regimes"]]
    for name, after, words, svg in (
            ("performance-loopback.svg", ("large", "sizes"), "Bus bandwidth over size on one machine", loopback(result)),
            ("performance-wide-area.svg", ("wan-fast", "wan"), "Bus bandwidth over a wide area, compared with iperf3", wide_area(result))):
        if svg:
            yield name, next(regime for regime in after if regime in measured), words, svg
