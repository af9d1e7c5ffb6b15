"""The exceptions of the package."""

from __future__ import annotations

from ._enums import Result
from ._tensor_errors import MissingModuleError, PCCLTensorError, PCCLTensorTypeError

__all__ = ["MissingModuleError", "PCCLError", "PCCLTensorError", "PCCLTensorTypeError", "PCCLTimeoutError"]


class PCCLError(Exception):
    """A call of the library failed.

    `result` says how, as a `Result`; `func_name` is the C function that failed; `message` is the library's description: what failed,
    because of which peer, and what to do next.
    """

    def __init__(self, result: Result | int, func_name: str, message: str = "") -> None:
        self.result = Result(result)
        self.func_name = func_name
        self.message = message
        super().__init__(self.result, func_name, message)  # so that it can be pickled

    def __str__(self) -> str:
        return f"{self.func_name}: {self.message or 'failed'} [{self.result.name}]"

    @staticmethod
    def check(result: int, func_name: str) -> None:
        """Raises PCCLError unless `result` is `Result.SUCCESS`."""
        if result != Result.SUCCESS:
            raise PCCLError(result, func_name)


class PCCLTimeoutError(PCCLError, TimeoutError):
    """The `timeout` of a call was over. The call was given up as by `Communicator.abort` (but `PostHandle.wait`, which may be called again)."""
