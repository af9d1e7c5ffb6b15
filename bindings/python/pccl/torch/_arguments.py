"""Checks the arguments of pccl.torch: tensors with names, and the settings of training methods."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Union

import torch

from .._arguments import choice, flag, integer, number, optional_text, path, shown, text
from .._enums import _Enum
from .._tensors import check_plain

Parameters = Union[torch.nn.Module, Iterable[torch.Tensor], Iterable[tuple[str, torch.Tensor]]]

_FLOATS = {
    "outer_learning_rate": "outer_lr", "outer_momentum": "outer_momentum", "mixing": "mixing", "penalty": "penalty",
    "clip_momentum": "clip_momentum", "own_weight": "own_weight",
}
_COUNTS = ("sync_every", "fragments", "overlap_steps", "min_peers", "verify_every", "graph_degree")
_FLAGS = ("weighted", "optimize_topology", "sharded", "weigh_by_age")


def named_tensors(parameters: Any, what: str = "parameters", label: str = "parameter {}") -> list[tuple[str, torch.Tensor]]:
    """Names and tensors out of tensors, or out of (name, tensor) pairs. A tensor without a name gets `label` with its place."""
    hint = "give tensors, or (name, tensor) pairs, as model.parameters() and model.named_parameters() do"
    if isinstance(parameters, (torch.Tensor, str, bytes, dict)) or not isinstance(parameters, Iterable):
        items = "; of a dict, its .items()" if isinstance(parameters, dict) else ""
        raise TypeError(f"{what} is {shown(parameters)}: {hint}{items}")
    named = []
    for i, item in enumerate(parameters):
        name, tensor = label.format(i), item
        if isinstance(item, tuple) and len(item) == 2:
            name, tensor = text(item[0], f"the name of {what}[{i}]"), item[1]
        if isinstance(tensor, dict):
            raise TypeError(f"{what}[{i}] is a dict: {what} looks like an optimizer's param_groups; {hint}")
        if not isinstance(tensor, torch.Tensor):
            raise TypeError(f"{what}[{i}] is {shown(tensor)}: {hint}")
        named.append((name, tensor))
    return named


def check_writable(tensor: torch.Tensor, name: str) -> None:
    """Raises unless each element has memory of its own."""
    if any(stride == 0 and size > 1 for stride, size in zip(tensor.stride(), tensor.shape)):
        raise ValueError(f"{name} is expanded: several of its elements share memory, so no values can be written to it. Give a .contiguous() one")


def check_dense(tensor: torch.Tensor, name: str) -> None:
    """Raises unless a tensor's elements are plain numbers, on any device that has them."""
    check_plain(tensor, name)
    if tensor.is_quantized:
        raise TypeError(f"{name} is quantized ({tensor.dtype}): give its .dequantize(), or its .int_repr()")
    if tensor.is_meta:
        raise ValueError(f"{name} is on device meta, where tensors have a shape and no elements: give it memory first (.to_empty(device=...))")


def setting(name: str, value: Any, enumerations: dict[str, type[_Enum]]) -> Any:
    """The value of a trainer's setting as the library takes it. The library checks names that are not known here."""
    if name in enumerations:
        return choice(enumerations[name], value, name)
    if name in _FLOATS:
        return number(value, _FLOATS[name])
    if name in _COUNTS:
        return integer(value, name, 0, (1 << 32) - 1)
    if name == "graph_seed":
        return integer(value, name)
    if name in _FLAGS:
        return flag(value, name)
    if name == "uncorrected":
        return optional_text(value, name)
    if name == "state_file":
        return path(value, name)
    return value


def milliseconds(value: Any, what: str) -> int | None:
    """From seconds; None for None."""
    if value is None:
        return None
    ms = round(min(1000 * number(value, what), 1e12))
    return integer(ms, f"{what} in milliseconds", 0, (1 << 32) - 1)
