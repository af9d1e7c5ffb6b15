#!/usr/bin/env python3
"""Measures the time from a kill to the survivors' next result, and the time of a step: PCCL and torchft, three replicas on this machine.

  bench/survivors.py --build build                 5 kills and 3 rounds of steps each; about three minutes
  bench/survivors.py --build build --rounds 1      a shorter measurement

The contestants take turns. Each replica averages a float32 tensor in a loop. For a kill, one replica receives SIGKILL during its loop, and the
result is the time from the signal to the first average that a survivor completes without it. The tool prints the median over the kills.
torchft (with Gloo, its process group for CPU tensors) is installed from PyPI into BUILD/torchft-venv. Its lighthouse runs with a heartbeat
timeout of 1 s instead of 5 s: a loss takes longer than the heartbeat timeout.
"""

import argparse
import json
import os
import pathlib
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
REPLICAS = 3
SIZES = {"64 MB": 64 << 20, "4 KB": 4 << 10}
LIMIT_S = 90


class Failed(RuntimeError):
    """A contestant did not run."""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def torchft_python(build):
    """The interpreter of an environment with torchft and the PyTorch of BUILD/venv."""
    folder = (build / "torchft-venv").resolve()
    python = folder / "bin/python"
    if not (folder / "ready").exists():
        print("survivors: preparing", folder, file=sys.stderr, flush=True)
        subprocess.run([build / "venv/bin/python", "-m", "venv", folder], check=True)
        packages = subprocess.run([build / "venv/bin/python", "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"],
                                  check=True, capture_output=True, text=True).stdout.strip()
        here = subprocess.run([python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"],
                              check=True, capture_output=True, text=True).stdout.strip()
        (pathlib.Path(here) / "pccl-base.pth").write_text(packages + "\n")
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "opentelemetry-api", "opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http"], check=True)
        subprocess.run([*pip, "--no-deps", "torchft"], check=True)  # uses the torch of BUILD/venv
        (folder / "ready").touch()
    return python


class Contestant:
    """A server and replicas that average in a loop."""

    def __init__(self, name, build):
        self.name = name
        self.build = build
        self.python = torchft_python(build) if name == "torchft" else build / "venv/bin/python"

    def version(self):
        code = f"import importlib.metadata as m; print(m.version('{self.name}'))" if self.name == "torchft" else "import pccl; print(pccl.__version__)"
        return subprocess.run([self.python, "-c", code], check=True, capture_output=True, text=True, env=self.environment()).stdout.strip()

    def environment(self):
        path = os.pathsep.join([str((self.build / "python").resolve()), os.environ.get("PYTHONPATH", "")])
        return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}

    def start_server(self, log):
        if self.name == "pccl":
            server = subprocess.Popen([self.build / "bin/pccl-master", "--listen", "127.0.0.1:0", "--no-journal", "--log-level", "WARN"],
                                      stdout=subprocess.PIPE, stderr=log, text=True)
            return server, re.search(r"listening on (\S+)", server.stdout.readline())[1]
        port = free_port()
        server = subprocess.Popen([self.python.parent / "torchft_lighthouse", "--bind", f"127.0.0.1:{port}", "--min_replicas", "2",
                                   "--heartbeat_timeout_ms", "1000", "--quorum_tick_ms", "10"], stdout=log, stderr=log)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        return server, f"http://127.0.0.1:{port}"

    def run(self, size, steps, kill_after=None):
        """Times of steps in seconds and, with `kill_after` (seconds), the time from the kill to a survivor's next result."""
        with tempfile.TemporaryDirectory(prefix="pccl-survivors-") as folder, open(pathlib.Path(folder) / "log", "w+") as log:
            server, address = self.start_server(log)
            outputs = [open(pathlib.Path(folder) / f"replica{i}", "w+") for i in range(REPLICAS)]
            replicas = []
            try:
                for number, output in enumerate(outputs):
                    command = [self.python, HERE / "survivors_peer.py", "--library", self.name, "--server", address, "--number", number,
                               "--replicas", REPLICAS, "--bytes", size, "--steps", steps, "--store-port", free_port()]
                    replicas.append(subprocess.Popen([str(word) for word in command], stdout=output, stderr=log, env=self.environment()))
                if kill_after is None:
                    self.await_lines(replicas, outputs, steps, log)
                    return [seconds for _, _, seconds, members in self.lines(outputs[0]) if members == REPLICAS]
                self.await_lines(replicas, outputs, 3, log)
                time.sleep(kill_after)
                killed = time.monotonic()
                replicas[-1].send_signal(signal.SIGKILL)
                deadline = time.monotonic() + LIMIT_S
                while time.monotonic() < deadline:
                    ends = [end for output in outputs[:-1] for _, end, _, members in self.lines(output) if end > killed and members < REPLICAS]
                    if ends:
                        return min(ends) - killed
                    time.sleep(0.02)
                raise Failed(f"{self.name}: no result within {LIMIT_S} s of a kill\n{self.tail(log)}")
            finally:
                for process in [*replicas, server]:
                    process.kill()
                    process.wait()
                for output in outputs:
                    output.close()

    @staticmethod
    def lines(output):
        text = pathlib.Path(output.name).read_text()
        rows = [line.split() for line in text[: text.rfind("\n") + 1].splitlines()]
        return [(int(row[0]), float(row[1]), float(row[2]), int(row[3])) for row in rows if len(row) == 4 and row[0].isdigit()]

    def await_lines(self, replicas, outputs, count, log):
        deadline = time.monotonic() + LIMIT_S
        while min(len(self.lines(output)) for output in outputs) < count:
            if time.monotonic() > deadline or any(replica.poll() not in (None, 0) for replica in replicas):
                raise Failed(f"{self.name}: the replicas made no progress\n{self.tail(log)}")
            time.sleep(0.05)

    @staticmethod
    def tail(log):
        return pathlib.Path(log.name).read_text()[-2000:]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=HERE.parent / "build", help="build directory (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of steps (default: %(default)s)")
    parser.add_argument("--kills", type=int, default=5, help="kills per library (default: %(default)s)")
    parser.add_argument("--json", type=pathlib.Path, help="write the results to this file")
    args = parser.parse_args()
    contestants = [Contestant("pccl", args.build), Contestant("torchft", args.build)]
    result = {c.name: {"version": c.version(), "kills_s": [], "steps_s": {name: [] for name in SIZES}} for c in contestants}
    try:
        for turn in range(args.rounds):
            for c in contestants if turn % 2 == 0 else contestants[::-1]:
                for name, size in SIZES.items():
                    steps = 40 if size > 1 << 20 else 200
                    result[c.name]["steps_s"][name].append(statistics.median(c.run(size, steps)[5:]))
                    print(f"{c.name}: a step of {name}: {1000 * result[c.name]['steps_s'][name][-1]:.2f} ms", flush=True)
        for turn in range(args.kills):
            for c in contestants if turn % 2 == 0 else contestants[::-1]:
                result[c.name]["kills_s"].append(c.run(SIZES["64 MB"], 100000, kill_after=0.3 + 0.13 * turn))
                print(f"{c.name}: next result {result[c.name]['kills_s'][-1]:.2f} s after kill -9", flush=True)
    except Failed as failure:
        print(f"survivors: {failure}", file=sys.stderr)
        return 1
    print(f"\n{'':40}" + "".join(f"{c.name + ' ' + result[c.name]['version']:>18}" for c in contestants))
    rows = [("survivors' next result after kill -9 (s)", [statistics.median(result[c.name]["kills_s"]) for c in contestants], "{:.2f}")]
    for name in SIZES:
        rows.append((f"a step of {name} (ms)", [1000 * statistics.median(result[c.name]["steps_s"][name]) for c in contestants], "{:.2f}"))
    for title, values, form in rows:
        print(f"{title:40}" + "".join(f"{form.format(value):>18}" for value in values))
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
