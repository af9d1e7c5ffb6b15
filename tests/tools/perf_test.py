"""Runs pccl-perf and pccl-perf-plot and checks their output: perf_test.py --perf PROGRAM [CASE...]."""

import argparse
import json
import math
import pathlib
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as xml

SVG = "{http://www.w3.org/2000/svg}"


def call(*command, status=0):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=80, check=False)
    if done.returncode != status:
        raise AssertionError(f"{command}: exit status {done.returncode}, not {status}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def expect(condition, words):
    if not condition:
        raise AssertionError(words)


def results(perf, folder, *options):
    out = folder / "out.json"
    text = call(perf, *options, "--json", out)
    return text, json.loads(out.read_text())


def rows_of(text):
    """Columns of the rows, by the names in the first line of the table's head."""
    lines = text.splitlines()
    names = next(line for line in lines if "busbw" in line).strip("# ").split()
    return [dict(zip(names, line.split())) for line in lines if line.startswith("  ")]


def warm_up_is_automatic_and_counted(perf, folder):
    text, result = results(perf, folder, "-t", "3", "-b", "1K", "-e", "64K", "-f", "64", "-n", "5")
    for shown, row in zip(rows_of(text), result["rows"], strict=True):
        expect(3 <= row["warm_up"] <= 100, f"{row['warm_up']} iterations before")
        expect(shown["warm"] == str(row["warm_up"]), f"the table has {shown['warm']}, and JSON has {row['warm_up']}")


def warm_up_can_be_forced(perf, folder):
    for number in (0, 7):
        text, result = results(perf, folder, "-t", "2", "-b", "4K", "-e", "4K", "-n", "3", "-w", number)
        expect([row["warm_up"] for row in result["rows"]] == [number], f"-w {number}: {result['rows']}")
        expect(f"3 iterations after {number}" in text, text)


def processor_time_of_each_peer_is_reported(perf, folder):
    text, result = results(perf, folder, "-t", "2", "-b", "4M", "-e", "4M", "-n", "10", "--concurrent", "2")
    row = result["rows"][0]
    expect(len(row["cpu_s"]) == 2 and all(0 < seconds < 10 for seconds in row["cpu_s"]), f"{row['cpu_s']}")
    per_gb = sum(row["cpu_s"]) / (2 * row["bytes"] / 1e9)
    expect(math.isclose(row["cpu_s_per_gb"], per_gb, rel_tol=1e-9), f"{row['cpu_s_per_gb']}, not {per_gb}")
    expect(math.isclose(float(rows_of(text)[0]["cpu"]), per_gb, abs_tol=1e-3), text)


def halves_of_an_all_reduce_are_checked_and_measured(perf, folder):
    sent = {}
    for collective in ("all-reduce", "reduce-scatter", "all-gather", "both"):
        text, result = results(perf, folder, "-t", "2", "-b", "4M", "-e", "4M", "-n", "3", "-w", "1", "--collective", collective, "--concurrent", "2")
        expect(result["collective"] == collective and result["wrong"] == 0, f"{result}")
        row = result["rows"][0]
        factor = 1 if collective in ("all-reduce", "both") else 0.5
        expect(math.isclose(row["busbw_gbs"], row["algbw_gbs"] * factor, rel_tol=1e-9), f"{row}")
        sent[collective] = row["tx_bytes"]
    expect(math.isclose(sent["reduce-scatter"] + sent["all-gather"], sent["both"], rel_tol=0.01), f"{sent}")
    expect(math.isclose(sent["both"], sent["all-reduce"], rel_tol=0.01), f"{sent}")
    expect("unknown --collective" in call(perf, "-t", "2", "--collective", "gather", status=64), "gather was accepted")


def algorithm_and_lanes_are_reported(perf, folder):
    for asked in ("ring", "direct"):
        text, result = results(perf, folder, "-t", "2", "-b", "4K", "-e", "4K", "-n", "3", "-a", asked, "--lanes", "2")
        row, shown = result["rows"][0], rows_of(text)[0]
        expect(result["algorithm"] == row["algorithm"] == shown["algorithm"] == asked, f"asked for {asked}: {row}, {shown}")
        expect(shown["lanes"] == str(row["lanes"]) and row["chunk_bytes"] > 0, f"{row}, {shown}")
    expect("unknown algorithm" in call(perf, "-t", "2", "-a", "tree", status=64), "tree was accepted")


def memory_beyond_the_buffers_is_reported(perf, folder):
    size = 64 << 20
    text, result = results(perf, folder, "-t", "2", "-b", size, "-e", size, "-n", "2", "--memory")
    memory = result["rows"][0]["memory_bytes"]
    expect(len(memory) == 2, f"{memory}")
    if None in memory:
        print("this system does not report the peak memory")
        return
    expect(all(0 < peak < 2 * size for peak in memory), f"{memory}: the peaks must be below the size of the buffers, {2 * size}")
    expect(math.isclose(float(rows_of(text)[0]["mem"]), max(memory) / (1 << 20), abs_tol=0.06), text)


def curves(path):
    """The words of a plot, and its lines' points."""
    root = xml.parse(path).getroot()
    return [node.text for node in root.iter(f"{SVG}text")], [node.get("points") for node in root.iter(f"{SVG}polyline")]


def plots_one_run(perf, folder):
    plot = folder / "out.svg"
    call(perf, "-t", "2", "-b", "1K", "-e", "64K", "-f", "8", "-n", "3", "--plot", plot)
    words, lines = curves(plot)
    expect("2 peers" in words and len(lines) == 2 and all(len(line.split()) == 3 for line in lines), f"{words}, {lines}")
    expect(list(folder.iterdir()) == [plot], "temporary files were not removed")


def plots_several_results(perf, folder):
    for name, types in (("one", "float"), ("two", "float,int32")):
        call(perf, "-t", "2", "-b", "1K", "-e", "8K", "-f", "8", "-n", "2", "-d", types, "--json", folder / f"{name}.json")
    plot, program = folder / "both.svg", perf.parent / "pccl-perf-plot"
    call(program, folder / "one.json", f"new <code>={folder / 'two.json'}", "-o", plot, "--title", "Old & new")
    words, lines = curves(plot)
    expect({"Old & new", "one", "new <code>, float sum", "new <code>, int32 sum"} <= set(words), f"{words}")
    expect(len(lines) == 6, f"{len(lines)} curves")
    (folder / "wrong.json").write_text("[]")
    expect("not what pccl-perf --json wrote" in call(program, folder / "wrong.json", "-o", plot, status=1), "wrong.json was accepted")
    expect("none.json" in call(program, folder / "none.json", "-o", plot, status=1), "a missing file was accepted")
    expect("--plot" in call(perf, "--help"), "--help")


def unwritable_plot_is_reported(perf, folder):
    text = call(perf, "-t", "2", "-b", "1K", "-e", "1K", "-n", "2", "--plot", folder / "none" / "out.svg", status=2)
    expect("no plot" in text, text)


CASES = {case.__name__: case for case in (
    warm_up_is_automatic_and_counted, warm_up_can_be_forced, processor_time_of_each_peer_is_reported,
    halves_of_an_all_reduce_are_checked_and_measured, algorithm_and_lanes_are_reported, memory_beyond_the_buffers_is_reported, plots_one_run, plots_several_results, unwritable_plot_is_reported)}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--perf", type=pathlib.Path, required=True)
    parser.add_argument("cases", nargs="*", choices=[[], *CASES], metavar="CASE")
    args = parser.parse_args()
    for name in args.cases or CASES:
        with tempfile.TemporaryDirectory(prefix="pccl-perf-") as folder:
            try:
                CASES[name](args.perf.resolve(), pathlib.Path(folder))
            except AssertionError as error:
                sys.exit(f"{name}: {error}")


if __name__ == "__main__":
    main()
