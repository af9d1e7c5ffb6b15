"""Runs a program of README.md: a master and three trainers. One joins late and one is killed, and the others finish."""

import argparse
import re
import subprocess
import sys
import threading
import time

LIMIT_S = 120
STEP = re.compile(r"step (\d+): (\d+) peers, weight (-?[\d.]+)$")


class Trainer:
    """A trainer process and the steps that it has printed."""

    def __init__(self, hello, address, steps):
        self.process = subprocess.Popen([hello, address, str(steps)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.steps = {}  # step -> (peers, weight)
        self.news = threading.Condition()
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            match = STEP.match(line.rstrip("\n"))
            if match:
                with self.news:
                    self.steps[int(match[1])] = (int(match[2]), match[3])
                    self.news.notify_all()

    def await_peers(self, peers):
        """Waits until the trainer has made a step with this number of peers."""
        with self.news:
            seen = self.news.wait_for(lambda: self.steps and self.steps[max(self.steps)][0] == peers, LIMIT_S)
        if not seen:
            raise SystemExit(f"no step among {peers} peers within {LIMIT_S} s")

    def await_success(self):
        status = self.process.wait(LIMIT_S)
        self.reader.join(LIMIT_S)
        if status != 0:
            raise SystemExit(f"a trainer ended with {status}: {self.process.stderr.read()}")


def run(hello, address, trainers):
    steps = 1000
    trainers += [Trainer(hello, address, steps) for _ in range(2)]
    trainers[0].await_peers(2)
    trainers.append(Trainer(hello, address, steps))  # joins late and receives weights and step
    trainers[0].await_peers(3)
    trainers[2].await_peers(3)
    trainers[1].process.kill()
    survivors = [trainers[0], trainers[2]]
    for trainer in survivors:
        trainer.await_peers(2)
    for trainer in survivors:
        trainer.await_success()
        if max(trainer.steps) != steps:
            raise SystemExit(f"a trainer ended after step {max(trainer.steps)} of {steps}")
    common = set(survivors[0].steps) & set(survivors[1].steps)
    different = [step for step in sorted(common) if survivors[0].steps[step] != survivors[1].steps[step]]
    if different:
        raise SystemExit(f"trainers disagree on step {different[0]}")
    print(f"{len(common)} steps agree")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hello", required=True)
    parser.add_argument("--master", required=True)
    args = parser.parse_args()
    master = subprocess.Popen([args.master, "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True)
    trainers = []
    try:
        run(args.hello, master.stdout.readline().rpartition(" ")[2].strip(), trainers)
    finally:
        for process in [trainer.process for trainer in trainers] + [master]:
            process.kill()
            process.wait()


if __name__ == "__main__":
    started = time.monotonic()
    main()
    print(f"{time.monotonic() - started:.1f} s", file=sys.stderr)
