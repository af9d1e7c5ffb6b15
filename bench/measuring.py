"""Takes and judges measurements: turns, medians, bars. A function of a Context measures a regime (see regimes.py). It returns plain data,
which is written to the JSON file and shown in tables and plots."""

import statistics
import sys
import time
from dataclasses import dataclass, field

from contestants import Failed

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


def size_name(size):
    for unit, scale in (("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if size % scale == 0:
            return f"{size // scale} {unit}"
    return f"{size} B"


def time_name(us):
    if us is None:
        return "failed"
    unit, scale = next(((unit, scale) for unit, scale in (("s", 1e6), ("ms", 1e3)) if us >= 0.9995 * scale), ("µs", 1))
    return f"{us / scale:.3g} {unit}" if us < 999.5 * scale else f"{us / scale:.0f} {unit}"


def check(what, value, at_least=None, at_most=None, unit=""):
    """A value and its bar. A check without a value was not measured; a check without a bar is only reported."""
    bar = at_least if at_most is None else at_most
    met = None if value is None or bar is None else value >= at_least if at_most is None else value <= at_most
    return {"what": what, "value": value, "bar": bar, "sign": "≥" if at_most is None else "≤", "unit": unit, "met": met}


def ratio(a, b):
    return a / b if a and b else None


def bus_gbits(ranks, size, us):
    return size * 2 * (ranks - 1) / ranks * 8 / us / 1e3 if us else None


def row(cells, checks, **data):
    return {"cells": cells, "checks": checks, "data": data}


class Rounds:
    """The samples of each contestant, and their medians."""

    def __init__(self, samples):
        self.samples = samples  # {name: [sample]}

    def median(self, name, key="us"):
        values = [sample[key] for sample in self.samples.get(name, []) if key in sample]
        return statistics.median(values) if values else None

    def medians(self, key="us"):
        return {name: self.median(name, key) for name in self.samples}


def progress(*words):
    print(*words, file=sys.stderr, flush=True)


def take_turns(measures, rounds, what):
    """Calls each of {name: function that returns a sample} once per round: A B C, C B A, ..., so that other load on the machine affects all
    of them equally. A failure is reported and gives no sample for that round."""
    samples = {name: [] for name in measures}
    for turn in range(rounds):
        for name in list(measures) if turn % 2 == 0 else reversed(measures):
            try:
                samples[name].append(measures[name]())
            except Failed as error:
                progress(f"  {what}: {name}: {error}")
    return samples


@dataclass
class Context:
    """The chosen options and the measurements so far, which several regimes share."""

    build: object
    contestants: list
    full: bool
    rounds: int
    lab_rounds: int
    ranks: list | None = None
    began: float = field(default_factory=time.monotonic)
    known: dict = field(default_factory=dict)

    @property
    def older(self):
        """Other builds of PCCL: {name: build folder}."""
        return {c.name: c.path.parent.parent for c in self.contestants if c.name.startswith("PCCL of ")}

    def contestant(self, name):
        return next(contestant for contestant in self.contestants if contestant.name == name)

    def chosen(self, quick, full):
        return full if self.full else quick

    def chosen_ranks(self, quick, full):
        return self.ranks or self.chosen(quick, full)

    def say(self, what, medians):
        seconds = time.monotonic() - self.began
        progress(f"  {int(seconds // 60)}:{int(seconds % 60):02} {what}: " + ", ".join(f"{k} {time_name(v)}" for k, v in medians.items()))

    def loopback(self, ranks, sizes, iterations, names=None):
        """{size: Rounds} of the contestants on this machine. Each case is measured once."""
        key = (ranks, tuple(sizes), tuple(names or ()))
        if key not in self.known:
            chosen = [c for c in self.contestants if names is None or c.name in names]
            what = f"{ranks} ranks, {size_name(sizes[0])}" + (f" to {size_name(sizes[-1])}" if len(sizes) > 1 else "")
            taken = take_turns({c.name: lambda c=c: c.measure(ranks, sizes, iterations) for c in chosen}, self.rounds, what)
            self.known[key] = {size: Rounds({name: [of[size] for of in samples] for name, samples in taken.items()}) for size in sizes}
            for size, rounds in self.known[key].items():
                self.say(f"{ranks} ranks, {size_name(size)}", rounds.medians())
        return self.known[key]
