"""What all methods share: which tensors are trained, where their copies are, and the calls of the library's trainer."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Optional

import torch

from .. import _pccl
from .._arguments import OfThisProcess, flag, number, optional_instance, path as path_of, seconds
from .._communicator import Communicator
from .._descriptors import QuantizationOptions, how
from .._enums import Attribute, LossPolicy, ReduceAlgorithm, ReduceOp, _Enum
from .._errors import PCCLError
from .._tensors import view
from ._arguments import Parameters, milliseconds, setting
from ._island import Island, IslandError
from ._masters import Masters, hook_of, layers_of, masters_of
from ._model import Choice, Mirror, Model

if TYPE_CHECKING:
    from typing_extensions import Self

# What the first replica of an island says to the others.
_FAILED, _RESTS, _CHANGED = 0, 1, 2


class OuterOptimizer(_Enum):
    """The step of the outer optimizer; see docs/training/methods.md."""

    SGD = 0
    HEAVY_BALL = 1
    NESTEROV = 2


class Newcomers(_Enum):
    """What a newcomer is given where an average is under way at its admission."""

    DRAIN = 0
    SHARE_PENDING = 1
    RESYNC = 2


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

    AVAILABLE = 0
    AFTER_ALL = 1
    SYNCHRONOUS = 2


class NonFinite(_Enum):
    """What becomes of a round to which a peer would contribute an infinity or a NaN: made without it, or an error at all peers."""

    LEAVE_OUT = 0
    FAIL = 1


class Variance(_Enum):
    """What variance a tensor is given after models were mixed."""

    OF_RECEIVED = 0
    OF_OWN = 1
    WEIGHTED = 2
    NONE = 3


_ENUMERATIONS: dict[str, type[_Enum]] = {
    "outer_optimizer": OuterOptimizer, "newcomers": Newcomers, "fragment_pattern": Fragments, "penalty_mode": Penalty, "graph": Graph,
    "non_finite": NonFinite, "partners": Partners, "merge": Merge, "variance": Variance,
}


@dataclass(frozen=True)
class TrainerStatus:
    """What has become of a trainer; the flags are of the last call."""

    world_size: int
    """Peers of the group."""
    contributors: int
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


class _HookHandle:
    """Takes a hook away again."""

    def __init__(self, hooks: list[Callable[[], object]], hook: Callable[[], object]) -> None:
        self._hooks, self._hook = hooks, hook

    def remove(self) -> None:
        if self._hook in self._hooks:
            self._hooks.remove(self._hook)


def _is_connected(communicator: Communicator) -> bool:
    try:
        communicator.get_attribute(Attribute.GLOBAL_WORLD_SIZE)
    except PCCLError:
        return False
    return True


class Trainer(OfThisProcess):
    """A training method over the tensors of a model. Made by its subclasses: DiLoCo, AsyncDiLoCo, EagerDiLoCo, StreamingDiLoCo, CO2.

    `parameters`: a module, of which the parameters that require gradients are trained, or tensors, or (name, tensor) pairs, all of which
    are trained: float32, float16 or bfloat16, on any device. A module's tensors are looked up by name at each outer step, so that one that the
    program has replaced is followed; pairs and tensors are held. A tensor that has come, is gone, requires a gradient now, or has another shape or
    type raises RuntimeError at the next step, which names it. Names are without the parts that DistributedDataParallel,
    torch.compile, FSDP and activation checkpointing add.

    Every peer gives the same tensors: names, shapes, types, order and which are frozen are compared when a peer joins. A newcomer is given
    the run's frozen parameters (`share_frozen`; "compare" refuses other contents instead, by a hash made once and without a copy in
    host memory; False ignores frozen parameters) and all buffers, of any type (`share_buffers`; "persistent" leaves out those that are not
    in the state_dict, a function of the name chooses, False ignores buffers). The first peers of a run begin with one version of both.

    An inner optimizer that keeps float32 masters of the parameters would write over each average. `masters` names them: that optimizer, a dict by
    name, tensors in the order of the parameters, or (parameter, master) pairs. `on_parameters_changed` is called after each change that the trainer
    makes to the parameters. A trainer warns when averages are lost in this way.

    Where several processes hold one copy of the model together (FSDP2, DTensor), `island` takes the place of `communicator`: all of them make the
    same calls, `step` after each inner step. When one of them fails, or is lost, all raise and are out of the run; so a shared round of the
    run ends at all processes of an island or at none.

    `communicator` need not be connected, and is the trainer's from `join` on. One that the trainer has connected is closed by `finish` and at
    the end of the `with` block, so that no other peer waits for this one; `leave=False` keeps it, as it keeps one that the program
    has connected. `quantization` of averages on the wire, with `error_feedback`; `on_peer_loss` is "retry" or "repair". `weighted`:
    contributions count by `add_weight`, by default by the steps made.
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
        on_peer_loss: LossPolicy | str = LossPolicy.RETRY,
        round_s: float | None = None,
        rejoin_s: float | None = None,
        share_buffers: Choice = True,
        share_frozen: bool | str = True,
        masters: Any = None,
        on_parameters_changed: Callable[[], object] | None = None,
        leave: bool = True,
        non_finite: NonFinite | str = NonFinite.LEAVE_OUT,
        **settings: Any,
    ) -> None:
        optional_instance(communicator, Communicator, "communicator")
        optional_instance(island, Island, "island")
        flag(leave, "leave")
        if self._METHOD != 0 and (communicator is None) == (island is None):
            raise TypeError("a trainer has either a communicator or an island")
        self._model = Model(parameters, share_buffers, share_frozen)
        self._masters = Masters(self._model.trained)
        if masters is not None:
            self._masters.add(hook_of(masters, self._model.trained))
        if on_parameters_changed is not None:
            self.register_parameters_hook(on_parameters_changed)
        self._island = island
        self._leads = island is None or island.replica == 0
        if island is not None:
            communicator = island.communicator
            settings["island_consensus"] = island.agree
        self.communicator = communicator
        self._leaves = leave
        self._connected_here = False
        self._rested = False  # the last call of a replica that follows
        self._has_left = False
        settings.update(round_ms=milliseconds(round_s, "round_s"), rejoin_ms=milliseconds(rejoin_s, "rejoin_s"))
        given = {name: setting(name, value, _ENUMERATIONS) for name, value in settings.items() if value is not None}
        given["non_finite"] = setting("non_finite", non_finite, _ENUMERATIONS)
        given["reduce"] = how(ReduceOp.AVG, 0, None, quantization, error_feedback, algorithm, on_peer_loss, quantization_name="quantization")
        inner = None if communicator is None else communicator._communicator
        named = [(mirror.key, mirror.library_view()) for mirror in self._model.trained]
        for mirror in self._model.trained + self._model.given:
            mirror.fetch(lambda *_: None)
        # A replica that is not the first has one for its settings alone.
        self._trainer = _pccl.Trainer(inner, self._METHOD if self._leads else 0, named, given)
        self._status = TrainerStatus._of(*self._trainer.status())
        if communicator is not None:
            communicator._trainers.add(self._trainer)
        self._trainer.describe(self._model.definition())
        # Buffers may differ between members, frozen parameters may not.
        self._trainer.share([(mirror.key, mirror.library_view(), mirror.kind == "buffer") for mirror in self._model.given])

    # ------------------------------------------------------------------------------------------------------------------ the run

    def join(self, *, timeout: float | None = None) -> None:
        """Joins the run: connects, waits until the members admit this peer (at their next outer step), and takes over the run's parameters.

        Raises PCCLError: MASTER_CONNECTION_FAILED if there is no master (may be tried again), INVALID_USAGE if the peers' methods, settings
        or tensors differ: it names the first that does, with both values.
        """
        limit = seconds(timeout)
        if self._has_left:
            raise RuntimeError("this trainer has left its run: make a new communicator and a new trainer (leave=False keeps the communicator)")
        if self._island is not None:
            try:
                self._island.gather()
            except IslandError:
                self._island.close()
                raise
        if self._METHOD != 0 and self.communicator is not None and not _is_connected(self.communicator):
            self._connected_here = True

        def join() -> tuple[Any, ...]:
            if self._island is not None:
                self._island.connect(limit)
            self._trainer.join(limit)
            return self._trainer.status()

        self._call(join, look=True)
        self._masters.tell()

    def step(self, *, timeout: float | None = None) -> TrainerStatus:
        """To be called after each step of the inner optimizer. Lost peers, newcomers, a restarted master and falling out of the run are
        dealt with inside; the model's parameters may have changed afterwards. (An island that falls out of the run raises.)

        Raises RuntimeError, before anything is sent, if the model's tensors have changed in a way that a run cannot follow."""
        limit = seconds(timeout)
        return self._watched(lambda: self._trainer.step(limit), may_rest=True)

    def end_round(self, *, timeout: float | None = None) -> TrainerStatus:
        """As `step`, and ends the round here with as many steps as it had. Needs `weighted`."""
        limit = seconds(timeout)
        return self._watched(lambda: self._trainer.end_round(limit))

    def finish(self, *, timeout: float | None = None) -> TrainerStatus:
        """Ends training: averages in flight are applied, and the model's parameters become the outer ones, the same at all peers that
        finish at the same step. This peer then leaves the run, unless the program had connected the communicator, or `leave` is False:
        status, outer_parameters and save still work."""
        limit = seconds(timeout)
        status = self._call(lambda: self._trainer.finish(limit), look=True)
        self._masters.tell()
        self._leave()
        return status

    def _watched(self, call: Callable[[], tuple[Any, ...]], may_rest: bool = False) -> TrainerStatus:
        """A step, with an eye on what becomes of the parameters after it."""
        watch = self._masters.watch
        if not self._leads:  # the first replica watches for all
            status = self._call(call, may_rest)
            if not self._rested:
                self._masters.tell()
            return status
        due = not may_rest or self._trainer.is_due()
        try:
            self._model.refresh() if due else self._model.glance()
            before = watch.sample() if watch.is_armed or due else None
            if before is not None and watch.is_armed:
                self._masters.look(before)
        except BaseException as error:
            self._give_up(error)
            raise
        status = self._call(call, may_rest)
        if not due:
            if self._trainer.is_due():
                watch.rest(watch.sample() if before is None else before)
            else:
                watch.skip()
            return status
        assert before is not None
        if not torch.equal(before, after := watch.sample()) or status.outer_step or status.state_received or status.rejoined:
            self._masters.tell()
        watch.changed(before, after)
        return status

    def _call(self, call: Callable[[], tuple[Any, ...]], may_rest: bool = False, look: bool = False) -> TrainerStatus:
        """`look`: the model's tensors have not been looked up yet."""
        if not self._leads:
            return self._follow()
        try:
            rests = may_rest and not self._trainer.is_due()
            if rests:
                status = TrainerStatus._of(*call())
            else:
                if look:
                    self._model.refresh()
                self._model.fetch(self._trainer.relocate)
                received = True  # unless it ends well and says no
                try:
                    status = TrainerStatus._of(*call())
                    received = status.state_received
                finally:
                    self._model.put(received)
        except BaseException as error:
            self._give_up(error)
            raise
        if self._island is not None and self._island.replicas > 1:
            self._lead(status, rests)
        return status

    def attach(self, optimizer: torch.optim.Optimizer) -> Any:
        """Has `step` called after every step of `optimizer`. Returns a handle with `remove()`.

        Of an optimizer that wraps another one and has no step hooks of its own, as Accelerate's does, the wrapped one is taken: its steps count,
        and calls that only accumulate gradients do not. Masters of the optimizer are given the averages, if they are known to `masters_of`.
        """

        def after(*_: Any) -> None:
            self.step()

        for layer in layers_of(optimizer):
            if hasattr(layer, "_optimizer_step_post_hooks") and isinstance(layer, torch.optim.Optimizer):
                break
            if masters_of(layer) is not None and masters_of(getattr(layer, "optimizer", None)) is None:
                raise TypeError(
                    f"a {type(layer).__name__} cannot be attached: it has no step hooks, and writes the parameters from its masters after the step of the "
                    "optimizer that it wraps. Call step() of the trainer after each of its steps, and give it as masters="
                )
        else:
            raise TypeError(
                f"a {type(optimizer).__name__} cannot be attached: neither it nor an optimizer that it wraps (.optimizer) is a torch.optim.Optimizer with "
                "step hooks (register_step_post_hook). Call step() of the trainer after each step of the optimizer"
            )
        if layer is not optimizer:
            self._check_steps(layer)
        self._masters.optimizers.append(optimizer)
        return layer.register_step_post_hook(after)

    def _check_steps(self, optimizer: torch.optim.Optimizer) -> None:
        """Raises unless the optimizer steps on the tensors that are trained here."""
        stepped = {id(p) for group in optimizer.param_groups for p in group["params"]}
        if not any(id(mirror.tensor) in stepped for mirror in self._model.trained):
            raise TypeError(
                f"the wrapped {type(optimizer).__name__} makes steps of other tensors than this trainer has, masters of them, perhaps: call step() of the "
                "trainer after each step of the optimizer"
            )

    def register_parameters_hook(self, hook: Callable[[], object]) -> Any:
        """Has `hook` called, without arguments, after each change that the trainer makes to the parameters: in join, steps with an
        outer step, finish and load. For what the program derives from parameters, as an optimizer's float32 masters; see `copy_to_masters`.
        Returns a handle with `remove()`."""
        if not callable(hook):
            raise TypeError(f"hook is a {type(hook).__name__}: give a function without arguments")
        self._masters.add(hook)
        return _HookHandle(self._masters.hooks, hook)

    def add_weight(self, weight: float) -> None:
        """With `weighted`: adds to the weight of this peer's next contribution, say the tokens of the step just made."""
        more = number(weight, "weight")
        if self._leads:
            self._trainer.add_weight(more)

    @property
    def status(self) -> TrainerStatus:
        return TrainerStatus._of(*self._trainer.status()) if self._leads else self._status

    def outer_parameters(self) -> dict[str, torch.Tensor]:
        """Copies of the outer parameters (of this process's parts of them), float32, in host memory: what one evaluates and saves. Names
        are without the parts that wrappers add."""
        out = {}
        for i, mirror in enumerate(self._model.trained):
            tensor = torch.empty(mirror.host.shape, dtype=torch.float32, device="cpu")
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
            self._model.refresh()
            self._model.fetch(self._trainer.relocate)
            self._trainer.load(self._file(path))
            self._model.put(given_too=False)
        self._masters.tell()

    def _file(self, path: str | os.PathLike[str]) -> str:
        return path_of(path, "path") + (f".part{self._island.part}of{self._island.parts}" if self._island is not None else "")

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The outer state in one tensor of bytes, for torch.save."""
        with tempfile.TemporaryDirectory(prefix="pccl-") as folder:
            path = os.path.join(folder, "state")
            self.save(path)
            with open(path, "rb") as file, torch.device("cpu"):
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
                island.share(torch.tensor([_FAILED], device="cpu"))
        if island.error is not None and island.error is not error:
            raise island.error from error

    def _lead(self, status: TrainerStatus, rests: bool) -> None:
        """Tells the other replicas what has become of the parameters."""
        assert self._island is not None
        self._island.share(torch.tensor([_RESTS if rests else _CHANGED], device="cpu"))
        if rests:
            return
        self._island.share_object(status)
        for mirror in self._shared_now(status):
            self._island.share(mirror.wire())

    def _shared_now(self, status: TrainerStatus) -> list[Mirror]:
        return self._model.trained + (self._model.given if status.state_received else [])

    def _follow(self) -> TrainerStatus:
        """What the first replica has, this one is given."""
        assert self._island is not None
        word = torch.tensor([_FAILED], device="cpu")
        self._island.share(word)
        if word.item() == _FAILED:
            self._island.close()
            raise IslandError("the process of this island's first replica has failed, and the island is out of the run")
        self._rested = word.item() == _RESTS
        if self._rested:
            before = self._status
            nothing: dict[str, Any] = dict.fromkeys(_pccl.trainer_events, False)
            self._status = replace(before, inner_steps=before.inner_steps + 1, **nothing)
            return self._status
        self._model.refresh()
        self._model.fetch(self._trainer.relocate)
        self._status = self._island.share_object(None)
        for mirror in self._shared_now(self._status):
            self._island.share(mirror.wire())
        self._model.put(self._status.state_received)
        return self._status

    # ---------------------------------------------------------------------------------------------------------------- life, end

    def close(self) -> None:
        """Gives up averages in flight. The communicator stays as it is."""
        self._trainer.close()

    def _leave(self) -> None:
        """Leaves the run, if the trainer has brought this peer into it: from then on nobody waits for it."""
        if self._has_left or not self._leaves:
            return
        if self._island is not None:
            self._has_left = True
            if self.communicator is not None:
                self.communicator._trainers.discard(self._trainer)
            return self._island.leave()
        if self.communicator is not None and self._connected_here:
            self._has_left = True
            self.communicator._trainers.discard(self._trainer)  # which keeps the outer state
            self.communicator.close()

    def __enter__(self) -> Self:
        try:
            self.join()
        except BaseException:
            if self.communicator is not None and _is_connected(self.communicator):  # the block is not entered, and nobody calls step
                self.close()
                self._leave()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if self._island is not None and kind is None and not self._has_left and self._leaves:
            self._island.meet_at_end()
        self.close()
        self._leave()

    def __repr__(self) -> str:
        if self._trainer.closed:
            return f"{type(self).__name__}(closed)"
        status = self.status
        return f"{type(self).__name__}({len(self._model.trained)} tensors, {status.outer_steps} outer steps, {status.world_size} peers)"
