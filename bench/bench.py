#!/usr/bin/env python3
"""Compares PCCL's all-reduce with the limit of the machine and with other libraries, on this machine and over an emulated wide area, and
reports which bars are met.

  bench.py                      quick: every regime with fewer and smaller cases; about four minutes
  bench.py --full --gloo        every case, and Gloo (installs torch into build/gloo-venv); about 25 minutes
  bench.py --list               lists the regimes
  bench.py --only latency,wan   runs these regimes only
  bench.py --against OLD/build  compares with another build, in turns (sizes, large, wan, wan-fast)
  bench.py --full --gloo --write-docs        replaces the tables and plots of docs/internals/performance.md
  bench.py --from build/bench.json --write-docs  as above, with results saved by one or several runs

The contestants take turns (A B C, C B A, ...), so that other load on the machine affects all of them equally. The result is the median of
the rounds. Prints tables and writes JSON (build/bench.json). A missed bar is reported and is not a failure. Installs the packages that it
needs and prints the commands. The wide area needs root.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import regimes  # noqa: E402
import tables  # noqa: E402
import wide_area  # noqa: E402
from contestants import Failed, all_contestants  # noqa: E402
from measuring import Context, progress  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "internals" / "performance.md"


def machine():
    cpuinfo = pathlib.Path("/proc/cpuinfo").read_text()
    model = next((line.split(":")[1].strip() for line in cpuinfo.splitlines() if line.startswith("model name")), platform.machine())
    return {"cpu": model, "cores": os.cpu_count(), "kernel": platform.release(), "load": f"{os.getloadavg()[0]:.1f}",
            "congestion": pathlib.Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()}


def commit():
    done = subprocess.run(["git", "-C", str(ROOT), "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def measure(args):
    """Measures the chosen regimes and returns plain data."""
    chosen = regimes.named(args.only) if args.only else regimes.ALL
    if any(regime.over_lab for regime in chosen):
        os.environ.setdefault("NETLAB_FORWARDER", str(args.build / "bin" / "netlab-forwarder"))
        if problem := wide_area.why_not():
            progress(f"the regimes of the wide area are skipped: {problem}")
            chosen = [regime for regime in chosen if not regime.over_lab]
    contestants = all_contestants(args.build, args.against, not args.no_mpi, args.gloo)
    context = Context(args.build, contestants, args.full, args.rounds, args.lab_rounds, args.ranks)
    result = {"date": datetime.date.today().isoformat(), "commit": commit(), "mode": "full" if args.full else "quick",
              "rounds": args.rounds, "lab_rounds": args.lab_rounds, "machine": machine(),
              "contestants": [contestant.name for contestant in contestants],
              "versions": " ".join(f"{c.name} {c.version}." for c in contestants if hasattr(c, "version")), "regimes": []}
    for number, regime in enumerate(chosen, 1):
        progress(f"[{number}/{len(chosen)}] {regime.name}: {regime.title}")
        began = time.monotonic()
        try:
            head, rows = regime.measure(context)
        except (Failed, wide_area.netlab.LabError) as error:
            progress(f"  {regime.name}: {error}")
            continue
        one = {"name": regime.name, "title": regime.title, "words": regime.words, "head": head, "rows": rows,
               "seconds": round(time.monotonic() - began)}
        result["regimes"].append(one)
        print(f"\n{one['title']} ({one['seconds']} s)\n{tables.as_text(*tables.table(one))}", flush=True)
        args.json.write_text(json.dumps(result, indent=1) + "\n")
    return result


def case(row):
    return tuple(row["data"].get(key) for key in ("ranks", "round_trip_ms", "rate", "size"))


def merged(results):
    """Merges several results. The last measurement of each case is kept. A regime with other contestants replaces the former one."""
    found = {}
    for regime in (regime for result in results for regime in result["regimes"]):
        before = found.get(regime["name"])
        rows = before["rows"] if before and before["head"] == regime["head"] else []
        found[regime["name"]] = {**regime, "rows": list({case(row): row for row in [*rows, *regime["rows"]]}.values())}
    several = {key: ", ".join(dict.fromkeys(str(result[key]) for result in results)) for key in ("date", "commit", "mode", "rounds", "lab_rounds")}
    most = max(results, key=lambda result: len(result["contestants"]))
    return {**most, **several, "regimes": [found[regime.name] for regime in regimes.ALL if regime.name in found]}


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words = parser.add_argument
    words("--build", type=pathlib.Path, default=ROOT / "build")
    words("--full", action="store_true", help="measure every case; about 25 minutes")
    words("--only", type=lambda text: text.split(","), metavar="NAME[,NAME]", help="run these regimes only")
    words("--list", action="store_true", help="list the regimes")
    words("--gloo", action="store_true", help="measure Gloo as well")
    words("--no-mpi", action="store_true", help="do not measure Open MPI")
    words("--against", type=pathlib.Path, action="append", default=[], metavar="BUILD", help="build folder of another version to compare with")
    words("--rounds", type=int, help="turns of each contestant (3)")
    words("--lab-rounds", type=int, help="turns over the wide area (1; 2 with --full)")
    words("--ranks", type=lambda text: [int(word) for word in text.split(",")], help="numbers of ranks, for example 2,4,8")
    words("--json", type=pathlib.Path)
    words("--from", type=pathlib.Path, nargs="+", dest="saved", metavar="JSON", help="print saved results without a measurement")
    words("--write-docs", action="store_true", help="replace the tables and plots of docs/internals/performance.md")
    args = parser.parse_args()
    args.build = args.build.resolve()
    args.rounds = args.rounds or 3
    args.lab_rounds = args.lab_rounds or (2 if args.full else 1)
    args.json = args.json or args.build / "bench.json"
    return args


def main():
    args = parse()
    if args.list:
        for regime in regimes.ALL:
            print(f"{regime.name:12} {regime.title}. {regime.words}")
        return
    if args.saved:
        result = merged([json.loads(path.read_text()) for path in args.saved])
        for regime in result["regimes"]:
            print(f"\n{regime['title']}\n{tables.as_text(*tables.table(regime))}")
    else:
        try:
            result = measure(args)
        except ValueError as error:
            raise SystemExit(f"bench.py: {error}") from error
    met, missed = tables.tally(result)
    print(f"\n{met} bars met, {missed} missed")
    if args.write_docs:
        tables.write_document(DOCUMENT, result)


if __name__ == "__main__":
    main()
