"""The exceptions that need nothing else of the package: a tensor that does not fit, and a library of tensors that is not installed."""

from __future__ import annotations


class PCCLTensorError(ValueError, AssertionError):
    """A tensor does not fit: it is not contiguous, not in host memory, not writable, or has another number of elements than its partner.

    Version 1 raised ValueError for some of these faults and AssertionError for others. Programs may catch either.
    """


class PCCLTensorTypeError(PCCLTensorError, TypeError):
    """A tensor has elements of a type that cannot be used here, or the object is not a tensor. Programs may also catch TypeError."""


class MissingModuleError(ImportError, RuntimeError):
    """PyTorch or NumPy is used through this package (`pccl.torch`, `pccl.np`) and is not installed."""
