"""Islands: processes of torch.distributed that hold one copy of a model together, as FSDP does, and are in the run as one.

Process r of every island is in peer group r, which averages r's parts of the tensors. The master admits an island when all its processes
are there, and removes all of it when one is gone; what the processes decide between two outer steps, they decide together.
"""

from __future__ import annotations

import contextlib
import datetime
import secrets
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Optional

import torch
import torch.distributed as dist

from .._arguments import OfThisProcess, number, shown
from .._communicator import Communicator
from .._enums import Attribute, Compression
from .._errors import PCCLError

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from typing_extensions import Self

_FOR_EVER = datetime.timedelta(days=30)  # a process may wait for another while that one waits for other islands
_LOOK_AROUND = 0.5  # seconds between two looks whether this process is still in the run
_FAILED = 0


class IslandError(RuntimeError):
    """An island has ended: one of its processes was lost, has failed, or did not join. The whole island has left the run. End its
    processes and start the island again; it then receives the run's state."""


class Island(OfThisProcess):
    """The processes that hold one copy of a model together, joined to a run as one. Made by all of them at once, after
    `torch.distributed.init_process_group`:

        with pccl.torch.Island("master.example:48148") as island:
            with pccl.torch.DiLoCo(fully_shard(model), island=island, sync_every=100) as diloco:
                ...

    `master` is the run's. The island is all processes of torch.distributed: shards of one model, or as `mesh` says, which has one
    dimension (shards) or, for HSDP, two (replicas, and shards within each). Only the first replica is a member of the run; it passes
    its results to the others. All islands of a run have the same number of shards of the same model. `timeout`: seconds within which
    all processes of the island must call `join`; otherwise `join` raises IslandError. Other options are those of `pccl.Communicator`.
    """

    def __init__(
        self,
        master: str,
        *,
        mesh: DeviceMesh | None = None,
        timeout: float = 300.0,
        lanes: int | None = None,
        listen_address: str | None = None,
        listen_port_first: int = 0,
        listen_port_last: int = 0,
        advertise_address: str | None = None,
        connect_timeout: float | None = None,
        congestion_control: str | None = None,
        master_limit: float | None = None,
        compression: Compression | str = Compression.AUTO,
    ) -> None:
        if not dist.is_initialized():
            raise RuntimeError("an island is made of the processes of torch.distributed: call init_process_group first")
        if mesh is not None and not (hasattr(mesh, "ndim") and hasattr(mesh, "mesh")):
            raise TypeError(f"mesh is {shown(mesh)}: give a torch.distributed.device_mesh.DeviceMesh, or None")
        if mesh is not None and mesh.ndim > 2:
            raise ValueError(f"mesh has {mesh.ndim} dimensions, not one (shards) or two (replicas, shards)")
        ranks = torch.arange(dist.get_world_size(), device="cpu") if mesh is None else mesh.mesh.cpu()
        grid = ranks.reshape(1, -1) if ranks.ndim == 1 else ranks
        if sorted(grid.flatten().tolist()) != list(range(dist.get_world_size())):
            raise ValueError("mesh does not have all processes of torch.distributed, each once: an island is all of them")
        here = (grid == dist.get_rank()).nonzero()
        self.replica, self.part = (int(place) for place in here[0])
        self.replicas, self.parts = (int(size) for size in grid.shape)
        self.timeout = number(timeout, "timeout")
        self.error: BaseException | None = None
        """Why this process could not agree with the others, once that was so."""
        self._joined = self._closed = False
        self._all = self._group_of(grid.flatten())
        self._leaders = self._group_of(grid[0])
        # All processes make all groups, in the same order.
        self._replicas = [self._group_of(grid[:, part]) for part in range(self.parts if self.replicas > 1 else 0)]
        self._leader = int(grid[0, self.part])
        chosen = torch.tensor([secrets.randbits(62) + 1], device="cpu")
        self._settle(dist.broadcast(chosen, int(grid[0, 0]), group=self._all, async_op=True), self.timeout)
        self.communicator: Optional[Communicator] = None
        if self.replica == 0:
            self.communicator = Communicator(
                master, self.part, lanes=lanes, listen_address=listen_address, listen_port_first=listen_port_first,
                listen_port_last=listen_port_last, advertise_address=advertise_address, connect_timeout=connect_timeout,
                congestion_control=congestion_control, master_limit=master_limit, compression=compression, island=(int(chosen), self.parts),
            )

    @staticmethod
    def _group_of(ranks: torch.Tensor) -> Any:
        return dist.new_group(ranks.tolist(), backend="gloo", timeout=_FOR_EVER)

    # ---------------------------------------------------------------------------------------------------------------- together

    def gather(self) -> None:
        """Waits until all processes of the island are here. Raises IslandError after `timeout`."""
        try:
            self._meet()
        except IslandError as error:
            if not isinstance(error.__cause__, TimeoutError):
                raise
            raise IslandError(
                f"not all {self.parts * self.replicas} processes of this island have come within {self.timeout:g} s: it does not join the run"
            ) from None

    def _meet(self) -> None:
        self._settle(dist.all_reduce(torch.zeros(1, device="cpu"), group=self._all, async_op=True), self.timeout)

    def agree(self, question: int, value: int) -> int:
        """Returns the smallest value of all processes; 0 means that one has failed. Returns -1 if they cannot agree: `error` has the reason."""
        try:
            asked = torch.tensor([value, question, -question], dtype=torch.int64, device="cpu")
            self._settle(dist.all_reduce(asked, op=dist.ReduceOp.MIN, group=self._leaders, async_op=True))
            least, lowest, highest = asked.tolist()
            if least != _FAILED and lowest != -highest:
                raise IslandError("the processes of this island do not do the same: one made another step, or call, than another")
            return int(least)
        except BaseException as error:  # the library has to know, and the caller of its caller gets it
            self.error = error
            return -1

    def share(self, tensor: torch.Tensor) -> None:
        """Broadcasts the first replica's tensor to the other replicas."""
        self._settle(dist.broadcast(tensor, self._leader, group=self._replicas[self.part], async_op=True))

    def share_object(self, thing: Any) -> Any:
        """Broadcasts the first replica's object, which pickle must be able to copy."""
        things = [thing]
        try:
            dist.broadcast_object_list(things, self._leader, group=self._replicas[self.part])
        except RuntimeError as error:
            raise IslandError(f"a process of this island was lost: {error}") from error
        return things[0]

    def _settle(self, work: Any, limit: float | None = None) -> None:
        """Waits for `work`. Raises IslandError after `limit` seconds, or if this process was removed from the run. Ctrl-C interrupts it."""
        start = time.monotonic()
        pause, look = 5e-5, start + _LOOK_AROUND
        while not work.is_completed():
            time.sleep(pause)
            pause = min(1.5 * pause, 0.005)
            now = time.monotonic()
            if limit is not None and now - start > limit:
                raise IslandError(f"another process of this island was waited for in vain, for {limit:g} s") from TimeoutError()
            if now > look:
                look = now + _LOOK_AROUND
                self._look_around()
        try:
            work.wait()
        except RuntimeError as error:
            raise IslandError(f"a process of this island was lost: {error}") from error

    def _look_around(self) -> None:
        if not self._joined:
            return
        assert self.communicator is not None
        try:
            self.communicator.get_attribute(Attribute.GLOBAL_WORLD_SIZE)
        except PCCLError as error:
            raise IslandError("the master has removed this island from the run: one of its processes was lost, or hung") from error

    def connect(self, timeout: float | None) -> None:
        """Joins the run together with all other processes of the island."""
        assert self.communicator is not None
        self.communicator.connect(timeout=timeout)
        self._joined = True

    # ------------------------------------------------------------------------------------------------------------------- its end

    def meet_at_end(self) -> None:
        """Waits for the other processes before this one leaves: they may be in their last average."""
        if not self._closed:
            with contextlib.suppress(IslandError):
                self._meet()

    def leave(self) -> None:
        """Leaves the run. The processes may still work together, until `close`."""
        self._joined = False
        if self.communicator is not None:
            self.communicator.close()

    def close(self) -> None:
        """Leaves the run, and all other processes of the island with it. Closing again does nothing."""
        self._closed = True
        self.leave()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if kind is None:
            self.meet_at_end()
        self.close()

    def __repr__(self) -> str:
        where = f"part {self.part} of {self.parts}" + (f", replica {self.replica} of {self.replicas}" if self.replicas > 1 else "")
        return f"Island({where}, {'closed' if self._closed else 'in the run' if self._joined else 'not in the run'})"
