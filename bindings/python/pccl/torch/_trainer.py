"""The base class of the training methods: the calls of the library's trainer, and the status."""

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
from .._descriptors import QuantizationOptions, reduce_spec
from .._enums import Attribute, LossPolicy, Method, ReduceAlgorithm, ReduceOp
from .._errors import PCCLError
from .._tensors import view
from ._arguments import Parameters, library_settings
from ._island import Island, IslandError
from ._masters import Masters, hook_of, layers_of, masters_of
from ._model import Choice, Mirror, Model

if TYPE_CHECKING:
    from typing_extensions import Self

# The first replica of an island sends one of these to the others after each call.
_FAILED, _IDLE, _CHANGED = 0, 1, 2


@dataclass(frozen=True)
class TrainerStatus:
    """The state of a trainer. The flags describe the last call."""

    world_size: int
    """Peers of the group."""
    contributors: int
    """Peers in the last average that arrived. Methods that are one round late have not applied it yet."""
    outer_steps: int
    inner_steps: int
    """Inner steps of the run. Schedules of learning rates should follow it."""
    tx_bytes: int
    rx_bytes: int
    communicating_s: float
    """Seconds in which averages were in flight."""
    blocked_s: float
    """Seconds in which this program waited for communication of any kind."""
    digest: int
    """Hash of the outer state after the last outer step: equal at all peers."""
    penalty: float
    """The last divisor of a stale average (CO2)."""
    push_weight: float
    """This peer's weight (PushSum): 1 on average over all peers and models in flight."""
    models_sent: int
    """Models that were delivered (Gossip, PushSum)."""
    models_undelivered: int
    """Models that were not delivered, because the receiver was lost or slow. PushSum has taken them back."""
    models_received: int
    """Models that arrived and are merged, or will be."""
    models_refused: int
    """Models that arrived with another size or with elements that are not finite: the sender has diverged."""
    non_finite_rounds: int
    """Rounds in which a contribution was left out because it was not finite, or whose average was not finite and so not applied."""
    non_finite_peer: int
    """The peer that was left out in the last such round, by its number in logs. 0: none."""
    non_finite_tensor: str | None
    """The first tensor of that peer that was not finite, in the last such round."""
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
    """Removes a hook."""

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


@dataclass(frozen=True)
class ModelOptions:
    """How a trainer follows the program's model: parameters of every method, in the order of their signatures."""

    share_buffers: Choice
    share_frozen: bool | str
    masters: Any
    find_masters: bool
    on_parameters_changed: Callable[[], object] | None
    leave: bool


@dataclass(frozen=True)
class WireOptions:
    """How averages travel: parameters of the methods that average over all peers, in the order of their signatures."""

    quantization: QuantizationOptions | None = None
    error_feedback: bool = False
    algorithm: ReduceAlgorithm | str = ReduceAlgorithm.AUTO
    on_peer_loss: LossPolicy | str = LossPolicy.RETRY

    def reduce_spec(self) -> _pccl.ReduceSpec:
        return reduce_spec(
            ReduceOp.AVG, 0, None, self.quantization, self.error_feedback, self.algorithm, self.on_peer_loss, quantization_name="quantization"
        )


class Trainer(OfThisProcess):
    """The base class of all training methods: `isinstance(thing, pccl.torch.Trainer)`. Programs use its subclasses, such as DiLoCo.

    The tensors of a module are found by name at each outer step, so a tensor that the program replaced is followed; tensors and pairs are
    kept. A tensor that is new, gone, requires a gradient now, or has another shape or type raises RuntimeError at the next step. Trained
    tensors are float32, float16 or bfloat16, on any device. Names leave out the parts that DistributedDataParallel, torch.compile, FSDP and
    activation checkpointing add.

    Every peer gives the same tensors: names, shapes, types, order and frozen parameters are compared when a peer joins.

    A communicator that the trainer has connected is closed by `finish` and at the end of the `with` block. One that the program has
    connected stays connected. All processes of an island make the same calls; if one fails, all raise and leave the run.
    """

    _METHOD = Method.LOCAL

    def __init__(
        self,
        parameters: Parameters,
        communicator: Optional[Communicator],
        island: Optional[Island],
        wire: WireOptions,
        model: ModelOptions,
        **settings: Any,
    ) -> None:
        optional_instance(communicator, Communicator, "communicator")
        optional_instance(island, Island, "island")
        flag(model.leave, "leave")
        if self._METHOD != Method.LOCAL and (communicator is None) == (island is None):
            raise TypeError("a trainer needs either a communicator or an island: give one of them")
        self._model = Model(parameters, model.share_buffers, model.share_frozen)
        self._masters = Masters(self._model.trained, flag(model.find_masters, "find_masters"))
        if model.masters is not None:
            self._masters.add(hook_of(model.masters, self._model.trained))
        if model.on_parameters_changed is not None:
            self.register_parameters_hook(model.on_parameters_changed)
        self._island = island
        self._leads = island is None or island.replica == 0
        if island is not None:
            communicator = island.communicator
        self.communicator = communicator
        self._leaves = model.leave
        self._connected_here = False
        self._rested = False  # the last call of a replica that follows had nothing to do
        self._has_left = False
        given = library_settings(settings)
        given["reduce"] = wire.reduce_spec()
        if island is not None:
            given["island_consensus"] = island.agree
        inner = None if communicator is None else communicator._communicator
        named = [(mirror.key, mirror.library_view()) for mirror in self._model.trained]
        for mirror in self._model.trained + self._model.given:
            mirror.fetch(lambda *_: None)
        # The other replicas of an island have a trainer that only checks their settings.
        self._trainer = _pccl.Trainer(inner, self._METHOD if self._leads else Method.LOCAL, named, given)
        self._status = TrainerStatus._of(*self._trainer.status())
        if communicator is not None:
            communicator._trainers.add(self._trainer)
        self._trainer.describe(self._model.definition())
        # Buffers may differ between members, frozen parameters may not.
        self._trainer.share([(mirror.key, mirror.library_view(), mirror.kind == "buffer") for mirror in self._model.given])

    # ------------------------------------------------------------------------------------------------------------------ the run

    def join(self, *, timeout: float | None = None) -> None:
        """Joins the run: connects, waits until the members admit this peer (at their next outer step), and receives the run's parameters.

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
        if self._METHOD != Method.LOCAL and self.communicator is not None and not _is_connected(self.communicator):
            self._connected_here = True

        def join() -> tuple[Any, ...]:
            if self._island is not None:
                self._island.connect(limit)
            self._trainer.join(limit)
            return self._trainer.status()

        self._call(join, look=True)
        self._masters.tell()

    def step(self, *, timeout: float | None = None) -> TrainerStatus:
        """Call this after each step of the inner optimizer. It may change the model's parameters. It handles lost peers, newcomers, a
        restarted master and a lost connection to the run. An island that has lost its connection raises.

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
        """Makes a step, and checks whether the inner optimizer overwrites the averages."""
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
                received = True  # even after a failure, which may have written the tensors
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
        """Calls `step` after every step of `optimizer`. Returns a handle with `remove()`.

        If the optimizer wraps another one and has no step hooks, as in Accelerate, the wrapped optimizer is used: calls that only accumulate
        gradients do not count. The averages are written to the masters of the optimizer if `masters_of` finds them.
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
        """Calls `hook` without arguments after each change that the trainer makes to the parameters: in `join`, steps with an outer step,
        `finish` and `load`. A program updates data that it derives from parameters there, such as an optimizer's float32 masters; see
        `copy_to_masters`. Returns a handle with `remove()`."""
        if not callable(hook):
            raise TypeError(f"hook is a {type(hook).__name__}: give a function without arguments")
        self._masters.add(hook)
        return _HookHandle(self._masters.hooks, hook)

    def add_weight(self, weight: float) -> None:
        """With `weighted`: adds to the weight of this peer's next contribution, such as the tokens of the last step."""
        more = number(weight, "weight")
        if self._leads:
            self._trainer.add_weight(more)

    @property
    def status(self) -> TrainerStatus:
        return TrainerStatus._of(*self._trainer.status()) if self._leads else self._status

    def outer_parameters(self) -> dict[str, torch.Tensor]:
        """Copies of the outer parameters (in an island: of this process's parts), float32, in host memory, for evaluation and export. Names
        leave out the parts that wrappers add."""
        out = {}
        for i, mirror in enumerate(self._model.trained):
            tensor = torch.empty(mirror.host.shape, dtype=torch.float32, device="cpu")
            self._trainer.outer_parameters(i, view(tensor, mirror.name, writable=True))
            out[mirror.name] = tensor
        return out

    # -------------------------------------------------------------------------------------------------------------- checkpoints

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the outer state to a file. A crash leaves the old file or the new one. Each process of an island writes its part to a file
        of its own next to `path`; the parts form a checkpoint if all processes saved after the same step."""
        if self._leads:
            self._trainer.save(self._file(path))

    def load(self, path: str | os.PathLike[str]) -> None:
        """Reads a file of `save`, for the same parameters, before `join`. Sets the model's parameters, too."""
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
        """Loads the result of `state_dict`, before `join`."""
        with tempfile.TemporaryDirectory(prefix="pccl-") as folder:
            path = os.path.join(folder, "state")
            with open(path, "wb") as file:
                file.write(state["pccl"].cpu().numpy().tobytes())
            self.load(path)

    # ----------------------------------------------------------------------------------------------------------------- islands

    def _give_up(self, error: BaseException) -> None:
        """Handles a failed call: an island leaves the run with all its processes."""
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
        """Sends the other replicas the result of a call and the parameters."""
        assert self._island is not None
        self._island.share(torch.tensor([_IDLE if rests else _CHANGED], device="cpu"))
        if rests:
            return
        self._island.share_object(status)
        for mirror in self._shared_now(status):
            self._island.share(mirror.wire())

    def _shared_now(self, status: TrainerStatus) -> list[Mirror]:
        return self._model.trained + (self._model.given if status.state_received else [])

    def _follow(self) -> TrainerStatus:
        """Receives the result of a call and the parameters from the first replica."""
        assert self._island is not None
        word = torch.tensor([_FAILED], device="cpu")
        self._island.share(word)
        if word.item() == _FAILED:
            self._island.close()
            raise IslandError("the process of this island's first replica has failed, and the island is out of the run")
        self._rested = word.item() == _IDLE
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
        """Aborts averages in flight. The communicator stays connected."""
        self._trainer.close()

    def _leave(self) -> None:
        """Leaves the run, if the trainer has connected the communicator. Other peers then do not wait for this one."""
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
            if self.communicator is not None and _is_connected(self.communicator):  # the block is not entered, so no call to step follows
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
