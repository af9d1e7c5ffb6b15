#!/usr/bin/env python3
"""One replica of bench/survivors.py: averages a tensor repeatedly with PCCL or torchft, and prints a line for each result.

The lines are `<step> <time of the end, CLOCK_MONOTONIC> <seconds> <members>`. All processes of one machine share that clock.
"""

import argparse
import datetime
import os
import sys
import time


def report(step, began, members):
    now = time.monotonic()
    print(f"{step} {now:.6f} {now - began:.6f} {members}", flush=True)


def run_pccl(args):
    import pccl
    import torch

    tensor = torch.ones(args.bytes // 4)
    result = torch.empty_like(tensor)
    communicator = pccl.Communicator(args.server)
    communicator.connect()
    while communicator.get_attribute(pccl.Attribute.GLOBAL_WORLD_SIZE) < args.replicas:
        communicator.update_topology()
    for step in range(args.steps):
        began = time.monotonic()
        while True:
            try:
                info = communicator.all_reduce(tensor, result, op=pccl.ReduceOp.AVG)
                break
            except pccl.PCCLError as error:
                if error.result is not pccl.Result.RANK_CONNECTION_LOST:
                    raise
        report(step, began, info.local_world_size)
    communicator.close()


def run_torchft(args):
    import torch
    from torchft import Manager, ProcessGroupGloo

    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(args.store_port), RANK="0", WORLD_SIZE="1")
    store = torch.distributed.TCPStore("127.0.0.1", args.store_port, is_master=True, wait_for_workers=False)
    limit = datetime.timedelta(seconds=30)
    manager = Manager(
        pg=ProcessGroupGloo(timeout=limit), load_state_dict=lambda state: None, state_dict=lambda: {}, min_replica_size=2,
        lighthouse_addr=args.server, replica_id=f"replica{args.number}", store_addr="127.0.0.1", store_port=args.store_port, rank=0, world_size=1,
        timeout=limit, quorum_timeout=limit, connect_timeout=limit, init_sync=False, use_async_quorum=False,
    )  # fmt: skip
    tensor = torch.ones(args.bytes // 4)
    step = 0
    while step < args.steps:
        began = time.monotonic()
        while True:  # a step whose commit fails is repeated
            manager.start_quorum()
            result = tensor.clone()  # torchft reduces in place; a repeated step needs the input again
            manager.allreduce(result).wait()
            if manager.should_commit():
                break
        if step > 0 or manager.num_participants() == args.replicas:
            report(step, began, manager.num_participants())
            step += 1
    manager.shutdown(wait=False)
    del store


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", choices=["pccl", "torchft"], required=True)
    parser.add_argument("--server", required=True, help="address of the master or of the lighthouse")
    parser.add_argument("--number", type=int, required=True, help="number of this replica, from 0")
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--bytes", type=int, default=64 << 20)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--store-port", type=int, default=0, help="port of this replica's store (torchft)")
    args = parser.parse_args()
    (run_pccl if args.library == "pccl" else run_torchft)(args)
    sys.stdout.flush()
    os._exit(0)  # threads of torchft can outlive the manager


if __name__ == "__main__":
    main()
