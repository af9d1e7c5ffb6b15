"""A peer's membership in a run."""

from __future__ import annotations

import time
import uuid
import weakref
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from . import _pccl
from ._arguments import OfThisProcess, instance, integer, items, optional_text, parse_enum, seconds, shown, text
from ._descriptors import (
    QuantizationOptions,
    ReduceInfo,
    ReduceOpDescriptor,
    ReduceOperandDescriptor,
    SharedState,
    SharedStateSyncInfo,
    Shard,
    reduce_spec,
    prepare_reduce,
    shard_views,
)
from ._enums import Attribute, Compression, LossPolicy, GraphKind, ReduceAlgorithm, ReduceOp, Result, SharedStateSyncStrategy
from ._errors import PCCLError, PCCLTimeoutError
from ._exchange import Message, PostHandle
from ._tensors import Staged, settle, view

if TYPE_CHECKING:
    from ._descriptors import Op
    from ._tensors import Tensor

_BETWEEN_ATTEMPTS = 1.0
_LAST_PORT = (1 << 16) - 1
_MOST_32 = (1 << 32) - 1
_MOST_IN_FLIGHT = (1 << 31) - 1
_WORTH_ANOTHER_ATTEMPT = (Result.MASTER_CONNECTION_FAILED, Result.RANK_CONNECTION_FAILED)


def _island(island: Any) -> tuple[int, int]:
    """The island's number and its number of peers; 0 and 0 for none."""
    if island is None:
        return 0, 0
    if not isinstance(island, tuple) or len(island) != 2:
        raise TypeError(f"island is {shown(island)}: give a tuple (number, peers) of two integers, or None")
    return integer(island[0], "island[0]"), integer(island[1], "island[1]", 0, _MOST_32)


def _lanes(lanes: Any, pool_size: Any) -> int:
    """Connections per pair of neighbours. `p2p_connection_pool_size` is version 1's name."""
    if lanes is None:
        return integer(pool_size, "p2p_connection_pool_size", 0, _MOST_32)
    if pool_size != 0:
        raise TypeError("lanes and p2p_connection_pool_size are two names of one setting: give one of them")
    return integer(lanes, "lanes", 0, _MOST_32)


class AsyncReduceHandle(OfThisProcess):
    """A reduce in flight: of `all_reduce_async`, `reduce_scatter_async` or `all_gather_async`.

    The handle keeps the tensors alive. Do not read or write them before `wait` has returned.
    """

    def __init__(self, communicator: _pccl.Communicator, operation: _pccl.Operation, recv: _pccl.View | None) -> None:
        self._communicator: _pccl.Communicator | None = communicator
        self._operation = operation
        self._recv: Staged | None = recv if isinstance(recv, Staged) else None
        self._answer: tuple[bool, int, ReduceInfo] | None = None
        self.message = ""
        """After `wait`: the library's error text; "" after a success."""

    def wait(self, timeout: float | None = None) -> tuple[bool, int, ReduceInfo]:
        """Waits until the operation has ended, and returns (success, `Result`, `ReduceInfo`). A second call returns the same.

        A failure is returned, not raised. After RANK_CONNECTION_LOST launch it again: the survivors are the new world. If `timeout`
        seconds (None: no limit) pass first, the operation is aborted as by `Communicator.abort`, and PCCLTimeoutError is raised.
        """
        limit = seconds(timeout)
        if self._answer is None:
            assert self._communicator is not None
            result, self.message, info = self._communicator.wait(self._operation, limit)
            if result == Result.SUCCESS:
                settle(self._recv)
            self._answer = (result == Result.SUCCESS, Result(result), ReduceInfo._of(*info))
            self._communicator = None  # so that the communicator can be freed
        return self._answer

    def __repr__(self) -> str:
        state = "in flight" if self._answer is None else Result(self._answer[1]).name
        return f"AsyncReduceHandle(tag={self._operation.tag}, {state})"


class Communicator(OfThisProcess):
    """One peer's membership in a run: from `connect` until it is closed or its last reference is dropped.

    Threads: reduces with distinct tags can be launched and awaited by any thread; calls that every peer makes are one at a time. A blocking
    call lets other threads run, can be interrupted (Ctrl-C raises KeyboardInterrupt), and takes a `timeout` in seconds (None: no limit).
    Both end it as `abort` does: the communicator stays connected. Failures raise `PCCLError`. A communicator belongs to the process that
    made it: a fork of that process holds none of its sockets.

    Args:
        address: The master's "host:port", "ip:port", "[ipv6]:port" or "[ipv6%interface]:port"; or several with commas between them.
        peer_group: Reduces and shared state combine the peers of one group.
        p2p_connection_pool_size: Version 1's name of `lanes`.
        lanes: TCP connections per pair of neighbours. 0: the library chooses.
        listen_address: Local address that this peer listens on. None: all addresses.
        listen_port_first: First port to try. 0: 48149.
        listen_port_last: Last port to try. 0: 1023 more than the first.
        advertise_address: "host" or "host:port" at which other peers reach this one. None: the address that the master sees.
        connect_timeout: Seconds for one attempt to reach the master or a peer. None: 5.
        congestion_control: The system's name of a congestion control, such as "bbr". None: bbr on long paths where it is available.
        master_limit: Seconds to wait for a master that keeps a journal and is down. None: 600.
        compression: Compression of sent data: "auto" (where the path is slower than the codec), "off" or "on". Peers can differ in it.
        island: (number, peers) of an island. Its peers, each in another group, join and leave the run together. See `pccl.torch.Island`.
    """

    def __init__(
        self,
        address: str,
        peer_group: int = 0,
        p2p_connection_pool_size: int = 0,
        *,
        lanes: int | None = None,
        listen_address: str | None = None,
        listen_port_first: int = 0,
        listen_port_last: int = 0,
        advertise_address: str | None = None,
        connect_timeout: float | None = None,
        congestion_control: str | None = None,
        master_limit: float | None = None,
        compression: Compression | str = Compression.AUTO,
        island: tuple[int, int] | None = None,
    ) -> None:
        self.address = text(address, "address")
        self.peer_group = integer(peer_group, "peer_group", 0, _MOST_32)
        self._trainers: weakref.WeakSet[_pccl.Trainer] = weakref.WeakSet()  # they are closed before the communicator is
        self._communicator = _pccl.Communicator(
            address, self.peer_group, _lanes(lanes, p2p_connection_pool_size),
            optional_text(listen_address, "listen_address"), integer(listen_port_first, "listen_port_first", 0, _LAST_PORT),
            integer(listen_port_last, "listen_port_last", 0, _LAST_PORT), optional_text(advertise_address, "advertise_address"),
            seconds(connect_timeout, "connect_timeout"), optional_text(congestion_control, "congestion_control"),
            seconds(master_limit, "master_limit"), parse_enum(Compression, compression, "compression"), *_island(island),
        )

    # ------------------------------------------------------------------------------------------------------------- membership

    def connect(self, n_attempts: int = 5, *, timeout: float | None = None) -> None:
        """Joins the run, in at most `n_attempts` attempts a second apart.

        The first peer of a run is admitted at once; a later one waits until every member has called `update_topology`. Raises PCCLError:
        MASTER_CONNECTION_FAILED if the master cannot be reached, RANK_CONNECTION_FAILED if not enough members can (or can reach this peer).
        """
        attempts = integer(n_attempts, "n_attempts", 1)
        allowed = seconds(timeout)
        limit = None if allowed is None else time.monotonic() + allowed
        for attempt in range(1, attempts + 1):
            try:
                return self._communicator.connect(None if limit is None else max(0.0, limit - time.monotonic()))
            except PCCLTimeoutError:
                raise
            except PCCLError as error:
                late = limit is not None and time.monotonic() + _BETWEEN_ATTEMPTS >= limit
                if attempt == attempts or late or error.result not in _WORTH_ANOTHER_ATTEMPT:
                    raise
            time.sleep(_BETWEEN_ATTEMPTS)

    def update_topology(self, *, timeout: float | None = None) -> None:
        """Admits newcomers. Every member of the run makes this call, and it returns when all have. A peer does not make it in the
        iteration in which it joined. Raises PCCLError: PENDING_ASYNC_OPS if there are operations to wait for."""
        self._communicator.update_topology(seconds(timeout))

    def are_peers_pending(self, *, timeout: float | None = None) -> bool:
        """Whether a newcomer is ready to be admitted: the same answer at every member that asks. Allowed while reduces run."""
        return self._communicator.are_peers_pending(seconds(timeout))

    def optimize_topology(self, *, timeout: float | None = None) -> None:
        """Measures unknown bandwidths between peers, and chooses the best ring. Every member of the run makes this call.
        Raises PCCLError: TOO_FEW_PEERS if alone, TOPOLOGY_OPTIMIZATION_FAILED if no ring connects the members."""
        self._communicator.optimize_topology(seconds(timeout))

    def get_attribute(self, attribute: Attribute | str) -> int:
        """A size of the run, as of the last call that returned."""
        return self._communicator.get_attribute(parse_enum(Attribute, attribute, "attribute"))

    def abort(self) -> None:
        """Makes every blocked call on this communicator fail with RANK_CONNECTION_LOST, in all threads, and ends its operations at every
        member. It stays connected. Returns at once; any thread."""
        self._communicator.abort()

    def close(self) -> None:
        """Leaves the run. Blocked calls of other threads fail. Closing again does nothing; other calls raise PCCLError: INVALID_USAGE."""
        for trainer in list(self._trainers):
            trainer.close()
        self._communicator.close()

    @property
    def closed(self) -> bool:
        """Whether the communicator was closed."""
        return self._communicator.closed

    # ------------------------------------------------------------------------------------------------------------- all-reduce

    def all_reduce(
        self,
        send: Tensor,
        recv: Tensor,
        *,
        op: Op,
        tag: int = 0,
        operand_descriptor: ReduceOperandDescriptor | None = None,
        quantization_options: QuantizationOptions | None = None,
        algorithm: ReduceAlgorithm | str = ReduceAlgorithm.AUTO,
        error_feedback: bool = False,
        on_peer_loss: LossPolicy | str = LossPolicy.RETRY,
        check_finite: bool = False,
        timeout: float | None = None,
    ) -> ReduceInfo:
        """Combines one tensor per peer of the group, element by element, and gives every peer the same bits in `recv`.

        Every member makes the same call (tag, number of elements, type, operator, quantization, options). Both tensors are contiguous, in host
        memory, and of the same type and number of elements; shapes can differ. `send` can be `recv`, else must not
        overlap it. Both have at least one element. `op` and other enumerations can be given by name, and `op` as a torch.distributed.ReduceOp.

        With `error_feedback`, the rounding error of a quantized sum or average is added to the next one with its tag. With on_peer_loss="repair"
        an average continues among the survivors when a peer is lost. With `check_finite` each peer checks its `send` first. If an element is
        infinite or not a number, the call raises INVALID_ARGUMENT at every member, and the message names the peer and the element.

        Raises PCCLError: RANK_CONNECTION_LOST if a peer was lost (`send` is as it was: call again at once, the survivors are the new
        world), TOO_FEW_PEERS if alone in the group (nothing was touched), INVALID_USAGE if the members' calls differ or a buffer is in
        another operation. TypeError or ValueError for tensors that do not fit.
        """
        source, to, spec = prepare_reduce(
            send, recv, op, tag, operand_descriptor, quantization_options, error_feedback, algorithm, on_peer_loss, check_finite
        )
        report = self._communicator.all_reduce(source, to, spec, source.count, seconds(timeout))
        settle(to)
        return ReduceInfo._of(*report)

    def all_reduce_async(
        self,
        send: Tensor,
        recv: Tensor,
        *,
        op: Op,
        tag: int = 0,
        operand_descriptor: ReduceOperandDescriptor | None = None,
        quantization_options: QuantizationOptions | None = None,
        algorithm: ReduceAlgorithm | str = ReduceAlgorithm.AUTO,
        error_feedback: bool = False,
        on_peer_loss: LossPolicy | str = LossPolicy.RETRY,
        check_finite: bool = False,
    ) -> AsyncReduceHandle:
        """Starts `all_reduce` and returns. Do not use the tensors before the handle's `wait` has returned. Operations of distinct
        tags run at the same time, and may be launched in any order.

        Raises PCCLError, and launches nothing: TOO_FEW_PEERS if alone in the group, INVALID_USAGE if `tag` names an operation that has not
        ended or a buffer is in another operation. The handle returns later failures.
        """
        source, to, spec = prepare_reduce(
            send, recv, op, tag, operand_descriptor, quantization_options, error_feedback, algorithm, on_peer_loss, check_finite
        )
        operation = self._communicator.all_reduce_async(source, to, spec, source.count)
        return AsyncReduceHandle(self._communicator, operation, to)

    def all_reduce_multiple_with_retry(
        self, descriptors: Sequence[ReduceOpDescriptor], *, max_in_flight: int = 4, timeout: float | None = None
    ) -> ReduceInfo:
        """Runs all-reduces with distinct tags, at most `max_in_flight` at a time, and repeats those that a lost peer made fail until
        every one is done. Bytes are summed over all attempts; `local_world_size` is the smallest that took part in one.

        Raises PCCLError: TOO_FEW_PEERS once the world is down to this peer; operations not done then are untouched.
        """
        operations = [descriptor._resolve() for descriptor in items(descriptors, ReduceOpDescriptor, "descriptors")]
        if not operations:
            raise ValueError("descriptors is empty: there is nothing to reduce")
        most = integer(max_in_flight, "max_in_flight", 1, _MOST_IN_FLIGHT)
        try:
            return ReduceInfo(*self._communicator.all_reduce_multiple_with_retry(operations, most, seconds(timeout)))
        finally:  # a failure can come when some operations are done
            settle(*[recv for _, recv, _, _ in operations])

    def shard(self, count: int) -> Shard:
        """This peer's part of a buffer of `count` elements among the current members. Sends nothing."""
        return Shard(*self._communicator.shard(integer(count, "count", 1)))

    def reduce_scatter(
        self,
        send: Tensor,
        recv: Tensor | None,
        shard: Shard,
        *,
        op: Op,
        tag: int = 0,
        quantization_options: QuantizationOptions | None = None,
        algorithm: ReduceAlgorithm | str = ReduceAlgorithm.AUTO,
        error_feedback: bool = False,
        check_finite: bool = False,
        timeout: float | None = None,
    ) -> ReduceInfo:
        """Combines one tensor per peer of the group, element by element, and gives every peer its shard of the result.

        `shard` is `self.shard(number of elements of send)`. `recv` has `shard.elements` elements and can be that part of `send`; it is None if
        there are none. The rules of `all_reduce` apply. Raises PCCLError: RANK_CONNECTION_LOST if a peer was lost, or the shard is of
        other members: ask for it again and call again. TOO_FEW_PEERS if alone: all of it is this peer's.
        """
        whole, piece = shard_views(send, recv, shard, writes_whole=False)
        spec = reduce_spec(op, tag, None, quantization_options, error_feedback, algorithm, check_finite=check_finite)
        report = self._communicator.reduce_scatter(whole, piece, spec, whole.count, shard, seconds(timeout))
        settle(piece)
        return ReduceInfo._of(*report)

    def all_gather(
        self,
        send: Tensor | None,
        recv: Tensor,
        shard: Shard,
        *,
        tag: int = 0,
        quantization_options: QuantizationOptions | None = None,
        algorithm: ReduceAlgorithm | str = ReduceAlgorithm.AUTO,
        check_finite: bool = False,
        timeout: float | None = None,
    ) -> ReduceInfo:
        """Gives every peer the shards of all peers: the same bits in `recv` at each. `send` is this peer's part, and can be that part of `recv`.
        A failure leaves `send` unchanged. Start again at the `reduce_scatter` then: the shard of a lost peer is lost."""
        whole, piece = shard_views(recv, send, shard, writes_whole=True)
        spec = reduce_spec(ReduceOp.SUM, tag, None, quantization_options, False, algorithm, check_finite=check_finite)
        report = self._communicator.all_gather(piece, whole, spec, whole.count, shard, seconds(timeout))
        settle(whole)
        return ReduceInfo._of(*report)

    def reduce_scatter_async(
        self,
        send: Tensor,
        recv: Tensor | None,
        shard: Shard,
        *,
        op: Op,
        tag: int = 0,
        quantization_options: QuantizationOptions | None = None,
        algorithm: ReduceAlgorithm | str = ReduceAlgorithm.AUTO,
        error_feedback: bool = False,
        check_finite: bool = False,
    ) -> AsyncReduceHandle:
        """Starts `reduce_scatter` and returns. The rules of `all_reduce_async` apply."""
        whole, piece = shard_views(send, recv, shard, writes_whole=False)
        spec = reduce_spec(op, tag, None, quantization_options, error_feedback, algorithm, check_finite=check_finite)
        operation = self._communicator.reduce_scatter_async(whole, piece, spec, whole.count, shard)
        return AsyncReduceHandle(self._communicator, operation, piece)

    def all_gather_async(
        self,
        send: Tensor | None,
        recv: Tensor,
        shard: Shard,
        *,
        tag: int = 0,
        quantization_options: QuantizationOptions | None = None,
        algorithm: ReduceAlgorithm | str = ReduceAlgorithm.AUTO,
        check_finite: bool = False,
    ) -> AsyncReduceHandle:
        """Starts `all_gather` and returns. The rules of `all_reduce_async` apply."""
        whole, piece = shard_views(recv, send, shard, writes_whole=True)
        spec = reduce_spec(ReduceOp.SUM, tag, None, quantization_options, False, algorithm, check_finite=check_finite)
        operation = self._communicator.all_gather_async(piece, whole, spec, whole.count, shard)
        return AsyncReduceHandle(self._communicator, operation, whole)

    def drop_error_feedback(self, tag: int = 0) -> None:
        """Drops the rounding error that error feedback keeps for operations with this tag."""
        self._communicator.drop_error_feedback(integer(tag, "tag"))

    # ----------------------------------------------------------------------------------------------------------- shared state

    def sync_shared_state(
        self,
        shared_state: SharedState,
        strategy: SharedStateSyncStrategy | str = SharedStateSyncStrategy.ENFORCE_POPULAR,
        *,
        timeout: float | None = None,
    ) -> SharedStateSyncInfo:
        """Makes the named tensors of the group bit-identical. Every member of the group makes this call.

        The first synchronization takes any revision; later ones expect the last one plus 1. The most common content at the expected revision
        wins, and peers that differ receive what differs; one with an older revision receives everything, and `revision` is set.

        Raises PCCLError: NO_SHARED_STATE_AVAILABLE if nobody can give it; INVALID_USAGE, with the reason in the message, if this
        peer's names, types or sizes differ from the group's, or its revision breaks the rule. The peer was then removed from the run.
        """
        tensors = [info._resolve() for info in instance(shared_state, SharedState, "shared_state")._infos]
        how_to = parse_enum(SharedStateSyncStrategy, strategy, "strategy")
        revision, tx_bytes, rx_bytes = self._communicator.synchronize(shared_state.revision, tensors, how_to, seconds(timeout))
        settle(*[tensor for _, tensor, _ in tensors])
        shared_state.revision = revision
        return SharedStateSyncInfo(tx_bytes, rx_bytes)

    # --------------------------------------------------------------------------------------------------- messages and graphs

    def peer_id(self) -> uuid.UUID:
        """This peer's identifier in the run: other peers post to it. A peer that leaves and joins again gets a new one."""
        return uuid.UUID(bytes=self._communicator.peer_id())

    def members(self) -> list[uuid.UUID]:
        """The current members of this peer's group, including itself, in the order in which they joined."""
        return [uuid.UUID(bytes=name) for name in self._communicator.members()]

    def post(self, to: uuid.UUID, data: Tensor, *, tag: int = 0, timeout: float | None = None) -> PostHandle:
        """Starts sending a message to a member of this peer's group, and returns. Allowed while other calls run.

        `data` is bytes, or a tensor as for `all_reduce`, whose elements are sent. The message is delivered once or not at all; `PostHandle.wait`
        returns which.
        After `timeout` seconds (None: never) the message is withdrawn if the receiver's mailbox has had no room for it. Messages to one peer
        arrive in the order of their posts. Raises PCCLError: INVALID_ARGUMENT if `to` is this peer, or no member (any more).
        """
        receiver = instance(to, uuid.UUID, "to").bytes
        posted = self._communicator.post(receiver, view(data, "data"), integer(tag, "tag"), seconds(timeout))
        return PostHandle(self._communicator, posted)

    def receive(self, tag: int = 0, *, timeout: float | None = None) -> Message | None:
        """Takes the oldest message with this tag out of this peer's mailbox, from any sender. Waits at most `timeout` seconds for one (None: no
        limit; 0: does not wait), and returns None if none arrived. Raises PCCLError: RANK_CONNECTION_LOST after `abort`."""
        came = self._communicator.receive(integer(tag, "tag"), seconds(timeout))
        return came and Message(uuid.UUID(bytes=came[0]), *came[1:])

    def set_mailbox(self, max_bytes: int, max_messages: int = 4096) -> None:
        """Limits the messages in this peer's mailbox. Defaults: 1 GiB and 4096 messages. Senders wait for room."""
        self._communicator.set_mailbox(integer(max_bytes, "max_bytes"), integer(max_messages, "max_messages", 0, _MOST_32))

    def set_neighbour_graph(self, kind: GraphKind | str, degree: int = 0, seed: int = 0) -> None:
        """Gives this peer's group a graph of neighbours. The master repairs it when members join or leave.

        `degree`: 2 to 64 for "random_regular", 1 to 64 for "barabasi_albert", else 0. Every member can make this call; the first one decides.
        "none" removes the graph. Raises PCCLError: INVALID_ARGUMENT if there is no such graph, INVALID_USAGE if the group has another one.
        """
        self._communicator.set_neighbour_graph(
            parse_enum(GraphKind, kind, "kind"), integer(degree, "degree", 0, _MOST_32), integer(seed, "seed")
        )

    def neighbours(self) -> list[uuid.UUID]:
        """This peer's current neighbours in the graph; in a directed graph, those that it sends to."""
        return [uuid.UUID(bytes=name) for name in self._communicator.neighbours()]

    # -------------------------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Communicator:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        try:
            state = f"world size {self.get_attribute(Attribute.GLOBAL_WORLD_SIZE)}"
        except PCCLError:
            state = "closed" if self.closed else "not connected"
        return f"Communicator({self.address!r}, peer_group={self.peer_group}, {state})"
