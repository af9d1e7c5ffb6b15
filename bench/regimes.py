"""The regimes in the order of their measurement. Each has a name that selects it, and bars that state the targets."""

from dataclasses import dataclass
from typing import Callable

import loopback
import wide_area


@dataclass(frozen=True)
class Regime:
    name: str
    title: str
    words: str  # what the table shows
    measure: Callable  # receives a Context, returns (head of the table, rows)
    over_lab: bool = False


ALL = [
    Regime("latency", "Latency on one machine", "Median time of an all-reduce of 4 KiB.", loopback.latency),
    Regime("sizes", "Small and middle sizes on one machine",
           "Median times over loopback. `bare_ring` is the limit of TCP on this machine: a ring without membership, checksums, agreement or "
           "fault tolerance. Gloo works in place, and the others write to another buffer. Factors compare bandwidth: above 1, PCCL is faster.",
           loopback.sizes),
    Regime("large", "Large sizes on one machine", "These are the same measurements from 64 MiB up.", loopback.large),
    Regime("cpu", "Processor time on one machine",
           "User and system time of all ranks together, in seconds for each GB of a rank's buffer, in the same runs.", loopback.cpu),
    Regime("concurrent", "Concurrent operations", "Sixteen operations in flight are compared with one operation that is as large as all of them.", loopback.concurrent),
    Regime("halves", "Reduce-scatter and all-gather",
           "64 MiB of float32. The table has each operation alone, both in sequence as in a sharded outer step, and the all-reduce, which moves "
           "as many bytes.",
           loopback.halves),
    Regime("quantized", "Quantization on one machine", "256 MiB of float32, unquantized and with 8 bits on the wire.", loopback.quantized),
    Regime("memory", "Memory", "The peak memory of the rank that used most, without its send and receive buffers and without the memory that its "
           "program had before it called the library.", loopback.memory),
    Regime("wan", "Bandwidth over a wide area", "`tests/netlab/netlab` connects the hosts, and the connections are warmed up. The bus bandwidth "
           "is the rate of each link.", wide_area.wan, True),
    Regime("wan-fast", "Bandwidth over a fast, long path", "The hosts are connected and warmed up in the same way.", wide_area.wan_fast, True),
    Regime("wan-latency", "Latency over a wide area", "Median time of an all-reduce of 4 KiB on the same hosts.", wide_area.wan_latency, True),
    Regime("slow-lane", "A slow connection", "Two hosts have a path of 50 ms and 1 Gbit/s with 16 connections. One connection is limited to a tenth of its "
           "equal share.", wide_area.slow_lane, True),
]


def named(names):
    """The regimes with these names, in the usual order. Raises ValueError for an unknown name."""
    if unknown := set(names) - {regime.name for regime in ALL}:
        raise ValueError(f"unknown regimes: {', '.join(sorted(unknown))}; choose from {', '.join(regime.name for regime in ALL)}")
    return [regime for regime in ALL if regime.name in names]
