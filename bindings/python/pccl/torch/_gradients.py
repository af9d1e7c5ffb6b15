"""Plain pieces, for those who write their own loop."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch

from .._descriptors import QuantizationOptions, ReduceDescriptor, ReduceInfo, ReduceOpDescriptor, ReduceOperandDescriptor
from .._enums import DataType, QuantizationAlgorithm, ReduceOp

if TYPE_CHECKING:
    from .._communicator import Communicator


def flatten(tensors: Iterable[torch.Tensor], out: torch.Tensor | None = None) -> torch.Tensor:
    """All elements in one row, float32, on the CPU. `out`: where to, if there is such a row already."""
    rows = [tensor.detach().reshape(-1) for tensor in tensors]
    count = sum(row.numel() for row in rows)
    if out is None:
        out = torch.empty(count, dtype=torch.float32)
    if out.numel() != count:
        raise ValueError(f"out has {out.numel()} elements, the tensors have {count}")
    at = 0
    for row in rows:
        out[at : at + row.numel()].copy_(row)
        at += row.numel()
    return out


def unflatten(flat: torch.Tensor, tensors: Sequence[torch.Tensor]) -> None:
    """Copies a row that `flatten` made back to tensors of these shapes."""
    count = sum(tensor.numel() for tensor in tensors)
    if flat.numel() != count:
        raise ValueError(f"flat has {flat.numel()} elements, the tensors have {count}")
    at = 0
    with torch.no_grad():
        for tensor in tensors:
            tensor.copy_(flat[at : at + tensor.numel()].reshape(tensor.shape))
            at += tensor.numel()


def all_reduce_gradients(
    parameters: Iterable[torch.nn.Parameter],
    communicator: Communicator,
    *,
    bucket_bytes: int = 25 << 20,
    first_tag: int = 0,
    max_in_flight: int = 4,
    quantization: QuantizationOptions | None = None,
) -> ReduceInfo:
    """Averages the gradients of all peers, in buckets, in place; repeated among the survivors if peers are lost.

    Every peer gives the same parameters in the same order; those without a gradient count as zero (and get one). Tags `first_tag` and up are
    used, one per bucket. Raises PCCLError: TOO_FEW_PEERS if alone; the gradients are then this peer's own.
    """
    if bucket_bytes < 4:
        raise ValueError(f"bucket_bytes is {bucket_bytes}")
    trained = [p for p in parameters if p.requires_grad]
    if not trained:
        raise ValueError("there is no parameter that requires a gradient")
    for p in trained:
        if p.grad is None:
            p.grad = torch.zeros_like(p)
    buckets: list[list[torch.Tensor]] = [[]]
    size = 0
    for p in trained:
        assert p.grad is not None
        if buckets[-1] and size + 4 * p.numel() > bucket_bytes:
            buckets.append([])
            size = 0
        buckets[-1].append(p.grad)
        size += 4 * p.numel()
    rows = [flatten(bucket) for bucket in buckets]
    how = quantization if quantization is not None else QuantizationOptions(DataType.UINT8, QuantizationAlgorithm.NONE)
    operand = ReduceOperandDescriptor(DataType.FLOAT)
    info = communicator.all_reduce_multiple_with_retry(
        [
            ReduceOpDescriptor.from_torch(row, row, ReduceDescriptor(row.numel(), ReduceOp.AVG, first_tag + i, operand, how))
            for i, row in enumerate(rows)
        ],
        max_in_flight=max_in_flight,
    )
    for row, bucket in zip(rows, buckets):
        unflatten(row, bucket)
    return info
