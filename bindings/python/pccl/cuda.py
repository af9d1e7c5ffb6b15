"""The CUDA support of this build."""

from __future__ import annotations

from . import _pccl


def is_available() -> bool:
    """Whether this build of the library takes tensors on CUDA devices."""
    return _pccl.has_cuda_support()
