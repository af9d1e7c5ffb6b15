"""The methods, each with its settings and their defaults. None: the library's default for the method. Enumerations can be given by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional

from .._arguments import flag
from ._arguments import Parameters, milliseconds
from ._trainer import Fragments, Graph, Merge, Newcomers, OuterOptimizer, Partners, Penalty, Trainer, Variance

if TYPE_CHECKING:
    from .._communicator import Communicator


class Local(Trainer):
    """No communication: for comparison."""

    _METHOD = 0

    def __init__(self, parameters: Parameters, **common: Any) -> None:
        super().__init__(parameters, communicator=common.pop("communicator", None), **common)


class DiLoCo(Trainer):
    """Pseudo-gradients averaged every `sync_every` inner steps (100), then an outer step: Nesterov of learning rate 0.7 and momentum 0.9.
    The step waits for the average. Douillard et al. 2023."""

    _METHOD = 1

    def __init__(
        self,
        parameters: Parameters,
        *,
        communicator: Optional[Communicator] = None,
        sync_every: int | None = None,
        outer_lr: float | None = None,
        outer_momentum: float | None = None,
        outer_optimizer: OuterOptimizer | str | None = None,
        weighted: bool = False,
        sharded: bool = False,
        min_peers: int | None = None,
        verify_every: int | None = None,
        optimize_topology: bool = False,
        **common: Any,
    ) -> None:
        super().__init__(
            parameters, communicator=communicator, sync_every=sync_every, outer_learning_rate=outer_lr, outer_momentum=outer_momentum,
            outer_optimizer=outer_optimizer, weighted=weighted, sharded=sharded, min_peers=min_peers, verify_every=verify_every,
            optimize_topology=optimize_topology, **common,
        )


class AsyncDiLoCo(DiLoCo):
    """DiLoCo with averages that travel while the next round is trained, and are applied one outer step late: SGD of learning rate 0.7 without
    momentum. Larger rates, or momentum, diverge sooner than in DiLoCo: the library warns."""

    _METHOD = 2

    def __init__(self, parameters: Parameters, *, newcomers: Newcomers | str = Newcomers.DRAIN, **settings: Any) -> None:
        super().__init__(parameters, newcomers=newcomers, **settings)


class EagerDiLoCo(AsyncDiLoCo):
    """AsyncDiLoCo in which each peer works with its own newest contribution at once. Kale et al. 2025."""

    _METHOD = 3


class StreamingDiLoCo(DiLoCo):
    """One fragment of the model at a time: an average of each is begun every `sync_every` steps and applied `overlap_steps` (1) later, merged
    with weight 1 - `mixing` (0.5). Outer Nesterov of 0.4 and 0.9. Douillard et al. 2025."""

    _METHOD = 4

    def __init__(
        self,
        parameters: Parameters,
        *,
        fragments: int | None = None,
        fragment_pattern: Fragments | str = Fragments.STRIDED,
        overlap_steps: int | None = None,
        mixing: float | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(
            parameters, fragments=fragments, fragment_pattern=fragment_pattern, overlap_steps=overlap_steps, mixing=mixing, **settings
        )


class CO2(AsyncDiLoCo):
    """One outer step late, with heavy-ball momentum (0.2, learning rate 1), a penalty for staleness and clipped momentum. Sun et al. 2024."""

    _METHOD = 5

    def __init__(
        self,
        parameters: Parameters,
        *,
        penalty_mode: Penalty | str = Penalty.GAP_AWARE,
        penalty: float | None = None,
        clip_momentum: float | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(parameters, penalty_mode=penalty_mode, penalty=penalty, clip_momentum=clip_momentum, **settings)


class _Neighbourly(Trainer):
    """What the methods share that have neighbours in a graph instead of an average of all."""

    def __init__(
        self,
        parameters: Parameters,
        *,
        communicator: Optional[Communicator] = None,
        sync_every: int | None = None,
        graph: Graph | str | None = None,
        partners: Partners | str | None = None,
        merge: Merge | str | None = None,
        exchange_wait_s: float | None = None,
        min_peers: int | None = None,
        **common: Any,
    ) -> None:
        super().__init__(
            parameters, communicator=communicator, sync_every=sync_every, graph=graph, partners=partners, merge=merge,
            exchange_wait_ms=milliseconds(exchange_wait_s, "exchange_wait_s"), min_peers=min_peers, **common,
        )


class Gossip(_Neighbourly):
    """No average of all: every `sync_every` steps (100) each peer pushes its model to neighbours in a `graph` that the master keeps connected, and
    mixes what has come into its own, whose weight is `own_weight` (0.5); the variance of each tensor is then restored. Models differ
    between peers. Duan et al. 2024."""

    _METHOD = 6

    def __init__(
        self,
        parameters: Parameters,
        *,
        graph_degree: int | None = None,
        graph_seed: int | None = None,
        own_weight: float | None = None,
        variance: Variance | str | None = None,
        uncorrected: str | None = None,
        weigh_by_age: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__(
            parameters, graph_degree=graph_degree, graph_seed=graph_seed, own_weight=own_weight, variance=variance, uncorrected=uncorrected,
            weigh_by_age=flag(weigh_by_age, "weigh_by_age") or None, **settings,
        )


class PushSum(_Neighbourly):
    """Gossip whose mean over all peers is exact: each pushes shares of a sum and of its weight to one neighbour after the other of a directed
    graph. Assran et al. 2019."""

    _METHOD = 7
