"""Descriptions of reduces and shared state, and the reports about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Union, overload

from . import _pccl
from ._arguments import flag, instance, integer, items, optional_instance, parse_enum, text
from ._enums import DataType, DeviceType, DistributionHint, LossPolicy, QuantizationAlgorithm, QuantizationScale, ReduceAlgorithm, ReduceOp
from ._errors import PCCLTensorError, PCCLTensorTypeError
from ._pointers import is_pointer, view_of_pointer
from ._tensors import same_elements, view

if TYPE_CHECKING:
    import numpy as np
    import torch

    from ._tensors import Tensor

    Op = Union[ReduceOp, str, torch.distributed.ReduceOp, torch.distributed.ReduceOp.RedOpType]
    """An operator: ours, its name, or the one of torch.distributed with the same meaning."""


@dataclass
class ReduceOperandDescriptor:
    """The elements of a reduce are of `datatype`. The hint is accepted for compatibility. Enumerations can be given by name."""

    datatype: DataType
    distribution_hint: DistributionHint = DistributionHint.NONE

    def __post_init__(self) -> None:
        self._check()

    def _check(self) -> None:
        self.datatype = parse_enum(DataType, self.datatype, "datatype")
        self.distribution_hint = parse_enum(DistributionHint, self.distribution_hint, "distribution_hint")


@dataclass
class QuantizationOptions:
    """How values are packed on the wire, in blocks of elements that have their own range or scale. Operands are floating-point.

    `quantized_datatype` is UINT8, INT8, UINT16, INT16, UINT4 or UINT2. With `BLOCK_SCALE` it is INT8, INT4, UINT4 or UINT2, `block`
    elements (32, 64, 128, 256 or 512; 0 is 32) share a scale, and `scale` says how the scale travels. Enumerations can be given by name.
    """

    quantized_datatype: DataType = DataType.UINT8
    algorithm: QuantizationAlgorithm = QuantizationAlgorithm.MIN_MAX
    block: int = 0
    scale: QuantizationScale = QuantizationScale.FLOAT

    def __post_init__(self) -> None:
        self._check()

    def _check(self) -> None:
        self.quantized_datatype = parse_enum(DataType, self.quantized_datatype, "quantized_datatype")
        self.algorithm = parse_enum(QuantizationAlgorithm, self.algorithm, "algorithm")
        self.block = integer(self.block, "block", 0, (1 << 32) - 1)
        self.scale = parse_enum(QuantizationScale, self.scale, "scale")


_PLAIN = QuantizationOptions(DataType.UINT8, QuantizationAlgorithm.NONE)


@dataclass
class ReduceDescriptor:
    """One all-reduce of `count` elements, for `ReduceOpDescriptor`. `tag` names it among those in flight at the same time."""

    count: int
    op: ReduceOp
    tag: int
    operand_descriptor: ReduceOperandDescriptor
    quantization_options: QuantizationOptions | None = None

    def __post_init__(self) -> None:
        self._check()

    def _check(self) -> None:
        self.count = integer(self.count, "count")
        self.op = parse_enum(ReduceOp, self.op, "op")
        self.tag = integer(self.tag, "tag")
        instance(self.operand_descriptor, ReduceOperandDescriptor, "operand_descriptor")
        optional_instance(self.quantization_options, QuantizationOptions, "quantization_options")


class ReduceOpDescriptor:
    """One operation of `Communicator.all_reduce_multiple_with_retry`: its buffers and its descriptor.

    A buffer is a tensor, or the address of one as an integer, as in version 1. The element type and the number of elements at an address
    are those of the descriptor, and the caller keeps the memory alive until the operation has ended.
    """

    @overload
    def __init__(self, send: Tensor, recv: Tensor, reduce_descriptor: ReduceDescriptor) -> None: ...
    @overload
    def __init__(self, sendbuf_ptr: int, recvbuf_ptr: int, reduce_descriptor: ReduceDescriptor) -> None: ...

    def __init__(  # type: ignore[misc]
        self, send: Any = None, recv: Any = None, reduce_descriptor: Any = None, *, sendbuf_ptr: Any = None, recvbuf_ptr: Any = None
    ) -> None:
        self.send = send if sendbuf_ptr is None else sendbuf_ptr
        self.recv = recv if recvbuf_ptr is None else recvbuf_ptr
        self.reduce_descriptor = instance(reduce_descriptor, ReduceDescriptor, "reduce_descriptor")
        self._resolve()

    @property
    def sendbuf_ptr(self) -> int:
        """The address of the first element to send."""
        return self._resolve()[0].address

    @property
    def recvbuf_ptr(self) -> int:
        """The address of the first element of the result."""
        return self._resolve()[1].address

    @classmethod
    def from_torch(cls, send: torch.Tensor, recv: torch.Tensor, reduce_descriptor: ReduceDescriptor) -> ReduceOpDescriptor:
        """From PyTorch tensors. `send` may be `recv`. Raises PCCLTensorError if they do not fit each other or the descriptor."""
        return cls(send, recv, reduce_descriptor)

    @classmethod
    def from_numpy(cls, send: np.ndarray[Any, Any], recv: np.ndarray[Any, Any], reduce_descriptor: ReduceDescriptor) -> ReduceOpDescriptor:
        """From NumPy arrays. `send` may be `recv`. Raises PCCLTensorError if they do not fit each other or the descriptor."""
        return cls(send, recv, reduce_descriptor)

    def _resolve(self) -> tuple[_pccl.View, _pccl.View, _pccl.ReduceSpec, int]:
        d = instance(self.reduce_descriptor, ReduceDescriptor, "reduce_descriptor")
        d._check()  # its fields can have been set since it was made
        if d.count == 0:
            raise PCCLTensorError("the descriptor's count is 0: there is nothing to reduce. Leave this operation out at every peer")
        if is_pointer(self.send) and is_pointer(self.recv):
            send, recv = (view_of_pointer(at, d.count, d.operand_descriptor.datatype, name) for at, name in ((self.send, "send"), (self.recv, "recv")))
        else:
            send, recv = reduce_views(self.send, self.recv, d.operand_descriptor)
        if d.count > send.count:
            raise PCCLTensorError(f"the descriptor's count is {d.count}, but the tensors have {send.count} elements")
        return send, recv, reduce_spec(d.op, d.tag, d.operand_descriptor, d.quantization_options), d.count

    def __repr__(self) -> str:
        return f"ReduceOpDescriptor({self.reduce_descriptor!r})"


def reduce_views(send: Tensor, recv: Tensor, operand: ReduceOperandDescriptor | None) -> tuple[_pccl.View, _pccl.View]:
    """Both buffers of a reduce; the same view if they are the same tensor."""
    to = view(recv, "recv", writable=True)
    if send is recv:
        source = to
    else:
        source = view(send, "send")
        same_elements(source, to)
    if operand is not None:
        instance(operand, ReduceOperandDescriptor, "operand_descriptor")._check()
        if operand.datatype != source.datatype:
            raise PCCLTensorTypeError(f"the operand descriptor says {operand.datatype}, but the tensors are {DataType(source.datatype)}")
    if source.count == 0:
        raise _without_elements("send")
    return source, to


def prepare_reduce(
    send: Tensor, recv: Tensor, op: Op, tag: int, operand: ReduceOperandDescriptor | None, *options: Any
) -> tuple[_pccl.View, _pccl.View, _pccl.ReduceSpec]:
    """The arguments of an all-reduce, blocking or not, as the library takes them. `options` are the other arguments of `reduce_spec`."""
    source, to = reduce_views(send, recv, operand)
    return source, to, reduce_spec(op, tag, operand, *options)


def _without_elements(what: str) -> ValueError:
    return ValueError(f"{what} has no elements: there is nothing to combine. Leave this call out at every peer")


class Shard(NamedTuple):
    """A peer's part of a buffer that the members of its group divide among themselves, in the order in which they joined."""

    first: int
    """Index of the first element in the whole buffer."""
    elements: int
    """Number of elements; 0 if the buffer has fewer parts of 256 elements than the group has peers."""
    membership: int
    """Identifies the members that share the buffer. Another value means other members."""
    world_size: int
    rank: int

    @property
    def place(self) -> slice:
        """The slice of the whole flat buffer: `buffer[shard.place]`."""
        return slice(self.first, self.first + self.elements)


def shard_views(whole: Tensor, part: Tensor | None, shard: Shard, writes_whole: bool) -> tuple[_pccl.View, _pccl.View | None]:
    """The views of a buffer and of a peer's part of it; None for a part without elements."""
    for name, value in zip(Shard._fields, instance(shard, Shard, "shard")):
        integer(value, f"shard.{name}")
    whole_name = "recv" if writes_whole else "send"
    row = view(whole, whole_name, writable=writes_whole)
    if row.count == 0:
        raise _without_elements(whole_name)
    if shard.elements == 0:
        return row, None
    name = "send" if writes_whole else "recv"
    if part is None:
        raise PCCLTensorError(f"{name} is None, and the shard has {shard.elements} elements")
    piece = view(part, name, writable=not writes_whole)
    if piece.datatype != row.datatype:
        raise PCCLTensorTypeError(f"{name} is {DataType(piece.datatype)}, the whole is {DataType(row.datatype)}")
    if piece.count != shard.elements:
        raise PCCLTensorError(f"{name} has {piece.count} elements, the shard {shard.elements}")
    return row, piece


def reduce_spec(
    op: Op,
    tag: int,
    operand: ReduceOperandDescriptor | None,
    quantization: QuantizationOptions | None,
    error_feedback: bool = False,
    algorithm: ReduceAlgorithm | str = ReduceAlgorithm.AUTO,
    on_peer_loss: LossPolicy | str = LossPolicy.RETRY,
    check_finite: bool = False,
    *,
    quantization_name: str = "quantization_options",
) -> _pccl.ReduceSpec:
    """Describes a reduce for the library. `operand` has been checked."""
    q = _PLAIN
    if quantization is not None:
        q = instance(quantization, QuantizationOptions, quantization_name)
        q._check()  # its fields can have been set since it was made
    # A call per argument would be most of what a short all-reduce costs here.
    if type(op) is not ReduceOp:
        op = parse_enum(ReduceOp, op, "op")
    if type(tag) is not int or not 0 <= tag < 1 << 64:
        tag = integer(tag, "tag")
    if type(algorithm) is not ReduceAlgorithm:
        algorithm = parse_enum(ReduceAlgorithm, algorithm, "algorithm")
    if type(on_peer_loss) is not LossPolicy:
        on_peer_loss = parse_enum(LossPolicy, on_peer_loss, "on_peer_loss")
    hint = operand.distribution_hint if operand is not None else DistributionHint.NONE
    return _pccl.ReduceSpec(
        op, tag, hint, q.quantized_datatype, q.algorithm, q.block, q.scale, flag(error_feedback, "error_feedback"), algorithm, on_peer_loss,
        flag(check_finite, "check_finite"),
    )


@dataclass
class ReduceInfo:
    """How a reduce went.

    The first three fields are version 1's: peers that took part to the end, and bytes that this peer sent and received, headers included.
    `all_reduce_multiple_with_retry` leaves the other fields at their defaults.
    """

    local_world_size: int
    tx_bytes: int
    rx_bytes: int
    algorithm: ReduceAlgorithm = ReduceAlgorithm.AUTO
    """The algorithm that was used; AUTO if the operation never began."""
    lanes: int = 0
    """TCP connections to the next peer of the ring."""
    chunk_bytes: int = 0
    """Size of the largest chunk, in bytes of `send`."""
    repairs: int = 0
    """With on_peer_loss="repair": changes of the membership after which it continued."""
    fewest_took_part: int = 0
    """Peers that took part in the elements in which the fewest did."""
    fewest_elements: int = 0
    """Elements in which only `fewest_took_part` peers took part; all elements if no peer was lost."""
    repair_tx_bytes: int = 0
    """The part of `tx_bytes` that was sent after the first loss."""
    saved_tx_bytes: int = 0
    """Bytes that compression removed from `tx_bytes`; 0 if nothing was compressed."""

    @classmethod
    def _of(cls, world_size: int, tx_bytes: int, rx_bytes: int, algorithm: int, *rest: int) -> ReduceInfo:
        return cls(world_size, tx_bytes, rx_bytes, ReduceAlgorithm(algorithm), *rest)


@dataclass
class SharedStateSyncInfo:
    """Tensor bytes that this peer sent and received in a synchronization: 0 and 0 if all agreed already."""

    tx_bytes: int
    rx_bytes: int


class TensorInfo:
    """A named tensor of the shared state. It keeps the tensor, not a copy: synchronizing writes into it.

    Made of a tensor and its name, or, as in version 1, of a name and an address: then `tensor` is None, and the caller keeps the memory alive.
    """

    @overload
    def __init__(self, tensor: Tensor, name: str, *, allow_content_inequality: bool = False) -> None: ...
    @overload
    def __init__(
        self,
        name: str,
        data_ptr: int,
        *,
        numel: int,
        dtype: DataType,
        device_type: DeviceType = DeviceType.CPU,
        allow_content_inequality: bool = False,
    ) -> None: ...

    def __init__(  # type: ignore[misc]
        self,
        tensor: Any = None,
        name: Any = None,
        *,
        data_ptr: Any = None,
        numel: Any = None,
        dtype: Any = None,
        device_type: Any = DeviceType.CPU,
        allow_content_inequality: bool = False,
    ) -> None:
        if isinstance(tensor, str) and not isinstance(name, str):  # version 1's order: the name, then the address
            tensor, name, data_ptr = None, tensor, data_ptr if name is None else name
        if not text(name, "name"):
            raise PCCLTensorError("name is empty: give each tensor of the shared state a name of its own")
        if (tensor is None) == (data_ptr is None):
            raise TypeError(f"tensor {name!r}: give either a tensor or an address (data_ptr)")
        self.tensor = tensor
        self.name = name
        self.allow_content_inequality = flag(allow_content_inequality, "allow_content_inequality")
        self._pointer = None if data_ptr is None else view_of_pointer(data_ptr, numel, dtype, f"tensor {name!r}", device_type)
        self._resolve()

    @property
    def data_ptr(self) -> int:
        """The address of the first element."""
        return self._resolve()[1].address

    @property
    def numel(self) -> int:
        """The number of elements."""
        return self._resolve()[1].count

    @property
    def dtype(self) -> DataType:
        """The type of the elements."""
        return DataType(self._resolve()[1].datatype)

    @property
    def device_type(self) -> DeviceType:
        """Where the elements are: in host memory."""
        return DeviceType.CPU

    @classmethod
    def from_torch(cls, tensor: torch.Tensor, name: str, *, allow_content_inequality: bool = False) -> TensorInfo:
        """A contiguous PyTorch tensor in host memory. A tensor that allows unequal content is compared by name and shape alone, and is sent
        only to peers that are behind in revision."""
        return cls(tensor, name, allow_content_inequality=allow_content_inequality)

    @classmethod
    def from_numpy(cls, tensor: np.ndarray[Any, Any], name: str, *, allow_content_inequality: bool = False) -> TensorInfo:
        """A C-contiguous, writable NumPy array. See `from_torch`."""
        return cls(tensor, name, allow_content_inequality=allow_content_inequality)

    def _resolve(self) -> tuple[str, _pccl.View, bool]:
        name = text(self.name, "name")
        memory = self._pointer if self._pointer is not None else view(self.tensor, f"tensor {name!r}", writable=True)
        return name, memory, flag(self.allow_content_inequality, "allow_content_inequality")

    def __repr__(self) -> str:
        shape = tuple(getattr(self.tensor, "shape", ())) if self._pointer is None else (self.numel,)
        inequality = ", allow_content_inequality=True" if self.allow_content_inequality else ""
        return f"TensorInfo({self.name!r}, shape={shape}{inequality})"


class SharedState:
    """The state that all peers of a group share: named tensors, and a revision that grows by one with each step."""

    def __init__(self, tensor_infos: Sequence[TensorInfo]) -> None:
        self._infos = items(tensor_infos, TensorInfo, "tensor_infos")
        if not self._infos:
            raise PCCLTensorError("tensor_infos is empty: a shared state has at least one tensor")
        self._revision = 0

    @property
    def revision(self) -> int:
        """The revision offered by the next synchronization, and the one held after it."""
        return self._revision

    @revision.setter
    def revision(self, value: int) -> None:
        self._revision = integer(value, "revision")

    def push_revision(self) -> None:
        """Makes the revision one more: after each step that changed the tensors."""
        self.revision += 1

    def __repr__(self) -> str:
        return f"SharedState(revision={self._revision}, tensors={self._infos!r})"
