"""The memory of tensors, whatever library they are of. Neither NumPy nor PyTorch is imported here unless the program has done so."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any, Union

from . import _pccl
from ._enums import _TORCH_NAMES, DataType, _torch_types
from ._errors import PCCLTensorError, PCCLTensorTypeError

if TYPE_CHECKING:
    import numpy as np
    import torch

    Tensor = Union["torch.Tensor", "np.ndarray[Any, Any]", Any]
    """A contiguous tensor in host memory: of PyTorch, of NumPy, or of anything with the buffer protocol or DLPack."""


_numpy_types: dict[Any, DataType] = {}
"""Cache of the dtypes seen so far, because making a dtype's name takes longer than the rest of the call."""


def view(tensor: Any, what: str, *, writable: bool = False) -> _pccl.View:
    """The memory that holds a tensor's elements. Errors name the tensor as `what`.

    Where PyTorch negates the elements only as they are read, the view is of a copy with the true values. If it is written to, the
    caller must pass it to `settle` once the operation has ended.

    Raises PCCLTensorTypeError for an object that is not a tensor, and for elements that are not plain numbers in its memory; PCCLTensorError for a
    tensor that is not contiguous, not in host memory, or not writable although it has to be.
    """
    if isinstance(tensor, _type_of("torch", "Tensor")):
        return _of_torch(tensor, what, writable)
    ndarray = _type_of("numpy", "ndarray")
    if isinstance(tensor, ndarray):
        if type(tensor) is not ndarray and isinstance(tensor, _type_of("numpy.ma", "MaskedArray")):
            raise PCCLTensorTypeError(f"{what} is a masked array, whose masked elements have values in its memory: give its .filled(value), or its .data")
        return _of_numpy(tensor, what, writable)
    try:
        memoryview(tensor)
    except TypeError:
        if not hasattr(tensor, "__dlpack__"):
            raise PCCLTensorTypeError(f"{what} is a {type(tensor).__name__}, which is no tensor: it has neither the buffer protocol nor DLPack") from None
        return _pccl.View.of_dlpack(tensor, what, writable)
    return _pccl.View.of_buffer(tensor, what, writable)


def _type_of(module: str, name: str) -> Any:
    """A type of a module that may not be there, or not whole yet: then of nothing."""
    return getattr(sys.modules.get(module), name, ())


def _convert(convert: Any, dtype: Any, what: str) -> DataType:
    try:
        return convert(dtype)  # type: ignore[no-any-return]
    except TypeError as error:
        raise PCCLTensorTypeError(f"{what}: {error}") from None


def _not_contiguous(what: str) -> PCCLTensorError:
    return PCCLTensorError(f"{what} is not contiguous: make it so (.contiguous(), numpy.ascontiguousarray) and copy the result back")


def _of_numpy(array: np.ndarray[Any, Any], what: str, writable: bool) -> _pccl.View:
    datatype = _numpy_types.get(array.dtype)
    if datatype is None:
        datatype = _numpy_types[array.dtype] = _convert(DataType.from_numpy_dtype, array.dtype, what)
    if not array.flags.c_contiguous:
        raise _not_contiguous(what)
    if datatype is DataType.BFLOAT16:  # a format that the buffer protocol does not know
        return _pccl.View.of_buffer(array.view("uint16"), what, writable, datatype)
    return _pccl.View.of_buffer(array, what, writable, datatype)


def _of_torch(tensor: torch.Tensor, what: str, writable: bool) -> _pccl.View:
    check_plain(tensor, what)
    datatype = _torch_types.get(tensor.dtype)
    if datatype is None:
        datatype = _convert(DataType.from_torch_dtype, tensor.dtype, what)
    if not tensor.is_cpu:
        if tensor.is_meta:
            raise PCCLTensorError(f"{what} is on device meta, where tensors have a shape and no elements: give a tensor in host memory")
        raise PCCLTensorError(f"{what} is on device {tensor.device}: this build of the library takes tensors in host memory, as .cpu() gives them")
    if not tensor.is_contiguous():
        raise _not_contiguous(what)
    if tensor.is_neg():  # is_conj() is of complex types alone, which were refused
        values = tensor.detach().resolve_neg()
        if writable:
            return Staged(tensor, values, datatype)
        tensor = values
    try:
        address, count = tensor.data_ptr(), tensor.numel()
    except RuntimeError as error:
        raise PCCLTensorTypeError(f"{what} is a tensor of PyTorch's own that has no memory ({error}): give a plain torch.Tensor") from None
    if count and (address == 0 or tensor.untyped_storage().nbytes() < (tensor.storage_offset() + count) * tensor.itemsize):
        raise PCCLTensorError(
            f"{what} has {count} elements and no memory for them: it is symbolic, or its storage was freed (as FSDP does). Give a tensor in memory"
        )
    return _pccl.View(tensor, address, count, datatype)


class Staged(_pccl.View):
    """A view of a copy of a lazily negated tensor. `settle` writes the copy's values to the tensor."""

    def __init__(self, tensor: torch.Tensor, values: torch.Tensor, datatype: DataType) -> None:
        super().__init__(values, values.data_ptr(), values.numel(), datatype)
        self._tensor = tensor
        self._values: torch.Tensor | None = values
        self._lock = threading.Lock()

    def settle(self) -> None:
        """Copies the values to the tensor, once. Any thread; returns when they are there."""
        with self._lock:
            if self._values is not None:
                with sys.modules["torch"].no_grad():
                    self._tensor.copy_(self._values)
                self._values = None


def settle(*views: _pccl.View | None) -> None:
    """Makes the result of an operation that has ended visible in the tensors that it was for."""
    for one in views:
        if type(one) is Staged:
            one.settle()


def check_plain(tensor: torch.Tensor, what: str) -> None:
    """Raises TypeError unless the elements are numbers in the tensor's own memory: not sparse, distributed, nested or symbolic."""
    torch = sys.modules["torch"]
    if type(tensor) is not torch.Tensor and type(tensor).__torch_dispatch__ is not torch.Tensor.__torch_dispatch__:
        if hasattr(tensor, "to_local"):
            raise PCCLTensorTypeError(f"{what} is a DTensor, of which this process has a part: give its .to_local()")
        raise PCCLTensorTypeError(f"{what} is a {type(tensor).__name__}, whose elements are not in its own memory: give a plain torch.Tensor")
    if tensor.layout is not torch.strided:
        raise PCCLTensorTypeError(f"{what} has layout {tensor.layout}: only strided (dense) tensors are supported, as .to_dense() gives them")
    if tensor.is_nested:
        raise PCCLTensorTypeError(f"{what} is a nested tensor: give its parts, of .unbind(), one by one")


def same_elements(send: _pccl.View, recv: _pccl.View) -> None:
    """Raises unless `recv` has room for just what `send` has."""
    if send.datatype != recv.datatype:
        raise PCCLTensorTypeError(f"send has elements of type {_name(send)}, recv of type {_name(recv)}: they must be the same")
    if send.count != recv.count:
        raise PCCLTensorError(f"send has {send.count} elements, recv has {recv.count}: they must be as many")


def _name(of: _pccl.View) -> str:
    return _TORCH_NAMES[DataType(of.datatype)]
