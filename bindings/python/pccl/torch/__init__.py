"""Training with little communication for PyTorch: a thin layer over the library's trainers.

    import pccl, pccl.torch

    diloco = pccl.torch.DiLoCo(model, communicator=pccl.Communicator("master.example:48148"), sync_every=100)
    with diloco:                              # joins the run and receives the run's parameters
        for batch in data:
            loss(model(batch)).backward()
            optimizer.step()
            optimizer.zero_grad()
            diloco.step()                     # after every inner step; communicates every 100 steps

Any inner optimizer works, and its state stays at its peer. Peers join and leave at any time. docs/training/methods.md describes each method. The
library computes the outer steps and keeps the outer state bit-identical at all peers.

Every other public name is PyTorch's: after `from pccl import torch`, `torch.Tensor` and `torch.nn.Linear` are those of PyTorch, as in
version 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._enums import Fragments, Graph, Merge, Newcomers, NonFinite, OuterOptimizer, Partners, Penalty, Variance
from .._missing import missing

try:
    import torch as _torch
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    _torch = None  # type: ignore[assignment]

if _torch is not None or TYPE_CHECKING:
    from ._gradients import all_reduce_gradients
    from ._island import Island, IslandError
    from ._masters import copy_to_masters, masters_of
    from ._methods import CO2, AsyncDiLoCo, DiLoCo, EagerDiLoCo, Gossip, Local, PushSum, StreamingDiLoCo
    from ._names import flatten, unflatten
    from ._trainer import Trainer, TrainerStatus

if TYPE_CHECKING:  # PyTorch's most used names with their types; __getattr__ below gives the others the type Any
    from torch import *
    from torch import autograd as autograd, backends as backends, cuda as cuda, device as device, distributed as distributed, dtype as dtype
    from torch import bfloat16 as bfloat16, float16 as float16, float32 as float32, float64 as float64, int8 as int8, int32 as int32
    from torch import int64 as int64, nn as nn, no_grad as no_grad, optim as optim, uint8 as uint8, utils as utils

__all__ = [
    "CO2", "AsyncDiLoCo", "DiLoCo", "EagerDiLoCo", "Fragments", "Gossip", "Graph", "Island", "IslandError", "Local", "Merge", "Newcomers",
    "NonFinite", "OuterOptimizer", "Partners", "Penalty", "PushSum", "StreamingDiLoCo", "Trainer", "TrainerStatus", "Variance",
    "all_reduce_gradients", "copy_to_masters", "flatten", "masters_of", "unflatten",
]


def __getattr__(name: str) -> Any:
    if _torch is None:
        missing("torch", "PyTorch", name)
    try:
        return getattr(_torch, name)
    except AttributeError:
        raise AttributeError(f"neither pccl.torch nor torch has an attribute {name!r}") from None


def __dir__() -> list[str]:
    return sorted({*globals(), *dir(_torch)} if _torch is not None else globals())
