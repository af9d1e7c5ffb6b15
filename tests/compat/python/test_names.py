"""Tests of the names, constructors and exceptions of version 1 that programs use."""

import pickle

import numpy as np
import pytest
from world import all_at_once, world

import pccl
from pccl import (
    DataType, DeviceType, MasterNode, PCCLError, PCCLTensorError, PCCLTensorTypeError, ReduceDescriptor, ReduceOp, ReduceOpDescriptor, ReduceOperandDescriptor,
    Result, SharedState, TensorInfo,
)


@pytest.fixture
def master():
    with MasterNode("127.0.0.1:0") as node:
        node.run()
        yield f"127.0.0.1:{node.port}"


def by_address(array, name="w", **changes):
    """Makes a TensorInfo of an address, as programs for version 1 do."""
    settings = {"numel": array.size, "dtype": DataType.from_numpy_dtype(array.dtype), "device_type": DeviceType.CPU, "allow_content_inequality": False}
    return TensorInfo(name, array.ctypes.data, **{**settings, **changes})


def test_tensor_info_has_the_attributes_of_version_1():
    array = np.zeros((2, 3), np.float32)
    named = TensorInfo(name="w", data_ptr=array.ctypes.data, numel=6, dtype=DataType.FLOAT, device_type=DeviceType.CPU, allow_content_inequality=True)
    infos = [by_address(array, allow_content_inequality=True), named, TensorInfo.from_numpy(array, "w", allow_content_inequality=True)]
    for info in infos:
        assert (info.name, info.data_ptr, info.numel, info.dtype) == ("w", array.ctypes.data, 6, DataType.FLOAT)
        assert (info.device_type, info.allow_content_inequality) == (DeviceType.CPU, True)
    assert repr(infos[0]) == "TensorInfo('w', shape=(6,), allow_content_inequality=True)"
    assert TensorInfo(array, "w").tensor is TensorInfo(tensor=array, name="w").tensor is array


def test_state_of_addresses_is_synchronized(master):
    have, lack = np.arange(5, dtype=np.float64), np.zeros(5)
    with world(master, 2) as (a, b):
        first, second = SharedState([by_address(have)]), SharedState([by_address(lack)])
        all_at_once(lambda: a.sync_shared_state(first, pccl.SharedStateSyncStrategy.SEND_ONLY),
                    lambda: b.sync_shared_state(second, pccl.SharedStateSyncStrategy.RECEIVE_ONLY))
    assert (lack == np.arange(5)).all()


def test_operations_on_addresses_are_reduced(master):
    values = [np.full(7, 1 + i, np.float32) for i in range(2)]
    sums = [np.zeros(7, np.float32) for _ in range(2)]
    descriptor = ReduceDescriptor(7, ReduceOp.SUM, 0, ReduceOperandDescriptor(DataType.FLOAT), pccl.QuantizationOptions(algorithm=pccl.QuantizationAlgorithm.NONE))
    one = ReduceOpDescriptor(values[0].ctypes.data, sums[0].ctypes.data, descriptor)
    other = ReduceOpDescriptor(sendbuf_ptr=values[1].ctypes.data, recvbuf_ptr=sums[1].ctypes.data, reduce_descriptor=descriptor)
    from_arrays = ReduceOpDescriptor.from_numpy(values[0], sums[0], descriptor)
    for op in (one, from_arrays):
        assert (op.sendbuf_ptr, op.recvbuf_ptr, op.reduce_descriptor) == (values[0].ctypes.data, sums[0].ctypes.data, descriptor)
    with world(master, 2) as (a, b):
        all_at_once(lambda: a.all_reduce_multiple_with_retry([one]), lambda: b.all_reduce_multiple_with_retry([other]))
    assert all((total == 3).all() for total in sums)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"numel": 0}, "0 elements"),
        ({"numel": -1}, "-1 elements"),
        ({"numel": 1.5}, "1.5, which is not an integer"),
        ({"dtype": DataType.INT4}, "dtype"),
        ({"dtype": "float32"}, "dtype 'float32'"),
        ({"device_type": DeviceType.CUDA}, "DeviceType.CUDA"),
    ],
    ids=str,
)
def test_unusable_address_is_refused(changes, words):
    with pytest.raises(PCCLTensorError, match=words):
        by_address(np.zeros(3), **changes)


def test_null_address_is_refused():
    with pytest.raises(ValueError, match="address 0"):
        TensorInfo("w", 0, numel=3, dtype=DataType.FLOAT, device_type=DeviceType.CPU, allow_content_inequality=False)
    descriptor = ReduceDescriptor(7, ReduceOp.SUM, 0, ReduceOperandDescriptor(DataType.FLOAT))
    with pytest.raises(ValueError, match="recv has the address 0"):
        ReduceOpDescriptor(4096, 0, descriptor)
    with pytest.raises(ValueError):
        ReduceOpDescriptor(np.zeros(7, np.float32), 4096, descriptor)
    with pytest.raises(TypeError, match="either a tensor or an address"):
        TensorInfo("w")
    with pytest.raises(TypeError, match="reduce_descriptor"):
        ReduceOpDescriptor(4096, 4096)


def test_devices_are_named_as_in_pytorch():
    assert DeviceType.from_torch_device_type("cpu") is DeviceType.CPU
    assert DeviceType.from_torch_device_type("cuda") is DeviceType.CUDA
    assert DeviceType.from_torch_device_type("meta") is None


def test_status_is_checked():
    PCCLError.check(Result.SUCCESS, "pcclInit")
    PCCLError.check(0, "pcclInit")
    with pytest.raises(PCCLError) as caught:
        PCCLError.check(Result.TOO_FEW_PEERS.value, "pcclAllReduce")
    assert caught.value.result is Result.TOO_FEW_PEERS and "pcclAllReduce" in str(caught.value)


ROW = np.zeros(4, np.float32)
LOCKED = np.zeros(4, np.float32)
LOCKED.flags.writeable = False
PLAIN = ReduceDescriptor(4, ReduceOp.SUM, 0, ReduceOperandDescriptor(DataType.FLOAT))
MISFITS = {
    "strided": lambda: TensorInfo.from_numpy(np.zeros(8)[::2], "w"),
    "strided buffer": lambda: TensorInfo(memoryview(bytearray(8))[::2], "w"),
    "read-only": lambda: TensorInfo.from_numpy(LOCKED, "w"),
    "lengths differ": lambda: ReduceOpDescriptor.from_numpy(ROW, np.zeros(5, np.float32), PLAIN),
    "count is too large": lambda: ReduceOpDescriptor.from_numpy(ROW, ROW, ReduceDescriptor(9, ReduceOp.SUM, 0, ReduceOperandDescriptor(DataType.FLOAT))),
    "no tensors": lambda: SharedState([]),
    "no name": lambda: TensorInfo.from_numpy(ROW, ""),
}
OF_WRONG_TYPE = {
    "a list": lambda: TensorInfo([1.0], "w"),
    "booleans": lambda: TensorInfo.from_numpy(np.zeros(4, bool), "w"),
    "a buffer of booleans": lambda: TensorInfo(memoryview(bytearray(4)).cast("?"), "w"),
    "types differ": lambda: ReduceOpDescriptor.from_numpy(ROW, np.zeros(4), PLAIN),
    "operand differs": lambda: ReduceOpDescriptor.from_numpy(np.zeros(4), np.zeros(4), PLAIN),
    "a NumPy dtype": lambda: DataType.from_numpy_dtype(np.dtype("complex64")),
}


@pytest.mark.parametrize("misfit", [*MISFITS, *OF_WRONG_TYPE])
def test_unsuitable_array_raises_as_in_version_1(misfit):
    """Version 1 raised ValueError or AssertionError, depending on its release and the fault. Programs catch either."""
    for kind in (ValueError, AssertionError, PCCLTensorError, *([TypeError, PCCLTensorTypeError] if misfit in OF_WRONG_TYPE else [])):
        with pytest.raises(kind) as caught:
            {**MISFITS, **OF_WRONG_TYPE}[misfit]()
        assert str(caught.value)
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_unsuitable_pytorch_tensor_raises_as_in_version_1():
    torch = pytest.importorskip("torch")
    for make in (lambda: TensorInfo.from_torch(torch.zeros(4, 4).T, "w"), lambda: TensorInfo.from_torch(torch.zeros(4, device="meta"), "w"),
                 lambda: TensorInfo.from_torch(torch.zeros(4, dtype=torch.bool), "w"), lambda: DataType.from_torch_dtype(torch.complex64),
                 lambda: DataType.INT4.to_torch_dtype()):
        for kind in (ValueError, AssertionError):
            with pytest.raises(kind):
                make()
