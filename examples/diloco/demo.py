#!/usr/bin/env python3
"""Starts four trainers, kills one with SIGKILL and starts a new one. All end with the same bits.

Starts a pccl-master and four `diloco` trainers from a build directory, kills one in the middle of the run, starts another
later, shows each outer step as it is done, and checks the end: every trainer finished, the test accuracy is high enough, and all
hold bit-identical outer states. Needs only Python's standard library. The exit status is 0 only if all checks passed.
"""

import argparse
import ctypes
import json
import math
import os
import selectors
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import plot

VICTIM = 2
MIN_PEERS = 2  # so that the first trainer does not train alone
TITLES = {"diloco": "DiLoCo", "co2": "CO2", "ddp": "Data-parallel training"}
METHODS = ["diloco", "async", "eager", "streaming", "co2", "ddp"]
KILL_AT = 0.4  # share of all outer steps
LISTENING = "pccl-master: listening on "
LOG_TAIL_LINES = 20
PR_SET_PDEATHSIG = 1


class DemoFailed(Exception):
    """The demonstration failed. `process`, if given, is the process whose log contains the reason."""

    def __init__(self, message, process=None):
        super().__init__(message)
        self.process = process


def die_with_parent():
    """Runs in the child. The kernel kills the child if the demo is killed, so that no process is left running."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


@dataclass(eq=False)
class Process:
    """A child whose standard output is read line by line and whose standard error goes to a log file."""

    name: str
    log: Path
    popen: subprocess.Popen
    unread: bytes = b""
    ended: bool = False  # its output is closed

    @classmethod
    def start(cls, name, command, log):
        with open(log, "wb") as errors:
            popen = subprocess.Popen(
                [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors,
                start_new_session=True, preexec_fn=die_with_parent,
            )  # fmt: skip
        return cls(name, log, popen)

    def read_lines(self):
        """Returns the complete lines that have arrived. Call it when the output is readable."""
        data = os.read(self.popen.stdout.fileno(), 65536)
        self.ended = not data
        *lines, self.unread = (self.unread + data).split(b"\n")
        return [line.decode(errors="replace") for line in lines]

    def log_tail(self):
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join("    " + line for line in lines[-LOG_TAIL_LINES:]) or "    (empty)"


@dataclass(eq=False)
class Trainer:
    """One peer, with its number from 1 and its reports."""

    number: int
    process: Process  # the process that reports
    others: list = field(default_factory=list)  # the other processes of its island
    joined: bool = False
    killed: bool = False
    steps: dict = field(default_factory=dict)  # outer step -> record
    done: dict | None = None


@dataclass
class Row:
    """One outer step, combined over all trainers that took part."""

    step: int
    time_s: float
    world: int
    loss: float | None
    score: float  # quality of the model
    megabytes: float
    comm_s: float
    compute_s: float
    events: list


def mean(values):
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else None


class Table:
    """Prints rows as they arrive. A terminal gets colours, and a line below the rows that shows the progress."""

    WIDTH = 80  # columns
    HEADER = "step peers   loss{:>10} MB/peer comm s compute s  events"

    def __init__(self, steps, score_name, show_score, stream=sys.stdout):
        self.steps = steps
        self.score_name, self.show_score = score_name, show_score
        self.stream = stream
        stream.reconfigure(errors="replace")
        self.live = stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"

    def paint(self, code, words):
        return f"\x1b[{code}m{words}\x1b[0m" if self.live else words

    def write(self, words):
        clear = "\r\x1b[K" if self.live else ""
        print(clear + words, file=self.stream, flush=True)

    def header(self):
        self.write(self.paint("1", self.HEADER.format(self.score_name)))
        self.write(("─" if self.live else "-") * self.WIDTH)

    def good(self, words):
        self.write(f"{self.paint('1;32', '✓') if self.live else 'ok:'} {words}")

    def row(self, row):
        loss = "nan" if row.loss is None else f"{row.loss:.4f}"
        cells = (
            f"{row.step:4d}{row.world:6d}{loss:>7}{self.show_score(row.score):>10}{row.megabytes:8.2f}"
            f"{row.comm_s:7.3f}{row.compute_s:10.3f}  "
        )
        colours = {"lost": "1;31", "joined": "1;32"}
        events = ", ".join(self.paint(colours[kind], words) for words, kind in row.events)
        self.write((cells + events).rstrip())

    def progress(self, step, peers, elapsed_s):
        if not self.live:
            return
        width = 30
        full = int(width * step / self.steps)
        bar = "█" * full + "░" * (width - full)
        print(f"\r\x1b[K  {bar} {step}/{self.steps}   {peers} peers   {elapsed_s:.0f} s", end="", file=self.stream, flush=True)


class Demo:
    """The run: its processes, its rows, and its events."""

    SCORE = "accuracy"  # key in a trainer's records
    TRAINERS = 4
    SAME = "outer states"  # the compared data
    START_AT = 0.55  # share of all outer steps; the new trainer needs the time of a few steps to load its data

    def __init__(self, options):
        self.options = options
        self.bin = options.build / "bin"
        self.output = options.logs
        self.selector = selectors.DefaultSelector()
        self.processes = []
        self.trainers = []
        self.master = None
        self.address = ""
        self.rows = []
        self.markers = []
        self.events = {}  # the first outer step after it -> [(words, kind)]
        self.table = self.make_table()
        self.started = self.last_news = time.monotonic()

    def make_table(self):
        return Table(self.options.steps, "test acc", lambda accuracy: f"{100 * accuracy:.2f} %")

    def check_data(self):
        if not (Path(self.options.data) / "train-images-idx3-ubyte.gz").exists():
            raise DemoFailed(f"Fashion-MNIST is not in {self.options.data}. Install the Debian package dataset-fashion-mnist, or set --data")

    def describe(self):
        return "PCCL: four trainers, one is killed, one joins. Fashion-MNIST, DiLoCo."

    # -------------------------------------------------------------------------------------------------- processes --

    def start(self, name, command):
        try:
            process = Process.start(name, command, self.output / (name.replace(" ", "-") + ".log"))
        except OSError as error:
            raise DemoFailed(f"{command[0]}: {error.strerror}; build it first") from None
        self.processes.append(process)
        self.selector.register(process.popen.stdout, selectors.EVENT_READ, process)
        return process

    def start_master(self):
        self.master = self.start("master", [self.bin / "pccl-master", "--listen", "127.0.0.1:0"])
        deadline = time.monotonic() + 10
        while not self.address:
            for process, line in self.poll(deadline - time.monotonic()):
                if line.startswith(LISTENING):
                    self.address = line[len(LISTENING) :].strip()
            if self.master.ended or time.monotonic() > deadline:
                raise DemoFailed("the master did not say where it listens", self.master)

    def start_trainer(self, shard):
        number = len(self.trainers) + 1
        command = [
            self.bin / "diloco", "--master", self.address, "--shard", f"{shard}/{self.TRAINERS}", "--steps", self.options.steps,
            "--inner", self.options.inner, "--seed", self.options.seed, "--data", self.options.data,
            "--quantize", self.options.quantize, "--method", self.options.method, "--min-peers", MIN_PEERS, "--report", "-",
        ]  # fmt: skip
        self.trainers.append(Trainer(number, self.start(f"trainer {number}", command)))

    def poll(self, timeout_s):
        """Yields (process, line) for the children's output, and waits up to `timeout_s` for it."""
        said = []
        for key, _ in self.selector.select(max(0.0, timeout_s)):
            process = key.data
            said += [(process, line) for line in process.read_lines()]
            if process.ended:
                self.selector.unregister(process.popen.stdout)
        return said

    def stop(self):
        """Ends every child that still runs, first with SIGTERM. A second Ctrl-C does not interrupt it."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        running = [p.popen for p in self.processes if p.popen.poll() is None]
        for popen in running:
            popen.terminate()
        deadline = time.monotonic() + 3
        for popen in running:
            try:
                popen.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                popen.kill()
                popen.wait()
        for process in self.processes:
            process.popen.stdout.close()

    # ---------------------------------------------------------------------------------------------------- the run --

    def run(self):
        if self.table.live:
            print(self.describe() + "\n")
        self.check_data()
        self.output.mkdir(parents=True, exist_ok=True)
        self.start_master()
        self.started = self.last_news = time.monotonic()
        for number in range(1, self.TRAINERS + 1):
            self.start_trainer(shard=number)
        self.table.header()
        while any(t.done is None for t in self.survivors()):
            self.take_news(self.poll(0.25))
            self.make_trouble()
            self.check_processes()
            alive = sum(t.joined for t in self.survivors())
            self.table.progress(self.latest_step(), alive, time.monotonic() - self.started)
        for trainer in self.survivors():
            self.await_exit(trainer.process)
        self.emit_rows(final=True)
        self.table.write("")

    def survivors(self):
        return [t for t in self.trainers if not t.killed]

    def latest_step(self):
        return max((max(t.steps, default=0) for t in self.trainers), default=0)

    def take_news(self, said):
        for process, line in said:
            trainer = next((t for t in self.trainers if t.process is process), None)
            if trainer is None:
                continue
            try:
                record = json.loads(line)
                event = record["event"]
                if event == "joined":
                    self.note_joined(trainer, int(record["step"]))
                elif event == "step":
                    record["time_s"] = time.monotonic() - self.started
                    trainer.steps[int(record["step"])] = record
                elif event == "done":
                    trainer.done = record
            except (ValueError, KeyError, TypeError):
                raise DemoFailed(f"{process.name} reported a line that is not JSON: {line[:200]}", process) from None
            self.last_news = time.monotonic()
        self.emit_rows()

    def note(self, words, kind, last_step):
        """Records an event that happened after outer step `last_step`."""
        self.events.setdefault(last_step + 1, []).append((words, kind))
        self.markers.append(plot.Marker(time.monotonic() - self.started, words, kind))

    def note_joined(self, trainer, last_step):
        trainer.joined = True
        if trainer.number > self.TRAINERS:
            self.note(f"trainer {trainer.number} joined", "joined", last_step)

    def make_trouble(self):
        """Kills one trainer and later starts another, each at its share of the outer steps."""
        step, steps = self.latest_step(), self.options.steps
        victim = self.trainers[VICTIM - 1]
        if not victim.killed and step >= math.floor(KILL_AT * steps):
            [victim.process, *victim.others][-1].popen.send_signal(signal.SIGKILL)
            victim.killed = True
            self.note(f"trainer {VICTIM} killed (kill -9)", "lost", step)
        if len(self.trainers) == self.TRAINERS and step >= math.floor(self.START_AT * steps):
            self.start_trainer(shard=VICTIM)  # the shard of the killed trainer

    def emit_rows(self, final=False):
        """Shows an outer step after all its participants have reported it, or when a later step is known."""
        while True:
            step = self.rows[-1].step + 1 if self.rows else 1
            records = [t.steps[step] for t in self.trainers if step in t.steps]
            if not records or (len(records) < records[0]["world"] and self.latest_step() < step + 2 and not final):
                return
            row = Row(
                step=step,
                time_s=max(r["time_s"] for r in records),
                world=records[0]["world"],
                loss=mean(r["loss"] for r in records),
                score=records[0][self.SCORE],
                megabytes=mean(r["mb"] for r in records),
                comm_s=mean(r["comm_s"] for r in records),
                compute_s=mean(r["compute_s"] for r in records),
                events=self.events.get(step, []),
            )
            self.rows.append(row)
            self.table.row(row)

    def check_processes(self):
        for trainer in self.survivors():
            if trainer.done is None and trainer.process.ended:
                self.await_exit(trainer.process)
                raise DemoFailed(f"trainer {trainer.number} ended before the last step", trainer.process)
            if trainer.done and not trainer.done["identical"]:
                raise DemoFailed(f"trainer {trainer.number} reports that outer states differ between peers", trainer.process)
        if self.master.ended:
            raise DemoFailed("the master ended during the run", self.master)
        waiting = [t for t in self.survivors() if t.done is None]
        if time.monotonic() - self.last_news > self.options.timeout:
            names = ", ".join(f"trainer {t.number}" for t in waiting)
            raise DemoFailed(f"no report for {self.options.timeout:.0f} s; waiting for {names}", waiting[0].process)

    def await_exit(self, process):
        try:
            status = process.popen.wait(20)
        except subprocess.TimeoutExpired:
            raise DemoFailed(f"{process.name} did not end", process) from None
        if status != 0:
            how = f"exit status {status}" if status > 0 else f"signal {-status} ({signal.strsignal(-status)})"
            raise DemoFailed(f"{process.name} failed: {how}", process)

    # ---------------------------------------------------------------------------------------------------- the end --

    def check_end(self):
        survivors = self.survivors()
        for trainer in survivors:
            if trainer.done["step"] != self.options.steps:
                raise DemoFailed(f"trainer {trainer.number} ended at step {trainer.done['step']}", trainer.process)
        if len(self.trainers) <= self.TRAINERS or not self.trainers[VICTIM - 1].killed:
            raise DemoFailed("the run ended before a trainer was killed and another had joined. Use more --steps")
        hashes = sorted({t.done["hash"] for t in survivors})
        if len(hashes) != 1:
            raise DemoFailed("the trainers hold different outer states: " + ", ".join(hashes))
        compared = min(t.done["world"] for t in survivors)
        if compared != len(survivors):
            raise DemoFailed(f"only {compared} of {len(survivors)} trainers took part in the last comparison")
        elapsed_s = time.monotonic() - self.started
        self.table.good(f"{self.check_score(survivors[0].done[self.SCORE])} after {self.options.steps} outer steps in {elapsed_s:.0f} s")
        self.table.good(f"all {len(survivors)} peers hold bit-identical {self.SAME} (digest {hashes[0]})")

    def check_score(self, accuracy):
        """The text for the final score."""
        if 100 * accuracy < self.options.min_accuracy:
            raise DemoFailed(f"the test accuracy is {100 * accuracy:.2f} %, below {self.options.min_accuracy:g} %")
        return f"test accuracy {100 * accuracy:.2f} %"

    def title(self):
        return f"{TITLES.get(self.options.method, self.options.method)} on Fashion-MNIST: 4 trainers, one is killed, a new one joins"

    def panels(self):
        return [plot.accuracy_panel([r.score for r in self.rows]), plot.loss_panel([r.loss for r in self.rows])]

    def write_results(self):
        rows = self.rows
        svg = plot.render(self.title(), [r.time_s for r in rows], self.panels(), [r.world for r in rows], self.markers)
        self.options.out.write_text(svg)
        self.options.out.with_suffix(".json").write_text(
            json.dumps({"rows": [vars(r) for r in rows], "markers": [vars(m) for m in self.markers]}, indent=1) + "\n"
        )
        self.table.write(f"  plot: {self.options.out}   logs: {self.output}")


def add_outputs(parser, name):
    """The options for the places of output files. Both default to folders below the build directory."""
    parser.add_argument("--out", type=Path, help=f"the plot; its data is written next to it as .json (default: BUILD/{name}/{name}.svg)")
    parser.add_argument("--logs", type=Path, help=f"directory for the logs (default: BUILD/{name}/logs)")


def place_outputs(options, name):
    """Fills in the default places of the outputs and makes their folders."""
    options.out = options.out or options.build / name / f"{name}.svg"
    options.logs = options.logs or options.build / name / "logs"
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.logs.mkdir(parents=True, exist_ok=True)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--build", type=Path, default=Path("build"), help="build directory (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=60, help="outer steps (default: %(default)s)")
    parser.add_argument("--inner", type=int, default=150, help="inner steps per outer step (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the shards and the initial parameters (default: %(default)s)")
    parser.add_argument("--method", choices=METHODS, default="diloco", help="training method (default: %(default)s)")
    parser.add_argument("--quantize", choices=["none", "u8", "u16", "i8-block", "i4-block", "u4-block", "u2-block"], default="none", help="quantization of data on the wire (default: %(default)s)")
    parser.add_argument("--data", default="/usr/share/datasets/fashion-mnist", help="folder with Fashion-MNIST (default: %(default)s)")
    parser.add_argument("--min-accuracy", type=float, default=84.0, help="fail below this test accuracy, in %% (default: %(default)s)")
    parser.add_argument("--timeout", type=float, default=60.0, help="fail after this many seconds without a report (default: %(default)s)")
    add_outputs(parser, "demo")
    options = parser.parse_args()
    place_outputs(options, "demo")
    if options.steps < 10:
        parser.error("--steps must be at least 10, so that there is time for a loss and a newcomer")
    return options


def main(demo):

    def leave(number, _frame):
        raise KeyboardInterrupt(number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)
    try:
        demo.run()
        demo.check_end()
        demo.write_results()
        return 0
    except DemoFailed as failure:
        demo.table.write("")
        print(f"demo failed: {failure}", file=sys.stderr)
        if failure.process:
            print(f"  the end of {failure.process.log}:\n{failure.process.log_tail()}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        demo.table.write("")
        print("demo stopped", file=sys.stderr)
        return 130
    finally:
        demo.stop()


if __name__ == "__main__":
    sys.exit(main(Demo(parse_arguments())))
