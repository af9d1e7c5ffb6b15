"""Checks the arguments of pccl.torch: tensors with names, and the settings of training methods."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Union

import torch

from .._arguments import flag, integer, number, parse_enum, path, shown, text
from .._enums import (
    Fragments,
    Graph,
    Merge,
    Newcomers,
    NonFinite,
    OuterOptimizer,
    Partners,
    Penalty,
    Variance,
    _Enum,
)
from .._tensors import check_plain

Parameters = Union[torch.nn.Module, Iterable[torch.Tensor], Iterable[tuple[str, torch.Tensor]]]

_ENUMERATIONS: dict[str, type[_Enum]] = {
    "outer_optimizer": OuterOptimizer, "newcomers": Newcomers, "fragment_pattern": Fragments, "penalty_mode": Penalty, "graph": Graph,
    "non_finite": NonFinite, "partners": Partners, "merge": Merge, "variance": Variance,
}
_FLOATS = {
    "outer_learning_rate": "outer_lr", "outer_momentum": "outer_momentum", "mixing": "mixing", "penalty": "penalty",
    "clip_momentum": "clip_momentum", "own_weight": "own_weight",
}
_COUNTS = ("sync_every", "fragments", "overlap_steps", "min_peers", "verify_every", "graph_degree")
_FLAGS = ("weighted", "optimize_topology", "sharded", "weigh_by_age")
_SECONDS = {"round_s": "round_ms", "rejoin_s": "rejoin_ms", "exchange_wait_s": "exchange_wait_ms"}


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


def library_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of a method by the names of pcclTrainerConfig_t. None: the library's default, which is that of the signature."""
    return {_SECONDS.get(name, name): _setting(name, value) for name, value in settings.items() if value is not None}


def _setting(name: str, value: Any) -> Any:
    if name in _ENUMERATIONS:
        return parse_enum(_ENUMERATIONS[name], value, name)
    if name in _FLOATS:
        return number(value, _FLOATS[name])
    if name in _COUNTS:
        return integer(value, name, 0, (1 << 32) - 1)
    if name in _SECONDS:
        return integer(round(min(1000 * number(value, name), 1e12)), f"{name} in milliseconds", 0, (1 << 32) - 1)
    if name in _FLAGS:
        return flag(value, name)
    if name == "graph_seed":
        return integer(value, name)
    if name == "uncorrected":
        return text(value, name)
    assert name == "state_file"
    return path(value, name)
