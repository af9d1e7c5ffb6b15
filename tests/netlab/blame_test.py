"""Causes faults of hosts and paths in the lab. The log and the calls must name the correct peer or path in time.

    blame_test.py [CASE ...] [--timeout SECONDS] [--runs N]     prints the time of each run, and the median

`--timeout` is the heartbeat timeout of the master; each fault must be found within it plus one second. Exit status 77: a lab is not
permitted on this machine.
"""

import argparse
import concurrent.futures
import pathlib
import random
import signal
import statistics
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import lab as netlab  # noqa: E402
from cases import expect, run_cases  # noqa: E402
from trainers import Run  # noqa: E402

OK, LOST = 0, 8
BULK = 1 << 22  # elements, more than the buffers of a connection hold


def says(answer, *words):
    for word in words:
        expect(word in answer["error"], f"'{word}' is not in: {answer['error']}")


def network(hosts, **settings):
    return netlab.Lab(hosts, **{"delay": "2ms", "rate": "400mbit", **settings})


def run_of(lab, limit_s, *options):
    return Run(lab, "--heartbeat-timeout", f"{limit_s}s", *options)


def reduce_all(peers, **arguments):
    """Starts the same reduce at each peer. Returns a function that waits for the answers."""
    calls = [peer.start("reduce", count=BULK, rank=i, ranks=len(peers), **arguments) for i, peer in enumerate(peers)]
    return lambda: [peer.finish(call) for peer, call in zip(peers, calls)]


def expect_reduce(peers):
    for answer in reduce_all(peers)():
        expect(answer["code"] == OK and answer["wrong"] == 0 and answer["peers"] == len(peers), f"afterwards: {answer}")


def within(took, limit_s, words):
    expect(took <= limit_s + 1, f"{words} after {took:.2f} s; the limit is {limit_s} s and a second")
    return took


def member_lost(limit_s, fault):
    """`fault(lab, run)` stops the last of four peers. The reduce of the other three ends, names it, and the next one succeeds."""
    with network(5) as lab:
        run = run_of(lab, limit_s)
        survivors = run.peers[:3]
        answers = reduce_all(survivors)
        time.sleep(0.3)
        begin = time.monotonic()
        fault(lab, run)
        at, line = run.log.wait_for("peer 4", "was removed: silent for")
        took = within(at - begin, limit_s, "removed")
        for answer in answers():
            expect(answer["code"] == LOST, f"{answer}")
            says(answer, f"peer 4 at {lab.addresses[4]}", "silent for")
            within(answer["at"] - begin, limit_s, "the survivors' reduce ended")
        expect_reduce(survivors)
        print(line)
        return took


def stopped(limit_s):
    return member_lost(limit_s, lambda lab, run: run.peers[3].process.send_signal(signal.SIGSTOP))


def vanished(limit_s):
    return member_lost(limit_s, lambda lab, run: lab.remove(4))


def path_to_master_dead(limit_s):
    return member_lost(limit_s, lambda lab, run: lab.command("block 4 0"))


def path_from_master_dead(limit_s):
    return member_lost(limit_s, lambda lab, run: lab.command("block 0 4"))


def dead_path(limit_s):
    """The path between two neighbours of four is dead in one direction while idle. The next operation finds it, and the ring then avoids it."""
    with network(5) as lab:
        run = run_of(lab, limit_s)
        expect_reduce(run.peers)
        lab.command("block 1 2")
        begin = time.monotonic()
        for answer in reduce_all(run.peers)():
            expect(answer["code"] == LOST, f"{answer}")
            says(answer, "peer 1", "peer 2", "not acknowledged for", "the path is dead")
            took = within(answer["at"] - begin, limit_s, "the reduce ended")
        expect_reduce(run.peers)
        _, line = run.log.wait_for("not acknowledged")
        run.log.wait_for("will not be neighbours")
        expect(not run.log.find("removed"), "a peer was removed:\n" + run.log.text())
        print(line)
        return took


def dead_path_heals(limit_s):
    """The path between the only two members is dead. No member is removed, and the link is restored when packets pass again."""
    with network(3) as lab:
        run = run_of(lab, limit_s)
        answers = reduce_all(run.peers, type="double")
        lab.command("block 2 1")
        begin = time.monotonic()
        at, line = run.log.wait_for("the link between peer 1 and peer 2 broke")
        took = within(at - begin, limit_s, "the link broke")
        time.sleep(1)
        lab.command("unblock 2 1")
        for answer in answers():
            expect(answer["code"] == LOST, f"{answer}")
        expect_reduce(run.peers)
        expect(not run.log.find("removed"), "a peer was removed:\n" + run.log.text())
        print(line)
        return took


def short_outage(limit_s):
    """A path that loses everything for less than the limit delays operations and fails none."""
    with network(4) as lab:
        run = run_of(lab, limit_s)
        answers = reduce_all(run.peers)
        lab.command("block 1 2")
        time.sleep(limit_s * 0.4)
        lab.command("unblock 1 2")
        begin = time.monotonic()
        for answer in answers():
            expect(answer["code"] == OK, f"{answer}")
        took = time.monotonic() - begin
        expect(not run.log.find("broke") and not run.log.find("removed"), run.log.text())
        return took


def straggler(limit_s):
    """One of four does not call: the log names it after the limit, reports the end of the wait when it calls, and no member is removed."""
    with network(5) as lab:
        run = run_of(lab, limit_s, "--straggler-after", f"{limit_s}s")
        begin = time.monotonic()
        calls = [peer.start("reduce", count=BULK, rank=i, ranks=4) for i, peer in enumerate(run.peers[:3])]
        at, line = run.log.wait_for("peer 4", "holds the others up", "has not called pcclAllReduce with tag 0", "peer 1, peer 2, peer 3")
        took = within(at - begin, limit_s + 1, "named")  # the master checks once a second
        time.sleep(2 * limit_s)
        expect(not any(peer.answered(call) for peer, call in zip(run.peers, calls)), "the operation ended")
        calls.append(run.peers[3].start("reduce", count=BULK, rank=3, ranks=4))
        for peer, call in zip(run.peers, calls):
            expect(peer.finish(call)["code"] == OK, "the reduce failed")
        run.log.wait_for("over after", "peer 4")
        expect(sum("holds the others up: it" in line for _, line in run.log.lines) == 1, "the end of the wait was logged more than once:\n" + run.log.text())
        print(line)
        return took


def hung_process(limit_s):
    """A stopped process is distinguished from a vanished host before it is removed."""
    with network(5) as lab:
        run = run_of(lab, limit_s)
        answers = reduce_all(run.peers[:3])
        time.sleep(0.5)
        begin = time.monotonic()
        run.peers[3].process.send_signal(signal.SIGSTOP)
        at, line = run.log.wait_for("peer 4", "does not answer", "held up: peer 1, peer 2, peer 3")
        took = within(at - begin, limit_s / 2, "named")
        answers()
        print(line)
        return took


def slow_link(limit_s):
    """One link of four has a twentieth of the rate of the others."""
    with network(5) as lab:
        run = run_of(lab, limit_s)
        lab.command("set 2 3 rate 10mbit")
        begin = time.monotonic()
        answers = reduce_all(run.peers, algorithm="ring")
        at, line = run.log.wait_for("the link from peer 2", "to peer 3 is slow", "while the other links of its group carry")
        took = at - begin
        for answer in answers():
            expect(answer["code"] == OK, f"{answer}")
        expect(not run.log.find("is dead") and not run.log.find("holds the others up"), run.log.text())
        print(line)
        return took


def slow_by(cause, run):
    """Four peers reduce over a slow link from the second to the third: the log gives the reason."""
    begin = time.monotonic()
    while not run.log.find("to peer 3 is slow") and time.monotonic() < begin + 60:
        for answer in reduce_all(run.peers, algorithm="ring", type="double")():
            expect(answer["code"] == OK, f"{answer}")
    at, line = run.log.wait_for("the link from peer 2", "to peer 3 is slow", cause, limit_s=1)
    expect(not run.log.find("is dead") and not run.log.find("holds the others up"), run.log.text())
    print(line)
    return at - begin


def slow_receiver(limit_s):
    """The receiver's buffers are tiny, as if the process read too slowly: its window is closed most of the time."""
    with network(5) as lab:
        lab.sysctl(3, "net.ipv4.tcp_rmem", "4096 4096 4096")
        return slow_by("its receiver reads too slowly", run_of(lab, limit_s))


def small_send_buffer(limit_s):
    """The sender's buffer holds one packet per connection, which is too little for the length of the path."""
    with network(5, delay="40ms") as lab:
        run = run_of(lab, limit_s)
        expect_reduce(run.peers)
        answer = run.peers[1].call("send_buffers", port=48149, bytes=4096)
        expect(answer["changed"] >= 3, f"{answer}")
        return slow_by("its sender's socket buffer is too small", run)


def jitter(limit_s, rounds=1000, compute_s=0.02):
    """Four equal peers compute for a time that varies at random by a fifth, and reduce, repeatedly. No peer is blamed."""
    with network(5) as lab:
        run = run_of(lab, limit_s, "--straggler-after", "1s")
        begin = time.monotonic()

        def train(rank, peer):
            chance = random.Random(rank)
            for _ in range(rounds):
                time.sleep(compute_s * chance.uniform(0.8, 1.2))
                answer = peer.call("reduce", count=1 << 14, rank=rank, ranks=4)
                expect(answer["code"] == OK and answer["wrong"] == 0 and answer["peers"] == 4, f"{answer}")

        with concurrent.futures.ThreadPoolExecutor(4) as threads:
            for done in [threads.submit(train, rank, peer) for rank, peer in enumerate(run.peers)]:
                done.result()
        expect(not run.log.find("warn"), run.log.text())
        for peer in run.peers:
            expect(not peer.log.lines, peer.log.text())
        return time.monotonic() - begin


def equal_peers(limit_s, seconds=25):
    """Four equal peers reduce for a long time at a rate at which each reduce takes several seconds. No peer is blamed."""
    with network(5, rate="40mbit") as lab:
        run = run_of(lab, limit_s, "--straggler-after", "2s")
        end = time.monotonic() + seconds
        rounds = 0
        while time.monotonic() < end:
            expect_reduce(run.peers)
            rounds += 1
        for words in ("is slow", "is dead", "holds", "does not answer", "no progress"):
            expect(not run.log.find("warn", words), run.log.text())
        return seconds / rounds


CASES = {case.__name__: case for case in (stopped, vanished, path_to_master_dead, path_from_master_dead, dead_path, dead_path_heals, short_outage,
                                         straggler, hung_process, slow_link, slow_receiver, small_send_buffer, jitter, equal_peers)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--timeout", type=float, default=3)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1000, help="rounds of the jitter case")
    args = parser.parse_args()

    def run(name, case):
        more = {"rounds": args.rounds} if case is jitter else {}
        times = [case(args.timeout, **more) for _ in range(args.runs)]
        print(f"{name}: {statistics.median(times):.2f} s, median of {len(times)}: {' '.join(f'{t:.2f}' for t in times)}", flush=True)

    run_cases(CASES, args.cases, run)


if __name__ == "__main__":
    main()
