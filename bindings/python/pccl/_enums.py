"""All enumerations of the package. tests/test_api.py compares their names and values with the C headers, in both directions."""

from __future__ import annotations

import enum
import sys
from typing import TYPE_CHECKING, Any

from ._tensor_errors import PCCLTensorTypeError

if TYPE_CHECKING:
    import numpy as np
    import torch


class _Enum(enum.IntEnum):
    def __str__(self) -> str:
        return f"{type(self).__name__}.{self.name}"

    __format__ = enum.Enum.__format__


class Result(_Enum):
    """How a call ended. Every failure is raised as a `PCCLError` that has one of these as its `result`."""

    SUCCESS = 0
    NOT_INITIALIZED = 1
    INTERNAL_ERROR = 2
    INVALID_ARGUMENT = 3
    INVALID_USAGE = 4
    TOO_FEW_PEERS = 5
    MASTER_CONNECTION_FAILED = 6
    RANK_CONNECTION_FAILED = 7
    RANK_CONNECTION_LOST = 8
    NO_SHARED_STATE_AVAILABLE = 9
    PENDING_ASYNC_OPS = 10
    UPDATE_TOPOLOGY_FAILED = 11
    TOPOLOGY_OPTIMIZATION_FAILED = 12
    TIMEOUT = 13


class ReduceOp(_Enum):
    """How the peers' elements are combined. `AVG` divides by the number of peers that took part."""

    SUM = 0
    AVG = 1
    PROD = 2
    MAX = 3
    MIN = 4


class Attribute(_Enum):
    """What `Communicator.get_attribute` can be asked for."""

    GLOBAL_WORLD_SIZE = 1
    """Peers in the run, over all peer groups."""
    LOCAL_WORLD_SIZE = 2
    """Peers in this peer's group."""
    NUM_DISTINCT_PEER_GROUPS = 3
    """Groups with at least one peer."""
    LARGEST_PEER_GROUP_WORLD_SIZE = 4
    """Peers in the largest group."""


class SharedStateSyncStrategy(_Enum):
    """How a peer takes part in one synchronization of shared state."""

    ENFORCE_POPULAR = 0
    """The most common content at the expected revision wins."""
    RECEIVE_ONLY = 1
    """This peer's content never wins; it sends nothing."""
    SEND_ONLY = 2
    """This peer's content must win and is never overwritten."""


class DeviceType(_Enum):
    """Where a tensor lives."""

    CPU = 0
    CUDA = 1

    @classmethod
    def from_torch_device_type(cls, device_type: str) -> DeviceType | None:
        """The member for the `type` of a PyTorch device ("cpu", "cuda"); None for any other device, as in version 1."""
        return {"cpu": cls.CPU, "cuda": cls.CUDA}.get(device_type)


class DistributionHint(_Enum):
    """How the data is distributed. Accepted for compatibility: the quantizers measure each block instead."""

    NONE = 0
    NORMAL = 1
    UNIFORM = 2


class QuantizationAlgorithm(_Enum):
    """How values are packed on the wire. docs/training/quantization.md says which to take."""

    NONE = 0
    MIN_MAX = 1
    ZERO_POINT_SCALE = 2
    BLOCK_SCALE = 3
    """To INT8, INT4, UINT4 or UINT2: the largest magnitude of a small block has the largest code, and zeros stay zeros."""


class QuantizationScale(_Enum):
    """What `QuantizationAlgorithm.BLOCK_SCALE` multiplies a block's integers with."""

    FLOAT = 0
    """A float: the smallest error."""
    POWER_OF_TWO = 1
    """A power of two: one byte per block, two with UINT4 and UINT2."""


class ReduceAlgorithm(_Enum):
    """The message pattern of an all-reduce. If it cannot be used, every peer replaces it by the same other one."""

    AUTO = 0
    """The library chooses."""
    RING = 1
    DIRECT = 2
    ONE_HOP = 3


class LossPolicy(_Enum):
    """The reaction of an all-reduce to the loss of a peer before its end."""

    RETRY = 0
    """It fails at every survivor, which may call it again."""
    REPAIR = 1
    """For averages: the survivors complete it. Each element is a true average of the peers that took part in it."""


class Compression(_Enum):
    """Whether bulk data is compressed, without loss, on its way to other peers."""

    AUTO = 0
    """Where the path to a peer is measured to be slower than the codec, and the data shrink."""
    OFF = 1
    ON = 2


class GraphKind(_Enum):
    """The kind of a neighbour graph (`Communicator.set_neighbour_graph`)."""

    NONE = 0
    RING = 1
    """In the order of joining."""
    RANDOM_REGULAR = 2
    """Everyone has `degree` neighbours, any two members being as likely as any other two."""
    EXPONENTIAL = 3
    """Directed: the members 1, 2, 4, 8 ... places further on in the order of joining. Source: Assran et al. 2019, Stochastic Gradient Push."""
    BARABASI_ALBERT = 4
    """A few hubs, and many with `degree` neighbours. Source: Barabasi and Albert 1999."""


class Method(_Enum):
    """The training methods (pcclMethod_t). Each has a class in pccl.torch."""

    LOCAL = 0
    DILOCO = 1
    ASYNC_DILOCO = 2
    EAGER_DILOCO = 3
    STREAMING_DILOCO = 4
    CO2 = 5
    GOSSIP = 6
    PUSH_SUM = 7


class OuterOptimizer(_Enum):
    """The step of the outer optimizer. docs/training/methods.md has the formulas."""

    __module__ = "pccl.torch"

    SGD = 0
    HEAVY_BALL = 1
    NESTEROV = 2


class Newcomers(_Enum):
    """How a newcomer joins while an average is in flight."""

    __module__ = "pccl.torch"

    DRAIN = 0
    SHARE_PENDING = 1
    RESYNC = 2


class Fragments(_Enum):
    """How StreamingDiLoCo divides the model into fragments."""

    __module__ = "pccl.torch"

    STRIDED = 0
    SEQUENTIAL = 1
    EVEN = 2


class Penalty(_Enum):
    """The divisor that CO2 applies to a stale average."""

    __module__ = "pccl.torch"

    NONE = 0
    CONSTANT = 1
    GAP_AWARE = 2


class Graph(_Enum):
    """The graph of neighbours in Gossip and PushSum."""

    __module__ = "pccl.torch"

    RING = 1
    RANDOM_REGULAR = 2
    EXPONENTIAL = 3
    BARABASI_ALBERT = 4


class Partners(_Enum):
    """The neighbours to which a peer sends its model in a round: all, one at random, or each in turn."""

    __module__ = "pccl.torch"

    ALL = 0
    ONE = 1
    NEXT = 2


class Merge(_Enum):
    """When received models are mixed in: at the end of each round, once as many have arrived as were sent, or after waiting for these."""

    __module__ = "pccl.torch"

    AVAILABLE = 0
    AFTER_ALL = 1
    SYNCHRONOUS = 2


class NonFinite(_Enum):
    """The treatment of a contribution with an infinity or a NaN: the round excludes it, or fails at all peers."""

    __module__ = "pccl.torch"

    LEAVE_OUT = 0
    FAIL = 1


class Variance(_Enum):
    """The variance that each tensor gets after models were mixed."""

    __module__ = "pccl.torch"

    OF_RECEIVED = 0
    OF_OWN = 1
    WEIGHTED = 2
    NONE = 3


class DataType(_Enum):
    """Element types. `FLOAT` has 32 bits, `DOUBLE` 64; 16-bit floats accumulate in 32 bits."""

    UINT8 = 0
    INT8 = 1
    INT16 = 2
    UINT16 = 3
    UINT32 = 4
    INT32 = 5
    UINT64 = 6
    INT64 = 7
    FLOAT16 = 8
    BFLOAT16 = 9
    FLOAT = 10
    DOUBLE = 11
    INT4 = 12
    """Signed, two in a byte: only as the `quantized_datatype` of `QuantizationOptions`."""
    UINT4 = 13
    """Two in a byte: only as the `quantized_datatype` of `QuantizationOptions`."""
    UINT2 = 14
    """Four in a byte: only as the `quantized_datatype` of `QuantizationOptions`."""

    @property
    def itemsize(self) -> int:
        """Bytes per element. Raises ValueError for INT4, UINT4 and UINT2, whose elements share bytes."""
        if self not in _ITEMSIZES:
            raise ValueError(f"{self.name} has no itemsize: several elements share a byte. Use it only as a quantized_datatype")
        return _ITEMSIZES[self]

    def to_torch_dtype(self) -> torch.dtype:
        """The PyTorch dtype of these elements. Imports torch. Raises PCCLTensorTypeError where it has none (INT4, UINT4, UINT2)."""
        import torch

        dtype = getattr(torch, _TORCH_NAMES.get(self, ""), None)
        if dtype is None:
            raise PCCLTensorTypeError(f"this PyTorch has no dtype for {self}")
        return dtype  # type: ignore[no-any-return]

    def to_numpy_dtype(self) -> np.dtype[Any]:
        """The NumPy dtype of these elements. Imports numpy, and ml_dtypes for BFLOAT16.

        Raises PCCLTensorTypeError where there is none: INT4, UINT4, UINT2, and BFLOAT16 if ml_dtypes is not installed.
        """
        import numpy as np

        if self is DataType.BFLOAT16:
            try:
                import ml_dtypes
            except ImportError:
                raise PCCLTensorTypeError("NumPy has no bfloat16 of its own: install ml_dtypes, or use PyTorch tensors") from None
            bfloat16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
            return bfloat16
        if self not in _NUMPY_NAMES:
            raise PCCLTensorTypeError(f"NumPy has no dtype for {self}")
        return np.dtype(_NUMPY_NAMES[self])

    @classmethod
    def from_torch_dtype(cls, dtype: torch.dtype) -> DataType:
        """The element type of a PyTorch dtype. Raises PCCLTensorTypeError for one that cannot be reduced (bool, complex, ...)."""
        found = _of_torch().get(dtype)
        if found is None:
            raise PCCLTensorTypeError(f"elements of type {dtype} are not supported: {', '.join(sorted(set(_TORCH_NAMES.values())))} are")
        return found

    @classmethod
    def from_numpy_dtype(cls, dtype: Any) -> DataType:
        """The element type of a NumPy dtype, or of what names one ("float32"). Raises PCCLTensorTypeError for others, and for bytes in foreign order."""
        import numpy as np

        if dtype is None:  # which NumPy takes for float64
            raise TypeError("dtype is None: give a dtype, or its name")
        dtype = np.dtype(dtype)
        found = _OF_NUMPY.get(dtype.name)
        if found is None:
            raise PCCLTensorTypeError(f"elements of type {dtype} are not supported: {', '.join(sorted(_OF_NUMPY))} are")
        if not dtype.isnative:
            raise PCCLTensorTypeError(f"elements of type {dtype} are in the other byte order: convert them with .astype({dtype.name!r})")
        return found


_ITEMSIZES = {
    DataType.UINT8: 1, DataType.INT8: 1, DataType.INT16: 2, DataType.UINT16: 2, DataType.UINT32: 4, DataType.INT32: 4,
    DataType.UINT64: 8, DataType.INT64: 8, DataType.FLOAT16: 2, DataType.BFLOAT16: 2, DataType.FLOAT: 4, DataType.DOUBLE: 8,
}
_TORCH_NAMES = {
    DataType.UINT8: "uint8", DataType.INT8: "int8", DataType.INT16: "int16", DataType.UINT16: "uint16", DataType.UINT32: "uint32",
    DataType.INT32: "int32", DataType.UINT64: "uint64", DataType.INT64: "int64", DataType.FLOAT16: "float16",
    DataType.BFLOAT16: "bfloat16", DataType.FLOAT: "float32", DataType.DOUBLE: "float64",
}
_NUMPY_NAMES = {kind: name for kind, name in _TORCH_NAMES.items() if kind is not DataType.BFLOAT16}
_OF_NUMPY = {name: kind for kind, name in _TORCH_NAMES.items()}  # ml_dtypes names its type bfloat16, too
_torch_types: dict[Any, DataType] = {}


def _of_torch() -> dict[Any, DataType]:
    """Filled in once torch is imported: looking up is all that a call costs."""
    if not _torch_types and (torch := sys.modules.get("torch")) is not None:
        _torch_types.update({getattr(torch, name): kind for kind, name in _TORCH_NAMES.items() if hasattr(torch, name)})
    return _torch_types
