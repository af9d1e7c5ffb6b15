#!/usr/bin/env python3
"""PyTorch: peers, or islands of FSDP2, train a small GPT. One is killed, another joins. Then one process does the same work in sequence.

Starts a pccl-master and four train_char_gpt.py (three islands of two processes with --fsdp) from a build directory, kills one in the
middle of the run and starts another, shows each outer step, and checks that all finish and hold the same bits. Then one process trains
on the same number of characters, one batch after another, for comparison. The exit status is 0 only if all checks passed.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

import demo
import plot
from demo import Demo, DemoFailed, Table, Trainer

SCRIPT = Path(__file__).parent / "train_char_gpt.py"
ISLAND = 2  # processes


class TorchDemo(Demo):
    SCORE = "validation"
    SAME = "parameters"
    START_AT = 0.4  # PyTorch takes a while to start

    def __init__(self, options):
        super().__init__(options)
        self.islands, self.TRAINERS = (ISLAND, 3) if options.fsdp else (1, 4)
        os.environ["PYTHONPATH"] = os.pathsep.join([str(options.build.resolve() / "python"), *filter(None, [os.environ.get("PYTHONPATH")])])

    def make_table(self):
        return Table(self.options.steps, "valid.", lambda loss: f"{loss:.4f}")

    def check_data(self):
        if not self.options.text.exists():
            raise DemoFailed(f"there is no text at {self.options.text}. Install the Debian package fortunes, or set --text")

    def describe(self):
        who = f"islands of {ISLAND} processes (FSDP2)" if self.options.fsdp else "peers"
        return f"PCCL and PyTorch: {who} train a character GPT, one is killed, another joins."

    def command(self, *words):
        return [sys.executable, SCRIPT, "--text", self.options.text, "--sync-every", self.options.inner, "--batch", self.batch(), "--report", "-", *words]

    def batch(self):
        """Windows per process. The share of a peer does not depend on its number of processes."""
        return self.options.batch // self.islands

    def start_trainer(self, shard):
        number = len(self.trainers) + 1
        command = self.command(
            "--master", self.address, "--shard", f"{shard}/{self.TRAINERS}", "--steps", self.options.steps * self.options.inner,
            "--min-peers", demo.MIN_PEERS, "--seed", self.options.seed, "--outer-lr", self.options.outer_lr, "--outer-momentum", self.options.outer_momentum,
        )  # fmt: skip
        if not self.options.fsdp:
            self.trainers.append(Trainer(number, self.start(f"trainer {number}", command)))
            return
        meeting = self.output.resolve() / f"island-{number}"
        meeting.unlink(missing_ok=True)
        command += ["--fsdp", "--rendezvous", f"file://{meeting}", "--world-size", ISLAND, "--rank"]
        first, *others = [self.start(f"trainer {number}.{rank}", [*command, rank]) for rank in range(ISLAND)]
        self.trainers.append(Trainer(number, first, others))

    def title(self):
        who = "islands of 2 processes" if self.options.fsdp else "peers"
        return f"DiLoCo with PyTorch: {self.TRAINERS} {who} train a GPT, one is killed, another joins"

    def panels(self):
        return [plot.loss_panel([r.loss for r in self.rows]), plot.loss_panel([r.score for r in self.rows], "validation loss", plot.ACCURACY)]

    def check_score(self, loss):
        self.loss = loss
        return f"validation loss {loss:.4f} nats per character"

    def write_results(self):
        super().write_results()
        if self.options.alone:
            self.compare()

    def show_progress_alone(self, record, steps, elapsed_s):
        """Shows a bar on a terminal, and otherwise one line per report, about twenty in total."""
        if self.table.live:
            self.table.progress(int(record["inner"] / steps * self.options.steps), 1, elapsed_s)
        else:
            self.table.write(f"    step {record['inner']} of {steps}, {elapsed_s:.0f} s")

    def compare(self):
        """Trains one process on the same number of characters."""
        steps = self.options.inner * sum(row.world for row in self.rows)
        self.table.write(f"  one process, the same number of characters in sequence: {steps} steps")
        words = self.command("--method", "local", "--steps", steps, "--seed", self.options.seed, "--threads", os.cpu_count() or 1)
        words[words.index("--batch") + 1] = self.options.batch
        words[words.index("--sync-every") + 1] = max(1, steps // 20)
        process = self.start("one process", words)
        done = None
        started = time.monotonic()
        while not process.ended:
            for _, line in self.poll(1.0):
                record = json.loads(line)
                done = record if record["event"] == "done" else done
                if record["event"] == "step":
                    self.show_progress_alone(record, steps, time.monotonic() - started)
        self.await_exit(process)
        if done is None:
            raise DemoFailed("the single process did not report its result", process)
        alone = done["validation"]
        self.table.good(f"one process: validation loss {alone:.4f} in {time.monotonic() - started:.0f} s; the run's is {100 * (self.loss / alone - 1):+.2f} % of that")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--build", type=Path, default=Path("build"), help="build directory (default: %(default)s)")
    add("--fsdp", action="store_true", help=f"train islands of {ISLAND} processes that share a model, instead of single processes")
    add("--text", type=Path, default=Path("/usr/share/games/fortunes"), help="a text, or a folder of texts (default: %(default)s)")
    add("--steps", type=int, default=24, help="outer steps (default: %(default)s)")
    add("--inner", type=int, default=40, help="inner steps per outer step (default: %(default)s)")
    add("--batch", type=int, default=16, help="windows per step and peer (default: %(default)s)")
    add("--outer-lr", type=float, default=1.0, help="(default: %(default)s)")
    add("--outer-momentum", type=float, default=0.3, help="(default: %(default)s)")
    add("--seed", type=int, default=1, help="(default: %(default)s)")
    add("--alone", action=argparse.BooleanOptionalAction, default=True, help="train one process for comparison (default: yes)")
    add("--timeout", type=float, default=120.0, help="fail after this many seconds without a report (default: %(default)s)")
    demo.add_outputs(parser, "demo-torch")
    options = parser.parse_args()
    demo.place_outputs(options, "demo-torch")
    if options.steps < 10:
        parser.error("--steps must be at least 10, so that there is time for a loss and a newcomer")
    return options


if __name__ == "__main__":
    sys.exit(demo.main(TorchDemo(parse_arguments())))
