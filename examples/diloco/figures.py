"""Tables and plots of the measurements of experiments.py. Tables are written between the marks of docs/training/experiments.md, plots as SVG files next to it."""

import math
import re
import statistics

import plot

NAMES = {"ddp": "data-parallel", "diloco": "DiLoCo", "async": "async", "eager": "eager", "streaming": "streaming", "co2": "CO2",
         "one": "one process, all data", "alone": "one process, its shard alone"}  # fmt: skip
COLOURS = {"ddp": "#52606d", "diloco": "#0b6e4f", "async": "#1d4ed8", "eager": "#6d28d9", "streaming": "#c2410c", "co2": "#b91c1c"}


def mean(values):
    known = [v for v in values if v is not None]
    return statistics.fmean(known) if known else None


def percent(runs):
    """The mean, and the largest distance of a seed from it."""
    values = [100 * r["result"]["accuracy"] for r in runs]
    if not values:
        return "–"
    spread = max(abs(v - statistics.fmean(values)) for v in values)
    return f"{statistics.fmean(values):.1f} ± {spread:.1f}" if len(values) > 1 else f"{values[0]:.1f}"


class Runs:
    def __init__(self, runs):
        self.runs = runs

    def of(self, group, **conditions):
        """The runs of a group with these options. `peers` and `churn` are properties of the run."""
        out = []
        for run in self.runs:
            known = {**run["run"]["options"], "peers": run["run"]["peers"], "churn": run["run"]["churn"]}
            if run["run"]["group"] == group and all(known.get(key) == value for key, value in conditions.items()):
                out.append(run)
        return out

    def options(self, group, *keys):
        """The combinations of options that were run, in the order of the plan."""
        seen = {}
        for run in self.runs:
            if run["run"]["group"] == group:
                seen[tuple(run["run"]["options"].get(key) for key in keys)] = None
        return list(seen)


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "|".join("---" if i == 0 else "---:" for i in range(len(head))) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def methods(runs):
    rows = []
    for name in ("ddp", "diloco", "streaming", "async", "eager", "co2", "alone", "one"):
        cells = []
        for split in ("random", "sorted"):
            for peers in (4, 8):
                if name == "one":
                    found = runs.of("one", split="random") if split == "random" and peers == 4 else []
                elif name == "alone":
                    found = runs.of("alone", split=split, shard=f"1/{peers}")
                else:
                    found = runs.of("methods", method=name, split=split, peers=peers)
                cells.append(percent(found))
        sent = mean([r["result"]["sent_mb"] for r in runs.of("methods", method=name, split="random", peers=4)])
        rows.append([NAMES[name], *cells, f"{sent:.1f}" if sent else "0"])
    return table(["", "4 peers, random", "8 peers, random", "4 peers, sorted", "8 peers, sorted", "MB sent by a peer (4)"], rows)


def largest_stable_rate(nesterov, momentum, fresh):
    """The coefficients of the cubic for outer steps on a quadratic. `fresh` is the share of an average that is not a round late."""

    def stable(rate):
        stale, a2, a1, a0 = 1 - fresh, -(1 + momentum), momentum, 0.0
        if nesterov:
            a2 += rate * fresh * (1 + momentum)
            a1 += rate * (stale * (1 + momentum) - fresh * momentum)
            a0 -= rate * stale * momentum
        else:
            a2 += rate * fresh
            a1 += rate * stale
        return abs(a0) < 1 and abs(a0 + a2) < 1 + a1 and abs(a1 - a0 * a2) < 1 - a0 * a0

    low, high = 0.0, 8.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if stable(middle) else (low, middle)
    return low


def stability(runs):
    rows = []
    order = {"diloco": 0, "async": 1, "eager": 2}
    found = runs.options("stability", "method", "outer", "outer-rate", "momentum")
    for method, outer, rate, momentum in sorted(found, key=lambda o: (order[o[0]], o[3], o[2])):
        bound = largest_stable_rate(outer == "nesterov", momentum, {"diloco": 1.0, "async": 0.0, "eager": 0.25}[method])
        same = {"method": method, "outer": outer, "outer-rate": rate, "momentum": momentum}
        cells = [percent(runs.of("stability", split=split, **same)) for split in ("random", "sorted")]
        losses = [r["result"]["loss"] for r in runs.of("stability", split="random", **same)]
        loss = f"{statistics.fmean(losses):.2f}" if None not in losses else "not a number"
        rows.append([NAMES[method], outer, f"{rate:g}", f"{momentum:g}", f"{bound:.3f}", "exceeded" if rate > bound + 1e-6 else "", loss, *cells])
    return table(["", "outer", "rate", "momentum", "bound", "", "training loss", "random", "sorted"], rows)


def rounds(runs):
    rows = []
    for (inner,) in sorted(runs.options("rounds", "inner")):
        cells = [percent(runs.of("rounds", inner=inner, split=split)) for split in ("random", "sorted")]
        rows.append([f"{inner}", *cells, f"{mean(r['result']['sent_mb'] for r in runs.of('rounds', inner=inner)):.1f}"])
    return table(["steps in a round", "random", "sorted", "MB sent by a peer"], rows)


def co2(runs):
    rows = []
    for penalty, clip in runs.options("co2", "penalty", "clip"):
        cells = [percent(runs.of("co2", penalty=penalty, clip=clip, momentum=m)) for m in (0.2, 0.5, 0.8)]
        rows.append([{"none": "none", "gap": "gap-aware"}.get(penalty, f"constant {penalty}"), f"{clip:g}" if clip else "none", *cells])
    return table(["penalty", "clip", "momentum 0.2", "0.5", "0.8"], sorted(rows))


def compression(runs):
    rows = []
    for quantize, feedback in (("none", None), ("u8", None), ("u8", True), ("i8-block", None), ("i8-block", True), ("i4-block", None),
                               ("i4-block", True)):  # fmt: skip
        found = {s: runs.of("compression", quantize=quantize, split=s, **{"error-feedback": feedback}) for s in ("random", "sorted")}
        sent = mean([r["result"]["sent_mb"] for r in found["random"]])
        rows.append([quantize, "yes" if feedback else "no", percent(found["random"]), percent(found["sorted"]), f"{sent:.2f}" if sent else "–"])
    return table(["", "error feedback", "random", "sorted", "MB sent by a peer"], rows)


def churn(runs):
    rows = []
    for method, newcomers in runs.options("churn", "method", "newcomers"):
        same = {"method": method, "newcomers": newcomers}
        still = runs.of("churn", churn=0, method=method)
        moved = runs.of("churn", churn=10, **same)
        if moved:
            rows.append([NAMES[method] + (f", {newcomers}" if newcomers else ""), percent(still), percent(moved),
                         f"{mean([mean(r['result']['worlds']) for r in moved]):.2f}"])  # fmt: skip
    return table(["", "no churn", "one lost and one gained every tenth round", "peers in a round, mean"], sorted(rows))


def hidden(run):
    """The share of communication during which the caller did not wait."""
    r = run["result"]
    return 1 - r["waited_s"] / r["under_way_s"] if r["under_way_s"] else 0.0


def overlap(runs):
    rows = []
    for method in ("async", "eager", "co2", "streaming"):
        for run in sorted(runs.of("overlap", method=method), key=lambda r: int(r["run"]["options"]["step-time"][:-2])):
            r = run["result"]
            rows.append([NAMES[method], run["run"]["options"]["step-time"], f"{1000 * r['computed_s']:.0f}", f"{1000 * r['under_way_s']:.0f}", f"{1000 * r['waited_s']:.1f}",
                         f"{100 * max(0.0, hidden(run)):.1f} %"])  # fmt: skip
    return table(["", "a step", "computed, ms a round", "averages in flight", "waited", "hidden"], rows)


def reaches(run, accuracy):
    return next((point[2] for point in run["result"]["curve"] if point[3] >= accuracy), None)


def time(runs):
    rows = []
    for method in ("ddp", "diloco", "streaming", "async", "eager", "co2"):
        cells = []
        for peers in (4, 8):
            found = runs.of("time", method=method, peers=peers)
            if not found:
                cells += ["–"] * 3
                continue
            at = reaches(found[0], 0.8)
            cells += [f"{found[0]['result']['time_s']:.1f}", f"{at:.1f}" if at else "never", f"{100 * found[0]['result']['accuracy']:.1f}"]
        rows.append([NAMES[method], *cells])
    return table(["", "4 peers: 40 rounds, s", "80 % after, s", "%", "8 peers: 40 rounds, s", "80 % after, s", "%"], rows)


# ------------------------------------------------------------------------------------------------------------ gossip --

GRAPHS = {"ring": "ring", "random": "random regular, 4", "exponential": "exponential", "barabasi-albert": "Barabási–Albert, 2"}
LIMIT = 50  # rounds of a run


def rounds_to(run, accuracy):
    """The first tested round after which the peers' models have that accuracy, averaged over the peers."""
    r = run["result"]
    tests = r.get("tests") or [[point[0], point[3]] for point in r["curve"]]
    return next((step for step, reached in tests if reached >= accuracy), None)


def reached(runs):
    """Rounds to 80 %: the mean over the seeds and their largest distance from it, or the number of seeds that never reached it."""
    values = [rounds_to(r, 0.8) for r in runs]
    never = values.count(None)
    if not values or never == len(values):
        return "never" if values else "–"
    if never:
        return f"{never} of {len(values)} never"
    middle = statistics.fmean(values)
    return f"{middle:.0f} ± {max(abs(v - middle) for v in values):.0f}"


def of_gossip(runs):
    """Every measured way of mixing: its name in tables, and the options that select it."""
    yield "federated averaging", {"method": "diloco"}
    for variance, words in (("of-received", "variance restored"), ("none", "plain average")):
        for graph, name in GRAPHS.items():
            yield f"gossip, {words}, {name}", {"method": "gossip", "variance": variance, "graph": graph}
    yield "push-sum, exponential", {"method": "pushsum"}


def gossip(runs):
    rows = []
    for words, same in of_gossip(runs):
        cells = []
        for start, layers in ((True, None), (None, None), (True, 4)):
            if same["method"] == "diloco":
                start = None  # all peers begin with one model
            found = runs.of("gossip", split="random", layers=layers, **{"own-start": start}, **same)
            cells += [reached(found), percent(found)]
        sent = mean([r["result"]["sent_mb"] for r in runs.of("gossip", split="random", layers=None, **same)])
        rows.append([words, *cells, f"{sent:.1f}" if sent else "–"])
    return table(["", "own initial models: rounds to 80 %", "at the end, %", "one initial model: rounds to 80 %", "%", "own initial models, 4 hidden layers: rounds to 80 %", "%",
                  "MB sent by a peer (1 hidden layer)"], rows)  # fmt: skip


def gossip_sorted(runs):
    rows = []
    for words, same in of_gossip(runs):
        found = runs.of("gossip", split="sorted", **same)
        if found:
            together = mean([r["result"].get("mean_accuracy") for r in found])
            rows.append([words, percent(found), f"{100 * together:.1f}" if together else "–"])
    return table(["8 peers, sorted", "a peer's model, %", "the mean of all, %"], rows)


def distances(runs):
    at = (0, 5, 10, 20, 30, 40, LIMIT)
    rows = []
    for words, same in of_gossip(runs):
        found = runs.of("gossip", split="random", layers=None, **{"own-start": True}, **same)
        known = [dict([*r["result"]["distances"], [LIMIT, r["result"]["distance"]]]) for r in found]
        if known:
            rows.append([words, *(f"{mean([k.get(step) for k in known]):.2g}" for step in at)])
    return table(["", *(f"after {step}" for step in at)], rows)


def losses(runs):
    rows = []
    for who, words in (("none", "no peer"), ("leaves", "the two peers with the fewest neighbours"), ("hubs", "the two peers with the most neighbours")):
        found = [r for r in runs.of("losses") if r["run"]["lose"] == who]
        survivors = [[t["models"] for t in r["result"]["merged"] if not t["killed"]] for r in found]
        short = [[sum(models < 2 for models in peer[LIMIT // 2 :]) for peer in peers] for peers in survivors]
        rows.append([words, percent(found), f"{mean([sum(n > 0 for n in peers) for peers in short]):.1f} of {len(short[0])}" if short else "–",
                     f"{mean([sum(peers) for peers in short]):.1f}" if short else "–"])  # fmt: skip
    return table(["lost after half of the rounds", "survivors at the end, %", "survivors with a round of fewer than 2 models", "such rounds of all survivors"], rows)


def graph_losses(rows):
    """`rows` is the output of pccl-graph-losses."""

    def shown(value):
        return "–" if value is None else f"{value:.0f}"

    words = {"peers: leaves": "{} of the peers, with the fewest neighbours", "peers: any": "{}, random", "peers: hubs": "{}, with the most neighbours",
             "links: those of the hubs": "only the links of these {}", "links: any, as many": "the same number of random links"}  # fmt: skip
    keys = ("cut_links", "short_of", "cut_off", "mended_cut_off", "mended_too_few", "new_links")
    ordered = sorted(rows, key=lambda r: (r["percent"], list(words).index(r["loss"])))
    cells = [[words[r["loss"]].format(f"{r['percent']:g} %"), *(shown(r[key]) for key in keys)] for r in ordered]
    return table(["lost", "lost links", "lack messages", "cut off", "repaired: cut off", "repaired: too few neighbours", "new links"], cells)


# ------------------------------------------------------------------------------------------------------------- plots --


class Chart:
    """Panels in a row, each with curves of accuracy over a logarithmic axis."""

    NAMES, COLOURS, WORDS = NAMES, COLOURS, "test accuracy in %"
    WIDTH, HEIGHT, TOP, LEFT, BOTTOM, GAP = 960, 400, 66, 60, 66, 40

    def __init__(self, title, across, panels):
        self.title = title
        self.across = across
        self.panels = panels  # (words, {method: [(x, accuracy)]})

    def render(self):
        width = (self.WIDTH - self.LEFT - 20 - self.GAP * (len(self.panels) - 1)) / len(self.panels)
        points = [p for _, curves in self.panels for curve in curves.values() for p in curve if p[0] > 0]
        parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{self.WIDTH}" height="{self.HEIGHT}" '
                 f'viewBox="0 0 {self.WIDTH} {self.HEIGHT}" {plot.FONT}>', f"<title>{self.title}</title>",
                 f'<rect width="{self.WIDTH}" height="{self.HEIGHT}" fill="#ffffff"/>',
                 plot.text(self.LEFT, 28, self.title, 16, weight="600")]  # fmt: skip
        if points:
            low, high = math.log10(min(p[0] for p in points)), math.log10(max(p[0] for p in points))
            for i, (words, curves) in enumerate(self.panels):
                parts += self.panel(self.LEFT + i * (width + self.GAP), width, words, curves, low, max(high, low + 0.1))
        parts += self.legend()
        return "\n".join([*parts, "</svg>"]) + "\n"

    def ticks(self):
        """The ticks of the vertical axis: values and their positions, from 0 at the bottom to 1 at the top."""
        return [(f"{tick}", self.up(tick / 100)) for tick in range(20, 91, 10)]

    def up(self, accuracy):
        return (max(100 * accuracy, 20) - 20) / 70

    def panel(self, left, width, words, curves, low, high):
        bottom = self.HEIGHT - self.BOTTOM

        def x(value):
            return left + width * (math.log10(max(value, 10**low)) - low) / (high - low)

        def y(part):
            return bottom - (bottom - self.TOP) * part

        parts = [f'<rect x="{left:.1f}" y="{self.TOP}" width="{width:.1f}" height="{bottom - self.TOP}" fill="#fafbfc"/>',
                 plot.text(left, self.TOP - 10, words, 13, weight="600")]  # fmt: skip
        for tick, part in self.ticks():
            parts += [plot.line(left, y(part), left + width, y(part), plot.GRID), plot.text(left - 7, y(part) + 4, tick, 11, plot.SOFT, "end")]
        for power in range(math.floor(low), math.ceil(high) + 1):
            for step in (1, 2, 5):
                value = step * 10**power
                if 0.999 * 10**low <= value <= 1.001 * 10**high:
                    parts += [plot.line(x(value), bottom, x(value), bottom + 4, plot.SOFT),
                              plot.text(x(value), bottom + 18, f"{value:g}", 11, plot.SOFT, "middle")]  # fmt: skip
        for method, curve in curves.items():
            path = " ".join(f"{x(at):.1f},{y(self.up(value)):.1f}" for at, value in curve)
            parts.append(f'<polyline points="{path}" fill="none" stroke="{self.COLOURS[method]}" stroke-width="2" stroke-linejoin="round"/>')
        return parts

    def legend(self):
        parts = [plot.text(self.LEFT, self.HEIGHT - 14, f"{self.WORDS}, by {self.across}", 12.5, plot.SOFT)]
        at = self.WIDTH - 20.0
        for method in reversed(self.COLOURS):
            at -= 7.2 * len(self.NAMES[method])
            parts += [plot.text(at, self.HEIGHT - 14, self.NAMES[method], 12.5),
                      plot.line(at - 24, self.HEIGHT - 18, at - 6, self.HEIGHT - 18, self.COLOURS[method], 2.4)]  # fmt: skip
            at -= 36
        return parts


class GossipChart(Chart):
    NAMES = {"averaging": "federated averaging", "restored": "variance restored", "plain": "plain average", "pushsum": "push-sum"}
    COLOURS = {"averaging": "#52606d", "restored": "#0b6e4f", "plain": "#c2410c", "pushsum": "#1d4ed8"}


class DistanceChart(GossipChart):
    """A chart of distances instead of accuracies, over four decades."""

    WORDS = "distance of models from their mean"
    COLOURS = {way: colour for way, colour in GossipChart.COLOURS.items() if way != "averaging"}

    def ticks(self):
        return [(f"{10.0 ** power:g}", self.up(10.0**power)) for power in range(-3, 2)]

    def up(self, distance):
        return (math.log10(max(distance, 1e-3)) + 3) / 4


def gossip_curves(runs, values, **conditions):
    """Curves by way of mixing, on random regular graphs: the mean over seeds of `values(run)`."""
    ways = {"averaging": {"method": "diloco", "own-start": None}, "restored": {"method": "gossip", "graph": "random", "variance": "of-received"},
            "plain": {"method": "gossip", "graph": "random", "variance": "none"}, "pushsum": {"method": "pushsum"}}  # fmt: skip
    out = {}
    for way, same in ways.items():
        found = [values(r["result"]) for r in runs.of("gossip", split="random", **{**conditions, **same})]
        if found and found[0]:
            out[way] = [(points[0][0], mean([p[1] for p in points])) for points in zip(*found)]
    return out


def curves(runs, group, column, **conditions):
    """Curves by method: the means over seeds of the sent bytes (column 1) or the time (column 2), and of the accuracy."""
    out = {}
    for method in COLOURS:
        found = [r["result"]["curve"] for r in runs.of(group, method=method, **conditions)]
        if found:
            out[method] = [(mean(p[column] for p in points), mean(p[3] for p in points)) for points in zip(*found)]
    return out


def charts(runs):
    yield "training-volume.svg", Chart("Accuracy by megabytes sent, 4 peers", "megabytes sent by each peer", [
        (f"shards {words}", curves(runs, "methods", 1, split=split, peers=4)) for split, words in (("random", "at random"), ("sorted", "sorted by label"))
    ])  # fmt: skip
    yield "training-time.svg", Chart("Accuracy by time: steps of 10 ms, 100 Mbit/s and 50 ms between peers", "seconds", [
        (f"{peers} peers", curves(runs, "time", 2, peers=peers)) for peers in (4, 8)
    ])  # fmt: skip


    def tests(result):
        return result.get("tests") or [[point[0], point[3]] for point in result["curve"]]

    own = {"own-start": True}
    yield "training-gossip.svg", GossipChart("Accuracy by rounds, 8 peers with their own initial models", "rounds of 10 steps", [
        ("one hidden layer", gossip_curves(runs, tests, layers=None, **own)), ("four", gossip_curves(runs, tests, layers=4, **own))
    ])  # fmt: skip
    yield "training-distance.svg", DistanceChart("Distance between models, 8 peers", "rounds of 10 steps", [
        (words, gossip_curves(runs, lambda r: [point for point in r.get("distances", []) if point[0]], layers=None, **{"own-start": start}))
        for words, start in (("own initial models", True), ("one initial model", None))
    ])  # fmt: skip


TABLES = {"methods": (methods,), "rounds": (rounds,), "stability": (stability,), "co2": (co2,), "compression": (compression,), "churn": (churn,), "time": (time,),
          "overlap": (overlap,), "gossip": (gossip, gossip_sorted, distances), "losses": (losses,)}  # fmt: skip


def write(runs, graphs, docs):
    """`runs` and `graphs` have the form of docs/training/training.json."""
    known = Runs(runs)
    for name, chart in charts(known):
        (docs / name).write_text(chart.render())
    page = docs / "experiments.md"
    if not page.exists():
        return
    text = page.read_text()
    tables = {}
    for group, makes in TABLES.items():
        tables |= {make.__name__: make(known) for make in makes if known.of(group)}
    if graphs:
        tables["graph_losses"] = graph_losses(graphs)
    for name, made in tables.items():
        mark = re.compile(rf"(<!-- measured: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        text = mark.sub(lambda m, made=made: m[1] + made + "\n" + m[2], text)
    page.write_text(text)
