"""Runs a master script and peer scripts in the style of version 1: peers train, one is killed, another joins."""

import pytest

LIMIT_S = 90

MASTER = """
    import sys
    from pccl import MasterNode

    def main():
        master: MasterNode = MasterNode(listen_address=sys.argv[1])
        master.run()

    if __name__ == "__main__":
        main()
"""

# Arguments: the master's address, the number of steps, the number of peers to wait for before the first step.
HEAD = """
    import logging, sys, time
    from pccl import *

    STEPS, PEERS = int(sys.argv[2]), int(sys.argv[3])
"""
TENSORS = {
    "numpy": """
    from pccl import np
    weights = np.zeros(257, dtype=np.float32)
    gradient = np.zeros_like(weights)
    infos = [TensorInfo.from_numpy(weights, "weights")]
    """,
    "torch": """
    from pccl import torch
    torch.set_num_threads(1)
    layer = torch.nn.Linear(256, 1)
    weights = layer.weight.data.view(-1)
    gradient = torch.zeros_like(weights)
    infos = [TensorInfo.from_torch(weights, "weights"), TensorInfo.from_torch(layer.bias.data, "bias")]
    weights.zero_()
    layer.bias.data.zero_()
    """,
    "addresses": """
    import array
    weights, gradient = array.array("f", bytes(4 * 256)), array.array("f", bytes(4 * 256))
    infos = [TensorInfo("weights", weights.buffer_info()[0], numel=256, dtype=DataType.FLOAT, device_type=DeviceType.CPU, allow_content_inequality=False)]
    """,
}
LOOP = """
    def fill(value):
        for i in range(len(gradient)):
            gradient[i] = value

    def reduced(communicator):
        if type(gradient).__module__ == "array":
            descriptor = ReduceDescriptor(
                count=len(gradient), op=ReduceOp.AVG, tag=0,
                operand_descriptor=ReduceOperandDescriptor(datatype=DataType.FLOAT, distribution_hint=DistributionHint.NORMAL),
                quantization_options=QuantizationOptions(quantized_datatype=DataType.FLOAT, algorithm=QuantizationAlgorithm.NONE))
            address = gradient.buffer_info()[0]
            communicator.all_reduce_multiple_with_retry([ReduceOpDescriptor(address, address, descriptor)], max_in_flight=1)
            return True
        handle = communicator.all_reduce_async(gradient, gradient, op=ReduceOp.AVG)
        is_success, status, info = handle.wait()
        assert is_success == (status == Result.SUCCESS.value)
        return is_success

    def main():
        state = SharedState(infos)
        communicator = Communicator(sys.argv[1], 0)
        communicator.connect(n_attempts=15)
        iteration, started = 0, False
        while state.revision < STEPS:
            try:
                if iteration > 0:
                    while communicator.are_peers_pending():
                        communicator.update_topology()
                iteration += 1
                world = communicator.get_attribute(Attribute.GLOBAL_WORLD_SIZE)
                if world < (2 if started else PEERS):
                    time.sleep(0.05)
                    continue
                started = True
                info = communicator.sync_shared_state(state)
                assert info.tx_bytes >= 0 and info.rx_bytes >= 0
                if state.revision >= STEPS:
                    break
                fill(1.0)
                while world > 1 and not reduced(communicator):
                    world = communicator.get_attribute(Attribute.GLOBAL_WORLD_SIZE)
            except PCCLError as error:
                logging.info(f"repeats the step: {error}")
                continue
            for i in range(len(weights)):
                weights[i] += gradient[i]
            state.revision += 1
            print(f"step {state.revision}", flush=True)
        print(f"done {state.revision} {float(weights[0])} {float(weights[-1])}", flush=True)

    if __name__ == "__main__":
        main()
"""


@pytest.mark.parametrize("library", TENSORS)
def test_peers_train_while_one_is_killed_and_replaced(start, address, library):
    if library != "addresses":
        pytest.importorskip(library)
    source, steps = HEAD + TENSORS[library] + LOOP, 40
    master = start(MASTER, address)
    peers = [start(source, address, steps, 3) for _ in range(3)]
    for line in peers[0].stdout:
        if line == "step 10\n":
            peers[1].kill()
            peers[1].communicate()
            peers[1] = start(source, address, steps, 2)
        if line.startswith("done"):
            break
    assert line == f"done {steps} {steps}.0 {steps}.0\n", peers[0].stderr.read()
    for peer in (peers[0], peers[2]):
        out, err = peer.communicate(timeout=LIMIT_S)
        assert peer.returncode == 0, err
        assert peer is peers[0] or out.splitlines()[-1] == line.strip()
    assert master.poll() is None
    master.terminate()
    assert master.wait(LIMIT_S) == 0
