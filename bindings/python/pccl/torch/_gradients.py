"""Averages of gradients in buckets, and rows of tensors, for programs with a training loop of their own.

A type is carried exactly or refused. Gradients travel in buckets of one type each; a row of tensors has a type that holds all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch

from .._arguments import instance, integer, optional_instance
from .._communicator import Communicator
from .._descriptors import QuantizationOptions, ReduceDescriptor, ReduceInfo, ReduceOpDescriptor, ReduceOperandDescriptor
from .._enums import DataType, QuantizationAlgorithm, ReduceOp
from ._arguments import check_dense, check_writable, named_tensors

if TYPE_CHECKING:
    Bucket = tuple[torch.dtype, list[torch.Tensor]]

_REAL = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
_PAIRS = {torch.complex64: torch.float32, torch.complex128: torch.float64}
"""The type of the two numbers in a complex number."""


def flatten(tensors: Iterable[torch.Tensor], out: torch.Tensor | None = None) -> torch.Tensor:
    """All elements in one row, on the CPU. `out`: an existing row to write to.

    The tensors are floating-point, on any device. A new row is float32, or float64 if one of them is. Raises TypeError for a type that the
    row does not hold exactly: integers, complex numbers (give `torch.view_as_real` of them), float64 where `out` is float32.
    """
    named = named_tensors(tensors, "tensors", "tensors[{}]")
    for name, tensor in named:
        check_dense(tensor, name)
    if out is None:
        double = any(tensor.dtype is torch.float64 for _, tensor in named)
        kind = torch.float64 if double else torch.float32
    else:
        kind = instance(out, torch.Tensor, "out").dtype
        check_dense(out, "out")
    for name, tensor in named:
        if not _holds(kind, tensor.dtype):
            raise TypeError(f"{name} is {tensor.dtype}, which a row of {kind} does not hold exactly: convert it, or give an `out` of its type")
    rows = [tensor.detach().reshape(-1) for _, tensor in named]
    count = sum(row.numel() for row in rows)
    if out is None:
        out = torch.empty(count, dtype=kind, device="cpu")
    if out.dim() != 1 or out.numel() != count:
        raise ValueError(f"out has shape {tuple(out.shape)}, and the tensors have {count} elements: give a row of as many")
    _gather(rows, out)
    return out


def unflatten(flat: torch.Tensor, tensors: Sequence[torch.Tensor]) -> None:
    """Copies a row that `flatten` made back to tensors of these shapes, rounding to their types. Raises TypeError, before anything is
    written, if the row or a tensor is not floating-point, unless both have the same type."""
    check_dense(instance(flat, torch.Tensor, "flat"), "flat")
    named = named_tensors(tensors, "tensors", "tensors[{}]")
    for name, tensor in named:
        check_dense(tensor, name)
        if tensor.dtype != flat.dtype and not (tensor.is_floating_point() and flat.is_floating_point()):
            raise TypeError(f"{name} is {tensor.dtype}, and flat is {flat.dtype}: `flatten` makes no such row of it")
    count = sum(tensor.numel() for _, tensor in named)
    if flat.dim() != 1 or flat.numel() != count:
        raise ValueError(f"flat has shape {tuple(flat.shape)}, and the tensors have {count} elements: give a row of as many")
    _scatter(flat, [tensor for _, tensor in named])


def _holds(row: torch.dtype, kind: torch.dtype) -> bool:
    """Whether a row of type `row` represents every value of type `kind` exactly."""
    wider = row in (torch.float32, torch.float64) and kind.is_floating_point and kind.itemsize < row.itemsize
    return row == kind or wider


def _gather(rows: Iterable[torch.Tensor], out: torch.Tensor) -> None:
    """Copies rows from any device. Copies lazily negated and conjugated tensors by value."""
    at = 0
    with torch.no_grad():
        for row in rows:
            out[at : at + row.numel()].copy_(row)
            at += row.numel()


def _scatter(row: torch.Tensor, tensors: Iterable[torch.Tensor]) -> None:
    at = 0
    with torch.no_grad():
        for tensor in tensors:
            tensor.copy_(row[at : at + tensor.numel()].reshape(tensor.shape))
            at += tensor.numel()


def all_reduce_gradients(
    parameters: Iterable[torch.nn.Parameter] | Iterable[tuple[str, torch.nn.Parameter]],
    communicator: Communicator,
    *,
    bucket_bytes: int = 25 << 20,
    first_tag: int = 0,
    max_in_flight: int = 4,
    quantization: QuantizationOptions | None = None,
) -> ReduceInfo:
    """Averages the gradients of all peers, in buckets, in place; repeated among the survivors if peers are lost.

    Every peer gives the same parameters in the same order; those without a gradient count as zero (and get one). Gradients can be on any
    device. Each bucket has one type, and what is in it depends only on the parameters' order, sizes and types: float32, float64, float16 and
    bfloat16 are averaged in their own type, complex64 and complex128 as pairs of float32 and float64. `quantization` applies to all of them.
    Tags `first_tag` and up are used, one per bucket.

    Raises TypeError, before anything is changed, for other types and for sparse or distributed gradients, and names the parameter. Raises
    PCCLError: TOO_FEW_PEERS if alone; the gradients are then this peer's own.
    """
    instance(communicator, Communicator, "communicator")
    optional_instance(quantization, QuantizationOptions, "quantization")
    room, tag = integer(bucket_bytes, "bucket_bytes", 4), integer(first_tag, "first_tag")
    trained = [(name, p) for name, p in named_tensors(parameters) if p.requires_grad and p.numel() != 0]
    if not trained:
        raise ValueError("parameters has no parameter with elements that requires a gradient: there is nothing to average")
    kinds = [_kind_of_gradient(name, p) for name, p in trained]
    for (_, p), kind in zip(trained, kinds):
        if p.grad is None:
            p.grad = torch.zeros_like(p, dtype=kind)
    buckets = _buckets([(kind, p.grad) for kind, (_, p) in zip(kinds, trained) if p.grad is not None], room)
    how = quantization if quantization is not None else QuantizationOptions(DataType.UINT8, QuantizationAlgorithm.NONE)
    rows = []
    for kind, gradients in buckets:
        row = torch.empty(sum(gradient.numel() for gradient in gradients), dtype=kind, device="cpu")
        _gather([gradient.detach().reshape(-1) for gradient in gradients], row)
        rows.append(row)
    operations = []
    for i, row in enumerate(rows):
        numbers = torch.view_as_real(row).reshape(-1) if row.is_complex() else row
        operand = ReduceOperandDescriptor(DataType.from_torch_dtype(numbers.dtype))
        operations.append(ReduceOpDescriptor(numbers, numbers, ReduceDescriptor(numbers.numel(), ReduceOp.AVG, tag + i, operand, how)))
    info = communicator.all_reduce_multiple_with_retry(operations, max_in_flight=max_in_flight)
    for row, (_, gradients) in zip(rows, buckets):
        _scatter(row, gradients)
    return info


def _kind_of_gradient(name: str, p: torch.Tensor) -> torch.dtype:
    """The type of a parameter's gradient, whether it has one yet or not. Raises TypeError for one that cannot be averaged."""
    check_dense(p, name)
    kind: torch.dtype = (getattr(p, "grad_dtype", None) if p.is_leaf else None) or p.dtype
    if kind not in _REAL and kind not in _PAIRS:
        known = ", ".join(str(one) for one in (*_REAL, *_PAIRS))
        raise TypeError(f"the gradient of {name} is {kind}: gradients of type {known} can be averaged")
    if p.grad is not None:
        check_dense(p.grad, f"the gradient of {name}")
        check_writable(p.grad, f"the gradient of {name}")
        if p.grad.dtype != kind:
            raise TypeError(f"the gradient of {name} is {p.grad.dtype}, where {kind} is expected: set p.grad = p.grad.to({kind})")
    return kind


def _buckets(gradients: Iterable[tuple[torch.dtype, torch.Tensor]], room: int) -> list[Bucket]:
    """Gradients in buckets of one type and at most `room` bytes (or one gradient), numbered by their first gradient."""
    buckets: list[Bucket] = []
    filling: dict[torch.dtype, tuple[list[torch.Tensor], int]] = {}
    for kind, gradient in gradients:
        bucket, size = filling.get(kind, ([], 0))
        more = kind.itemsize * gradient.numel()
        if not bucket or size + more > room:
            bucket, size = [], 0
            buckets.append((kind, bucket))
        bucket.append(gradient)
        filling[kind] = bucket, size + more
    return buckets
