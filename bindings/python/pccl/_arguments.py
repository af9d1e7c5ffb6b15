"""Checks the arguments of the package's calls before they reach the library.

An argument of a wrong type raises TypeError, one of a wrong value ValueError. Both name the argument and say what it takes.
"""

from __future__ import annotations

import math
import operator
import os
import sys
from enum import Enum
from typing import Any, NoReturn, TypeVar, cast

from ._enums import (
    Attribute,
    DataType,
    DistributionHint,
    QuantizationAlgorithm,
    QuantizationScale,
    ReduceOp,
    SharedStateSyncStrategy,
    _Enum,
)

_E = TypeVar("_E", bound=_Enum)
_T = TypeVar("_T")

_OF_TORCH = {"SUM": ReduceOp.SUM, "AVG": ReduceOp.AVG, "PRODUCT": ReduceOp.PROD, "MIN": ReduceOp.MIN, "MAX": ReduceOp.MAX}

_CONSTANTS = (
    ReduceOp, DataType, DistributionHint, QuantizationAlgorithm, QuantizationScale, Attribute, SharedStateSyncStrategy,
)
"""Enumerations whose members programs write as constants. Text names one of these exactly; others are words, which match in any case."""


def parse_enum(kind: type[_E], value: Any, what: str) -> _E:
    """The member of an enumeration that `value` is or names. A ReduceOp can be that of torch.distributed.

    Numbers and members of other enumerations are refused: the same number has another meaning there.
    """
    if type(value) is kind:
        return value
    exact = kind in _CONSTANTS
    names = ", ".join(repr(name if exact else name.lower()) for name in kind.__members__)
    if isinstance(value, str) and not isinstance(value, Enum):
        member = kind.__members__.get(value if exact else value.upper())
        if member is None:
            raise ValueError(f"{what} is {value!r}, not one of {names}")
        return member
    if kind is ReduceOp:
        name = _name_in_torch(value)
        if name in _OF_TORCH:
            return cast(_E, _OF_TORCH[name])
        if name is not None:
            raise TypeError(f"{what} is torch.distributed.ReduceOp.{name}, which this library does not compute: give one of {names}")
    raise TypeError(f"{what} is {shown(value)}: give a {_public(kind)} or its name, one of {names}")


def _name_in_torch(value: Any) -> str | None:
    """The name of a torch.distributed.ReduceOp; None for everything else."""
    torch_op = getattr(sys.modules.get("torch.distributed"), "ReduceOp", None)
    kind = getattr(torch_op, "RedOpType", None)
    if torch_op is None or kind is None:
        return None
    if isinstance(value, torch_op):  # wraps a member, possibly with a factor
        return next((name for name, member in kind.__members__.items() if value == member), None)
    return cast(str, value.name) if isinstance(value, kind) else None


def integer(value: Any, what: str, low: int = 0, high: int = (1 << 64) - 1) -> int:
    """An integer from `low` to `high`: an int, a NumPy integer, or another object with `__index__`. A bool is refused."""
    if type(value) is not int:
        if isinstance(value, (bool, _Enum)) or not hasattr(type(value), "__index__"):
            _refuse(value, what, "an integer")
        try:
            value = operator.index(value)
        except TypeError:
            _refuse(value, what, "an integer")
    if not low <= value <= high:
        raise ValueError(f"{what} is {value}: give an integer from {low} to {high}")
    return value  # type: ignore[no-any-return]


def number(value: Any, what: str) -> float:
    """A real number that is not NaN."""
    if type(value) is not float:
        kind = type(value)
        if isinstance(value, (bool, _Enum)) or not (hasattr(kind, "__float__") or hasattr(kind, "__index__")):
            _refuse(value, what, "a number")
        try:
            value = float(value)
        except (TypeError, ValueError, RuntimeError):
            _refuse(value, what, "a number")
        except OverflowError:
            raise ValueError(f"{what} is beyond the range of floats: give a smaller number") from None
    if math.isnan(value):
        raise ValueError(f"{what} is NaN: give a number")
    return value  # type: ignore[no-any-return]


def seconds(value: Any, what: str = "timeout") -> float | None:
    """A number of seconds that is not negative, or None."""
    if value is None:
        return None
    limit = number(value, what)
    if limit < 0:
        raise ValueError(f"{what} is negative ({limit:g}): give a number of seconds, or None")
    return limit


def flag(value: Any, what: str) -> bool:
    """True or False, of Python or NumPy."""
    if value is True or value is False:
        return value
    numpy_bool = getattr(sys.modules.get("numpy"), "bool_", ())
    if not isinstance(value, numpy_bool):
        _refuse(value, what, "True or False")
    return bool(value)


def text(value: Any, what: str) -> str:
    """A string that can be handed to C."""
    if not isinstance(value, str):
        _refuse(value, what, "a string")
    if "\0" in value:
        raise ValueError(f"{what} is {value!r}: a string with a zero character cannot be handed on")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{what} is {value!r}, which has no UTF-8 form: give another string") from None
    return value


def optional_text(value: Any, what: str) -> str | None:
    return None if value is None else text(value, what)


def path(value: Any, what: str) -> str:
    """The name of a file: a string, bytes or os.PathLike."""
    if not isinstance(value, (str, bytes, os.PathLike)):
        _refuse(value, what, "a path (str or os.PathLike)")
    return text(os.fsdecode(value), what)


def instance(value: Any, kind: type[_T], what: str) -> _T:
    """An object of a class of the package."""
    if not isinstance(value, kind):
        _refuse(value, what, f"a {_public(kind)}")
    return value


def optional_instance(value: Any, kind: type[_T], what: str) -> _T | None:
    if value is None or isinstance(value, kind):
        return value
    _refuse(value, what, f"a {_public(kind)}, or None")


def items(value: Any, kind: type[_T], what: str) -> list[_T]:
    """All objects of an iterable, each of which is of a class of the package."""
    try:
        found = list(value)
    except TypeError:
        _refuse(value, what, f"a sequence of {_public(kind)}")
    for i, item in enumerate(found):
        instance(item, kind, f"{what}[{i}]")
    return found


def shown(value: Any) -> str:
    """A value for an error message: its type, and itself where that is short."""
    if value is None:
        return "None"
    name = type(value).__name__
    if isinstance(value, Enum):
        return f"{type(value).__name__}.{value.name}"
    brief = repr(value) if isinstance(value, (str, bytes, bool, int, float, complex)) else ""
    return f"{brief} ({name})" if 0 < len(brief) <= 60 else f"of type {name}"


def _refuse(value: Any, what: str, wanted: str) -> NoReturn:
    raise TypeError(f"{what} is {shown(value)}: give {wanted}") from None


def _public(kind: type[Any]) -> str:
    """A class's name as programs write it."""
    module = ".".join(part for part in kind.__module__.split(".") if not part.startswith("_"))
    return f"{module}.{kind.__name__}"


class OfThisProcess:
    """Base of objects that hold threads, connections or calls in flight of this process, and so cannot be pickled or copied."""

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        kind = type(self)
        raise TypeError(
            f"a {_public(kind)} cannot be pickled or copied: it holds connections and calls of this process. Make one in each process that needs it"
        )
