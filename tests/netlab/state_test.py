"""Shared state over a wide-area network. Measures the rate at which a newcomer receives it, and the cost of a source that dies or stops
meanwhile.

    state_test.py [CASE ...] [--mib 1024] [--rate-mbit 1000] [--delay-ms 5]     prints seconds and rates

The rate of each source's path to the newcomer is limited, and the newcomer's downlink is not. Exit status 77: a lab is not
permitted on this machine.
"""

import argparse
import os
import pathlib
import signal
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import lab as netlab  # noqa: E402
from cases import expect, run_cases  # noqa: E402
from trainers import Run  # noqa: E402

MIB = 1 << 20
CHUNKS_IN_FLIGHT = 256  # limit for one source
LIMIT_S = 110


def processor():
    """Seconds of processor time that the machine has used."""
    words = [int(word) for word in pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    return (sum(words) - words[3] - words[4]) / os.sysconf("SC_CLK_TCK")


def define(peers, args, seed):
    tensor = {"name": "w", "type": "uint8", "count": args.mib * MIB, "seed": seed}
    calls = [(peer, peer.start("define", revision=0, tensors=[tensor])) for peer in peers]
    for peer, number in calls:
        peer.finish(number, LIMIT_S)


class Pull:
    """Members with a state, and a newcomer that pulls it."""

    def __init__(self, lab, args, sources, *options):
        self.lab, self.args = lab, args
        self.run = Run(lab, *options)
        self.sources, self.newcomer = self.run.peers[:sources], self.run.peers[sources]
        define(self.sources, args, 1)
        define([self.newcomer], args, 2)
        self.calls = [(peer, peer.start("sync", strategy="send")) for peer in self.sources]
        self.call = self.newcomer.start("sync", strategy="receive")
        self.began = None

    def arrived(self):
        """Bytes, headers included, on all paths to the newcomer."""
        return sum(self.lab.counters(peer.host, self.newcomer.host)["bytes"] for peer in self.sources)

    def wait_for(self, fraction):
        while self.arrived() < max(fraction * self.args.mib * MIB, MIB):
            time.sleep(0.005)
        return time.monotonic()

    def finish(self, dead=()):
        """Rate in Mbit/s between the first and the last twentieth of the content."""
        begin, busy = self.wait_for(0.05), processor()
        end, idle = self.wait_for(0.95), 1 - (processor() - busy) / os.cpu_count() / max(1e-3, time.monotonic() - begin)
        answer = self.newcomer.finish(self.call, LIMIT_S)
        expect(answer["code"] == 0, f"{answer}\n" + self.run.log.text())
        others = [peer.finish(number, LIMIT_S) for peer, number in self.calls if peer not in dead]
        expect(all(other["hashes"] == answer["hashes"] for other in others), "the peers hold different content")
        expect(answer["rx"] == self.args.mib * MIB, f"{answer['rx']} bytes were received of {self.args.mib} MiB")
        wire = self.arrived() / (self.args.mib * MIB)
        print(f"meanwhile {100 * max(0.0, idle):.0f} % of the processor time was idle")
        return 0.9 * self.args.mib * MIB * 8 / (end - begin) / 1e6, wire


def network(args, sources, **settings):
    return netlab.Lab(sources + 2, **{"delay": f"{args.delay_ms}ms", "rate": f"{args.rate_mbit}mbit", **settings})


def one_source(args):
    with network(args, 1) as lab:
        rate, wire = Pull(lab, args, 1).finish()
        print(f"one source: {rate:.0f} Mbit/s; {wire:.3f} bytes on the wire for each of content")
        return rate


def three_sources(args):
    alone = one_source(args)
    with network(args, 3) as lab:
        rate, wire = Pull(lab, args, 3).finish()
    print(f"three sources: {rate:.0f} Mbit/s, {rate / alone:.2f} times one; {wire:.3f} bytes on the wire for each of content")
    expect(rate >= 2.5 * alone, "three sources are not 2.5 times as fast as one")


def long_path(args):
    """With round trips of 100 ms, the pull must not wait for requests."""
    args.delay_ms = max(args.delay_ms, 50)
    rate = one_source(args)
    expect(rate >= 0.8 * args.rate_mbit, "the path is not used fully")


def source_lost(args, how, *options):
    with network(args, 3) as lab:
        pull = Pull(lab, args, 3, *options)
        pull.wait_for(0.3)
        begin = time.monotonic()
        pull.sources[0].process.send_signal(how)
        _, wire = pull.finish(dead=pull.sources[:1])
        took = time.monotonic() - begin
    print(f"a source was lost at 30 % of {args.mib} MiB: done {took:.2f} s later; {wire:.3f} bytes on the wire for each of content")
    expect(wire <= 1.1 + 2 * CHUNKS_IN_FLIGHT / args.mib, "content was pulled twice")
    return took


def source_dies(args):
    source_lost(args, signal.SIGKILL)


def source_stops(args):
    limit_s = 10
    took = source_lost(args, signal.SIGSTOP, "--heartbeat-timeout", f"{limit_s}s")
    rest_s = 0.7 * args.mib * MIB * 8 / (2 * args.rate_mbit * 1e6)
    expect(took <= rest_s + limit_s, "the stopped source delayed the pull for longer than the heartbeat timeout")


CASES = {case.__name__: case for case in (three_sources, long_path, source_dies, source_stops)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--rate-mbit", type=float, default=1000)
    parser.add_argument("--delay-ms", type=float, default=5)
    args = parser.parse_args()
    run_cases(CASES, args.cases, lambda _, case: case(argparse.Namespace(**vars(args))))


if __name__ == "__main__":
    main()
