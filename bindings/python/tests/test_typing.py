"""Checks the package, and a program that uses it, with mypy in strict mode."""

import pathlib
import subprocess
import sys

import pytest

import pccl

PACKAGE = pathlib.Path(pccl.__file__).parent

RIGHT = """
import pccl
from pccl import Attribute, Communicator, DataType, ReduceOp

communicator: Communicator = Communicator("localhost:48148", peer_group=1, listen_port_first=50000)
communicator.connect(n_attempts=3, timeout=10.0)
size: int = communicator.get_attribute(Attribute.GLOBAL_WORLD_SIZE)
values = bytearray(16)
info: pccl.ReduceInfo = communicator.all_reduce(values, values, op=ReduceOp.SUM, algorithm="ring", on_peer_loss=pccl.LossPolicy.RETRY)
communicator.set_neighbour_graph("ring")
posted: bool = communicator.post(communicator.neighbours()[0], b"half", tag=1, timeout=5).wait()
message = communicator.receive(1, timeout=0)
half: bytearray = message.data if message is not None else bytearray()
is_success, status, info = communicator.all_reduce_async(values, values, op=ReduceOp.SUM, tag=1).wait()
state = pccl.SharedState([pccl.TensorInfo(values, "w")])
received: int = communicator.sync_shared_state(state, pccl.SharedStateSyncStrategy.RECEIVE_ONLY).rx_bytes
with pccl.MasterNode("127.0.0.1:0") as node:
    port: int = node.port
by_address = pccl.TensorInfo("w", 4096, numel=4, dtype=DataType.FLOAT, device_type=pccl.DeviceType.CPU, allow_content_inequality=False)
address: int = by_address.data_ptr
descriptor = pccl.ReduceDescriptor(4, ReduceOp.SUM, 0, pccl.ReduceOperandDescriptor(DataType.FLOAT))
operation = pccl.ReduceOpDescriptor(4096, 8192, descriptor)
zeros = pccl.np.zeros(4)
try:
    communicator.update_topology()
except pccl.PCCLError as error:
    result: pccl.Result = error.result
"""

WRONG = """
import pccl

pccl.Communicator(48148)
pccl.Communicator("localhost").all_reduce(b"", b"")
number: str = pccl.Communicator("localhost").get_attribute(pccl.Attribute.GLOBAL_WORLD_SIZE)
pccl.Communicator("localhost").no_such_call()
pccl.TensorInfo("w", 4096)
pccl.no_such_name
"""

WITH_TORCH = """
import torch as real
from pccl import torch

tensor: real.Tensor = torch.zeros(3)
layer: real.nn.Linear = torch.nn.Linear(3, 2)
kind: torch.dtype = torch.float32
diloco = torch.DiLoCo
rest = torch.hub.load("a", "b")
row: real.Tensor = torch.flatten([tensor, tensor])
flat: real.Tensor = torch.flatten(tensor, 0)
wrong: int = torch.nn.Linear(3, 2)
worse: int = torch.DiLoCo
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """All tests share a folder, so that mypy uses its cache."""
    return tmp_path_factory.mktemp("typing")


def mypy(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", f"--cache-dir={folder / 'cache'}", *map(str, arguments)],
        capture_output=True, text=True, cwd=folder, env={"MYPYPATH": str(PACKAGE.parent), "PATH": ""}, check=False)


def test_package_is_typed(folder):
    checked = mypy(folder, "-p", "pccl")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert (PACKAGE / "py.typed").exists()


def test_types_of_a_program_are_checked(folder):
    (folder / "right.py").write_text(RIGHT)
    checked = mypy(folder, "right.py")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    (folder / "wrong.py").write_text(WRONG)
    lines = {int(line.split(":")[1]) for line in mypy(folder, "wrong.py").stdout.splitlines() if ": error:" in line}
    assert lines == {4, 5, 6, 7, 8, 9}


def test_pytorch_is_typed_as_part_of_the_package(folder):
    pytest.importorskip("torch")
    (folder / "with_torch.py").write_text(WITH_TORCH)
    lines = {int(line.split(":")[1]) for line in mypy(folder, "with_torch.py").stdout.splitlines() if ": error:" in line}
    assert lines == {12, 13}
