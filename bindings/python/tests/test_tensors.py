"""Tests of the objects that are accepted as tensors, and of the errors for others. They need no peers."""

import array
import gc
import weakref

import ml_dtypes
import numpy as np
import pytest

import pccl
from pccl import DataType
from pccl._tensors import view

KINDS = [kind for kind in DataType if kind <= DataType.DOUBLE]


class OnlyDLPack:
    """An array of another library."""

    def __init__(self, inner, versions=True):
        self.inner = inner
        self.versions = versions

    def __dlpack__(self, **options):
        if not self.versions and options:
            raise TypeError("no such argument")
        return self.inner.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.inner.__dlpack_device__()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_numpy_arrays_of_every_type_are_accepted(kind):
    a = np.zeros((3, 4), kind.to_numpy_dtype())
    v = view(a, "a", writable=True)
    assert (v.address, v.count, v.datatype) == (a.ctypes.data, 12, kind)


def test_scalar_and_empty_numpy_arrays_are_accepted():
    assert view(np.array(3.5), "a").count == 1
    assert view(np.zeros((0, 4)), "a").count == 0


@pytest.mark.parametrize(
    ("thing", "kind", "count"),
    [
        (bytearray(5), DataType.UINT8, 5),
        (memoryview(bytearray(8)).cast("i"), DataType.INT32, 2),
        (array.array("d", [1, 2, 3]), DataType.DOUBLE, 3),
        (array.array("Q", [1]), DataType.UINT64, 1),
        (array.array("l", [1]), DataType.INT64, 1),
        (array.array("f", [1, 2]), DataType.FLOAT, 2),
        (array.array("H", [1, 2]), DataType.UINT16, 2),
        (memoryview(np.zeros(3, np.float16)), DataType.FLOAT16, 3),
    ],
    ids=str,
)
def test_objects_with_the_buffer_protocol_are_accepted(thing, kind, count):
    v = view(thing, "thing", writable=True)
    assert (v.count, v.datatype) == (count, kind)


@pytest.mark.parametrize("versions", [True, False])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind is not DataType.BFLOAT16], ids=lambda kind: kind.name)
def test_dlpack_objects_are_accepted(kind, versions):
    a = np.zeros((2, 5), kind.to_numpy_dtype())
    v = view(OnlyDLPack(a, versions), "a", writable=True)
    assert (v.address, v.count, v.datatype) == (a.ctypes.data, 10, kind)


@pytest.mark.parametrize(
    ("thing", "error", "words"),
    [
        (None, TypeError, "send is a NoneType, which is no tensor"),
        ([1.0, 2.0], TypeError, "list"),
        (np.zeros(3, bool), TypeError, "bool"),
        (np.zeros(3, complex), TypeError, "complex128"),
        (np.zeros((4, 4))[:, 1], ValueError, "send is not contiguous"),
        (np.zeros((4, 4)).T, ValueError, "not contiguous"),
        (np.zeros(8)[::2], ValueError, "not contiguous"),
        (np.zeros(8, ml_dtypes.bfloat16)[::2], ValueError, "not contiguous"),
        (memoryview(b"abcdef")[::2], ValueError, "not contiguous"),
        (np.zeros(3, np.dtype("float32").newbyteorder()), TypeError, "byte order"),
        (OnlyDLPack(np.zeros((4, 4)).T), ValueError, "not contiguous"),
        (OnlyDLPack(np.zeros(4, complex)), TypeError, "not supported"),
        (memoryview(bytearray(4)).cast("?"), TypeError, "not supported"),
        (np.ma.masked_array([1.0, 2.0], [True, False]), TypeError, "send is a masked array"),
        (np.broadcast_to(np.zeros(1), 4), ValueError, "not contiguous"),
        (memoryview(np.zeros(3, np.dtype("int32").newbyteorder())), TypeError, "not supported"),
    ],
    ids=str,
)
def test_unsuitable_objects_are_refused_by_name(thing, error, words):
    with pytest.raises(error, match=words):
        view(thing, "send")


def test_empty_dlpack_object_is_contiguous():
    assert view(OnlyDLPack(np.zeros((4, 0, 3)).transpose(2, 0, 1)), "a").count == 0


def test_none_is_refused_as_a_dtype():
    """NumPy reads None as float64."""
    with pytest.raises(TypeError, match="dtype is None"):
        DataType.from_numpy_dtype(None)


def test_read_only_receive_buffers_are_refused():
    locked = np.zeros(4)
    locked.flags.writeable = False
    for thing in (locked, b"1234", OnlyDLPack(locked)):
        with pytest.raises((TypeError, ValueError), match="recv cannot be written to"):
            view(thing, "recv", writable=True)
    view(locked, "send")
    view(b"1234", "send")


def test_view_keeps_its_tensor_alive():
    class Array(np.ndarray):
        pass

    a = np.zeros(4).view(Array)
    alive = weakref.ref(a)
    v = view(a, "a")
    del a
    gc.collect()
    assert alive() is not None
    del v
    gc.collect()
    assert alive() is None

    growing = bytearray(4)
    v = view(growing, "growing")
    with pytest.raises(BufferError):
        growing.append(1)
    del v
    growing.append(1)


def test_send_and_receive_tensors_must_match(master):
    communicator = pccl.Communicator(master)
    communicator.connect()
    a, b = np.zeros(4, np.float32), np.zeros(5, np.float32)
    with pytest.raises(ValueError, match="4 elements.*5"):
        communicator.all_reduce(a, b, op=pccl.ReduceOp.SUM)
    with pytest.raises(TypeError, match="float32.*float64"):
        communicator.all_reduce(a, np.zeros(4), op=pccl.ReduceOp.SUM)
    with pytest.raises(TypeError, match="operand descriptor"):
        communicator.all_reduce(a, a, op=pccl.ReduceOp.SUM, operand_descriptor=pccl.ReduceOperandDescriptor(DataType.INT32))
    with pytest.raises(TypeError, match="recv is a NoneType"):
        communicator.all_reduce(a, None, op=pccl.ReduceOp.SUM)
    with pytest.raises(ValueError, match="algorithm is 'rong', not one of 'auto', 'ring'"):
        communicator.all_reduce(a, a, op=pccl.ReduceOp.SUM, algorithm="rong")
    with pytest.raises(ValueError, match="on_peer_loss"):
        communicator.all_reduce(a, a, op=pccl.ReduceOp.SUM, on_peer_loss="pray")
    with pytest.raises(ValueError, match="tag"):
        communicator.all_reduce(a, a, op=pccl.ReduceOp.SUM, tag=-1)
    with pytest.raises(ValueError, match="timeout"):
        communicator.all_reduce(a, a, op=pccl.ReduceOp.SUM, timeout=-1)
    with pytest.raises(ValueError, match="count is 9"):
        pccl.ReduceOpDescriptor.from_numpy(
            a, a, pccl.ReduceDescriptor(9, pccl.ReduceOp.SUM, 0, pccl.ReduceOperandDescriptor(DataType.FLOAT), pccl.QuantizationOptions()))
    with pytest.raises(pccl.PCCLError, match="quantiz"):
        integers = np.zeros(4, np.int32)
        communicator.all_reduce(integers, integers, op=pccl.ReduceOp.SUM, quantization_options=pccl.QuantizationOptions())
    communicator.close()
