"""The memory of tensors, whatever library they are of. Neither NumPy nor PyTorch is imported here unless the program has done so."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Union

from . import _pccl
from ._enums import _TORCH_NAMES, DataType
from ._errors import PCCLTensorError, PCCLTensorTypeError

if TYPE_CHECKING:
    import numpy as np
    import torch

    Tensor = Union["torch.Tensor", "np.ndarray[Any, Any]", Any]
    """A contiguous tensor in host memory: of PyTorch, of NumPy, or of anything with the buffer protocol or DLPack."""


_numpy_types: dict[Any, DataType] = {}
"""Those that were met: a dtype's name takes longer to make than all else."""


def view(tensor: Any, what: str, *, writable: bool = False) -> _pccl.View:
    """Where a tensor's elements are. Errors name it as `what`.

    Raises PCCLTensorTypeError for an object that is not a tensor or whose elements cannot be reduced; PCCLTensorError for a tensor that is not
    contiguous, not in host memory, or not writable although it has to be.
    """
    if isinstance(tensor, _type_of("torch", "Tensor")):
        return _of_torch(tensor, what)
    if isinstance(tensor, _type_of("numpy", "ndarray")):
        datatype = _numpy_types.get(tensor.dtype)
        if datatype is None:
            datatype = _numpy_types[tensor.dtype] = _named(DataType.from_numpy_dtype, tensor.dtype, what)
        if not tensor.flags.c_contiguous:
            raise _not_contiguous(what)
        if datatype is DataType.BFLOAT16:  # a format that the protocol does not know
            return _pccl.View.of_buffer(tensor.view("uint16"), what, writable, datatype)
        return _pccl.View.of_buffer(tensor, what, writable, datatype)
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


def _named(convert: Any, dtype: Any, what: str) -> DataType:
    try:
        return convert(dtype)  # type: ignore[no-any-return]
    except TypeError as error:
        raise PCCLTensorTypeError(f"{what}: {error}") from None


def _not_contiguous(what: str) -> PCCLTensorError:
    return PCCLTensorError(f"{what} is not contiguous: make it so (.contiguous(), numpy.ascontiguousarray) and copy the result back")


def _of_torch(tensor: torch.Tensor, what: str) -> _pccl.View:
    if hasattr(tensor, "to_local"):
        raise PCCLTensorTypeError(f"{what} is a DTensor, of which this process has a part: give its .to_local()")
    datatype = _named(DataType.from_torch_dtype, tensor.dtype, what)
    if tensor.layout is not sys.modules["torch"].strided:
        raise PCCLTensorTypeError(f"{what} has layout {tensor.layout}: only strided (dense) tensors are supported")
    if tensor.device.type != "cpu":
        raise PCCLTensorError(f"{what} is on device {tensor.device}: this build of the library takes tensors in host memory, as .cpu() gives them")
    if not tensor.is_contiguous():
        raise _not_contiguous(what)
    return _pccl.View(tensor, tensor.data_ptr(), tensor.numel(), datatype)


def same_elements(send: _pccl.View, recv: _pccl.View) -> None:
    """Raises unless `recv` has room for just what `send` has."""
    if send.datatype != recv.datatype:
        raise PCCLTensorTypeError(f"send has elements of type {_name(send)}, recv of type {_name(recv)}: they must be the same")
    if send.count != recv.count:
        raise PCCLTensorError(f"send has {send.count} elements, recv has {recv.count}: they must be as many")


def _name(of: _pccl.View) -> str:
    return _TORCH_NAMES[DataType(of.datatype)]
