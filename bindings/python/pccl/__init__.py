"""PCCL: fault-tolerant collective communication.

Peers join and leave a run at any time and combine their tensors directly with one another; a master keeps the membership. A call that
fails says what to do next, and leaves what it read as it was.

    import pccl, torch

    communicator = pccl.Communicator("master.example:48148")
    communicator.connect()
    ...
    communicator.all_reduce(gradient, gradient, op=pccl.ReduceOp.AVG)

Works with PyTorch, NumPy, anything with the buffer protocol or DLPack, and without any of them. Importing it initializes the library.
PCCL_LOG_LEVEL = DEBUG, INFO, WARN (default), ERROR, FATAL or OFF says what goes to standard error.
"""

from __future__ import annotations

from . import _pccl, cuda
from ._communicator import AsyncReduceHandle, Communicator
from ._descriptors import (
    QuantizationOptions,
    ReduceDescriptor,
    ReduceInfo,
    ReduceOpDescriptor,
    ReduceOperandDescriptor,
    Shard,
    SharedState,
    SharedStateSyncInfo,
    TensorInfo,
)
from ._enums import (
    Attribute,
    Compression,
    DataType,
    DeviceType,
    DistributionHint,
    Fault,
    GraphKind,
    QuantizationAlgorithm,
    QuantizationScale,
    ReduceAlgorithm,
    ReduceOp,
    Result,
    SharedStateSyncStrategy,
)
from ._errors import PCCLError, PCCLTimeoutError
from ._exchange import Message, PostHandle
from ._master import MasterNode

_version = _pccl.version()
__version__ = f"{_version // 10000}.{_version // 100 % 100}.{_version % 100}"

__all__ = [
    "AsyncReduceHandle", "Attribute", "Communicator", "Compression", "DataType", "DeviceType", "DistributionHint", "Fault", "GraphKind",
    "MasterNode", "Message", "PCCLError", "PCCLTimeoutError", "PostHandle", "QuantizationAlgorithm", "QuantizationOptions", "QuantizationScale",
    "ReduceAlgorithm", "ReduceDescriptor", "ReduceInfo", "ReduceOp", "ReduceOpDescriptor", "ReduceOperandDescriptor", "Result", "Shard",
    "SharedState", "SharedStateSyncInfo", "SharedStateSyncStrategy", "TensorInfo", "cuda",
]
