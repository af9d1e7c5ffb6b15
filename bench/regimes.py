"""What is measured, in the order in which it is: every regime has a name to choose it by, and bars that say what is wanted."""

from dataclasses import dataclass
from typing import Callable

import loopback
import wide_area


@dataclass(frozen=True)
class Regime:
    name: str
    title: str
    words: str  # what the table shows
    measure: Callable  # of a Context; returns (head of the table, rows)
    over_lab: bool = False


ALL = [
    Regime("latency", "Latency on one machine", "Median time of an all-reduce of 4 KiB.", loopback.latency),
    Regime("sizes", "Small and middle sizes on one machine",
           "Median times over the loopback. `bare_ring` is what TCP allows here: a ring without membership, checksums, agreement or fault "
           "tolerance. Gloo works in place, the others from one buffer into another. Factors are of bandwidth: above 1, PCCL is faster.",
           loopback.sizes),
    Regime("large", "Large sizes on one machine", "The same, from 64 MiB up.", loopback.large),
    Regime("cpu", "Processor time on one machine",
           "Seconds of all ranks together, user and system, for each GB of a rank's buffer; of the same runs.", loopback.cpu),
    Regime("concurrent", "Concurrent operations", "Sixteen operations in flight against one as large as all of them.", loopback.concurrent),
    Regime("halves", "Reduce-scatter and all-gather",
           "64 MiB of float32; each alone, both one after the other as a sharded outer step has them, and the all-reduce, which moves as much.",
           loopback.halves),
    Regime("quantized", "Quantization on one machine", "256 MiB of float32, as they are and as 8 bits on the wire.", loopback.quantized),
    Regime("memory", "Memory", "The peak of the rank that needed most, beyond its send and receive buffers and beyond what its program had "
           "before it called the library.", loopback.memory),
    Regime("wan", "Bandwidth over a wide area", "Hosts joined by `tests/netlab/netlab`, connections warm; the bus bandwidth is what each "
           "link carries.", wide_area.wan, True),
    Regime("wan-fast", "Bandwidth over a fast, long path", "The same.", wide_area.wan_fast, True),
    Regime("wan-latency", "Latency over a wide area", "The same, 4 KiB.", wide_area.wan_latency, True),
    Regime("slow-lane", "A slow connection", "Two hosts, 50 ms, 1 Gbit/s, 16 connections, one of which is held to a tenth of its even "
           "share.", wide_area.slow_lane, True),
]


def named(names):
    """The regimes of these names, in the usual order. ValueError if there is none of a name."""
    if unknown := set(names) - {regime.name for regime in ALL}:
        raise ValueError(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(regime.name for regime in ALL)}")
    return [regime for regime in ALL if regime.name in names]
