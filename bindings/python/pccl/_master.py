"""A master inside this process."""

from __future__ import annotations

import os
import time
from types import TracebackType

from . import _pccl
from ._arguments import OfThisProcess, path, seconds, text

_POLL = 0.02


class MasterNode(OfThisProcess):
    """The master of a run, which keeps its membership; tensors never pass through it. It ends when its last reference is dropped.

    `listen_address` is "ip:port", "[ipv6%interface]:port" or "host:port"; port 0 is any free one (see `port`). With a `journal`, a file, another process can take the
    run on if this one ends; without one the run ends with it. The times, in seconds, are: how long a peer may be silent (10); after how
    long callers that can never meet are failed (10); how long a restarted master waits for its members (10); after how long a straggler
    is named in the log (10), and removed (0: never).
    """

    def __init__(
        self,
        listen_address: str = "0.0.0.0:48148",
        *,
        journal: str | os.PathLike[str] | None = None,
        heartbeat_timeout: float | None = None,
        misuse_grace: float | None = None,
        recovery_window: float | None = None,
        straggler_after: float | None = None,
        remove_stragglers_after: float | None = None,
    ) -> None:
        self.listen_address = text(listen_address, "listen_address")
        self._master = _pccl.Master(
            listen_address, None if journal is None else path(journal, "journal"), seconds(heartbeat_timeout, "heartbeat_timeout"),
            seconds(misuse_grace, "misuse_grace"), seconds(recovery_window, "recovery_window"), seconds(straggler_after, "straggler_after"),
            seconds(remove_stragglers_after, "remove_stragglers_after"),
        )

    def run(self) -> None:
        """Starts serving and returns. Raises PCCLError: INVALID_USAGE if it has been started before."""
        self._master.run()

    def interrupt(self) -> None:
        """Asks it to end, and returns; peers see their connection close. Raises PCCLError: INVALID_USAGE if it was never started."""
        self._master.interrupt()

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until it has ended, by `interrupt` from another thread or a signal handler, or for `timeout` seconds: has it ended?"""
        allowed = seconds(timeout)
        limit = None if allowed is None else time.monotonic() + allowed
        while not self._master.ended:
            if limit is not None and time.monotonic() >= limit:
                return False
            time.sleep(_POLL)
        return True

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._master.port

    def close(self) -> None:
        """Ends it, waits for that, and gives up its port."""
        self._master.close()

    def __enter__(self) -> MasterNode:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"MasterNode({self.listen_address!r}{', ended' if self._master.ended else ''})"
