"""The training methods, a class each. A class lists the settings that its method uses; their defaults are the library's.

tests/test_trainer_arguments.py compares the defaults with the library's.
An argument that is an enumeration takes the name of a member.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Optional

from .._descriptors import QuantizationOptions
from .._enums import (
    Fragments,
    Graph,
    LossPolicy,
    Merge,
    Method,
    Newcomers,
    NonFinite,
    OuterOptimizer,
    Partners,
    Penalty,
    ReduceAlgorithm,
    Variance,
)
from ._arguments import Parameters
from ._trainer import ModelOptions, Trainer, WireOptions

if TYPE_CHECKING:
    from .._communicator import Communicator
    from ._island import Island
    from ._model import Choice


class Local(Trainer):
    """Trains without communication: the baseline for comparisons. Calls and status are those of the other methods.

    Args:
        parameters: A module, whose parameters that require a gradient are trained; or tensors; or (name, tensor) pairs.
        communicator: Not used by this method. Accepted so that programs can switch methods.
        non_finite: For an infinity or a NaN in a contribution: "leave_out" excludes it, "fail" raises. Default: "leave_out".
        state_file: Holds the outer state in this file, mapped to memory. It is not a checkpoint: see `save`. None: in memory.
        share_buffers: Buffers that newcomers receive: True (all), "persistent", a function of the name, or False. Default: True.
        share_frozen: True: newcomers receive frozen parameters. "compare": others are refused. False: ignored. Default: True.
        masters: Float32 masters: their optimizer, a dict by name, tensors in order, or (parameter, master) pairs.
        find_masters: Searches for masters that overwrite averages. Other threads wait meanwhile. Default: False.
        on_parameters_changed: Called after each change that the trainer makes to the parameters.
        leave: `finish` and the end of the `with` block leave the run. False: the communicator stays connected. Default: True.

    Raises:
        TypeError: An argument has a wrong type, or a tensor cannot be trained.
        ValueError: An argument is out of its range, or there is nothing to train.
        PCCLError: INVALID_ARGUMENT: settings that do not fit each other; the message names them.

    Example:
        with pccl.torch.Local(model) as trainer:
            for batch in data:
                train(model, batch)
                trainer.step()
            trainer.finish()
    """

    _METHOD = Method.LOCAL

    def __init__(
        self,
        parameters: Parameters,
        *,
        communicator: Optional[Communicator] = None,
        non_finite: NonFinite | str = NonFinite.LEAVE_OUT,
        state_file: str | os.PathLike[str] | None = None,
        share_buffers: Choice = True,
        share_frozen: bool | str = True,
        masters: Any = None,
        find_masters: bool = False,
        on_parameters_changed: Callable[[], object] | None = None,
        leave: bool = True,
    ) -> None:
        super().__init__(
            parameters, communicator, None, WireOptions(),
            ModelOptions(share_buffers, share_frozen, masters, find_masters, on_parameters_changed, leave),
            non_finite=non_finite, state_file=state_file,
        )


class DiLoCo(Trainer):
    """Averages pseudo-gradients every `sync_every` inner steps and waits for the average.
    All peers then make the same outer step. Douillard et al. 2023.

    Args:
        parameters: A module, whose parameters that require a gradient are trained; or tensors; or (name, tensor) pairs.
        communicator: Connected or not. The trainer uses it from `join` on. Give either this or `island`.
        island: The processes that hold one copy of the model together (FSDP2, HSDP).
        sync_every: Inner steps per outer step. Default: 100.
        outer_lr: Learning rate of the outer optimizer. Default: 0.7.
        outer_momentum: Momentum of the outer optimizer, 0 to below 1. Default: 0.9.
        outer_optimizer: The outer optimizer: "sgd", "heavy_ball" or "nesterov". Default: "nesterov".
        weighted: Contributions count by `add_weight` (without it by their inner steps) instead of equally. Default: False.
        round_s: Seconds after which a round ends before `sync_every` steps. Needs `weighted`. 0: never. Default: 0.0.
        sharded: Each peer holds 1/N of the outer momentum: reduce-scatter, outer step, all-gather. Default: False.
        quantization: How averages are packed on the wire. None: not quantized.
        error_feedback: Adds the rounding error of a quantized average to the next one. Default: False.
        algorithm: Algorithm of the averages: "auto", "ring", "direct" or "one_hop". Default: "auto".
        on_peer_loss: "retry" repeats an average after a loss; "repair" continues it among the survivors. Default: "retry".
        non_finite: For an infinity or a NaN in a contribution: "leave_out" excludes it, "fail" raises. Default: "leave_out".
        min_peers: A round begins once the group has this many peers. Default: 1.
        verify_every: Outer steps between comparisons of the outer states. 0: never. Default: 1.
        optimize_topology: Measures the paths and chooses the ring again whenever peers have joined. Default: False.
        rejoin_s: Seconds for which a peer that has lost the run tries to join it again. 0: never. Default: 600.0.
        state_file: Holds the outer state in this file, mapped to memory. It is not a checkpoint: see `save`. None: in memory.
        share_buffers: Buffers that newcomers receive: True (all), "persistent", a function of the name, or False. Default: True.
        share_frozen: True: newcomers receive frozen parameters. "compare": others are refused. False: ignored. Default: True.
        masters: Float32 masters: their optimizer, a dict by name, tensors in order, or (parameter, master) pairs.
        find_masters: Searches for masters that overwrite averages. Other threads wait meanwhile. Default: False.
        on_parameters_changed: Called after each change that the trainer makes to the parameters.
        leave: `finish` and the end of the `with` block leave the run. False: the communicator stays connected. Default: True.

    Raises:
        TypeError: An argument has a wrong type, or there is neither a communicator nor an island, or both.
        ValueError: An argument is out of its range, or there is nothing to train.
        PCCLError: INVALID_ARGUMENT: settings that do not fit each other; the message names them.

    Example:
        with pccl.torch.DiLoCo(model, communicator=pccl.Communicator("master.example:48148")) as trainer:
            for batch in data:
                train(model, batch)
                trainer.step()
            trainer.finish()
    """

    _METHOD = Method.DILOCO

    def __init__(
        self,
        parameters: Parameters,
        *,
        communicator: Optional[Communicator] = None,
        island: Optional[Island] = None,
        sync_every: int = 100,
        outer_lr: float = 0.7,
        outer_momentum: float = 0.9,
        outer_optimizer: OuterOptimizer | str = OuterOptimizer.NESTEROV,
        weighted: bool = False,
        round_s: float = 0.0,
        sharded: bool = False,
        quantization: QuantizationOptions | None = None,
        error_feedback: bool = False,
        algorithm: ReduceAlgorithm | str = ReduceAlgorithm.AUTO,
        on_peer_loss: LossPolicy | str = LossPolicy.RETRY,
        non_finite: NonFinite | str = NonFinite.LEAVE_OUT,
        min_peers: int = 1,
        verify_every: int = 1,
        optimize_topology: bool = False,
        rejoin_s: float = 600.0,
        state_file: str | os.PathLike[str] | None = None,
        share_buffers: Choice = True,
        share_frozen: bool | str = True,
        masters: Any = None,
        find_masters: bool = False,
        on_parameters_changed: Callable[[], object] | None = None,
        leave: bool = True,
    ) -> None:
        super().__init__(
            parameters, communicator, island, WireOptions(quantization, error_feedback, algorithm, on_peer_loss),
            ModelOptions(share_buffers, share_frozen, masters, find_masters, on_parameters_changed, leave),
            sync_every=sync_every, outer_learning_rate=outer_lr, outer_momentum=outer_momentum,
            outer_optimizer=outer_optimizer, weighted=weighted, round_s=round_s, sharded=sharded, non_finite=non_finite,
            min_peers=min_peers, verify_every=verify_every, optimize_topology=optimize_topology, rejoin_s=rejoin_s,
            state_file=state_file,
        )


class AsyncDiLoCo(Trainer):
    """DiLoCo whose averages travel while the next round is trained and are applied one outer step late. Larger learning rates and
    momentum diverge sooner than in DiLoCo: the library then logs a warning.

    Args:
        parameters: A module, whose parameters that require a gradient are trained; or tensors; or (name, tensor) pairs.
        communicator: Connected or not. The trainer uses it from `join` on. Give either this or `island`.
        island: The processes that hold one copy of the model together (FSDP2, HSDP).
        sync_every: Inner steps per outer step. Default: 100.
        outer_lr: Learning rate of the outer optimizer. Default: 0.7.
        outer_momentum: Momentum of the outer optimizer, 0 to below 1. Default: 0.0.
        outer_optimizer: The outer optimizer: "sgd", "heavy_ball" or "nesterov". Default: "sgd".
        newcomers: How a newcomer joins while an average is in flight: "drain", "share_pending" or "resync". Default: "drain".
        weighted: Contributions count by `add_weight` (without it by their inner steps) instead of equally. Default: False.
        round_s: Seconds after which a round ends before `sync_every` steps. Needs `weighted`. 0: never. Default: 0.0.
        sharded: Each peer holds 1/N of the outer momentum: reduce-scatter, outer step, all-gather. Default: False.
        quantization: How averages are packed on the wire. None: not quantized.
        error_feedback: Adds the rounding error of a quantized average to the next one. Default: False.
        algorithm: Algorithm of the averages: "auto", "ring", "direct" or "one_hop". Default: "auto".
        on_peer_loss: "retry" repeats an average after a loss; "repair" continues it among the survivors. Default: "retry".
        non_finite: For an infinity or a NaN in a contribution: "leave_out" excludes it, "fail" raises. Default: "leave_out".
        min_peers: A round begins once the group has this many peers. Default: 1.
        verify_every: Outer steps between comparisons of the outer states. 0: never. Default: 1.
        optimize_topology: Measures the paths and chooses the ring again whenever peers have joined. Default: False.
        rejoin_s: Seconds for which a peer that has lost the run tries to join it again. 0: never. Default: 600.0.
        state_file: Holds the outer state in this file, mapped to memory. It is not a checkpoint: see `save`. None: in memory.
        share_buffers: Buffers that newcomers receive: True (all), "persistent", a function of the name, or False. Default: True.
        share_frozen: True: newcomers receive frozen parameters. "compare": others are refused. False: ignored. Default: True.
        masters: Float32 masters: their optimizer, a dict by name, tensors in order, or (parameter, master) pairs.
        find_masters: Searches for masters that overwrite averages. Other threads wait meanwhile. Default: False.
        on_parameters_changed: Called after each change that the trainer makes to the parameters.
        leave: `finish` and the end of the `with` block leave the run. False: the communicator stays connected. Default: True.

    Raises:
        TypeError: An argument has a wrong type, or there is neither a communicator nor an island, or both.
        ValueError: An argument is out of its range, or there is nothing to train.
        PCCLError: INVALID_ARGUMENT: settings that do not fit each other; the message names them.

    Example:
        with pccl.torch.AsyncDiLoCo(model, communicator=pccl.Communicator("master.example:48148")) as trainer:
            for batch in data:
                train(model, batch)
                trainer.step()
            trainer.finish()
    """

    _METHOD = Method.ASYNC_DILOCO

    def __init__(
        self,
        parameters: Parameters,
        *,
        communicator: Optional[Communicator] = None,
        island: Optional[Island] = None,
        sync_every: int = 100,
        outer_lr: float = 0.7,
        outer_momentum: float = 0.0,
        outer_optimizer: OuterOptimizer | str = OuterOptimizer.SGD,
        newcomers: Newcomers | str = Newcomers.DRAIN,
        weighted: bool = False,
        round_s: float = 0.0,
        sharded: bool = False,
        quantization: QuantizationOptions | None = None,
        error_feedback: bool = False,
        algorithm: ReduceAlgorithm | str = ReduceAlgorithm.AUTO,
        on_peer_loss: LossPolicy | str = LossPolicy.RETRY,
        non_finite: NonFinite | str = NonFinite.LEAVE_OUT,
        min_peers: int = 1,
        verify_every: int = 1,
        optimize_topology: bool = False,
        rejoin_s: float = 600.0,
        state_file: str | os.PathLike[str] | None = None,
        share_buffers: Choice = True,
        share_frozen: bool | str = True,
        masters: Any = None,
        find_masters: bool = False,
        on_parameters_changed: Callable[[], object] | None = None,
        leave: bool = True,
    ) -> None:
        super().__init__(
            parameters, communicator, island, WireOptions(quantization, error_feedback, algorithm, on_peer_loss),
            ModelOptions(share_buffers, share_frozen, masters, find_masters, on_parameters_changed, leave),
            sync_every=sync_every, outer_learning_rate=outer_lr, outer_momentum=outer_momentum,
            outer_optimizer=outer_optimizer, newcomers=newcomers, weighted=weighted, round_s=round_s, sharded=sharded,
            non_finite=non_finite, min_peers=min_peers, verify_every=verify_every, optimize_topology=optimize_topology,
            rejoin_s=rejoin_s, state_file=state_file,
        )


class EagerDiLoCo(Trainer):
    """AsyncDiLoCo in which each peer trains with its own newest contribution at once. The outer optimizer is SGD or Nesterov.
    Kale et al. 2025.

    Args:
        parameters: A module, whose parameters that require a gradient are trained; or tensors; or (name, tensor) pairs.
        communicator: Connected or not. The trainer uses it from `join` on. Give either this or `island`.
        island: The processes that hold one copy of the model together (FSDP2, HSDP).
        sync_every: Inner steps per outer step. Default: 100.
        outer_lr: Learning rate of the outer optimizer. Default: 0.7.
        outer_momentum: Momentum of the outer optimizer, 0 to below 1. Default: 0.0.
        outer_optimizer: The outer optimizer: "sgd", "heavy_ball" or "nesterov". Default: "sgd".
        newcomers: How a newcomer joins while an average is in flight: "drain", "share_pending" or "resync". Default: "drain".
        weighted: Contributions count by `add_weight` (without it by their inner steps) instead of equally. Default: False.
        round_s: Seconds after which a round ends before `sync_every` steps. Needs `weighted`. 0: never. Default: 0.0.
        quantization: How averages are packed on the wire. None: not quantized.
        error_feedback: Adds the rounding error of a quantized average to the next one. Default: False.
        algorithm: Algorithm of the averages: "auto", "ring", "direct" or "one_hop". Default: "auto".
        on_peer_loss: "retry" repeats an average after a loss; "repair" continues it among the survivors. Default: "retry".
        non_finite: For an infinity or a NaN in a contribution: "leave_out" excludes it, "fail" raises. Default: "leave_out".
        min_peers: A round begins once the group has this many peers. Default: 1.
        verify_every: Outer steps between comparisons of the outer states. 0: never. Default: 1.
        optimize_topology: Measures the paths and chooses the ring again whenever peers have joined. Default: False.
        rejoin_s: Seconds for which a peer that has lost the run tries to join it again. 0: never. Default: 600.0.
        state_file: Holds the outer state in this file, mapped to memory. It is not a checkpoint: see `save`. None: in memory.
        share_buffers: Buffers that newcomers receive: True (all), "persistent", a function of the name, or False. Default: True.
        share_frozen: True: newcomers receive frozen parameters. "compare": others are refused. False: ignored. Default: True.
        masters: Float32 masters: their optimizer, a dict by name, tensors in order, or (parameter, master) pairs.
        find_masters: Searches for masters that overwrite averages. Other threads wait meanwhile. Default: False.
        on_parameters_changed: Called after each change that the trainer makes to the parameters.
        leave: `finish` and the end of the `with` block leave the run. False: the communicator stays connected. Default: True.

    Raises:
        TypeError: An argument has a wrong type, or there is neither a communicator nor an island, or both.
        ValueError: An argument is out of its range, or there is nothing to train.
        PCCLError: INVALID_ARGUMENT: settings that do not fit each other; the message names them.

    Example:
        with pccl.torch.EagerDiLoCo(model, communicator=pccl.Communicator("master.example:48148")) as trainer:
            for batch in data:
                train(model, batch)
                trainer.step()
            trainer.finish()
    """

    _METHOD = Method.EAGER_DILOCO

    def __init__(
        self,
        parameters: Parameters,
        *,
        communicator: Optional[Communicator] = None,
        island: Optional[Island] = None,
        sync_every: int = 100,
        outer_lr: float = 0.7,
        outer_momentum: float = 0.0,
        outer_optimizer: OuterOptimizer | str = OuterOptimizer.SGD,
        newcomers: Newcomers | str = Newcomers.DRAIN,
        weighted: bool = False,
        round_s: float = 0.0,
        quantization: QuantizationOptions | None = None,
        error_feedback: bool = False,
        algorithm: ReduceAlgorithm | str = ReduceAlgorithm.AUTO,
        on_peer_loss: LossPolicy | str = LossPolicy.RETRY,
        non_finite: NonFinite | str = NonFinite.LEAVE_OUT,
        min_peers: int = 1,
        verify_every: int = 1,
        optimize_topology: bool = False,
        rejoin_s: float = 600.0,
        state_file: str | os.PathLike[str] | None = None,
        share_buffers: Choice = True,
        share_frozen: bool | str = True,
        masters: Any = None,
        find_masters: bool = False,
        on_parameters_changed: Callable[[], object] | None = None,
        leave: bool = True,
    ) -> None:
        super().__init__(
            parameters, communicator, island, WireOptions(quantization, error_feedback, algorithm, on_peer_loss),
            ModelOptions(share_buffers, share_frozen, masters, find_masters, on_parameters_changed, leave),
            sync_every=sync_every, outer_learning_rate=outer_lr, outer_momentum=outer_momentum,
            outer_optimizer=outer_optimizer, newcomers=newcomers, weighted=weighted, round_s=round_s, non_finite=non_finite,
            min_peers=min_peers, verify_every=verify_every, optimize_topology=optimize_topology, rejoin_s=rejoin_s,
            state_file=state_file,
        )


class StreamingDiLoCo(Trainer):
    """Averages one fragment of the model at a time: each every `sync_every` inner steps, applied `overlap_steps` later and merged
    with the weight 1 - `mixing`. Douillard et al. 2025.

    Args:
        parameters: A module, whose parameters that require a gradient are trained; or tensors; or (name, tensor) pairs.
        communicator: Connected or not. The trainer uses it from `join` on. Give either this or `island`.
        island: The processes that hold one copy of the model together (FSDP2, HSDP).
        sync_every: Inner steps per outer step. Default: 100.
        outer_lr: Learning rate of the outer optimizer. Default: 0.4.
        outer_momentum: Momentum of the outer optimizer, 0 to below 1. Default: 0.9.
        outer_optimizer: The outer optimizer: "sgd", "heavy_ball" or "nesterov". Default: "nesterov".
        fragments: Number of fragments, at most `sync_every`. Default: 2.
        fragment_pattern: How the model is divided: "strided", "sequential" or "even". Default: "strided".
        overlap_steps: Inner steps between the start of a fragment's average and its outer step, below `sync_every`. Default: 1.
        mixing: Weight of this peer's own parameters in the merge, 0 to 1. Default: 0.5.
        quantization: How averages are packed on the wire. None: not quantized.
        error_feedback: Adds the rounding error of a quantized average to the next one. Default: False.
        algorithm: Algorithm of the averages: "auto", "ring", "direct" or "one_hop". Default: "auto".
        on_peer_loss: "retry" repeats an average after a loss; "repair" continues it among the survivors. Default: "retry".
        non_finite: For an infinity or a NaN in a contribution: "leave_out" excludes it, "fail" raises. Default: "leave_out".
        min_peers: A round begins once the group has this many peers. Default: 1.
        verify_every: Outer steps between comparisons of the outer states. 0: never. Default: 1.
        optimize_topology: Measures the paths and chooses the ring again whenever peers have joined. Default: False.
        rejoin_s: Seconds for which a peer that has lost the run tries to join it again. 0: never. Default: 600.0.
        state_file: Holds the outer state in this file, mapped to memory. It is not a checkpoint: see `save`. None: in memory.
        share_buffers: Buffers that newcomers receive: True (all), "persistent", a function of the name, or False. Default: True.
        share_frozen: True: newcomers receive frozen parameters. "compare": others are refused. False: ignored. Default: True.
        masters: Float32 masters: their optimizer, a dict by name, tensors in order, or (parameter, master) pairs.
        find_masters: Searches for masters that overwrite averages. Other threads wait meanwhile. Default: False.
        on_parameters_changed: Called after each change that the trainer makes to the parameters.
        leave: `finish` and the end of the `with` block leave the run. False: the communicator stays connected. Default: True.

    Raises:
        TypeError: An argument has a wrong type, or there is neither a communicator nor an island, or both.
        ValueError: An argument is out of its range, or there is nothing to train.
        PCCLError: INVALID_ARGUMENT: settings that do not fit each other; the message names them.

    Example:
        with pccl.torch.StreamingDiLoCo(model, communicator=pccl.Communicator("master.example:48148")) as trainer:
            for batch in data:
                train(model, batch)
                trainer.step()
            trainer.finish()
    """

    _METHOD = Method.STREAMING_DILOCO

    def __init__(
        self,
        parameters: Parameters,
        *,
        communicator: Optional[Communicator] = None,
        island: Optional[Island] = None,
        sync_every: int = 100,
        outer_lr: float = 0.4,
        outer_momentum: float = 0.9,
        outer_optimizer: OuterOptimizer | str = OuterOptimizer.NESTEROV,
        fragments: int = 2,
        fragment_pattern: Fragments | str = Fragments.STRIDED,
        overlap_steps: int = 1,
        mixing: float = 0.5,
        quantization: QuantizationOptions | None = None,
        error_feedback: bool = False,
        algorithm: ReduceAlgorithm | str = ReduceAlgorithm.AUTO,
        on_peer_loss: LossPolicy | str = LossPolicy.RETRY,
        non_finite: NonFinite | str = NonFinite.LEAVE_OUT,
        min_peers: int = 1,
        verify_every: int = 1,
        optimize_topology: bool = False,
        rejoin_s: float = 600.0,
        state_file: str | os.PathLike[str] | None = None,
        share_buffers: Choice = True,
        share_frozen: bool | str = True,
        masters: Any = None,
        find_masters: bool = False,
        on_parameters_changed: Callable[[], object] | None = None,
        leave: bool = True,
    ) -> None:
        super().__init__(
            parameters, communicator, island, WireOptions(quantization, error_feedback, algorithm, on_peer_loss),
            ModelOptions(share_buffers, share_frozen, masters, find_masters, on_parameters_changed, leave),
            sync_every=sync_every, outer_learning_rate=outer_lr, outer_momentum=outer_momentum,
            outer_optimizer=outer_optimizer, fragments=fragments, fragment_pattern=fragment_pattern,
            overlap_steps=overlap_steps, mixing=mixing, non_finite=non_finite, min_peers=min_peers,
            verify_every=verify_every, optimize_topology=optimize_topology, rejoin_s=rejoin_s, state_file=state_file,
        )


class CO2(Trainer):
    """Applies averages one outer step late, with heavy-ball momentum, a penalty for staleness and clipped momentum.
    Sun et al. 2024.

    Args:
        parameters: A module, whose parameters that require a gradient are trained; or tensors; or (name, tensor) pairs.
        communicator: Connected or not. The trainer uses it from `join` on. Give either this or `island`.
        island: The processes that hold one copy of the model together (FSDP2, HSDP).
        sync_every: Inner steps per outer step. Default: 100.
        outer_lr: Learning rate of the outer optimizer. Default: 1.0.
        outer_momentum: Momentum of the outer optimizer, 0 to below 1. Default: 0.2.
        newcomers: How a newcomer joins while an average is in flight: "drain", "share_pending" or "resync". Default: "drain".
        penalty_mode: Divisor of stale averages: "none", "constant" or "gap_aware". Default: "gap_aware".
        penalty: The divisor with "constant", at least 1. Default: 1.0.
        clip_momentum: Bound on each element of the outer momentum. 0: no bound. Default: 0.0.
        weighted: Contributions count by `add_weight` (without it by their inner steps) instead of equally. Default: False.
        round_s: Seconds after which a round ends before `sync_every` steps. Needs `weighted`. 0: never. Default: 0.0.
        sharded: Each peer holds 1/N of the outer momentum: reduce-scatter, outer step, all-gather. Default: False.
        quantization: How averages are packed on the wire. None: not quantized.
        error_feedback: Adds the rounding error of a quantized average to the next one. Default: False.
        algorithm: Algorithm of the averages: "auto", "ring", "direct" or "one_hop". Default: "auto".
        on_peer_loss: "retry" repeats an average after a loss; "repair" continues it among the survivors. Default: "retry".
        non_finite: For an infinity or a NaN in a contribution: "leave_out" excludes it, "fail" raises. Default: "leave_out".
        min_peers: A round begins once the group has this many peers. Default: 1.
        verify_every: Outer steps between comparisons of the outer states. 0: never. Default: 1.
        optimize_topology: Measures the paths and chooses the ring again whenever peers have joined. Default: False.
        rejoin_s: Seconds for which a peer that has lost the run tries to join it again. 0: never. Default: 600.0.
        state_file: Holds the outer state in this file, mapped to memory. It is not a checkpoint: see `save`. None: in memory.
        share_buffers: Buffers that newcomers receive: True (all), "persistent", a function of the name, or False. Default: True.
        share_frozen: True: newcomers receive frozen parameters. "compare": others are refused. False: ignored. Default: True.
        masters: Float32 masters: their optimizer, a dict by name, tensors in order, or (parameter, master) pairs.
        find_masters: Searches for masters that overwrite averages. Other threads wait meanwhile. Default: False.
        on_parameters_changed: Called after each change that the trainer makes to the parameters.
        leave: `finish` and the end of the `with` block leave the run. False: the communicator stays connected. Default: True.

    Raises:
        TypeError: An argument has a wrong type, or there is neither a communicator nor an island, or both.
        ValueError: An argument is out of its range, or there is nothing to train.
        PCCLError: INVALID_ARGUMENT: settings that do not fit each other; the message names them.

    Example:
        with pccl.torch.CO2(model, communicator=pccl.Communicator("master.example:48148")) as trainer:
            for batch in data:
                train(model, batch)
                trainer.step()
            trainer.finish()
    """

    _METHOD = Method.CO2

    def __init__(
        self,
        parameters: Parameters,
        *,
        communicator: Optional[Communicator] = None,
        island: Optional[Island] = None,
        sync_every: int = 100,
        outer_lr: float = 1.0,
        outer_momentum: float = 0.2,
        newcomers: Newcomers | str = Newcomers.DRAIN,
        penalty_mode: Penalty | str = Penalty.GAP_AWARE,
        penalty: float = 1.0,
        clip_momentum: float = 0.0,
        weighted: bool = False,
        round_s: float = 0.0,
        sharded: bool = False,
        quantization: QuantizationOptions | None = None,
        error_feedback: bool = False,
        algorithm: ReduceAlgorithm | str = ReduceAlgorithm.AUTO,
        on_peer_loss: LossPolicy | str = LossPolicy.RETRY,
        non_finite: NonFinite | str = NonFinite.LEAVE_OUT,
        min_peers: int = 1,
        verify_every: int = 1,
        optimize_topology: bool = False,
        rejoin_s: float = 600.0,
        state_file: str | os.PathLike[str] | None = None,
        share_buffers: Choice = True,
        share_frozen: bool | str = True,
        masters: Any = None,
        find_masters: bool = False,
        on_parameters_changed: Callable[[], object] | None = None,
        leave: bool = True,
    ) -> None:
        super().__init__(
            parameters, communicator, island, WireOptions(quantization, error_feedback, algorithm, on_peer_loss),
            ModelOptions(share_buffers, share_frozen, masters, find_masters, on_parameters_changed, leave),
            sync_every=sync_every, outer_learning_rate=outer_lr, outer_momentum=outer_momentum, newcomers=newcomers,
            penalty_mode=penalty_mode, penalty=penalty, clip_momentum=clip_momentum, weighted=weighted, round_s=round_s,
            sharded=sharded, non_finite=non_finite, min_peers=min_peers, verify_every=verify_every,
            optimize_topology=optimize_topology, rejoin_s=rejoin_s, state_file=state_file,
        )


class Gossip(Trainer):
    """Sends each peer's model to neighbours every `sync_every` inner steps and mixes received models into its own. There is no
    average of all peers, and models differ between peers. Duan et al. 2024.

    Args:
        parameters: A module, whose parameters that require a gradient are trained; or tensors; or (name, tensor) pairs.
        communicator: Required. Connected or not. The trainer uses it from `join` on.
        sync_every: Inner steps per outer step. Default: 10.
        graph: The graph of neighbours: "ring", "random_regular", "exponential" or "barabasi_albert". Default: "random_regular".
        graph_degree: Neighbours per peer in a random regular (2 to 64) or Barabasi-Albert (1 to 64) graph. Default: 4.
        graph_seed: Seed of the random graphs. Default: 0.
        partners: Receivers of this peer's model: "all" neighbours, "one" at random, or the "next" in turn. Default: "all".
        merge: When received models are mixed in: "available", "after_all" or "synchronous". Default: "available".
        exchange_wait_s: Seconds after which a model that is not delivered is withdrawn. Default: 10.0.
        own_weight: Weight of this peer's own model in the mix, 0 to 1. Default: 0.5.
        variance: Variance of each tensor after mixing: "of_received", "of_own", "weighted" or "none". Default: "of_received".
        uncorrected: Tensors whose variance is not corrected: names with commas between them, "*" as a wildcard.
        weigh_by_age: Models count by the inner steps in them, instead of by `own_weight`. Default: False.
        non_finite: For an infinity or a NaN in a contribution: "leave_out" excludes it, "fail" raises. Default: "leave_out".
        min_peers: A round begins once the group has this many peers. Default: 1.
        verify_every: Rounds between updates of `status.digest`. 0: never. Default: 1.
        optimize_topology: Measures the paths and chooses the ring again whenever peers have joined. Default: False.
        rejoin_s: Seconds for which a peer that has lost the run tries to join it again. 0: never. Default: 600.0.
        state_file: Holds the outer state in this file, mapped to memory. It is not a checkpoint: see `save`. None: in memory.
        share_buffers: Buffers that newcomers receive: True (all), "persistent", a function of the name, or False. Default: True.
        share_frozen: True: newcomers receive frozen parameters. "compare": others are refused. False: ignored. Default: True.
        masters: Float32 masters: their optimizer, a dict by name, tensors in order, or (parameter, master) pairs.
        find_masters: Searches for masters that overwrite averages. Other threads wait meanwhile. Default: False.
        on_parameters_changed: Called after each change that the trainer makes to the parameters.
        leave: `finish` and the end of the `with` block leave the run. False: the communicator stays connected. Default: True.

    Raises:
        TypeError: An argument has a wrong type, or there is no communicator.
        ValueError: An argument is out of its range, or there is nothing to train.
        PCCLError: INVALID_ARGUMENT: settings that do not fit each other; the message names them.

    Example:
        with pccl.torch.Gossip(model, communicator=pccl.Communicator("master.example:48148")) as trainer:
            for batch in data:
                train(model, batch)
                trainer.step()
            trainer.finish()
    """

    _METHOD = Method.GOSSIP

    def __init__(
        self,
        parameters: Parameters,
        *,
        communicator: Optional[Communicator] = None,
        sync_every: int = 10,
        graph: Graph | str = Graph.RANDOM_REGULAR,
        graph_degree: int = 4,
        graph_seed: int = 0,
        partners: Partners | str = Partners.ALL,
        merge: Merge | str = Merge.AVAILABLE,
        exchange_wait_s: float = 10.0,
        own_weight: float = 0.5,
        variance: Variance | str = Variance.OF_RECEIVED,
        uncorrected: str | None = None,
        weigh_by_age: bool = False,
        non_finite: NonFinite | str = NonFinite.LEAVE_OUT,
        min_peers: int = 1,
        verify_every: int = 1,
        optimize_topology: bool = False,
        rejoin_s: float = 600.0,
        state_file: str | os.PathLike[str] | None = None,
        share_buffers: Choice = True,
        share_frozen: bool | str = True,
        masters: Any = None,
        find_masters: bool = False,
        on_parameters_changed: Callable[[], object] | None = None,
        leave: bool = True,
    ) -> None:
        super().__init__(
            parameters, communicator, None, WireOptions(),
            ModelOptions(share_buffers, share_frozen, masters, find_masters, on_parameters_changed, leave),
            sync_every=sync_every, graph=graph, graph_degree=graph_degree, graph_seed=graph_seed, partners=partners,
            merge=merge, exchange_wait_s=exchange_wait_s, own_weight=own_weight, variance=variance, uncorrected=uncorrected,
            weigh_by_age=weigh_by_age, non_finite=non_finite, min_peers=min_peers, verify_every=verify_every,
            optimize_topology=optimize_topology, rejoin_s=rejoin_s, state_file=state_file,
        )


class PushSum(Trainer):
    """Gossip that conserves the mean over all peers: each peer sends shares of a sum and of its weight to one neighbour after the
    other. Merges "available" or "synchronous". Assran et al. 2019.

    Args:
        parameters: A module, whose parameters that require a gradient are trained; or tensors; or (name, tensor) pairs.
        communicator: Required. Connected or not. The trainer uses it from `join` on.
        sync_every: Inner steps per outer step. Default: 10.
        graph: The graph of neighbours: "ring", "random_regular", "exponential" or "barabasi_albert". Default: "exponential".
        graph_degree: Neighbours per peer in a random regular (2 to 64) or Barabasi-Albert (1 to 64) graph. Default: 4.
        graph_seed: Seed of the random graphs. Default: 0.
        partners: Receivers of this peer's model: "all" neighbours, "one" at random, or the "next" in turn. Default: "next".
        merge: When received models are mixed in: "available", "after_all" or "synchronous". Default: "available".
        exchange_wait_s: Seconds after which a model that is not delivered is withdrawn. Default: 10.0.
        non_finite: For an infinity or a NaN in a contribution: "leave_out" excludes it, "fail" raises. Default: "leave_out".
        min_peers: A round begins once the group has this many peers. Default: 1.
        verify_every: Rounds between updates of `status.digest`. 0: never. Default: 1.
        optimize_topology: Measures the paths and chooses the ring again whenever peers have joined. Default: False.
        rejoin_s: Seconds for which a peer that has lost the run tries to join it again. 0: never. Default: 600.0.
        state_file: Holds the outer state in this file, mapped to memory. It is not a checkpoint: see `save`. None: in memory.
        share_buffers: Buffers that newcomers receive: True (all), "persistent", a function of the name, or False. Default: True.
        share_frozen: True: newcomers receive frozen parameters. "compare": others are refused. False: ignored. Default: True.
        masters: Float32 masters: their optimizer, a dict by name, tensors in order, or (parameter, master) pairs.
        find_masters: Searches for masters that overwrite averages. Other threads wait meanwhile. Default: False.
        on_parameters_changed: Called after each change that the trainer makes to the parameters.
        leave: `finish` and the end of the `with` block leave the run. False: the communicator stays connected. Default: True.

    Raises:
        TypeError: An argument has a wrong type, or there is no communicator.
        ValueError: An argument is out of its range, or there is nothing to train.
        PCCLError: INVALID_ARGUMENT: settings that do not fit each other; the message names them.

    Example:
        with pccl.torch.PushSum(model, communicator=pccl.Communicator("master.example:48148")) as trainer:
            for batch in data:
                train(model, batch)
                trainer.step()
            trainer.finish()
    """

    _METHOD = Method.PUSH_SUM

    def __init__(
        self,
        parameters: Parameters,
        *,
        communicator: Optional[Communicator] = None,
        sync_every: int = 10,
        graph: Graph | str = Graph.EXPONENTIAL,
        graph_degree: int = 4,
        graph_seed: int = 0,
        partners: Partners | str = Partners.NEXT,
        merge: Merge | str = Merge.AVAILABLE,
        exchange_wait_s: float = 10.0,
        non_finite: NonFinite | str = NonFinite.LEAVE_OUT,
        min_peers: int = 1,
        verify_every: int = 1,
        optimize_topology: bool = False,
        rejoin_s: float = 600.0,
        state_file: str | os.PathLike[str] | None = None,
        share_buffers: Choice = True,
        share_frozen: bool | str = True,
        masters: Any = None,
        find_masters: bool = False,
        on_parameters_changed: Callable[[], object] | None = None,
        leave: bool = True,
    ) -> None:
        super().__init__(
            parameters, communicator, None, WireOptions(),
            ModelOptions(share_buffers, share_frozen, masters, find_masters, on_parameters_changed, leave),
            sync_every=sync_every, graph=graph, graph_degree=graph_degree, graph_seed=graph_seed, partners=partners,
            merge=merge, exchange_wait_s=exchange_wait_s, non_finite=non_finite, min_peers=min_peers,
            verify_every=verify_every, optimize_topology=optimize_topology, rejoin_s=rejoin_s, state_file=state_file,
        )
