"""The master as a program: `python -m pccl.master --listen-address 0.0.0.0:48148`, or `pccl_master`.

It takes the options of `pccl-master` that concern one run, and ends in the same way: status 0 after SIGINT or SIGTERM, 1 if it cannot
serve, 64 for a mistake in the command line.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from . import MasterNode, PCCLError, __version__

_EXIT_FAILURE, _EXIT_USAGE = 1, 64
_LEVELS = ("DEBUG", "INFO", "WARN", "ERROR", "FATAL", "OFF")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(_EXIT_USAGE, f"{self.prog}: {message}\n")


def _duration(text: str) -> float:
    parts = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m)", text)
    if parts is None or float(parts[1]) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration: write 500ms, 10s or 2m")
    return float(parts[1]) * _UNITS[parts[2]]


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="pccl_master",
        description="Keeps the membership of one run of PCCL peers. Their data never passes through it.",
        epilog="When it serves it prints one line: pccl-master: listening on HOST:PORT. It ends on SIGINT (Ctrl-C) or SIGTERM.",
    )
    parser.add_argument(
        "--listen-address", "--listen", metavar="ADDRESS", default="0.0.0.0:48148",
        help="IP:PORT, HOST:PORT or [IPv6]:PORT; port 0 takes any free port (default: %(default)s)",
    )
    parser.add_argument(
        "--journal", metavar="FILE", help="file from which a restarted master continues its run; new:FILE begins a new run (default: none)"
    )
    for name, meaning in (
        ("heartbeat-timeout", "remove a peer that is silent for longer (default: 10s)"),
        ("misuse-grace", "fail callers in calls that can never meet after this (default: 10s)"),
        ("recovery-window", "remove members that are not back this long after a restart (default: 10s)"),
        ("straggler-after", "name a peer in the log that keeps half of the others waiting for longer (default: 10s)"),
        ("remove-stragglers-after", "remove such a peer after this (default: never)"),
    ):
        parser.add_argument(f"--{name}", metavar="DURATION", type=_duration, help=meaning)
    parser.add_argument(
        "--log-level", metavar="LEVEL", type=str.upper, choices=_LEVELS, default=os.environ.get("PCCL_LOG_LEVEL") or "INFO",
        help="least level that is logged: DEBUG, INFO, WARN, ERROR, FATAL or OFF (default: PCCL_LOG_LEVEL, else INFO)",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves until SIGINT or SIGTERM. Returns the exit status."""
    options = _parser().parse_args(arguments)
    os.environ["PCCL_LOG_LEVEL"] = options.log_level
    try:
        node = MasterNode(
            options.listen_address,
            journal=options.journal,
            heartbeat_timeout=options.heartbeat_timeout,
            misuse_grace=options.misuse_grace,
            recovery_window=options.recovery_window,
            straggler_after=options.straggler_after,
            remove_stragglers_after=options.remove_stragglers_after,
        )
        with node:
            node.run()
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: node.interrupt())
            host = options.listen_address.rpartition(":")[0] or "0.0.0.0"
            print(f"pccl-master: listening on {host}:{node.port}", flush=True)
            node.wait()
    except (PCCLError, ValueError) as error:
        print(f"pccl_master: {error}", file=sys.stderr)
        return _EXIT_FAILURE
    return 0


if __name__ == "__main__":
    sys.exit(main())
