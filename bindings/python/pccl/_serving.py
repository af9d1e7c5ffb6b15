"""Masters that run until somebody interrupts them, and the wait for them at the end of the program.

Guarantee: a master that was started and never interrupted serves until SIGINT or SIGTERM ends the process, even if the program's last
statement has run and no reference to the master is left. Version 1's master scripts rely on that. Main thread, at exit, except where
noted.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

from . import _pccl
from ._errors import PCCLError

if TYPE_CHECKING:
    from types import FrameType

_POLL = 0.05

_running: dict[_pccl.Master, tuple[str, int]] = {}
"""Masters that were started and not interrupted; each with its address and its process. Any thread."""


def keep(master: _pccl.Master, address: str) -> None:
    """Keeps a master that has just been started until `release`. Any thread."""
    _running[master] = f"{address.rpartition(':')[0] or '0.0.0.0'}:{master.port}", os.getpid()
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        # Workers of multiprocessing end without atexit. Joining their own children has a higher priority than this.
        from multiprocessing import util

        util.Finalize(None, _wait_in_worker, exitpriority=-1000)


def release(master: _pccl.Master) -> None:
    """Forgets a master that was interrupted or closed. Any thread, and signal handlers."""
    _running.pop(master, None)


def _mine() -> list[_pccl.Master]:
    """Those of this process: a fork inherits the list, but not the masters."""
    return [master for master, (_, process) in list(_running.items()) if process == os.getpid() and not master.ended]


def _interrupt(number: int = 0, frame: FrameType | None = None) -> None:
    for master in _mine():
        release(master)
        with contextlib.suppress(PCCLError):
            master.interrupt()


def _wait_at_exit() -> None:
    if hasattr(sys, "ps1") or sys.flags.interactive:
        return  # the user has left the prompt, so the process ends
    if getattr(sys, "last_type", None) is not None:
        return  # the interpreter has printed an uncaught exception
    _serve()


def _wait_in_worker() -> None:
    error = sys.exc_info()[1]
    if error is None or isinstance(error, SystemExit):
        _serve()


def _serve() -> None:
    """Waits until every master has been interrupted. SIGINT and SIGTERM do so unless the program handles or ignores them."""
    waiting = _mine()
    if not waiting:
        return
    before: dict[signal.Signals, Any] = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                with contextlib.suppress(ValueError):  # an embedded interpreter may end on another thread than the main one
                    before[number] = signal.signal(number, _interrupt)
        addresses = " and ".join(_running[master][0] for master in waiting if master in _running)
        _tell(f"the program has ended; its master on {addresses} serves until SIGINT or SIGTERM")
        while _mine():
            time.sleep(_POLL)
    except (KeyboardInterrupt, SystemExit):  # raised by a handler of the program
        _interrupt()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tell(text: str) -> None:
    """One line on standard error, at level WARN: a process that does not end without a word is hard to explain."""
    if os.environ.get("PCCL_LOG_LEVEL", "").upper() not in ("ERROR", "FATAL", "OFF"):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # standard error may be closed
            sys.stderr.write(f"pccl: {text}\n")
            sys.stderr.flush()


# At import, so that handlers that the program registers run before this one: they may interrupt the master.
atexit.register(_wait_at_exit)
