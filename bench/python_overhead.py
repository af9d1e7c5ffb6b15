"""Measures the time that Python adds to an all-reduce: the same calls through the package and through C, between two processes on this
machine.

Each process has two communicators in separate runs: one of the package `pccl`, and one of libpccl.so, whose functions are called with
prepared arguments. Their rounds take turns, so that other load on the machine affects both. The result is the median over the rounds of
the differences between the rounds' medians.

    python3 bench/python_overhead.py --build build

Exit status: 0 if 4 KiB cost at most 30 us more and 64 MiB at most 2 % more, 1 otherwise.
"""

import argparse
import ctypes
import json
import pathlib
import statistics
import subprocess
import sys
import time

# Bytes, calls in a round, rounds of each.
CASES = [(4 << 10, 300, 31), (64 << 20, 3, 15)]
LIMIT_US, LIMIT_SHARE = 30.0, 0.02


class Address(ctypes.Structure):
    _fields_ = [("protocol", ctypes.c_int), ("ipv4", ctypes.c_uint8 * 4), ("ipv6", ctypes.c_uint8 * 16), ("port", ctypes.c_uint16)]


class Parameters(ctypes.Structure):
    _fields_ = [("master", Address), ("peer_group", ctypes.c_uint32), ("pool_size", ctypes.c_uint32)]


class Descriptor(ctypes.Structure):
    _fields_ = [("count", ctypes.c_size_t), ("op", ctypes.c_int), ("tag", ctypes.c_uint64), ("datatype", ctypes.c_int),
                ("hint", ctypes.c_int), ("quantized", ctypes.c_int), ("quantization", ctypes.c_int)]


class Info(ctypes.Structure):
    _fields_ = [("world", ctypes.c_uint32), ("tx", ctypes.c_uint64), ("rx", ctypes.c_uint64)]


class BareC:
    """A minimal wrapper of the C interface."""

    def __init__(self, library, port):
        self.c = ctypes.CDLL(str(library))
        self.c.pcclGetLastError.restype = ctypes.c_char_p
        self.check(self.c.pcclInit())
        parameters = Parameters()
        parameters.master.ipv4[:] = [127, 0, 0, 1]
        parameters.master.port = port
        self.comm = ctypes.c_void_p()
        self.check(self.c.pcclCreateCommunicator(ctypes.byref(parameters), ctypes.byref(self.comm)))

    def check(self, result):
        if result != 0:
            raise SystemExit(f"{result}: {self.c.pcclGetLastError().decode()}")

    def connect(self):
        self.check(self.c.pcclConnect(self.comm))

    def update(self):
        self.check(self.c.pcclUpdateTopology(self.comm))

    def size(self):
        value = ctypes.c_int()
        self.check(self.c.pcclGetAttribute(self.comm, 1, ctypes.byref(value)))
        return value.value

    def close(self):
        self.check(self.c.pcclDestroyCommunicator(self.comm))

    def reduce(self, values):
        descriptor, info = Descriptor(count=len(values) // 4, datatype=10), Info()
        memory = (ctypes.c_uint8 * len(values)).from_buffer(values)
        arguments = ctypes.byref(memory), ctypes.byref(memory), ctypes.byref(descriptor), self.comm, ctypes.byref(info)
        call = self.c.pcclAllReduce

        def one():
            if call(*arguments) != 0:
                self.check(1)

        return one


class Package:
    def __init__(self, pccl, port):
        self.pccl = pccl
        self.comm = pccl.Communicator(f"127.0.0.1:{port}")
        self.connect = self.comm.connect
        self.update = self.comm.update_topology
        self.close = self.comm.close

    def size(self):
        return self.comm.get_attribute(self.pccl.Attribute.GLOBAL_WORLD_SIZE)

    def reduce(self, values):
        values = memoryview(values).cast("f")
        return lambda: self.comm.all_reduce(values, values, op=self.pccl.ReduceOp.SUM)


def peer(rank, ports, library):
    import pccl

    sides = [Package(pccl, ports[0]), BareC(library, ports[1])]
    for side in sides:
        if rank == 1:
            sys.stdin.readline()  # the other process is a member
        side.connect()
        print("in", flush=True)
        while side.size() < 2:
            side.update()
    results = []
    for size, calls, rounds in CASES:
        reduces = [side.reduce(bytearray(size)) for side in sides]
        medians = ([], [])
        for i in range(rounds + 1):
            for which in (0, 1) if i % 2 == 0 else (1, 0):
                times = []
                for _ in range(calls):
                    begin = time.perf_counter_ns()
                    reduces[which]()
                    times.append(time.perf_counter_ns() - begin)
                if i > 0:  # the first round is a warm-up
                    medians[which].append(statistics.median(times) / 1000)
        results.append((size, medians))
    for side in sides:
        side.close()
    print(json.dumps(results), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--build", default="build", help="build folder that contains python/ and lib/")
    parser.add_argument("--peer", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    build = pathlib.Path(args.build).resolve()
    sys.path.insert(0, str(build / "python"))
    library = build / "lib" / "libpccl.so"
    if args.peer:
        return peer(int(args.peer[0]), [int(port) for port in args.peer[1:]], library)
    try:
        import pccl
    except ImportError:
        print("the Python package is not built; run `make python build`")
        return None

    masters = [pccl.MasterNode("127.0.0.1:0", daemon=True) for _ in range(2)]
    for master in masters:
        master.run()
    command = [sys.executable, __file__, "--build", build, "--peer"]
    peers = [subprocess.Popen([*map(str, [*command, rank, *[master.port for master in masters]])], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True) for rank in range(2)]
    for _ in masters:
        assert peers[0].stdout.readline() == "in\n"
        peers[1].stdin.write("\n")
        peers[1].stdin.flush()
        assert peers[1].stdout.readline() == "in\n"
    results = json.loads(peers[0].stdout.readline())
    for process in peers:
        process.communicate()

    failed = False
    print(f"{'bytes':>10} {'C (us)':>12} {'Python (us)':>12} {'more (us)':>10} {'more':>8}")
    for size, (python, c) in results:
        more = statistics.median(p - q for p, q in zip(python, c))
        share = statistics.median(p / q - 1 for p, q in zip(python, c))
        failed |= more > LIMIT_US if size <= 4 << 10 else share > LIMIT_SHARE
        print(f"{size:>10} {statistics.median(c):>12.1f} {statistics.median(python):>12.1f} {more:>10.1f} {share:>8.1%}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
