"""Who is measured: each is a name and a way to time an all-reduce of one size among ranks on this machine. All time alike: the median of
single calls at the slowest rank, float32 sums, out of place where it can be said, results checked."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
LIMIT_S = 600


class Failed(RuntimeError):
    """A contestant that did not run, or got wrong results."""


def call(command, limit_s=LIMIT_S, **popen):
    try:
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=limit_s, check=False, **popen)
    except subprocess.TimeoutExpired as error:
        raise Failed(f"{command[0]} took more than {limit_s} s") from error
    if done.returncode != 0:
        raise Failed(f"{' '.join(map(str, command))}: exit status {done.returncode}\n{done.stderr[-2000:]}")
    return done.stdout


def visibly(command, **popen):
    """Runs something that changes the machine, and shows it."""
    print("+ " + " ".join(map(str, command)), flush=True)
    subprocess.run([str(word) for word in command], check=True, **popen)


def install(packages):
    """Debian packages, given as {program that it brings: package}."""
    missing = sorted({package for program, package in packages.items() if not shutil.which(program)})
    if missing:
        as_root = [] if os.geteuid() == 0 else ["sudo"]
        visibly([*as_root, "apt-get", "update", "--quiet"])
        visibly([*as_root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "--yes", "--no-install-recommends", *missing])


def only_row(path):
    row = json.loads(path.read_text())["rows"][0]
    if row["wrong"]:
        raise Failed(f"{row['wrong']} wrong elements")
    return row["time_us"]


class Program:
    """bare_ring, pccl-perf, and others that take the same options."""

    def __init__(self, name, path):
        self.name, self.path = name, path

    def time_us(self, ranks, size, iterations):
        with tempfile.TemporaryDirectory() as folder:
            out = pathlib.Path(folder) / "out.json"
            call([self.path, "-t", ranks, "-b", size, "-e", size, "-n", iterations, "-w", min(5, iterations), "--json", out])
            return only_row(out)


class Lines:
    """Programs that print `bytes microseconds wrong`."""

    def time_us(self, ranks, size, iterations):
        for line in call(self.command(ranks, size, iterations), env=self.environment()).splitlines():
            words = line.split()
            if len(words) == 3 and words[0] == str(size):
                if words[2] != "0":
                    raise Failed(f"{self.name}: {words[2]} wrong elements")
                return float(words[1])
        raise Failed(f"{self.name} printed no result")

    def environment(self):
        return None


class OpenMpi(Lines):
    name = "Open MPI"

    def __init__(self, build):
        install({"mpirun": "openmpi-bin", "mpicc": "libopenmpi-dev"})
        self.program = build / "bin" / "mpi_allreduce"
        source = HERE / "mpi_allreduce.c"
        if not self.program.exists() or self.program.stat().st_mtime < source.stat().st_mtime:
            visibly(["mpicc", "-O2", "-std=c99", source, "-o", self.program])
        self.version = call(["mpirun", "--version"]).splitlines()[0].rpartition(" ")[2]

    def environment(self):
        return {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}

    def command(self, ranks, size, iterations):
        # TCP alone, over the loopback: what it would use between machines, not its shared memory.
        return ["mpirun", "--oversubscribe", "--bind-to", "none", "--mca", "pml", "ob1", "--mca", "btl", "tcp,self",
                "--mca", "btl_tcp_if_include", "lo", "-n", ranks, self.program, iterations, size]


class Gloo(Lines):
    name = "Gloo"
    TORCH = "torch==2.13.0"

    def __init__(self, build):
        self.python = build / "gloo-venv" / "bin" / "python"
        if not self.python.exists():
            visibly([sys.executable, "-m", "venv", build / "gloo-venv"])
        if subprocess.run([self.python, "-c", "import torch"], capture_output=True, check=False).returncode != 0:
            visibly([self.python, "-m", "pip", "install", "--quiet", self.TORCH, "numpy"])
        self.version = "of " + self.TORCH.replace("==", " ")

    def environment(self):
        return {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}

    def command(self, ranks, size, iterations):
        return [self.python, HERE / "gloo_allreduce.py", ranks, iterations, size]
