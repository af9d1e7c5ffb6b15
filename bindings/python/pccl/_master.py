"""A master inside this process."""

from __future__ import annotations

import os
import time
from types import TracebackType

from . import _pccl, _serving
from ._arguments import OfThisProcess, flag, integer, path, seconds, text

_POLL = 0.02


class MasterNode(OfThisProcess):
    """The master of a run. It keeps the membership; tensors never pass through it.

    A master that was started serves until `interrupt`, `close` or the end of a `with` block. Dropping the last reference does not end it and
    does not block. A program that ends without an interrupt stays and serves until SIGINT or SIGTERM, then exits with its own status. It
    does not stay after an uncaught exception, after `os._exit`, or in an interactive session.

    Args:
        listen_address: "ip:port", "[ipv6%interface]:port" or "host:port". Port 0 takes any free port (see `port`).
        journal: A file from which another process continues the run if this one ends. None: the run ends with its master.
        heartbeat_timeout: Seconds after which a silent peer is removed. None: 10.
        misuse_grace: Seconds after which callers fail that can never meet. None: 10.
        recovery_window: Seconds for which a restarted master waits for its members. None: 10.
        straggler_after: Seconds after which a straggler is named in the log. None: 10.
        remove_stragglers_after: Seconds after which a straggler is removed. None: never.
        max_connections: Open connections, including those that are not authenticated yet. None: 8192.
        daemon: The master never keeps the process alive, and ends when its last reference is dropped.
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
        max_connections: int | None = None,
        daemon: bool = False,
    ) -> None:
        self.listen_address = text(listen_address, "listen_address")
        self.daemon = flag(daemon, "daemon")
        self._master = _pccl.Master(
            listen_address, None if journal is None else path(journal, "journal"), seconds(heartbeat_timeout, "heartbeat_timeout"),
            seconds(misuse_grace, "misuse_grace"), seconds(recovery_window, "recovery_window"), seconds(straggler_after, "straggler_after"),
            seconds(remove_stragglers_after, "remove_stragglers_after"),
            None if max_connections is None else integer(max_connections, "max_connections", 0, (1 << 32) - 1),
        )

    def run(self) -> None:
        """Starts serving and returns. Raises PCCLError: INVALID_USAGE if it has been started before."""
        self._master.run()
        if not self.daemon:
            _serving.keep(self._master, self.listen_address)

    def interrupt(self) -> None:
        """Asks the master to end, and returns. Peers see their connection close. Raises PCCLError: INVALID_USAGE if it was never started."""
        self._master.interrupt()
        _serving.release(self._master)

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until the master has ended, by `interrupt` from another thread or a signal handler. Returns False if `timeout` seconds pass first."""
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
        """Ends the master, waits until it has ended, and frees its port."""
        _serving.release(self._master)
        self._master.close()

    def __enter__(self) -> MasterNode:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"MasterNode({self.listen_address!r}{', ended' if self._master.ended else ''})"
