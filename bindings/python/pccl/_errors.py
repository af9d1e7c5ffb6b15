"""What failures are raised as."""

from __future__ import annotations

from ._enums import Result


class PCCLError(Exception):
    """A call of the library failed.

    `result` says how, as a `Result`; `func_name` is the C function that failed; `message` has the library's words: what failed,
    because of which peer, and what to do next.
    """

    def __init__(self, result: Result | int, func_name: str, message: str = "") -> None:
        self.result = Result(result)
        self.func_name = func_name
        self.message = message
        super().__init__(self.result, func_name, message)  # so that it can be pickled

    def __str__(self) -> str:
        return f"{self.func_name}: {self.message or 'failed'} [{self.result.name}]"


class PCCLTimeoutError(PCCLError, TimeoutError):
    """The `timeout` of a call was over. The call was given up as by `Communicator.abort` (but `PostHandle.wait`, which may be called again)."""
