"""Newcomers join while others train over a wide-area network. Measures the time by which an admission delays the members.

    newcomers_test.py [--members 8] [--newcomers 12] [--delay-ms 50]     prints the delay of each admission

Exit status 77: a lab is not permitted on this machine.
"""

import argparse
import os
import pathlib
import statistics
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import lab as netlab  # noqa: E402
from cases import need_lab  # noqa: E402
from trainers import Run  # noqa: E402

EVERY_S = 1.0
ROUND_TRIPS = 2
COUNT = 16384  # elements of 8 bytes, 128 KiB in each step


def train(peer, slot):
    return peer.start("loop", slot=slot, count=COUNT, thread=1)


def measure(members, newcomers, delay_ms):
    """For each admission, the milliseconds that each member spent in pcclUpdateTopology."""
    with netlab.Lab(1 + members + newcomers, delay=f"{delay_ms}ms", rate="1gbit") as lab:
        run = Run(lab, count=members)
        loops = [(peer, train(peer, slot)) for slot, peer in enumerate(run.peers)]
        waiting = []
        begin = time.monotonic()
        for i in range(newcomers):
            time.sleep(max(0.0, begin + (i + 1) * EVERY_S - time.monotonic()))
            peer = run.spawn(members + 1 + i)
            waiting.append((peer, peer.start("connect", thread=1), train(peer, members + i)))
        for peer, connect, loop in waiting:
            answer = peer.finish(connect)
            if answer["code"] != 0:
                raise AssertionError(f"connect: {answer}")
            loops.append((peer, loop))
        time.sleep(2)
        run.peers[0].call("stop_loop")
        answers = [peer.finish(loop) for peer, loop in loops]
        for answer in answers:
            if answer["code"] != 0 or answer["lost"] != 0:
                raise AssertionError(f"a step failed: {answer}\n" + run.log.text())
        print(f"{answers[0]['good']} steps; the log of the master:\n" + run.log.text() if os.environ.get("VERBOSE") else
              f"{answers[0]['good']} steps")
        return [answer["updates_ms"] for answer in answers[:members]]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=8)
    parser.add_argument("--newcomers", type=int, default=12)
    parser.add_argument("--delay-ms", type=float, default=50)
    args = parser.parse_args()
    need_lab()
    times = measure(args.members, args.newcomers, args.delay_ms)
    worst = [max(each) for each in zip(*times)]
    limit = ROUND_TRIPS * 2 * args.delay_ms
    print(f"{len(worst)} admissions of {args.newcomers} newcomers to {args.members} members; the slowest member's wait in each, ms: " +
          " ".join(f"{ms:.0f}" for ms in worst))
    print(f"median {statistics.median(worst):.0f} ms, worst {max(worst):.0f} ms; the limit is {limit:.0f} ms")
    if max(worst) > limit:
        sys.exit("an admission delayed the members for longer than the limit")


if __name__ == "__main__":
    main()
