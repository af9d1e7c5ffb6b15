"""Training with little communication for PyTorch: a thin layer over the library's trainers.

    import pccl, pccl.torch

    diloco = pccl.torch.DiLoCo(model, communicator=pccl.Communicator("master.example:48148"), sync_every=100)
    with diloco:                              # joins the run: the model is the run's from here on
        for batch in data:
            loss(model(batch)).backward()
            optimizer.step()
            optimizer.zero_grad()
            diloco.step()                     # after every inner step; does something every 100 of them

Any inner optimizer; its state stays at its peer. Peers come and go at any time. What each method computes, its settings and defaults
are in docs/training.md; all of it happens in the library, which keeps the outer state bit-identical at all peers.
"""

from __future__ import annotations

from ._gradients import all_reduce_gradients, flatten, unflatten
from ._island import Island, IslandError
from ._methods import CO2, AsyncDiLoCo, DiLoCo, EagerDiLoCo, Gossip, Local, PushSum, StreamingDiLoCo
from ._trainer import Fragments, Graph, Merge, Newcomers, NonFinite, OuterOptimizer, Partners, Penalty, TrainerStatus, Variance

__all__ = [
    "CO2", "AsyncDiLoCo", "DiLoCo", "EagerDiLoCo", "Fragments", "Gossip", "Graph", "Island", "IslandError", "Local", "Merge", "Newcomers", "NonFinite", "OuterOptimizer",
    "Partners", "Penalty", "PushSum", "StreamingDiLoCo", "TrainerStatus", "Variance", "all_reduce_gradients", "flatten", "unflatten",
]
