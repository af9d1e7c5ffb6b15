"""The contestants. Each has a name and a way to time an all-reduce among ranks on this machine. All of them report the median of single
calls at the slowest rank, compute float32 sums, work out of place where possible, and check the results.

A sample is a dict: `us` and, where known, `cpu_s` (processor time of all ranks for one all-reduce) and `memory` (bytes beyond the
buffers at the rank that used most).
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
LIMIT_S = 600
MOST_WARM_UP = 5


class Failed(RuntimeError):
    """A contestant did not run or returned wrong results."""


def call(command, limit_s=LIMIT_S, **popen):
    try:
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=limit_s, check=False, **popen)
    except subprocess.TimeoutExpired as error:
        raise Failed(f"{command[0]} took more than {limit_s} s") from error
    if done.returncode != 0:
        raise Failed(f"{' '.join(map(str, command))}: exit status {done.returncode}\n{done.stderr[-2000:]}")
    return done.stdout


def visibly(command, **popen):
    """Runs a command that changes the machine, and prints it."""
    print("+ " + " ".join(map(str, command)), file=sys.stderr, flush=True)
    subprocess.run([str(word) for word in command], check=True, stdout=sys.stderr, **popen)


def install(packages):
    """Installs Debian packages, given as {program of the package: package}."""
    missing = sorted({package for program, package in packages.items() if not shutil.which(program)})
    if missing:
        as_root = [] if os.geteuid() == 0 else ["sudo"]
        visibly([*as_root, "apt-get", "update", "--quiet"])
        visibly([*as_root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "--yes", "--no-install-recommends", *missing])


def samples_of(path):
    """{size: sample} of a JSON file of pccl-perf or bare_ring."""
    samples = {}
    for row in json.loads(path.read_text())["rows"]:
        if row.get("wrong"):
            raise Failed(f"{row['wrong']} wrong elements")
        sample = samples[row["bytes"]] = {"us": row["time_us"]}
        if row.get("cpu_s"):
            sample["cpu_s"] = sum(row["cpu_s"])
        if row.get("memory_bytes") and None not in row["memory_bytes"]:
            sample["memory"] = max(row["memory_bytes"])
        sample.update((key, row[key]) for key in ("algorithm", "lanes", "warm_up") if key in row)
    return samples


def factor_of(sizes):
    """The factor between neighbouring sizes; None if they are not a geometric sequence."""
    factors = {after // before for before, after in zip(sizes, sizes[1:]) if after % before == 0}
    if len(sizes) == 1:
        return 2
    return factors.pop() if len(factors) == 1 and sizes[-1] == sizes[0] * min(factors, default=0) ** (len(sizes) - 1) else None


class Program:
    """bare_ring, pccl-perf, and other programs with the same options."""

    def __init__(self, name, path):
        self.name, self.path = name, path

    def measure(self, ranks, sizes, iterations, options=(), warm_up=None):
        """Returns {size: sample}. One run measures all sizes if they are a geometric sequence."""
        factor = factor_of(sizes)
        if factor is None:
            return {k: v for size in sizes for k, v in self.measure(ranks, [size], iterations, options, warm_up).items()}
        with tempfile.TemporaryDirectory() as folder:
            out = pathlib.Path(folder) / "out.json"
            call([self.path, "-t", ranks, "-b", sizes[0], "-e", sizes[-1], "-f", factor, "-n", iterations,
                  "-w", min(MOST_WARM_UP, iterations) if warm_up is None else warm_up, *options, "--json", out])
            return samples_of(out)


class Lines:
    """A program that prints `bytes microseconds wrong processor-seconds`."""

    def measure(self, ranks, sizes, iterations):
        samples = {}
        for line in call(self.command(ranks, sizes, iterations), env=self.environment()).splitlines():
            words = line.split()
            if len(words) == 4 and words[0].isdigit():
                if words[2] != "0":
                    raise Failed(f"{self.name}: {words[2]} wrong elements")
                samples[int(words[0])] = {"us": float(words[1]), "cpu_s": float(words[3])}
        if missing := set(sizes) - set(samples):
            raise Failed(f"{self.name} printed no result for {missing}")
        return samples


class OpenMpi(Lines):
    name = "Open MPI"

    def __init__(self, build):
        install({"mpirun": "openmpi-bin", "mpicc": "libopenmpi-dev"})
        self.program = build / "bin" / "mpi_allreduce"
        source = HERE / "mpi_allreduce.c"
        if not self.program.exists() or self.program.stat().st_mtime < source.stat().st_mtime:
            visibly(["mpicc", "-O2", "-std=gnu99", source, "-o", self.program])
        self.version = call(["mpirun", "--version"]).splitlines()[0].rpartition(" ")[2]

    def environment(self):
        return {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}

    def command(self, ranks, sizes, iterations):
        # Only TCP over loopback, which Open MPI would use between machines, and not its shared memory.
        return ["mpirun", "--oversubscribe", "--bind-to", "none", "--mca", "pml", "ob1", "--mca", "btl", "tcp,self",
                "--mca", "btl_tcp_if_include", "lo", "-n", ranks, self.program, iterations, *sizes]


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

    def command(self, ranks, sizes, iterations):
        return [self.python, HERE / "gloo_allreduce.py", ranks, iterations, *sizes]


def all_contestants(build, against=(), mpi=True, gloo=False):
    """bare_ring first, then PCCL, then the others."""
    found = [Program("bare_ring", build / "bin" / "bare_ring"), Program("PCCL", build / "bin" / "pccl-perf")]
    for contestant in found:
        if not contestant.path.exists():
            raise SystemExit(f"{contestant.path} does not exist; configure with `cmake --preset release -DPCCL_BUILD_BENCH=ON` and build")
    for folder in against:
        found.append(Program(f"PCCL of {folder}", folder / "bin" / "pccl-perf"))
    if mpi:
        found.append(OpenMpi(build))
    if gloo:
        found.append(Gloo(build))
    return found
