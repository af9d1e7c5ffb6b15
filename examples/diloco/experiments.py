#!/usr/bin/env python3
"""Trains with every method under many conditions, and writes the results into docs/: tables, plots, and the numbers as JSON.

The runs use real processes on Fashion-MNIST: a pccl-master and 4 or 8 `diloco`. The measurements are stored in docs/training/training.json.
Runs in that file are not repeated (--again discards those of the chosen groups). Timed runs use emulated paths (tests/netlab) and need root.
Needs only Python's standard library.
"""

import argparse
import concurrent.futures
import gzip
import itertools
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import figures
from fleet import Fleet

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "netlab"))
SEEDS = (1, 2, 3)
MODEL = {"hidden": 64, "batch": 32, "rate": 1e-3, "inner": 25, "steps": 40}
METHODS = ("ddp", "diloco", "async", "eager", "streaming", "co2")
EVEN = {"pattern": "even"}  # fragments of equal size, although the model has one large tensor and three small ones
GRAPHS = {"ring": {}, "random": {"degree": 4}, "exponential": {}, "barabasi-albert": {"degree": 2}}
GOSSIP = {"inner": 10, "steps": 50, "test-images": 1000}  # short rounds, because models are mixed often and all peers test them
PATH = {"delay": "25ms", "rate": "100mbit"}  # one way


def settings(method, **more):
    return {"method": method, **(EVEN if method == "streaming" else {}), **more}


def run(group, peers, options, seed=1, split="random", path=None, churn=0, **more):
    options = {**MODEL, **options, "seed": seed, "split": split}
    return {"group": group, "peers": peers, "options": options, "path": path, "churn": churn, **more}


def of_methods():
    """All methods, one process with all the data, and one process with its shard only."""
    for split, seed in itertools.product(("random", "sorted"), SEEDS):
        for peers in (4, 8):
            for method in METHODS:
                yield run("methods", peers, settings(method), seed, split)
            yield run("alone", 1, {**settings("local"), "shard": f"1/{peers}"}, seed, split)
    for seed in SEEDS:
        yield run("one", 1, settings("local"), seed)


def of_stability():
    """Outer learning rate and momentum, for averages without delay, a round late, and a round late with the peer's own share without delay."""
    nesterov = [("diloco", 0.7, 0.9), ("async", 0.7, 0.9), ("async", 0.4, 0.9), ("async", 0.15, 0.9), ("eager", 0.7, 0.9), ("eager", 0.4, 0.9),
                ("eager", 0.25, 0.9), ("diloco", 0.4, 0.9)]
    sgd = [("diloco", 1.0, 0.0), ("async", 0.7, 0.0), ("async", 1.0, 0.0), ("async", 1.5, 0.0), ("eager", 0.7, 0.0), ("eager", 1.0, 0.0)]
    for split, seed, (method, rate, momentum) in itertools.product(("random", "sorted"), SEEDS, nesterov + sgd):
        outer = "nesterov" if momentum else "sgd"
        yield run("stability", 4, settings(method, outer=outer, momentum=momentum, **{"outer-rate": rate}), seed, split)


def of_rounds():
    """DiLoCo with the same total number of steps in more or fewer rounds."""
    for split, seed, inner in itertools.product(("random", "sorted"), SEEDS, (5, 10, 25, 50, 100)):
        yield run("rounds", 4, settings("diloco", inner=inner, steps=1000 // inner), seed, split)


def of_co2():
    for seed, momentum, (penalty, clip) in itertools.product(
        SEEDS, (0.2, 0.5, 0.8), (("none", 0), ("2", 0), ("gap", 0), ("none", 0.02), ("gap", 0.02), ("none", 0.005), ("gap", 0.005))
    ):
        yield run("co2", 4, settings("co2", penalty=penalty, clip=clip, momentum=momentum), seed)


def of_compression():
    for seed, split in itertools.product(SEEDS, ("random", "sorted")):
        for quantize, feedback in itertools.product(("none", "u8", "i8-block", "i4-block"), (False, True)):
            if quantize != "none" or not feedback:
                more = {"error-feedback": True} if feedback else {}
                yield run("compression", 4, settings("diloco", quantize=quantize, **more), seed, split)


def of_churn():
    """One peer is lost and one joins every tenth round. Steps are slowed down so that a newcomer joins within one or two rounds."""
    slow = {"step-time": "8ms"}
    variants = [("diloco", {}), ("async", {"newcomers": "drain"}), ("async", {"newcomers": "share"}), ("async", {"newcomers": "resync"}),
                ("eager", {}), ("streaming", {}), ("co2", {})]  # fmt: skip
    for seed, churn, (method, more) in itertools.product(SEEDS, (0, 10), variants):
        if churn or more.get("newcomers", "drain") == "drain":
            yield run("churn", 4, settings(method, **slow, **more), seed, churn=churn)


def of_time():
    """Steps of 10 ms, on a path of 100 Mbit/s with a round trip of 50 ms between any two peers."""
    for peers, method in itertools.product((4, 8), METHODS):
        yield run("time", peers, settings(method, **{"step-time": "10ms"}), path=PATH)


def of_overlap():
    """The share of hidden communication, by the duration of a round's steps."""
    size = {"hidden": 256, "inner": 10, "steps": 16, "test-images": 100}
    for step_ms, (method, more) in itertools.product(
        (10, 20, 30, 40, 60, 120), (("async", {}), ("eager", {}), ("co2", {}), ("streaming", {"overlap": 5}))
    ):
        yield run("overlap", 4, {**settings(method, **more), **size, "step-time": f"{step_ms}ms"}, path=PATH)


def gossip(method, **more):
    """Synchronous rounds, so that they can be counted and models compared."""
    return settings(method, **GOSSIP, **{"merge": "synchronous", "distance-every": 5}, **more)


def of_gossip():
    """Gossip and federated averaging, which is DiLoCo with an outer step that takes the average unchanged."""
    averaging = {"method": "diloco", "outer": "sgd", "outer-rate": 1, "momentum": 0, **GOSSIP}
    own = {"own-start": True}
    for seed in SEEDS:
        for start, variance, (graph, more) in itertools.product((own, {}), ("of-received", "none"), GRAPHS.items()):
            yield run("gossip", 8, gossip("gossip", graph=graph, variance=variance, **more, **start), seed)
        for variance, graph in itertools.product(("of-received", "none"), ("ring", "random")):
            yield run("gossip", 8, gossip("gossip", graph=graph, variance=variance, layers=4, **GRAPHS[graph], **own), seed)
        for variance in ("of-received", "none"):
            yield run("gossip", 8, gossip("gossip", graph="random", variance=variance, **GRAPHS["random"]), seed, "sorted")
        for start, layers in ((own, {}), ({}, {}), (own, {"layers": 4})):
            yield run("gossip", 8, gossip("pushsum", graph="exponential", **start, **layers), seed)
        yield run("gossip", 8, gossip("pushsum", graph="exponential"), seed, "sorted")
        for split, layers in (("random", {}), ("random", {"layers": 4}), ("sorted", {})):
            yield run("gossip", 8, {**averaging, **layers}, seed, split)


def of_losses():
    """Two of eight peers are lost at the same time: those with the most neighbours, those with the fewest, or none."""
    for seed, who in itertools.product(SEEDS, ("none", "leaves", "hubs")):
        yield run("losses", 8, gossip("gossip", graph="barabasi-albert", degree=2, **{"graph-seed": seed}), seed, lose=who)


GROUPS = {"methods": of_methods, "stability": of_stability, "rounds": of_rounds, "co2": of_co2, "compression": of_compression, "churn": of_churn, "time": of_time,
          "overlap": of_overlap, "gossip": of_gossip, "losses": of_losses}  # fmt: skip


def unpack(data, folder):
    """Unpacks the data once instead of in every process. `diloco` reads plain files under the same names."""
    for path in sorted(pathlib.Path(data).glob("*-ubyte.gz")):
        with gzip.open(path) as packed, open(folder / path.name, "wb") as plain:
            shutil.copyfileobj(packed, plain)


def graph_losses(build):
    """Losses that cannot be produced with processes, computed over the library's graphs."""
    out = subprocess.run([build / "bin" / "pccl-graph-losses"], capture_output=True, text=True, check=True).stdout
    return [json.loads(line) for line in out.splitlines()]


def trouble(fleet, spec):
    """At this interval of rounds, kills one trainer and starts another in its place. The first trainer is never killed, because it tests."""
    peers, every = spec["peers"], spec["churn"]
    for at in range(every, spec["options"]["steps"] - 4, every):
        fleet.trainers[0].wait_for_round(at)
        victim = fleet.living()[1]
        victim.kill()
        fleet.start(victim.shard, **{"test-every": 0, "min-peers": peers - 1})
        fleet.trainers[-1].shard = victim.shard


def lose(fleet, who):
    """Kills two trainers in the middle of the run. A peer with synchronous rounds merges one model per neighbour."""
    at = GOSSIP["steps"] // 2
    for trainer in fleet.trainers:
        trainer.wait_for_round(at)
    if who != "none":
        by_neighbours = sorted(fleet.trainers, key=lambda t: max(r["world"] for r in t.rounds), reverse=who == "hubs")
        for trainer in by_neighbours[:2]:
            trainer.kill()


def one_run(spec, build, data, folder):
    """A summary of the reports of one run's trainers."""
    from lab import Lab  # tests/netlab

    peers = spec["peers"]
    options = {"data": data, **spec["options"]}
    options.setdefault("min-peers", peers - 1 if spec["churn"] else peers)
    shards = [options.pop("shard")] if "shard" in options else [f"{i + 1}/{peers}" for i in range(peers)]
    lab = Lab(hosts=peers + 1, **spec["path"]) if spec["path"] else None
    if lab:
        lab.__enter__()
    try:
        with Fleet(build, options, folder, lab) as fleet:
            for i, shard in enumerate(shards):
                fleet.start(shard, **{"test-every": 0 if i and not models_differ(spec) else 2}).shard = shard
            if spec["churn"]:
                trouble(fleet, spec)
            if "lose" in spec:
                lose(fleet, spec["lose"])
            fleet.finish(600)
            return {**summary(fleet), **(of_peers(fleet) if models_differ(spec) else {}), **(merged(fleet) if "lose" in spec else {})}
    finally:
        if lab:
            lab.close()
        shutil.rmtree(folder, ignore_errors=True)


def summary(fleet):
    first = fleet.living()[0]
    sent, curve = 0, []
    for r in first.rounds:
        sent += r["tx_bytes"]
        if r["accuracy"] is not None:
            curve.append([r["step"], round(sent / 1e6, 4), round(r["time_s"], 3), round(r["accuracy"], 4)])
    steady = [r for t in fleet.living() for r in t.rounds if 3 <= r["step"] < t.rounds[-1]["step"]]
    total = {key: sum(r[key] for r in steady) for key in ("comm_s", "under_way_s", "compute_s")}
    lost = [r["loss"] for r in first.rounds if r["loss"] is not None]
    return {
        "accuracy": first.done["accuracy"],
        "loss": round(lost[-1], 4) if lost and first.rounds[-1]["loss"] is not None else None,
        "sent_mb": round(sent / 1e6, 3),
        "time_s": round(first.rounds[-1]["time_s"], 2),
        "worlds": [r["world"] for r in first.rounds],
        "waited_s": round(total["comm_s"] / max(1, len(steady)), 5),
        "under_way_s": round(total["under_way_s"] / max(1, len(steady)), 5),
        "computed_s": round(total["compute_s"] / max(1, len(steady)), 5),
        "curve": curve,
    }


def models_differ(spec):
    return spec["options"]["method"] in ("gossip", "pushsum")


def of_peers(fleet):
    """The results of methods in which each peer has its own model: means over the peers that finished, and the mean of their models."""
    living = fleet.living()
    done = living[0].done
    tested = {}
    for r in (r for t in living for r in t.rounds if r["accuracy"] is not None):
        tested.setdefault(r["step"], []).append(r["accuracy"])
    spread = [[r["step"] - 1, r["distance"]] for r in living[0].rounds if r["distance"] is not None]
    return {
        "accuracy": round(statistics.fmean(t.done["accuracy"] for t in living), 4),
        "accuracies": sorted(t.done["accuracy"] for t in living),
        "mean_accuracy": done["mean_accuracy"],
        "distance": done["distance"],
        "distances": spread,
        "tests": [[step, round(statistics.fmean(values), 4)] for step, values in sorted(tested.items())],
    }


def merged(fleet):
    """The number of models that each peer has merged in each of its rounds."""
    return {"merged": [{"killed": t.killed, "models": [r["world"] - 1 for r in t.rounds]} for t in fleet.trainers]}


class Results:
    """The measurements so far, in a file that is complete after every run."""

    def __init__(self, path):
        self.path = path
        self.lock = threading.Lock()
        known = json.loads(path.read_text()) if path.exists() else {}
        self.runs = {self.key(r["run"]): r for r in known.get("runs", [])}
        self.graphs = known.get("graphs", [])

    @staticmethod
    def key(spec):
        return json.dumps(spec, sort_keys=True)

    def forget(self, specs):
        for spec in specs:
            self.runs.pop(self.key(spec), None)

    def add(self, spec, result):
        with self.lock:
            self.runs[self.key(spec)] = {"run": spec, "result": result}
            self.write()

    def write(self):
        rows = ",\n".join(json.dumps(self.runs[key], sort_keys=True) for key in sorted(self.runs))
        graphs = ",\n".join(json.dumps(row, sort_keys=True) for row in self.graphs)
        part = self.path.with_suffix(".part")
        part.write_text('{"runs": [\n' + rows + '\n],\n"graphs": [\n' + graphs + "\n]}\n")
        part.replace(self.path)


def carry_out(specs, results, arguments):
    """Runs several experiments at a time. A single one would leave two cores idle while its peers wait for each other."""
    todo = [spec for spec in specs if Results.key(spec) not in results.runs]
    print(f"{len(specs)} runs, {len(specs) - len(todo)} of them known", flush=True)
    started, done, failures = time.monotonic(), 0, []
    with tempfile.TemporaryDirectory(prefix="pccl-experiments-") as scratch:
        data = pathlib.Path(scratch) / "data"
        data.mkdir()
        unpack(arguments.data, data)

        def job(number, spec):
            return one_run(spec, arguments.build, data, pathlib.Path(scratch) / str(number))

        with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
            jobs = {pool.submit(job, i, spec): spec for i, spec in enumerate(todo)}
            for future in concurrent.futures.as_completed(jobs):
                spec, done = jobs[future], done + 1
                left = (time.monotonic() - started) / done * (len(todo) - done)
                words = " ".join(f"{k}={v}" for k, v in spec["options"].items() if MODEL.get(k) != v)
                try:
                    result = future.result()
                    results.add(spec, result)
                    said = f"{100 * result['accuracy']:.2f} %"
                except (RuntimeError, OSError) as error:
                    failures.append(spec)
                    said = f"failed: {error}"
                print(f"[{done}/{len(todo)}, {left / 60:.1f} min left] {spec['group']}: {spec['peers']} peers, {words}: {said}", flush=True)
    return failures


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build", help="build directory (default: %(default)s)")
    parser.add_argument("--data", default="/usr/share/datasets/fashion-mnist", help="folder with Fashion-MNIST (default: %(default)s)")
    parser.add_argument("--docs", type=pathlib.Path, default=ROOT / "docs" / "training", help="folder for the results (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="runs at the same time (default: %(default)s)")
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=list(GROUPS), help="run only these groups (default: all)")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="number of seeds (default: %(default)s)")
    parser.add_argument("--again", action="store_true", help="discard earlier measurements of these groups; without it an interrupted series continues")
    parser.add_argument("--draw", action="store_true", help="measure nothing; write tables and plots of the stored measurements")
    arguments = parser.parse_args()
    os.environ.setdefault("NETLAB_FORWARDER", str(arguments.build.resolve() / "bin" / "netlab-forwarder"))
    specs = [s for group in arguments.only for s in GROUPS[group]() if s["options"]["seed"] <= arguments.seeds]
    timed = [s for s in specs if s["path"]]
    if timed and not arguments.draw:
        import lab  # tests/netlab

        if problem := lab.why_not():
            print(f"timed runs are skipped: {problem}")
            specs, timed = [s for s in specs if not s["path"]], []
    results = Results(arguments.docs / "training.json")
    if arguments.again and not arguments.draw:
        results.forget(specs)
    failures = []
    if not arguments.draw:
        if "losses" in arguments.only:
            results.graphs = graph_losses(arguments.build)
        failures = carry_out([s for s in specs if not s["path"]], results, arguments)
        failures += carry_out(timed, results, arguments)
    figures.write(list(results.runs.values()), results.graphs, arguments.docs)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
