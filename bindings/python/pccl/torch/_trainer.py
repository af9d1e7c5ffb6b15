"""What all methods share: which tensors are trained, where their copies are, and the calls of the library's trainer."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Optional, Union

import torch

from .. import _pccl
from .._descriptors import QuantizationOptions, how
from .._descriptors import named as named_member
from .._enums import Fault, ReduceAlgorithm, ReduceOp, _Enum
from .._tensors import view
from ._island import IslandError

if TYPE_CHECKING:
    from typing_extensions import Self

    from .._communicator import Communicator
    from ._island import Island

# What the first replica of an island says to the others.
_FAILED, _RESTS, _CHANGED = 0, 1, 2

Parameters = Union[torch.nn.Module, Iterable[torch.Tensor], Iterable[tuple[str, torch.Tensor]]]


class OuterOptimizer(_Enum):
    """The step of the outer optimizer; see docs/training.md."""

    SGD = 0
    HEAVY_BALL = 1
    NESTEROV = 2


class Newcomers(_Enum):
    """What a newcomer is given where an average is under way at its admission."""

    DRAIN = 0
    SHARE_PENDING = 1
    EAVESDROP = 2


class Fragments(_Enum):
    """How streaming DiLoCo cuts the model."""

    STRIDED = 0
    SEQUENTIAL = 1
    EVEN = 2


class Penalty(_Enum):
    """The divisor of a stale average in CO2."""

    NONE = 0
    CONSTANT = 1
    GAP_AWARE = 2


class Graph(_Enum):
    """Who is whose neighbour in gossip."""

    RING = 1
    RANDOM_REGULAR = 2
    EXPONENTIAL = 3
    BARABASI_ALBERT = 4


class Partners(_Enum):
    """To whom a peer pushes its model in a round: all its neighbours, one by chance, or each in turn."""

    ALL = 0
    ONE = 1
    NEXT = 2


class Merge(_Enum):
    """When models that have come are mixed in: those that are there, when as many have come as were pushed, or after waiting for those."""

    ARRIVED = 0
    FULL = 1
    WAIT = 2


class NonFinite(_Enum):
    """What becomes of a round to which a peer would contribute an infinity or a NaN: made without it, or an error at all peers."""

    LEAVE_OUT = 0
    FAIL = 1


class Variance(_Enum):
    """What variance a tensor is given after models were mixed."""

    OTHERS = 0
    SELF = 1
    FOLLOW = 2
    NONE = 3


@dataclass(frozen=True)
class TrainerStatus:
    """What has become of a trainer; the flags are of the last call."""

    world_size: int
    """Peers of the group."""
    averaged: int
    """Peers in the last average that has come; methods one round late have not applied it yet."""
    outer_steps: int
    inner_steps: int
    """Of the run: what schedules of learning rates should follow."""
    tx_bytes: int
    rx_bytes: int
    communicating_s: float
    """Seconds in which averages were under way."""
    blocked_s: float
    """Seconds in which this program waited for communication of any kind."""
    digest: int
    """Of the outer state after the last outer step: equal at all peers."""
    penalty: float
    non_finite_rounds: int
    """Rounds in which a contribution was left out because it was not finite, or whose average was not finite and so not applied."""
    non_finite_peer: int
    """Of the last such round: the number by which logs name a peer that was left out. 0: none."""
    non_finite_tensor: str | None
    """Of the last such round: the first of that peer's tensors that was not finite."""
    left_out: bool
    """The last contribution of this peer was left out."""
    outer_step: bool
    """The outer parameters have changed."""
    world_grew: bool
    world_shrank: bool
    state_received: bool
    """Outer state came from others: the parameters are new."""
    rejoined: bool
    """This peer had fallen out of the run and is back."""
    diverged: bool
    """Outer states differed and were made equal again."""
    non_finite: bool
    """A contribution was not finite and was left out, or an average was not and was not applied."""

    @classmethod
    def _of(cls, events: int, *fields: Any) -> TrainerStatus:
        flags: dict[str, Any] = {name: bool(events & bit) for name, bit in _pccl.trainer_events.items()}
        return cls(*fields, **flags)


def _named(parameters: Parameters) -> tuple[list[tuple[str, torch.Tensor]], list[tuple[str, torch.Tensor]]]:
    """Trained tensors and buffers, with names; tied ones once."""
    if isinstance(parameters, torch.nn.Module):
        return ([(n, p) for n, p in parameters.named_parameters() if p.requires_grad], list(parameters.named_buffers()))
    trained = []
    for i, item in enumerate(parameters):
        name, tensor = item if isinstance(item, tuple) else (f"parameter {i}", item)
        trained.append((name, tensor))
    return trained, []


def _local(tensor: torch.Tensor) -> torch.Tensor:
    """This process's part of a distributed tensor, or the tensor itself."""
    tensor = tensor.detach()
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


class _Mirror:
    """A tensor that the library works on: itself, or a copy in host memory where it cannot."""

    def __init__(self, name: str, tensor: torch.Tensor) -> None:
        self.name = name
        self.tensor = tensor
        self.local = _local(tensor)
        direct = self.local.device.type == "cpu" and self.local.is_contiguous()
        self.host = self.local if direct else torch.empty(self.local.shape, dtype=self.local.dtype, device="cpu", pin_memory=self.local.is_cuda)

    def fetch(self) -> None:
        # An optimizer or FSDP may have given the tensor other memory.
        self.local = _local(self.tensor)
        if self.local.data_ptr() != self.host.data_ptr():
            self.host.copy_(self.local)

    def put(self) -> None:
        if self.local.data_ptr() != self.host.data_ptr():
            with torch.no_grad():
                self.local.copy_(self.host)


class Trainer:
    """A training method over the tensors of a model. Made by its subclasses: DiLoCo, AsyncDiLoCo, EagerDiLoCo, StreamingDiLoCo, CO2.

    `parameters`: a module (its parameters that require gradients; its buffers are given to newcomers), or tensors, or (name, tensor)
    pairs; float32, float16 or bfloat16, on any device. Every peer gives the same names and shapes.

    Where several processes hold one copy of the model together (FSDP2, DTensor), `island` takes the place of `communicator`: all of them make the
    same calls, `step` after each inner step. When one of them fails, or is lost, all raise and are out of the run; so a shared round of the
    run ends at all processes of an island or at none.

    `communicator` need not be connected, and is the trainer's from `join` on. `quantization` of averages on the wire, with
    `error_feedback`; `fault` is "retry" or "repair". `weighted`: contributions count by `add_weight`, by default by the steps made.
    `non_finite`: "leave_out" makes a round without contributions that are not finite; "fail" raises INVALID_ARGUMENT at all peers.
    A peer that was left out three rounds in a row is given the run's state; its `step` returns `state_received`, and the program should
    then reset the state of its inner optimizer. Times are in seconds.
    """

    _METHOD = 0

    def __init__(
        self,
        parameters: Parameters,
        *,
        communicator: Optional[Communicator] = None,
        island: Optional[Island] = None,
        quantization: QuantizationOptions | None = None,
        error_feedback: bool = False,
        algorithm: ReduceAlgorithm | str = ReduceAlgorithm.AUTO,
        fault: Fault | str = Fault.RETRY,
        round_s: float | None = None,
        rejoin_s: float | None = None,
        share_buffers: bool = True,
        non_finite: NonFinite | str = NonFinite.LEAVE_OUT,
        **settings: Any,
    ) -> None:
        trained, buffers = _named(parameters)
        if not trained:
            raise ValueError("there is nothing to train: no parameter that requires a gradient")
        if self._METHOD != 0 and (communicator is None) == (island is None):
            raise TypeError("a trainer has either a communicator or an island")
        self._island = island
        self._leads = island is None or island.replica == 0
        if island is not None:
            communicator = island.communicator
            settings["agree"] = island.agree
        self.communicator = communicator
        self._mirrors = [_Mirror(name, tensor) for name, tensor in trained if _local(tensor).numel() != 0]
        if not self._mirrors:  # this process has no part of any tensor, and still is one of its island
            self._mirrors = [_Mirror("nothing", torch.zeros(1))]
        given = {name: value for name, value in settings.items() if value is not None}
        given["non_finite"] = named_member(NonFinite, non_finite, "non_finite")
        if round_s is not None:
            given["round_ms"] = round(1000 * round_s)
        if rejoin_s is not None:
            given["rejoin_ms"] = round(1000 * rejoin_s)
        given["reduce"] = how(ReduceOp.AVG, 0, None, quantization, error_feedback, algorithm, fault)
        inner = None if communicator is None else communicator._communicator
        named = [(mirror.name, view(mirror.host, mirror.name, writable=True)) for mirror in self._mirrors]
        for mirror in self._mirrors:
            mirror.fetch()
        self._buffers = [_Mirror(name, tensor) for name, tensor in buffers if share_buffers and tensor.numel() != 0 and tensor.dtype is not torch.bool]
        # A replica that is not the first has one for its settings alone.
        self._trainer = _pccl.Trainer(inner, self._METHOD if self._leads else 0, named, given)
        self._status = TrainerStatus._of(*self._trainer.status())
        if communicator is not None:
            communicator._trainers.add(self._trainer)
        # They differ between peers, and are for newcomers.
        self._trainer.share([(f"buffer {b.name}", view(b.host, b.name, writable=True), True) for b in self._buffers])

    # ------------------------------------------------------------------------------------------------------------------ the run

    def join(self, *, timeout: float | None = None) -> None:
        """Joins the run: connects, waits until the members admit this peer (at their next outer step), and takes over the run's parameters.

        Raises PCCLError: MASTER_CONNECTION_FAILED if there is no master (may be tried again), INVALID_USAGE if the peers' methods, settings
        or parameters differ.
        """
        if self._island is not None:
            try:
                self._island.gather()
            except IslandError:
                self._island.close()
                raise

        def join() -> tuple[Any, ...]:
            if self._island is not None:
                self._island.connect(timeout)
            self._trainer.join(timeout)
            return self._trainer.status()

        self._call(join)

    def step(self, *, timeout: float | None = None) -> TrainerStatus:
        """To be called after each step of the inner optimizer. Lost peers, newcomers, a restarted master and falling out of the run are
        dealt with inside; the model's parameters may have changed afterwards. (An island that falls out of the run raises.)"""
        return self._call(lambda: self._trainer.step(timeout), may_rest=True)

    def end_round(self, *, timeout: float | None = None) -> TrainerStatus:
        """As `step`, and ends the round here with as many steps as it had. Needs `weighted`."""
        return self._call(lambda: self._trainer.end_round(timeout))

    def finish(self, *, timeout: float | None = None) -> TrainerStatus:
        """Ends training: averages under way are applied, and the model's parameters become the outer ones, the same at all peers."""
        return self._call(lambda: self._trainer.finish(timeout))

    def _call(self, call: Callable[[], tuple[Any, ...]], may_rest: bool = False) -> TrainerStatus:
        if not self._leads:
            return self._follow()
        try:
            rests = may_rest and not self._trainer.is_due()
            if rests:
                status = TrainerStatus._of(*call())
            else:
                self._fetch()
                try:
                    status = TrainerStatus._of(*call())
                finally:
                    self._put()
        except BaseException as error:
            self._give_up(error)
            raise
        if self._island is not None and self._island.replicas > 1:
            self._lead(status, rests)
        return status

    def attach(self, optimizer: torch.optim.Optimizer) -> Any:
        """Has `step` called after every step of `optimizer`. Returns a handle with `remove()`."""

        def after(*_: Any) -> None:
            self.step()

        return optimizer.register_step_post_hook(after)

    def add_weight(self, weight: float) -> None:
        """With `weighted`: adds to the weight of this peer's next contribution, say the tokens of the step just made."""
        if self._leads:
            self._trainer.add_weight(weight)

    @property
    def status(self) -> TrainerStatus:
        return TrainerStatus._of(*self._trainer.status()) if self._leads else self._status

    def outer_parameters(self) -> dict[str, torch.Tensor]:
        """Copies of the outer parameters (of this process's parts of them), float32: what one evaluates and saves."""
        out = {}
        for i, mirror in enumerate(self._mirrors):
            tensor = torch.empty(mirror.host.shape, dtype=torch.float32)
            self._trainer.outer_parameters(i, view(tensor, mirror.name, writable=True))
            out[mirror.name] = tensor
        return out

    # -------------------------------------------------------------------------------------------------------------- checkpoints

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the outer state to a file: a crash leaves the old one or the new one. Of an island each process writes its part, to a file
        of its own beside `path`; they belong together if all have saved after the same step."""
        if self._leads:
            self._trainer.save(self._file(path))

    def load(self, path: str | os.PathLike[str]) -> None:
        """Reads what `save` wrote, for the same parameters, before `join`. Sets the model's parameters, too."""
        if self._leads:
            self._trainer.load(self._file(path))
            self._put()

    def _file(self, path: str | os.PathLike[str]) -> str:
        return os.fspath(path) + (f".part{self._island.part}of{self._island.parts}" if self._island is not None else "")

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The outer state in one tensor of bytes, for torch.save."""
        with tempfile.TemporaryDirectory(prefix="pccl-") as folder:
            path = os.path.join(folder, "state")
            self.save(path)
            with open(path, "rb") as file:
                return {"pccl": torch.frombuffer(bytearray(file.read()), dtype=torch.uint8)}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """What `state_dict` returned. Before `join`."""
        with tempfile.TemporaryDirectory(prefix="pccl-") as folder:
            path = os.path.join(folder, "state")
            with open(path, "wb") as file:
                file.write(state["pccl"].cpu().numpy().tobytes())
            self.load(path)

    # ----------------------------------------------------------------------------------------------------------------- islands

    def _give_up(self, error: BaseException) -> None:
        """A call has failed: an island is out of the run with all its processes."""
        island = self._island
        if island is None:
            return
        island.close()
        if island.replicas > 1:
            with contextlib.suppress(IslandError):
                island.share(torch.tensor([_FAILED]))
        if island.error is not None and island.error is not error:
            raise island.error from error

    def _lead(self, status: TrainerStatus, rests: bool) -> None:
        """Tells the other replicas what has become of the parameters."""
        assert self._island is not None
        self._island.share(torch.tensor([_RESTS if rests else _CHANGED]))
        if rests:
            return
        self._island.share_object(status)
        for mirror in self._mirrors + (self._buffers if status.state_received else []):
            self._island.share(mirror.host)

    def _follow(self) -> TrainerStatus:
        """What the first replica has, this one is given."""
        assert self._island is not None
        word = torch.tensor([_FAILED])
        self._island.share(word)
        if word.item() == _FAILED:
            self._island.close()
            raise IslandError("the process of this island's first replica has failed, and the island is out of the run")
        if word.item() == _RESTS:
            before = self._status
            nothing: dict[str, Any] = dict.fromkeys(_pccl.trainer_events, False)
            self._status = replace(before, inner_steps=before.inner_steps + 1, **nothing)
            return self._status
        self._fetch()
        self._status = self._island.share_object(None)
        for mirror in self._mirrors + (self._buffers if self._status.state_received else []):
            self._island.share(mirror.host)
        self._put()
        return self._status

    # ---------------------------------------------------------------------------------------------------------------- life, end

    def close(self) -> None:
        """Gives up what is under way. The communicator stays."""
        self._trainer.close()

    def __enter__(self) -> Self:
        self.join()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        if self._trainer.closed:
            return f"{type(self).__name__}(closed)"
        status = self.status
        return f"{type(self).__name__}({len(self._mirrors)} tensors, {status.outer_steps} outer steps, {status.world_size} peers)"

    def _fetch(self) -> None:
        for mirror in self._mirrors:
            mirror.fetch()
        for mirror in self._buffers:
            mirror.fetch()

    def _put(self) -> None:
        for mirror in self._mirrors:
            mirror.put()
        for mirror in self._buffers:
            mirror.put()
