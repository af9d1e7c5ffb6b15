"""Times all-reduce (float32, sum) of torch.distributed with Gloo, in the same way as pccl-perf and bare_ring: medians at the slowest rank,
with checked results.

    gloo_allreduce.py RANKS ITERATIONS BYTES...            all ranks on this machine
    gloo_allreduce.py RANKS ITERATIONS BYTES... --rank R --master HOST:PORT

Rank 0 prints one line per size: bytes, microseconds, wrong elements, seconds of processor time of all ranks for one all-reduce. Each
rank computes in one thread.
"""

import argparse
import multiprocessing
import resource
import socket
import statistics
import sys
import time

import torch  # imported before the ranks are forked, so that it is imported once
import torch.distributed as dist

MOST_WARM_UP = 5


def cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def measure(rank, args, master):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://{master}", rank=rank, world_size=args.ranks)
    wrong_in_all = 0
    for size in args.bytes:
        # Gloo reduces in place. Zeros stay zeros, so repeated calls need no copy. The values are checked once, at the end.
        values = torch.zeros(size // 4)
        times = []
        for i in range(-min(MOST_WARM_UP, args.iterations), args.iterations):
            if i == 0:
                cpu_s = cpu_seconds()
            begin = time.perf_counter()
            dist.all_reduce(values)
            if i >= 0:
                times.append(time.perf_counter() - begin)
        cpu = torch.tensor([(cpu_seconds() - cpu_s) / args.iterations], dtype=torch.float64)
        dist.all_reduce(cpu)
        pattern = (torch.arange(size // 4) * 7 % 1021).float()
        values = pattern * (rank + 1)
        dist.all_reduce(values)
        wrong = int((values != pattern * (args.ranks * (args.ranks + 1) // 2)).sum())
        slowest = torch.tensor([statistics.median(times), float(wrong)], dtype=torch.float64)
        dist.all_reduce(slowest, op=dist.ReduceOp.MAX)
        wrong_in_all += int(slowest[1])
        if rank == 0:
            print(size, f"{slowest[0].item() * 1e6:.3f}", int(slowest[1]), f"{cpu.item():.9f}", flush=True)
    dist.destroy_process_group()
    sys.exit(1 if wrong_in_all else 0)


def free_address():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ranks", type=int)
    parser.add_argument("iterations", type=int)
    parser.add_argument("bytes", type=int, nargs="+")
    parser.add_argument("--rank", type=int)
    parser.add_argument("--master")
    args = parser.parse_args()
    if args.rank is not None:
        measure(args.rank, args, args.master)
    master = free_address()
    context = multiprocessing.get_context("fork")
    ranks = [context.Process(target=measure, args=(rank, args, master)) for rank in range(args.ranks)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join()
    sys.exit(max(abs(process.exitcode) for process in ranks))


if __name__ == "__main__":
    main()
