"""Memory that a program names by its address, as version 1's constructors do."""

from __future__ import annotations

import numbers
import operator
from typing import Any

from . import _pccl
from ._arguments import parse_enum
from ._enums import DataType, DeviceType
from ._errors import PCCLTensorError, PCCLTensorTypeError


def is_pointer(thing: Any) -> bool:
    """Whether `thing` is an address (an integer, of NumPy too) and not a tensor."""
    return isinstance(thing, numbers.Integral) and not isinstance(thing, bool)


def view_of_pointer(address: Any, numel: Any, dtype: Any, what: str, device_type: Any = DeviceType.CPU) -> _pccl.View:
    """`numel` elements at `address`. The caller keeps the memory alive. Errors name it as `what`."""
    place, count = _number(address, what, "address"), _number(numel, what, "number of elements")
    if place == 0:
        raise PCCLTensorError(f"{what} has the address 0: give the address of its first element")
    if place < 0 or place >= 1 << 64:
        raise PCCLTensorError(f"{what} has the address {place}, which does not fit in 64 bits")
    if count <= 0 or count >= 1 << 63:
        raise PCCLTensorError(f"{what} has {count} elements: give a number of at least 1")
    if parse_enum(DeviceType, device_type, "device_type") is not DeviceType.CPU:
        raise PCCLTensorError(f"{what} is on device {device_type}: this build of the library takes tensors in host memory")
    try:
        kind = parse_enum(DataType, dtype, "dtype")
        _ = kind.itemsize
    except (TypeError, ValueError):
        raise PCCLTensorTypeError(f"{what} has dtype {dtype!r}: give a member of pccl.DataType that has a size in memory") from None
    return _pccl.View(None, place, count, kind)


def _number(value: Any, what: str, name: str) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise PCCLTensorTypeError(f"{what}: the {name} is {value!r}, which is not an integer") from None
