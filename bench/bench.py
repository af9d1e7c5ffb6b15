#!/usr/bin/env python3
"""Measures PCCL's all-reduce against what the machine allows and against others, on this machine and over an emulated wide area.

  bench.py                      quick: a few minutes
  bench.py --full --gloo        all sizes and numbers of ranks; Gloo as well (installs torch into build/gloo-venv)
  bench.py --against OLD/build  another build's pccl-perf as well: old against new, interleaved
  bench.py --only lab --latency-only
  bench.py --full --write-docs  replaces the tables of docs/performance.md

The contestants take turns (A B C, C B A, ...), so that what else the machine does meets all alike; the result is the median of the rounds.
Prints tables, writes JSON (build/bench.json). Installs the Debian packages it needs, and shows that. The wide area needs root.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import tables  # noqa: E402
import wide_area  # noqa: E402
from contestants import Failed, Gloo, OpenMpi, Program  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent
KIB, MIB = 1 << 10, 1 << 20
DATA = 256 * MIB  # about what one measurement moves in all, so that small sizes get many iterations and large ones few


def iterations_of(size, full):
    return max(3, min(400, DATA // size // (1 if full else 4)))


def machine():
    cpuinfo = pathlib.Path("/proc/cpuinfo").read_text()
    model = next((line.split(":")[1].strip() for line in cpuinfo.splitlines() if line.startswith("model name")), platform.machine())
    return {"cpu": model, "cores": os.cpu_count(), "kernel": platform.release(), "load": f"{os.getloadavg()[0]:.1f}",
            "congestion": pathlib.Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()}


def commit():
    done = subprocess.run(["git", "-C", str(ROOT), "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def all_contestants(args):
    """What the machine allows first, then PCCL, then the others."""
    bin_folder = args.build / "bin"
    found = [Program("bare_ring", bin_folder / "bare_ring"), Program("PCCL", bin_folder / "pccl-perf")]
    for contestant in found:
        if not contestant.path.exists():
            raise SystemExit(f"{contestant.path} is not built; cmake --preset release -DPCCL_BUILD_BENCH=ON, and build")
    for folder in args.against:
        found.append(Program(f"PCCL of {folder}", folder / "bin" / "pccl-perf"))
    if not args.no_mpi:
        found.append(OpenMpi(args.build))
    if args.gloo:
        found.append(Gloo(args.build))
    return found


def progress(*words):
    print(*words, file=sys.stderr, flush=True)


def loopback(args, contestants):
    rows = []
    for ranks in args.ranks or ((2, 4, 8) if args.full else (2, 4)):
        for size in args.sizes or ([4 * KIB, MIB, 16 * MIB, 64 * MIB] + ([256 * MIB] if args.full else [])):
            times = {contestant.name: [] for contestant in contestants}
            for turn in range(args.rounds):
                for contestant in contestants if turn % 2 == 0 else reversed(contestants):
                    try:
                        times[contestant.name].append(contestant.time_us(ranks, size, iterations_of(size, args.full)))
                    except Failed as error:
                        progress(f"{contestant.name}: {error}")
            us = {name: statistics.median(values) if values else None for name, values in times.items()}
            progress(f"{ranks} ranks, {tables.size_name(size)}: " + ", ".join(f"{n} {tables.time_name(t)}" for n, t in us.items()))
            rows.append({"ranks": ranks, "size": size, "us": us, "rounds": times})
    return rows


def lab_row(args, kind, ranks, size, one_way_ms, rate, iterations, warm_up):
    with wide_area.netlab.Lab(ranks, delay=f"{one_way_ms}ms", rate=rate) as network:
        row = {"kind": kind, "ranks": ranks, "size": size, "round_trip_ms": 2 * one_way_ms, "rate": rate or "any"}
        row["rounds"] = [wide_area.pccl_us(network, args.build, size, iterations, warm_up) for _ in range(args.lab_rounds)]
        row["us"] = statistics.median(row["rounds"])
        if kind == "bandwidth":
            row["iperf3_gbits"] = wide_area.iperf3_gbits(network, 20 if args.full else 8)
    progress(f"lab, {ranks} hosts, {2 * one_way_ms} ms, {tables.size_name(size)}: {tables.time_name(row['us'])}")
    return row


def lab(args):
    cases = []
    if not args.latency_only:
        for ranks in args.ranks or ((2, 4) if args.full else (2,)):
            for size in args.sizes or ([64 * MIB, 256 * MIB] if args.full else [64 * MIB]):
                cases.append(("bandwidth", ranks, size, 25, "1gbit", 5 if size <= 64 * MIB else 3, 2))
    for one_way_ms in (25, 75):
        for ranks in args.ranks or ((2, 4, 8) if args.full else (2, 4)):
            cases.append(("latency", ranks, 4 * KIB, one_way_ms, None, 10, 2))
    rows = []
    for case in cases:
        try:
            rows.append(lab_row(args, *case))
        except (Failed, wide_area.netlab.LabError) as error:
            progress(f"lab, {case}: {error}")
    return rows


def parse():
    def size(text):
        scale = {"K": KIB, "M": MIB, "G": 1 << 30}.get(text[-1], 1)
        return int(text.rstrip("KMG")) * scale

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("--full", action="store_true", help="everything; about an hour")
    parser.add_argument("--only", choices=("loopback", "lab"))
    parser.add_argument("--gloo", action="store_true", help="Gloo as well")
    parser.add_argument("--no-mpi", action="store_true", help="without Open MPI")
    parser.add_argument("--against", type=pathlib.Path, action="append", default=[], metavar="BUILD", help="another build folder")
    parser.add_argument("--rounds", type=int, help="turns of each contestant (3; 5 with --full)")
    parser.add_argument("--lab-rounds", type=int, help="runs of each case over the wide area (1; 3 with --full)")
    parser.add_argument("--ranks", type=lambda text: [int(word) for word in text.split(",")], help="2,4,8")
    parser.add_argument("--sizes", type=lambda text: [size(word) for word in text.split(",")], help="4K,64M")
    parser.add_argument("--latency-only", action="store_true", help="of the wide area, the small sizes")
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--write-docs", action="store_true", help="replace the tables of docs/performance.md")
    args = parser.parse_args()
    args.build = args.build.resolve()
    args.rounds = args.rounds or (5 if args.full else 3)
    args.lab_rounds = args.lab_rounds or (3 if args.full else 1)
    args.json = args.json or args.build / "bench.json"
    return args


def main():
    args = parse()
    contestants = all_contestants(args)
    result = {"date": datetime.date.today().isoformat(), "commit": commit(), "mode": "full" if args.full else "quick",
              "rounds": args.rounds, "machine": machine(), "contestants": [contestant.name for contestant in contestants],
              "versions": " ".join(f"{c.name} {c.version}." for c in contestants if hasattr(c, "version")),
              "loopback": [], "wide_area": []}
    if args.only != "lab":
        result["loopback"] = loopback(args, contestants)
    if args.only != "loopback":
        os.environ.setdefault("NETLAB_FORWARDER", str(args.build / "bin" / "netlab-forwarder"))
        problem = wide_area.why_not()
        if problem:
            progress(f"no wide area: {problem}")
        else:
            result["wide_area"] = lab(args)
    for title, _, table in tables.sections(result):
        print(f"\n{title}\n{tables.as_text(table)}")
    args.json.write_text(json.dumps(result, indent=1) + "\n")
    if args.write_docs:
        tables.write_document(ROOT / "docs" / "performance.md", result)


if __name__ == "__main__":
    main()
