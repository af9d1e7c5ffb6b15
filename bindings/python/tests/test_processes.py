"""Tests of trainers in separate processes: some are killed, newcomers join, and some are programs for version 1."""

import os
import signal
import threading

import pytest
from world import finish, script, until

# A program for version 1, which uses only its interface. It begins with PEERS peers; alone, it ends once LAST_CALL exists.
VERSION_1 = """
    import os, sys, time
    import numpy as np
    from pccl import (Communicator, SharedState, TensorInfo, ReduceOp, Attribute, PCCLError, ReduceOperandDescriptor, DataType,
                      DistributionHint, QuantizationOptions, QuantizationAlgorithm, ReduceDescriptor, ReduceOpDescriptor)

    HOST, STEPS, PEERS, LAST_CALL = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    started = False

    weights = np.zeros(4096, dtype=np.float32)
    shared_state: SharedState = SharedState([TensorInfo.from_numpy(weights, 'weights')])
    communicator: Communicator = Communicator(HOST, 0)
    communicator.connect(n_attempts=15)

    it = 0
    world_size = communicator.get_attribute(Attribute.GLOBAL_WORLD_SIZE)
    while True:
        if it > 0:
            while True:
                try:
                    if communicator.are_peers_pending():
                        communicator.update_topology()
                    break
                except PCCLError as e:
                    print(f"update_topology() failed: {e}; retrying...", file=sys.stderr)
                    continue
            world_size = communicator.get_attribute(Attribute.GLOBAL_WORLD_SIZE)
        it += 1
        if world_size < (2 if started else PEERS):
            if os.path.exists(LAST_CALL) and world_size < 2:
                break  # the others have finished
            time.sleep(0.05)
            continue
        started = True
        try:
            info = communicator.sync_shared_state(shared_state)
        except PCCLError as e:
            print(f"sync failed: {e}", file=sys.stderr)
            continue
        assert info is not None

        if shared_state.revision >= STEPS:
            break

        grad = np.full(4096, 1.0, dtype=np.float32)
        while world_size > 1:
            try:
                handle = communicator.all_reduce_async(
                    grad, grad, op=ReduceOp.AVG,
                    operand_descriptor=ReduceOperandDescriptor(datatype=DataType.FLOAT, distribution_hint=DistributionHint.NORMAL),
                    quantization_options=QuantizationOptions(quantized_datatype=DataType.UINT8, algorithm=QuantizationAlgorithm.MIN_MAX))
                is_success, status, info = handle.wait()
            except PCCLError as e:  # the launch fails if the others were lost since the last call
                print(f"all_reduce_async() failed: {e}; retrying...", file=sys.stderr)
                is_success = False
            world_size = communicator.get_attribute(Attribute.GLOBAL_WORLD_SIZE)
            if not is_success:
                continue
            break
        if world_size > 1:
            descriptors = [ReduceOpDescriptor.from_numpy(part, part, ReduceDescriptor(
                count=part.size, op=ReduceOp.AVG, tag=tag,
                operand_descriptor=ReduceOperandDescriptor(datatype=DataType.FLOAT, distribution_hint=DistributionHint.NORMAL),
                quantization_options=QuantizationOptions(quantized_datatype=DataType.FLOAT, algorithm=QuantizationAlgorithm.NONE)))
                for tag, part in enumerate(np.split(grad, 4))]
            try:
                communicator.all_reduce_multiple_with_retry(descriptors, max_in_flight=8)
            except PCCLError:
                world_size = communicator.get_attribute(Attribute.GLOBAL_WORLD_SIZE)
        weights += grad  # a peer that is alone adds its own gradient; each synchronization has one revision
        shared_state.revision += 1
        print(f"step {shared_state.revision} world {world_size}", flush=True)
    print(f"done {weights[0]} {shared_state.revision}", flush=True)
"""

MASTER = """
    import signal, sys
    from pccl import MasterNode

    master: MasterNode = MasterNode(listen_address="127.0.0.1:0")
    signal.signal(signal.SIGTERM, lambda signum, frame: master.interrupt())
    master.run()
    print(master.port, flush=True)
    master.wait()
    print("ended", flush=True)
"""


@pytest.fixture
def service():
    """The address of a master in a separate process, which must end with status 0."""
    process = script(MASTER)
    yield f"127.0.0.1:{process.stdout.readline().strip()}"
    process.send_signal(signal.SIGTERM)
    assert "ended" in finish(process)[0]


def test_scripts_of_version_1_train_together(service):
    trainers = [script(VERSION_1, service, 30, 3, "/nowhere") for _ in range(3)]
    for trainer in trainers:
        out, _ = finish(trainer)
        assert out.splitlines()[-1] == "done 30.0 30"


def test_killed_trainers_are_replaced_without_a_delay(service, tmp_path):
    steps, kills, last_call = 90, 0, tmp_path / "last_call"
    trainers = [script(VERSION_1, service, steps, 3, last_call) for _ in range(3)]
    watchdog = threading.Timer(100, lambda: [trainer.kill() for trainer in trainers])
    watchdog.start()
    for line in trainers[0].stdout:
        if line.startswith("step") and int(line.split()[1]) >= (kills + 1) * 20 and kills < 3:
            victim = trainers.pop(1)
            os.kill(victim.pid, signal.SIGKILL)
            victim.communicate()
            kills += 1
            trainers.append(script(VERSION_1, service, steps, 2, last_call))
        if line.startswith("done"):
            assert line.split() == ["done", f"{steps}.0", str(steps)]
            last_call.touch()  # a trainer that is still starting does not wait for others
    for trainer in trainers[1:]:
        assert finish(trainer)[0].splitlines()[-1] in (f"done {steps}.0 {steps}", "done 0.0 0")
    finish(trainers[0])
    watchdog.cancel()
    assert kills == 3


AVERAGER = """
    import sys, numpy as np, pccl
    from pccl import *
    communicator = Communicator(sys.argv[1])
    communicator.connect()
    print("joined", flush=True)
    while communicator.get_attribute(Attribute.GLOBAL_WORLD_SIZE) < 3:
        communicator.update_topology()
    values = np.full(1_000_000, float(sys.argv[2]), np.float32)
    if sys.argv[2] == "4":
        print("reduces", flush=True)
        sys.stdin.read()  # it is killed here, before it makes the call
    handle = communicator.all_reduce_async(values, values, op=ReduceOp.AVG, on_peer_loss="repair")
    print("reduces", flush=True)
    is_success, status, info = handle.wait()
    print(info.local_world_size, info.repairs, values[0], values[-1], flush=True)
"""


def test_repaired_average_continues_among_survivors(service):
    peers = []
    for value in (1, 2, 4):
        peers.append(script(AVERAGER, service, value, stdin=-1))
        if value == 1:
            assert peers[0].stdout.readline() == "joined\n"
    assert all(peer.stdout.readline() == "joined\n" for peer in peers[1:])
    assert all(peer.stdout.readline() == "reduces\n" for peer in peers)
    peers[2].kill()
    peers[2].communicate()
    for peer in peers[:2]:
        assert finish(peer)[0].split() == ["2", "1", "1.5", "1.5"]


def test_spawned_worker_can_make_a_communicator(service):
    process = script(
        """
    import multiprocessing, sys, pccl
    def work(address):
        with pccl.Communicator(address) as communicator:
            communicator.connect()
            return communicator.get_attribute(pccl.Attribute.GLOBAL_WORLD_SIZE)
    if __name__ == "__main__":
        with multiprocessing.get_context("fork").Pool(1) as pool:  # made before there is a socket to inherit
            print(pool.apply(work, (sys.argv[1],)))
    """,
        service,
    )
    assert finish(process)[0].split() == ["1"]


def test_lost_master_is_an_error_at_every_peer():
    process = script(MASTER)
    address = f"127.0.0.1:{process.stdout.readline().strip()}"
    import pccl

    with pccl.Communicator(address) as communicator:
        communicator.connect()
        process.kill()
        process.communicate()
        errors = []

        def gone():
            try:
                communicator.are_peers_pending()
            except pccl.PCCLError as error:
                errors.append(error)
            return bool(errors)

        until(gone)
        assert errors[0].result == pccl.Result.MASTER_CONNECTION_FAILED and errors[0].message
