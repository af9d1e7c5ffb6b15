"""What a program says about its reduces and its shared state, and what it hears about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from . import _pccl
from ._enums import DataType, DistributionHint, Fault, QuantizationAlgorithm, QuantizationScale, ReduceAlgorithm, ReduceOp
from ._tensors import same_elements, view

if TYPE_CHECKING:
    import numpy as np
    import torch

    from ._tensors import Tensor

_E = TypeVar("_E", bound=IntEnum)


@dataclass
class ReduceOperandDescriptor:
    """What is reduced: elements of `datatype`. The hint is accepted for compatibility."""

    datatype: DataType
    distribution_hint: DistributionHint = DistributionHint.NONE


@dataclass
class QuantizationOptions:
    """How values are packed on the wire, in blocks of elements that have their own range or scale. Operands are floating-point.

    `quantized_datatype` is UINT8, INT8, UINT16, INT16, UINT4 or UINT2. With `BLOCK_SCALE` it is INT8, INT4, UINT4 or UINT2, `block`
    elements (32, 64, 128, 256 or 512; 0 is 32) share a scale, and `scale` says how the scale travels.
    """

    quantized_datatype: DataType = DataType.UINT8
    algorithm: QuantizationAlgorithm = QuantizationAlgorithm.MIN_MAX
    block: int = 0
    scale: QuantizationScale = QuantizationScale.FLOAT


_PLAIN = QuantizationOptions(DataType.UINT8, QuantizationAlgorithm.NONE)


@dataclass
class ReduceDescriptor:
    """One all-reduce of `count` elements, for `ReduceOpDescriptor`. `tag` names it among those in flight at the same time."""

    count: int
    op: ReduceOp
    tag: int
    operand_descriptor: ReduceOperandDescriptor
    quantization_options: QuantizationOptions | None = None


class ReduceOpDescriptor:
    """One operation of `Communicator.all_reduce_multiple_with_retry`: its buffers and its descriptor."""

    def __init__(self, send: Tensor, recv: Tensor, reduce_descriptor: ReduceDescriptor) -> None:
        self.send = send
        self.recv = recv
        self.reduce_descriptor = reduce_descriptor
        self._resolve()

    @classmethod
    def from_torch(cls, send: torch.Tensor, recv: torch.Tensor, reduce_descriptor: ReduceDescriptor) -> ReduceOpDescriptor:
        """From PyTorch tensors. `send` may be `recv`. Raises TypeError or ValueError if they do not fit each other or the descriptor."""
        return cls(send, recv, reduce_descriptor)

    @classmethod
    def from_numpy(cls, send: np.ndarray[Any, Any], recv: np.ndarray[Any, Any], reduce_descriptor: ReduceDescriptor) -> ReduceOpDescriptor:
        """From NumPy arrays. `send` may be `recv`. Raises TypeError or ValueError if they do not fit each other or the descriptor."""
        return cls(send, recv, reduce_descriptor)

    def _resolve(self) -> tuple[_pccl.View, _pccl.View, _pccl.Reduce, int]:
        d = self.reduce_descriptor
        send, recv = operands(self.send, self.recv, d.operand_descriptor)
        if d.count > send.count:
            raise ValueError(f"the descriptor's count is {d.count}, but the tensors have {send.count} elements")
        return send, recv, how(d.op, d.tag, d.operand_descriptor, d.quantization_options), d.count

    def __repr__(self) -> str:
        return f"ReduceOpDescriptor({self.reduce_descriptor!r})"


def operands(send: Tensor, recv: Tensor, operand: ReduceOperandDescriptor | None) -> tuple[_pccl.View, _pccl.View]:
    """Both buffers of a reduce; the same view if they are the same tensor."""
    to = view(recv, "recv", writable=True)
    if send is recv:
        source = to
    else:
        source = view(send, "send")
        same_elements(source, to)
    if operand is not None and operand.datatype != source.datatype:
        raise TypeError(f"the operand descriptor says {DataType(operand.datatype)}, but the tensors are {DataType(source.datatype)}")
    return source, to


class Shard(NamedTuple):
    """A peer's part of a buffer that the members of its group divide among themselves, in the order in which they joined."""

    first: int
    """Its first element in the whole buffer."""
    elements: int
    """How many; 0 where the buffer has fewer parts of 256 elements than the group has peers."""
    membership: int
    """Names the members among whom the buffer is divided: another value, other members."""
    world_size: int
    rank: int

    @property
    def place(self) -> slice:
        """Of the whole buffer as one row: `buffer[shard.place]`."""
        return slice(self.first, self.first + self.elements)


def part_of(whole: Tensor, part: Tensor | None, shard: Shard, writes_whole: bool) -> tuple[_pccl.View, _pccl.View | None]:
    """The views of a buffer and of a peer's part of it; None for a part without elements."""
    row = view(whole, "recv" if writes_whole else "send", writable=writes_whole)
    if shard.elements == 0:
        return row, None
    name = "send" if writes_whole else "recv"
    if part is None:
        raise ValueError(f"{name} is None, and the shard has {shard.elements} elements")
    piece = view(part, name, writable=not writes_whole)
    if piece.datatype != row.datatype:
        raise TypeError(f"{name} is {DataType(piece.datatype)}, the whole is {DataType(row.datatype)}")
    if piece.count != shard.elements:
        raise ValueError(f"{name} has {piece.count} elements, the shard {shard.elements}")
    return row, piece


def how(
    op: ReduceOp,
    tag: int,
    operand: ReduceOperandDescriptor | None,
    quantization: QuantizationOptions | None,
    error_feedback: bool = False,
    algorithm: ReduceAlgorithm | str = ReduceAlgorithm.AUTO,
    fault: Fault | str = Fault.RETRY,
) -> _pccl.Reduce:
    q = quantization if quantization is not None else _PLAIN
    hint = operand.distribution_hint if operand is not None else DistributionHint.NONE
    if tag < 0 or tag >= 1 << 64:
        raise ValueError(f"tag {tag} does not fit in 64 bits")
    return _pccl.Reduce(
        op, tag, hint, q.quantized_datatype, q.algorithm, q.block, q.scale, error_feedback,
        named(ReduceAlgorithm, algorithm, "algorithm"), named(Fault, fault, "fault"),
    )


def named(kind: type[_E], name: _E | str, what: str) -> _E:
    """The member of an enumeration that is called so, in any case; or that it is."""
    if not isinstance(name, str):
        return name
    member = kind.__members__.get(name.upper())
    if member is None:
        raise ValueError(f"{what} is {name!r}, not one of {', '.join(repr(known.lower()) for known in kind.__members__)}")
    return member


@dataclass
class ReduceInfo:
    """How a reduce went.

    The first three are version 1's: peers that took part to the end, and bytes that this peer sent and received, headers included. Those
    below are of `all_reduce` and `all_reduce_async` alone.
    """

    local_world_size: int
    tx_bytes: int
    rx_bytes: int
    algorithm: ReduceAlgorithm = ReduceAlgorithm.AUTO
    """The one that was taken; AUTO if the operation never began."""
    lanes: int = 0
    """TCP connections to the next peer of the ring."""
    chunk_bytes: int = 0
    """The largest piece that moves by itself."""
    repairs: int = 0
    """With fault="repair": changes of the membership that it went on after."""
    fewest_took_part: int = 0
    """Peers that took part in the elements in which the fewest did."""
    fewest_elements: int = 0
    """In how many elements so few took part; all of them where nobody was lost."""
    repair_tx_bytes: int = 0
    """Of `tx_bytes`, those sent after the first loss."""

    @classmethod
    def _of(cls, world_size: int, tx_bytes: int, rx_bytes: int, algorithm: int, *rest: int) -> ReduceInfo:
        return cls(world_size, tx_bytes, rx_bytes, ReduceAlgorithm(algorithm), *rest)


@dataclass
class SharedStateSyncInfo:
    """Tensor bytes that this peer sent and received in a synchronization: 0 and 0 if all agreed already."""

    tx_bytes: int
    rx_bytes: int


class TensorInfo:
    """A named tensor of the shared state. It keeps the tensor, not a copy: synchronizing writes into it."""

    def __init__(self, tensor: Tensor, name: str, *, allow_content_inequality: bool = False) -> None:
        if not name:
            raise ValueError("a tensor of the shared state has no name")
        self.tensor = tensor
        self.name = name
        self.allow_content_inequality = allow_content_inequality
        self._resolve()

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
        return self.name, view(self.tensor, f"tensor {self.name!r}", writable=True), self.allow_content_inequality

    def __repr__(self) -> str:
        shape = tuple(getattr(self.tensor, "shape", ()))
        inequality = ", allow_content_inequality=True" if self.allow_content_inequality else ""
        return f"TensorInfo({self.name!r}, shape={shape}{inequality})"


class SharedState:
    """What all peers of a group hold in common: tensors, and a revision that grows by one with each step."""

    def __init__(self, tensor_infos: Sequence[TensorInfo]) -> None:
        if not tensor_infos:
            raise ValueError("a shared state has at least one tensor")
        self._infos = list(tensor_infos)
        self._revision = 0

    @property
    def revision(self) -> int:
        """The revision offered by the next synchronization, and the one held after it."""
        return self._revision

    @revision.setter
    def revision(self, value: int) -> None:
        if value < 0 or value >= 1 << 64:
            raise ValueError(f"revision {value} does not fit in 64 bits")
        self._revision = value

    def push_revision(self) -> None:
        """Makes the revision one more: after each step that changed the tensors."""
        self.revision += 1

    def __repr__(self) -> str:
        return f"SharedState(revision={self._revision}, tensors={self._infos!r})"
