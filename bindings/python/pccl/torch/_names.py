"""Names that this package and PyTorch share: the arguments decide which is meant."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, overload

import torch

from . import _gradients


@overload
def flatten(tensors: Iterable[torch.Tensor], out: torch.Tensor | None = None) -> torch.Tensor: ...
@overload
def flatten(input: torch.Tensor, start_dim: int = 0, end_dim: int = -1) -> torch.Tensor: ...


def flatten(*arguments: Any, **named: Any) -> torch.Tensor:
    """Returns all elements of several tensors in one vector: float32, on the CPU, in `out` if given. With one tensor, calls `torch.flatten`."""
    if "input" in named or (arguments and isinstance(arguments[0], torch.Tensor)):
        return torch.flatten(*arguments, **named)
    return _gradients.flatten(*arguments, **named)


@overload
def unflatten(flat: torch.Tensor, tensors: Sequence[torch.Tensor]) -> None: ...
@overload
def unflatten(input: torch.Tensor, dim: int, sizes: Sequence[int]) -> torch.Tensor: ...


def unflatten(*arguments: Any, **named: Any) -> torch.Tensor | None:
    """Copies a row that `flatten` made back to the tensors. With a dimension and sizes, `torch.unflatten`."""
    if len(arguments) + len(named) == 2:
        return _gradients.unflatten(*arguments, **named)  # type: ignore[func-returns-value]
    return torch.unflatten(*arguments, **named)
