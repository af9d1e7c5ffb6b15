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

import os
from typing import TYPE_CHECKING, Any

from ._installed import refuse_version_1

# The extension module checks for this mark: version 1's own __init__.py has none, and would import the extension in place of its module.
_pccl_2 = True
refuse_version_1(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

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
    LossPolicy,
    GraphKind,
    QuantizationAlgorithm,
    QuantizationScale,
    ReduceAlgorithm,
    ReduceOp,
    Result,
    SharedStateSyncStrategy,
)
from ._errors import MissingModuleError, PCCLError, PCCLTensorError, PCCLTensorTypeError, PCCLTimeoutError
from ._exchange import Message, PostHandle
from ._master import MasterNode

if TYPE_CHECKING:
    from types import ModuleType

    from . import torch as torch

    np: ModuleType

_version = _pccl.version()
__version__ = f"{_version // 10000}.{_version // 100 % 100}.{_version % 100}"

__all__ = [
    "AsyncReduceHandle", "Attribute", "Communicator", "Compression", "DataType", "DeviceType", "DistributionHint", "LossPolicy", "GraphKind",
    "MasterNode", "Message", "MissingModuleError", "PCCLError", "PCCLTensorError", "PCCLTensorTypeError", "PCCLTimeoutError", "PostHandle", "QuantizationAlgorithm", "QuantizationOptions", "QuantizationScale",
    "ReduceAlgorithm", "ReduceDescriptor", "ReduceInfo", "ReduceOp", "ReduceOpDescriptor", "ReduceOperandDescriptor", "Result", "Shard",
    "SharedState", "SharedStateSyncInfo", "SharedStateSyncStrategy", "TensorInfo", "cuda",
]


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """`pccl.torch` and `pccl.np` are version 1's names for PyTorch and NumPy. Neither is imported before it is asked for."""
        import importlib

        if name == "torch":
            return importlib.import_module("pccl.torch")
        if name == "np":
            try:
                module: Any = importlib.import_module("numpy")
            except ModuleNotFoundError as error:
                if error.name != "numpy":
                    raise
                from ._missing import Missing

                module = Missing("numpy", "NumPy")
            globals()["np"] = module
            return module
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
