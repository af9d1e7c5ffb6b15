"""Compression over a slow path is switched on if it saves time, and operations become faster. Two pairs of peers take turns on separate paths,
one pair with compression and one without.

    compression_test.py [CASE ...] [--rate-mbit 100] [--delay-ms 10] [--rounds 8]     prints times and ratios

Exit status 77: a lab is not permitted on this machine.
"""

import argparse
import pathlib
import statistics
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import lab as netlab  # noqa: E402
from cases import expect, run_cases  # noqa: E402
from trainers import Run  # noqa: E402

MIB = 1 << 20
AUTO, OFF = 0, 1
LIMIT_S = 110


def pairs(lab):
    """Two runs with separate masters: one with the peers on hosts 1 and 2, and one with the peers on hosts 4 and 5."""
    return Run(lab, count=2, compression=AUTO), Run(lab, count=2, first=3, compression=OFF)


def network(args):
    return netlab.Lab(6, delay=f"{args.delay_ms}ms", rate=f"{args.rate_mbit}mbit")


def reduce_once(run, **arguments):
    """The time of the slower peer in seconds, and its answer."""
    calls = [peer.start("reduce", rank=i, ranks=2, **arguments) for i, peer in enumerate(run.peers)]
    answers = [peer.finish(call, LIMIT_S) for peer, call in zip(run.peers, calls)]
    expect(all(answer["code"] == 0 and answer["wrong"] == 0 for answer in answers), f"{answers}")
    expect(answers[0]["hash"] == answers[1]["hash"], "the results have different bits")
    return max(answer["seconds"] for answer in answers), answers[0]


def take_turns(args, **arguments):
    with network(args) as lab:
        packed, plain = pairs(lab)
        for _ in range(2):  # the peers measure the path
            reduce_once(packed, **arguments)
            reduce_once(plain, **arguments)
        times, saved = ([], []), []
        for _ in range(args.rounds):
            seconds, answer = reduce_once(packed, **arguments)
            times[0].append(seconds)
            saved.append(answer["saved"] / (answer["saved"] + answer["tx"]))
            seconds, other = reduce_once(plain, **arguments)
            times[1].append(seconds)
            expect(other["saved"] == 0, "bytes were compressed although compression is off")
            expect(other["hash"] == answer["hash"], "the result with compression has different bits")
    auto, off = map(statistics.median, times)
    print(f"  {off:.3f} s without, {auto:.3f} s with: {off / auto:.3f} times as fast; {100 * statistics.median(saved):.1f} % of the bytes saved")
    return statistics.median(saved)


def quantized(args):
    """Averages of data distributed like pseudo-gradients, in 4 and in 8 bits."""
    for quant, least in (("minmax:u8", 0.05), ("blockscale:i4", 0.15)):
        print(f"{quant}, {args.elements} elements")
        saved = take_turns(args, count=args.elements, quant=quant, op="avg", pattern="heavy:0.001,1", algorithm="ring")
        expect(saved >= least, f"only {100 * saved:.1f} % saved")


def plain_floats(args):
    for kind, least in (("float", 0.12), ("bfloat16", 0.12)):
        print(f"{kind}, {args.elements} elements")
        saved = take_turns(args, count=args.elements, type=kind, op="avg", pattern="normal:0,0.02", algorithm="ring")
        expect(saved >= least, f"only {100 * saved:.1f} % saved")


def incompressible(args):
    """Data that cannot be compressed are sent plain, with negligible additional time."""
    print(f"noise, {args.elements} elements")
    saved = take_turns(args, count=args.elements, type="uint8", pattern="uniform:0,255.99", algorithm="ring")
    expect(saved < 0.01, f"{100 * saved:.1f} % of noise saved")


def shared_state(args):
    """A peer that is behind pulls floats distributed like trained weights."""
    tensor = {"name": "w", "type": "float", "count": args.elements * 2, "pattern": "normal:0,0.02"}
    with network(args) as lab:
        times, bytes_on_wire, hashes = ([], []), ([], []), set()
        runs = pairs(lab)
        for revision in range(3):
            for which, run in enumerate(runs):
                source, newcomer = run.peers
                for peer, seed in ((source, 1), (newcomer, 2)):
                    peer.call("define", LIMIT_S, revision=revision, tensors=[{**tensor, "seed": seed + 10 * revision}])
                before, begin = lab.counters(source.host, newcomer.host)["bytes"], time.monotonic()
                calls = [(source, source.start("sync", strategy="send")), (newcomer, newcomer.start("sync", strategy="receive"))]
                answers = [peer.finish(call, LIMIT_S) for peer, call in calls]
                expect(all(answer["code"] == 0 for answer in answers), f"{answers}")
                expect(answers[0]["hashes"] == answers[1]["hashes"], "the peers hold different content")
                times[which].append(time.monotonic() - begin)
                bytes_on_wire[which].append(lab.counters(source.host, newcomer.host)["bytes"] - before)
                hashes.add((revision, str(answers[0]["hashes"])))
        expect(len(hashes) == 3, "compression changed the content")
    auto, off = (statistics.median(each[1:]) for each in times)
    less = 1 - statistics.median(bytes_on_wire[0][1:]) / statistics.median(bytes_on_wire[1][1:])
    print(f"shared state of {8 * args.elements / MIB:.0f} MiB: {off:.2f} s without, {auto:.2f} s with: {off / auto:.3f} times as fast; "
          f"{100 * less:.1f} % fewer bytes on the wire")
    expect(less >= 0.12, "the transfer was not compressed")


CASES = {case.__name__: case for case in (quantized, plain_floats, incompressible, shared_state)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--rate-mbit", type=float, default=100)
    parser.add_argument("--delay-ms", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--elements", type=int, default=4 * MIB)
    args = parser.parse_args()
    run_cases(CASES, args.cases, lambda _, case: case(args))


if __name__ == "__main__":
    main()
