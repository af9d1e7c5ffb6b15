#!/usr/bin/env python3
"""Injects random faults into a live run on emulated hosts: kills, stops and replaces processes, including the master; cuts paths in one
direction or both; separates hosts from the rest; slows links; sends bytes to every port over unauthenticated connections.

Storms and calms alternate. In a storm there is a fault about every second. In the calm that follows, all faults are healed, and within a
limit every trainer must make steps together with all others. Every sum that a trainer receives is checked element by element, and the
weights after each step must be equal at all trainers.

  chaos.py --build build                     five minutes
  chaos.py --build build --minutes 30 --seed 7 --svg docs/internals/chaos.svg --json chaos.json

Needs root and /dev/net/tun (tests/netlab/netlab check). Exit status 0: no hang, no wrong sum and no crash; 77: a lab is
not permitted on this machine.
"""

import argparse
import json
import os
import pathlib
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent.parent / "netlab"), str(HERE)]
import lab as netlab  # noqa: E402
import timeline  # noqa: E402

HEARTBEAT = 3.0  # seconds of silence after which the master removes a peer
WINDOW = 5.0  # seconds for members to resume at a restarted master
MASTER_LIMIT = 30.0  # a trainer without contact to the master for longer joins again
CALM_LIMIT = 90.0  # from the end of a storm until all make steps together; longer is a hang
RAW_CLIENT = """
import os, random, socket, sys
seed, count, *places = sys.argv[1:]
random.seed(int(seed))
held = []
for _ in range(int(count)):
    host, port = random.choice(places).split(":")
    try:
        s = socket.create_connection((host, int(port)), 2)
        s.send(random.choice([b"", b"CPF1", bytes(16), b"\\x22\\0\\0\\0\\0PCCL", b"GET / HTTP/1.1\\r\\n\\r\\n"]) + os.urandom(random.randrange(2000)))
        held.append(s)
    except OSError:
        pass
import time; time.sleep(random.random() * 5)
"""


class Trainer:
    def __init__(self, host, process, now):
        self.host, self.process, self.born = host, process, now
        self.partial = b""
        self.words = "started"
        self.stopped = self.doomed = False
        self.works = False  # holds the run's state and makes steps
        self.last_step = None


class Chaos:
    def __init__(self, args, lab, folder):
        self.args, self.lab, self.folder = args, lab, folder
        self.random = random.Random(args.seed)
        self.begin = time.monotonic()
        self.trainers = {}
        self.master = None
        self.weights = {}
        self.life = 0
        self.acts = {}
        self.events, self.steps, self.recoveries = [], [], []
        self.wrong, self.crashes, self.hangs, self.removed, self.joins, self.highest = [], [], [], 0, 0, 0
        self.pending = []  # list of (time, action that ends a fault)

    # ---------------------------------------------------------------------------------------------------------- processes

    def now(self):
        return time.monotonic() - self.begin

    def note(self, host, kind, until=None):
        self.events.append({"at": self.now(), "host": host, "kind": kind, "until": until})
        self.acts[kind] = self.acts.get(kind, 0) + 1

    def start_master(self):
        log = open(self.folder / "master.log", "ab")
        self.master = self.lab.start(0, [str(self.args.build / "bin/pccl-master"), "--listen", f"0.0.0.0:{netlab.MASTER_PORT}", "--journal",
                                         str(self.folder / "journal"), "--heartbeat-timeout", f"{HEARTBEAT}s", "--recovery-window",
                                         f"{WINDOW}s", "--log-level", "INFO"], stdout=subprocess.DEVNULL, stderr=log)

    def spawn(self, host):
        log = open(self.folder / f"trainer{host}.log", "ab")
        process = self.lab.start(host, [str(self.args.build / "bin/pccl-churn"), "--trainer", f"{self.lab.addresses[0]}:{netlab.MASTER_PORT}",
                                        "--slot", str(host), "--seed", str(self.random.randrange(1 << 30)), "--master-limit-ms",
                                        str(int(MASTER_LIMIT * 1000))], stdout=subprocess.PIPE, stderr=log)
        os.set_blocking(process.stdout.fileno(), False)
        self.trainers[host] = Trainer(host, process, self.now())

    def look(self):
        """Reads the trainers' lines; reaps and replaces trainers that ended."""
        for host in range(1, self.lab.hosts):
            trainer = self.trainers.get(host)
            if trainer is None:
                self.spawn(host)
                continue
            ended = trainer.process.poll() is not None
            while more := trainer.process.stdout.read(65536):
                *lines, trainer.partial = (trainer.partial + more).split(b"\n")
                for line in lines:
                    self.hear(trainer, line.decode())
            if ended:
                status = trainer.process.returncode
                if not (trainer.doomed and status in (0, -signal.SIGKILL, -signal.SIGTERM)):
                    self.crashes.append(f"{self.now():.1f} s: the trainer of host {host} ended with status {status}; last line: {trainer.words}")
                del self.trainers[host]
        if self.master and self.master.poll() is not None:
            self.crashes.append(f"{self.now():.1f} s: the master ended with status {self.master.returncode}")
            self.start_master()
        for due, action in [p for p in self.pending if p[0] <= self.now()]:
            self.pending.remove((due, action))
            action()

    def hear(self, trainer, line):
        kind, _, words = line.partition(" ")
        if kind != "step":
            trainer.words = line
        if kind == "step":
            self.hear_step(trainer, words)
        elif kind == "joined":
            self.joins += 1
        elif kind == "removed":
            self.removed += 1
            trainer.works = False
        elif kind == "wrong":
            self.wrong.append(f"{self.now():.1f} s: host {trainer.host}: {words}")

    def hear_step(self, trainer, words):
        revision = int(words.split()[0])
        if revision + 50 < self.highest:  # all trainers that held the state had ended, so a new run began
            self.weights.clear()
            self.highest = 0
            self.life += 1
        if self.weights.setdefault(revision, words) != words:
            self.wrong.append(f"{self.now():.1f} s: host {trainer.host}: weights after step {words} differ from {self.weights[revision]}")
        self.highest = max(self.highest, revision)
        trainer.works, trainer.last_step = True, self.now()
        self.steps.append((self.now(), trainer.host))

    # --------------------------------------------------------------------------------------------------------------- faults

    def later(self, seconds, action):
        self.pending.append((self.now() + seconds, action))

    def well(self):
        """The trainers that a fault can affect. Two trainers that hold the run's state are always excluded."""
        working = [t for t in self.trainers.values() if t.works and not t.stopped and not t.doomed]
        self.random.shuffle(working)
        return working[2:] + [t for t in self.trainers.values() if not t.works and not t.stopped and not t.doomed]

    def victim(self):
        return self.random.choice(self.well() or [None])

    def kill(self):
        if trainer := self.victim():
            trainer.doomed = True
            trainer.process.kill()
            self.note(trainer.host, "kill -9")

    def leave(self):
        if trainer := self.victim():
            trainer.doomed, trainer.works = True, False
            trainer.process.terminate()
            self.note(trainer.host, "leave")

    def stop(self):
        if trainer := self.victim():
            seconds = self.random.choice([0.3, 1.5, HEARTBEAT * 1.5, HEARTBEAT * 4]) * self.random.uniform(0.5, 1.3)
            trainer.stopped, trainer.works = True, False
            trainer.process.send_signal(signal.SIGSTOP)
            self.note(trainer.host, "SIGSTOP", self.now() + seconds)
            self.later(seconds, lambda: self.resume(trainer))

    def resume(self, trainer):
        if trainer.stopped and trainer.process.poll() is None:
            trainer.process.send_signal(signal.SIGCONT)
        trainer.stopped = False

    def master_kill(self):
        if self.master is None:
            return
        seconds = self.random.choice([0, 0.3, 1, 4]) * self.random.uniform(0.5, 1.5)
        self.master.kill()
        self.master.wait()
        self.master = None
        self.note(0, "master kill -9", self.now() + seconds)
        self.later(seconds, self.start_master)

    def master_stop(self):
        if self.master is None:
            return
        seconds = self.random.uniform(0.2, HEARTBEAT)
        stopped = self.master
        stopped.send_signal(signal.SIGSTOP)
        self.note(0, "master SIGSTOP", self.now() + seconds)
        self.later(seconds, lambda: stopped.poll() is None and stopped.send_signal(signal.SIGCONT))

    def cut(self, pairs, seconds):
        for a, b in pairs:
            self.lab.command(f"block {a} {b}")
        self.later(seconds, lambda: [self.lab.command(f"unblock {a} {b}") for a, b in pairs])

    def cut_path(self):
        if trainer := self.victim():
            other = self.random.choice([h for h in range(1, self.lab.hosts) if h != trainer.host])
            both = self.random.random() < 0.5
            pairs = [(trainer.host, other)] + ([(other, trainer.host)] if both else [])
            self.random.shuffle(pairs[0:1])
            seconds = self.random.choice([0.5, 2, 10]) * self.random.uniform(0.5, 1.5)
            self.note(trainer.host, "path cut" if both else "path cut one way", self.now() + seconds)
            self.cut(pairs, seconds)

    def cut_master(self):
        if trainer := self.victim():
            seconds = self.random.choice([0.5, 2, 8]) * self.random.uniform(0.5, 1.5)
            trainer.works = False
            self.note(trainer.host, "cut from master", self.now() + seconds)
            self.cut([(trainer.host, 0), (0, trainer.host)], seconds)

    def part(self):
        away = self.well()
        away = away[:self.random.randint(1, len(away))] if away else []
        if not away:
            return
        seconds = self.random.choice([1, 4, 12]) * self.random.uniform(0.5, 1.5)
        away = {t.host for t in away}
        for trainer in self.trainers.values():
            trainer.works = trainer.works and trainer.host not in away
        for host in away:
            self.note(host, "parted", self.now() + seconds)
        rest = set(range(self.lab.hosts)) - away
        self.cut([(a, b) for a in away for b in rest] + [(b, a) for a in away for b in rest], seconds)

    def slow(self):
        if trainer := self.victim():
            seconds = self.random.uniform(2, 8)
            self.note(trainer.host, "slow and lossy", self.now() + seconds)
            self.lab.command(f"set {trainer.host} * rate 8mbit loss 1%")
            self.later(seconds, lambda: self.lab.command(f"set {trainer.host} * rate {self.args.rate} loss 0%"))

    def invalid_bytes(self):
        host = self.random.randrange(1, self.lab.hosts)
        places = [f"{self.lab.addresses[0]}:{netlab.MASTER_PORT}"] + [f"{a}:{p}" for a in self.lab.addresses[1:] for p in (48149, 48150)]
        self.note(host, "invalid bytes")
        self.lab.start(host, [sys.executable, "-c", RAW_CLIENT, str(self.random.randrange(1 << 30)), "60", *places])

    FAULTS = {kill: 6, leave: 2, stop: 4, master_kill: 4, master_stop: 1, cut_path: 4, cut_master: 2, part: 2, slow: 2, invalid_bytes: 2}

    def heal(self):
        for _, action in sorted(self.pending, key=lambda p: p[0]):
            action()
        self.pending.clear()

    # ---------------------------------------------------------------------------------------------------------------- the run

    def storm(self, seconds):
        end, next_act = self.now() + seconds, self.now()
        while self.now() < end:
            self.look()
            if self.now() >= next_act:
                self.random.choices(list(self.FAULTS), list(self.FAULTS.values()))[0](self)
                next_act = self.now() + self.random.choice([0, 0.5, 2]) * self.random.uniform(0.5, 1.5)
            time.sleep(0.01)

    def calm(self):
        """Waits until every trainer has made a step together with all others. Returns the time that took, or None."""
        self.heal()
        began = self.now()
        while self.now() < began + CALM_LIMIT:
            self.look()
            together = [t for t in self.trainers.values() if t.last_step and t.last_step > began]
            if len(together) == self.lab.hosts - 1 and self.members() == self.lab.hosts - 1:
                self.recoveries.append(self.now() - began)
                return True
            time.sleep(0.01)
        for trainer in self.trainers.values():
            if not trainer.last_step or trainer.last_step < began:
                self.hangs.append(f"{self.now():.1f} s: host {trainer.host} makes no step after the storm; last line: {trainer.words}")
        if not self.hangs:
            self.hangs.append(f"{self.now():.1f} s: after the storm, the trainers are not all in one run")
        return False

    def members(self):
        """The size of the run according to the master's log."""
        text = (self.folder / "master.log").read_text(errors="replace")
        found = re.findall(r"view \d+: (\d+) members", text[-20000:])
        return int(found[-1]) if found else 0

    def run(self):
        self.start_master()
        if not self.calm():
            return
        self.recoveries.clear()  # the start
        while self.now() < self.args.minutes * 60:
            self.storm(self.random.uniform(10, 25))
            if not self.calm():
                break
            self.progress()
        for trainer in self.trainers.values():
            trainer.doomed = True
            trainer.process.terminate()
        end = time.monotonic() + 20
        while self.trainers and time.monotonic() < end:
            for trainer in list(self.trainers.values()):
                if trainer.process.poll() is not None:
                    del self.trainers[trainer.host]
            time.sleep(0.01)
        self.hangs += [f"the trainer of host {t.host} does not leave" for t in self.trainers.values()]

    def progress(self):
        print(f"{self.now():6.0f} s  step {self.highest:6d}  faults {sum(self.acts.values()):4d}  back at work after {self.recoveries[-1]:5.1f} s  "
              f"removed {self.removed}  joins {self.joins}  hangs {len(self.hangs)}  wrong {len(self.wrong)}  crashes {len(self.crashes)}", flush=True)

    def good(self):
        return not (self.hangs or self.wrong or self.crashes) and bool(self.recoveries)

    def report(self):
        rows = [("minutes", f"{self.now() / 60:.1f}"), ("trainers", self.lab.hosts - 1), ("steps x members", len(self.steps)),
                *[(kind, count) for kind, count in sorted(self.acts.items())], ("removed", self.removed), ("joins", self.joins),
                ("storms", len(self.recoveries)),
                ("back at work after", f"{statistics.median(self.recoveries):.1f} s (median), {max(self.recoveries):.1f} s (slowest)" if self.recoveries else "-"),
                ("runs that restarted", self.life), ("hangs", len(self.hangs)), ("wrong sums", len(self.wrong)), ("crashes", len(self.crashes))]
        return rows


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=HERE.parent.parent.parent / "build", help="folder of the build")
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--trainers", type=int, default=5, help="number of trainers, each on a separate host")
    parser.add_argument("--delay", default="5ms", help="delay of one direction")
    parser.add_argument("--rate", default="200mbit")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 30))
    parser.add_argument("--svg", type=pathlib.Path, help="draw a timeline")
    parser.add_argument("--json", type=pathlib.Path, help="write all events, steps and counts to this file")
    parser.add_argument("--keep", action="store_true", help="keep the logs even if the run is good")
    return parser.parse_args()


def main():
    args = options()
    if problem := netlab.why_not():
        print(f"chaos: {problem}", file=sys.stderr)
        return 77
    folder = pathlib.Path(tempfile.mkdtemp(prefix="pccl-chaos-"))
    print(f"chaos: {args.trainers} trainers for {args.minutes:g} minutes, seed {args.seed}; logs in {folder}", flush=True)
    with netlab.Lab(args.trainers + 1, args.delay, args.rate) as lab:
        chaos = Chaos(args, lab, folder)
        try:
            chaos.run()
        except KeyboardInterrupt:
            pass
    rows = chaos.report()
    print()
    for name, value in rows:
        print(f"  {name:<20} {value}")
    for words in (*chaos.wrong, *chaos.hangs, *chaos.crashes):
        print(f"  ! {words}")
    print(f"  seed {args.seed}: {'good' if chaos.good() else 'BAD; logs in ' + str(folder)}")
    if args.json:
        args.json.write_text(json.dumps({"rows": dict(rows), "events": chaos.events, "recoveries": chaos.recoveries, "steps": chaos.steps}))
    if args.svg:
        args.svg.write_text(timeline.draw(chaos.events, chaos.steps, args.trainers, chaos.now()))
    if chaos.good() and not args.keep:
        shutil.rmtree(folder, ignore_errors=True)
    return 0 if chaos.good() else 1


if __name__ == "__main__":
    sys.exit(main())
