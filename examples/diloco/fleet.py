"""A master and trainers of `diloco` as processes, with their reports. For experiments and tests; uses the standard library only.

    with Fleet(build, {"method": "async", "steps": 20}) as fleet:
        for shard in range(1, 5):
            fleet.start(f"{shard}/4")
        fleet.trainers[0].wait_for_round(5)
        fleet.trainers[3].kill()
        fleet.finish()

With a lab (tests/netlab/lab.py), the master runs on the last host and each trainer on another host.
"""

import ctypes
import json
import pathlib
import signal
import subprocess
import sys
import threading
import time

LISTENING = "pccl-master: listening on "
PR_SET_PDEATHSIG = 1


class FleetError(RuntimeError):
    """A process failed; the text contains the end of its log."""


def die_with_parent():
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def launch(command, lab, host, errors):
    words = [str(word) for word in command]
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": errors, "text": True}
    if lab:
        return lab.start(host, words, **streams)
    return subprocess.Popen(words, preexec_fn=die_with_parent, start_new_session=True, **streams)


class Trainer:
    """One `diloco` process. A thread reads its report."""

    def __init__(self, name, process, log):
        self.name = name
        self.process = process
        self.log = log
        self.rounds = []  # records, in order
        self.joined = self.done = None
        self.killed = self.ended = False
        self.news = threading.Condition()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            record = json.loads(line)
            with self.news:
                if record["event"] == "step":
                    self.rounds.append(record)
                elif record["event"] == "joined":
                    self.joined = record
                else:
                    self.done = record
                self.news.notify_all()
        with self.news:
            self.ended = True
            self.news.notify_all()

    def wait(self, what, condition, limit_s=60):
        """Waits until `condition()` holds. It is checked after each report of this trainer."""
        with self.news:
            self.news.wait_for(lambda: condition() or self.ended, limit_s)
            if not condition():
                raise FleetError(f"{self.name} did not report {what} within {limit_s} s; {self.tail()}")

    def wait_for_round(self, number, limit_s=60):
        self.wait(f"round {number}", lambda: self.rounds and self.rounds[-1]["step"] >= number, limit_s)

    def wait_for_join(self, limit_s=60):
        self.wait("that it has joined", lambda: self.joined, limit_s)

    def kill(self):
        self.killed = True
        self.process.kill()
        self.process.wait()

    def tail(self):
        return f"the end of {self.log}:\n" + "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])


class Fleet:
    def __init__(self, build, settings, logs, lab=None, journal=None):
        self.bin = pathlib.Path(build) / "bin"
        self.settings = settings
        self.logs = pathlib.Path(logs)
        self.lab = lab
        self.journal = journal
        self.trainers = []
        self.master = None
        self.address = None

    def __enter__(self):
        self.logs.mkdir(parents=True, exist_ok=True)
        self.start_master()
        return self

    def __exit__(self, *_):
        for process in [t.process for t in self.trainers] + [self.master]:
            if process and process.poll() is None:
                process.kill()
                process.wait()

    def start_master(self):
        """Starts a master, at the address of the previous one if there was one."""
        host = self.lab.hosts - 1 if self.lab else None
        listen = self.address or (f"{self.lab.addresses[host]}:0" if self.lab else "127.0.0.1:0")
        journal = ["--journal", self.journal] if self.journal else ["--no-journal"]
        with open(self.logs / "master.log", "ab") as errors:
            self.master = launch([self.bin / "pccl-master", "--listen", listen, *journal], self.lab, host, errors)
        line = self.master.stdout.readline().strip()
        if not line.startswith(LISTENING):
            raise FleetError(f"the master did not report its address; see {self.logs / 'master.log'}")
        self.address = line[len(LISTENING) :]

    def kill_master(self):
        self.master.kill()
        self.master.wait()

    def start(self, shard, **more):
        """Starts a trainer with this part of the data. `more` are its additional settings."""
        name = f"trainer-{len(self.trainers) + 1}"
        settings = {**self.settings, "master": self.address, "shard": shard, "report": "-", **more}
        words = [self.bin / "diloco"]
        for key, value in settings.items():
            words += [f"--{key}"] if value is True else [f"--{key}", str(value)]
        log = self.logs / f"{name}.log"
        with open(log, "wb") as errors:
            process = launch(words, self.lab, len(self.trainers) % (self.lab.hosts - 1) if self.lab else None, errors)
        self.trainers.append(Trainer(name, process, log))
        return self.trainers[-1]

    def living(self):
        return [t for t in self.trainers if not t.killed]

    def finish(self, limit_s=300):
        """Waits until all are done. All must then have the same outer state, except with gossip, where each peer has its own model."""
        end = time.monotonic() + limit_s
        for trainer in self.living():
            trainer.wait("its end", lambda t=trainer: t.done, max(0.0, end - time.monotonic()))
            if trainer.process.wait(20) != 0:
                raise FleetError(f"{trainer.name}: exit status {trainer.process.returncode}; {trainer.tail()}")
        if len({t.done["hash"] for t in self.living() if t.done["identical"] is not None}) > 1:
            raise FleetError("the trainers hold different outer states: " + ", ".join(t.done["hash"] for t in self.living()))
