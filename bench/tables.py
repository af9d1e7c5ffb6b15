"""Results as text, as Markdown, and between the markers of docs/performance.md. A result is what bench.py collects: see there."""

import re

BEGIN, END = "<!-- bench.py: begin -->", "<!-- bench.py: end -->"


def size_name(size):
    for unit, scale in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size % scale == 0:
            return f"{size // scale} {unit}"
    return f"{size} B"


def time_name(us):
    if us is None:
        return "failed"
    for unit, scale in (("s", 1e6), ("ms", 1e3)):
        if us >= scale:
            return f"{us / scale:.3g} {unit}" if us < 1000 * scale else f"{us / scale:.0f} {unit}"
    return f"{us:.3g} µs"


def ratio(a, b):
    return "" if not a or not b else f"{a / b:.2f}"


def bus_gbits(row):
    ranks = row["ranks"]
    return row["size"] * 2 * (ranks - 1) / ranks * 8 / row["us"] / 1e3 if row["us"] else 0.0


def loopback_table(result):
    """Times of all; then how many times bare_ring's time PCCL takes, and how many times PCCL's the others."""
    names = result["contestants"]
    reference, ours = names[0], names[1]
    head = ["ranks", "size", *names, f"{ours} / {reference}", *(f"{other} / {ours}" for other in names[2:])]
    rows = []
    for row in result["loopback"]:
        us = row["us"]
        rows.append([str(row["ranks"]), size_name(row["size"]), *(time_name(us.get(name)) for name in names),
                     ratio(us.get(ours), us.get(reference)), *(ratio(us.get(other), us.get(ours)) for other in names[2:])])
    return head, rows


def bandwidth_table(result):
    head = ["hosts", "round trip", "rate", "size", "time", "bus bandwidth", "iperf3 -P 16", "part of iperf3"]
    return head, [[str(r["ranks"]), f"{r['round_trip_ms']} ms", r["rate"], size_name(r["size"]), time_name(r["us"]),
                   f"{bus_gbits(r):.3f} Gbit/s", f"{r['iperf3_gbits']:.3f} Gbit/s", f"{bus_gbits(r) / r['iperf3_gbits']:.0%}"]
                  for r in result["wide_area"] if r["kind"] == "bandwidth"]


def latency_table(result):
    head = ["hosts", "round trip", "size", "time", "round trips"]
    return head, [[str(r["ranks"]), f"{r['round_trip_ms']} ms", size_name(r["size"]), time_name(r["us"]),
                   ratio(r["us"], r["round_trip_ms"] * 1e3)] for r in result["wide_area"] if r["kind"] == "latency"]


def as_text(table):
    head, rows = table
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths)).rstrip() for row in [head, *rows])


def as_markdown(table):
    head, rows = table
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---:"] * len(head), *rows])


def sections(result):
    """(title, what it says, table) of all that was measured."""
    if result["loopback"]:
        yield ("On one machine", "Median time of one all-reduce over the loopback; ratios above 1 are slower. "
               "`bare_ring` is what TCP allows here: a ring without membership, checksums, agreement or fault tolerance.",
               loopback_table(result))
    if any(r["kind"] == "bandwidth" for r in result["wide_area"]):
        yield ("Bandwidth over a wide area", "Hosts joined by `tests/netlab/netlab`; the bus bandwidth is what each link carries.",
               bandwidth_table(result))
    if any(r["kind"] == "latency" for r in result["wide_area"]):
        yield ("Latency over a wide area", "The same, small.", latency_table(result))


def document(result):
    machine = result["machine"]
    lines = [f"Measured {result['date']} at {result['commit']}, {result['mode']} mode, medians of {result['rounds']} interleaved rounds, "
             f"on {machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, TCP congestion control "
             f"{machine['congestion']}, load {machine['load']} before. {result['versions']}".strip(), ""]
    for title, words, table in sections(result):
        lines += [f"### {title}", "", words, "", as_markdown(table), ""]
    return "\n".join(lines)


def write_document(path, result):
    text = path.read_text()
    fresh, found = re.subn(re.escape(BEGIN) + ".*?" + re.escape(END), lambda _: f"{BEGIN}\n{document(result)}{END}", text, flags=re.DOTALL)
    if found != 1:
        raise SystemExit(f"{path}: needs the markers {BEGIN} and {END} once")
    path.write_text(fresh)
