"""Tests of bench/bench.py: turns, bars and tables, with contestants that return fixed times."""

import pathlib
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree as xml

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "bench"))
import bench  # noqa: E402
import contestants  # noqa: E402
import loopback  # noqa: E402
import measuring  # noqa: E402
import regimes  # noqa: E402
import tables  # noqa: E402


class Fixed:
    """A contestant that always takes the same time."""

    def __init__(self, name, us):
        self.name, self.us = name, us

    def measure(self, ranks, sizes, iterations):
        return {size: {"us": self.us * size, "cpu_s": 0.1} for size in sizes}


def context(times, full=False):
    return measuring.Context(None, [Fixed(name, us) for name, us in times.items()], full, 2, 1, ranks=[2])


def checks_of(head_and_rows):
    return {one["what"]: one for one in head_and_rows[1][0]["checks"]}


def result(**measured):
    chosen = [{"name": name, "title": name, "words": "", "head": head, "rows": rows, "seconds": 0} for name, (head, rows) in measured.items()]
    return {"date": "", "commit": "", "mode": "quick", "rounds": 1, "lab_rounds": 1, "versions": "", "contestants": ["bare_ring", "PCCL"],
            "machine": {"cpu": "", "cores": 2, "kernel": "", "congestion": "", "load": ""}, "regimes": chosen}


class Bench(unittest.TestCase):
    def test_contestants_take_turns_in_alternating_order(self):
        calls = []
        measuring.take_turns({name: lambda name=name: calls.append(name) or {} for name in "ABC"}, 3, "")
        self.assertEqual("".join(calls), "ABCCBAABC")

    def test_failure_gives_no_sample_and_the_others_continue(self):
        def fail():
            raise contestants.Failed("broken")

        samples = measuring.take_turns({"A": fail, "B": lambda: {"us": 1.0}}, 2, "expected here")
        self.assertEqual(samples, {"A": [], "B": [{"us": 1.0}, {"us": 1.0}]})
        self.assertIsNone(measuring.Rounds(samples).median("A"))

    def test_medians_ignore_samples_without_the_value(self):
        rounds = measuring.Rounds({"A": [{"us": 1.0}, {"us": 9.0, "cpu_s": 2.0}, {"us": 3.0}]})
        self.assertEqual((rounds.median("A"), rounds.median("A", "cpu_s"), rounds.median("B")), (3.0, 2.0, None))

    def test_bars_are_met_at_their_limit(self):
        cases = [({"at_least": 0.9}, 0.9, True), ({"at_least": 0.9}, 0.89, False), ({"at_most": 64}, 64, True), ({"at_most": 64}, 65, False),
                 ({}, 1.0, None), ({"at_least": 0.9}, None, None)]
        for bar, value, met in cases:
            self.assertEqual(measuring.check("", value, **bar)["met"], met, (bar, value))

    def test_times_have_three_digits_and_a_unit(self):
        times = {0.5: "0.5 µs", 999.4: "999 µs", 999.7: "1 ms", 52718.9: "52.7 ms", 999.9e3: "1 s", 1.36e6: "1.36 s", 1234e6: "1234 s"}
        self.assertEqual({us: measuring.time_name(us) for us in times}, times)
        self.assertEqual(measuring.time_name(None), "failed")

    def test_comparison_with_the_better_of_two_needs_gloo(self):
        checks = checks_of(loopback.large(context({"bare_ring": 1, "PCCL": 1.1, "Open MPI": 2})))
        self.assertTrue(checks["of bare_ring's bandwidth"]["met"])
        self.assertEqual({checks[what]["met"] for what in ("times the better of Open MPI and Gloo", "times Gloo")}, {None})

    def test_faster_contestant_misses_the_bar(self):
        checks = checks_of(loopback.large(context({"bare_ring": 1, "PCCL": 2, "Open MPI": 3, "Gloo": 1.9})))
        self.assertEqual([one["met"] for one in checks.values()], [False, False, False])

    def test_regimes_share_measurements(self):
        shared = context({"bare_ring": 1, "PCCL": 1, "Open MPI": 1, "Gloo": 1})
        loopback.large(shared)
        known = len(shared.known)
        self.assertTrue(checks_of(loopback.cpu(shared))["of Gloo's"]["met"])
        self.assertEqual(len(shared.known), known)

    def test_sizes_with_one_factor_are_one_call(self):
        self.assertEqual([contestants.factor_of(row) for row in ([4], [4, 64], [1, 4, 16], [1, 2, 8], [3, 4])], [2, 16, 4, None, None])

    def test_regimes_are_chosen_by_name_in_their_order(self):
        self.assertEqual([regime.name for regime in regimes.named(["wan", "latency"])], ["latency", "wan"])
        self.assertEqual(len({regime.name for regime in regimes.ALL}), len(regimes.ALL))
        with self.assertRaises(ValueError):
            regimes.named(["none"])

    def test_results_of_several_runs_are_merged(self):
        rows = {(ranks, words): {"cells": [words], "checks": [], "data": {"ranks": ranks}} for ranks in (2, 4) for words in ("old", "new")}
        first = result(wan=([], [rows[2, "old"]]), latency=(["us"], [rows[2, "old"], rows[4, "old"]]))
        second = result(latency=(["us"], [rows[4, "new"]]), wan=(["other"], [rows[4, "new"]]))
        merged = bench.merged([first, second])
        self.assertEqual([(regime["name"], regime["rows"]) for regime in merged["regimes"]],
                         [("latency", [rows[2, "old"], rows[4, "new"]]), ("wan", [rows[4, "new"]])])

    def test_document_has_tables_and_plots_between_its_markers(self):
        measured = result(large=loopback.large(context({"bare_ring": 1, "PCCL": 2})))
        with tempfile.TemporaryDirectory() as folder:
            page = pathlib.Path(folder) / "performance.md"
            page.write_text(f"before\n{tables.BEGIN}\nold\n{tables.END}\nafter\n")
            tables.write_document(page, measured)
            text = page.read_text()
            self.assertTrue(text.startswith(f"before\n{tables.BEGIN}\n") and text.endswith(f"{tables.END}\nafter\n"), text)
            self.assertNotIn("old\n", text)
            self.assertIn("| 0.50 (≥ 0.9: missed) |", text)
            self.assertIn("](performance-loopback.svg)", text)
            xml.parse(page.parent / "performance-loopback.svg")

    def test_list_prints_every_regime(self):
        text = subprocess.run([sys.executable, ROOT / "bench" / "bench.py", "--list"], capture_output=True, text=True, check=True).stdout
        self.assertEqual([line.split()[0] for line in text.splitlines()], [regime.name for regime in regimes.ALL])


if __name__ == "__main__":
    unittest.main()
