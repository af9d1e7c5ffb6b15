"""The network is split in two and then healed. The side with the master continues. The calls of the other side return, and its peers join
again.

Four peers, two on each side. Exit status 77: a lab is not permitted on this machine.
"""

import pathlib
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import lab as netlab  # noqa: E402
from cases import expect, need_lab  # noqa: E402
from trainers import Run  # noqa: E402

OK, MASTER_FAILED, LOST = 0, 6, 8
HEARTBEAT_S, LIMIT_S = 2, 6


def reduce_all(peers):
    calls = [peer.start("reduce", count=10000, rank=i, ranks=len(peers)) for i, peer in enumerate(peers)]
    return [peer.finish(call) for peer, call in zip(peers, calls)]


def main():
    need_lab()
    with netlab.Lab(5, "2ms", "400mbit") as lab:
        run = Run(lab, "--heartbeat-timeout", f"{HEARTBEAT_S}s", master_limit_ms=LIMIT_S * 1000)
        with_master, without = run.peers[:2], run.peers[2:]
        sides = [(0, 1, 2), (3, 4)]
        across = [(a, b) for a in sides[0] for b in sides[1]]
        for a, b in across:
            lab.command(f"block {a} {b}")
            lab.command(f"block {b} {a}")
        begin = time.monotonic()
        calls = [peer.start("reduce", count=10000, rank=i, ranks=4) for i, peer in enumerate(run.peers)]
        for peer, call in zip(with_master, calls[:2]):
            expect(peer.finish(call)["code"] == LOST, "the side with the master must report the loss")
        for answer in reduce_all(with_master):
            expect(answer["code"] == OK and answer["peers"] == 2 and answer["wrong"] == 0, f"the side with the master must continue: {answer}")
        print(f"the side with the master continues after {time.monotonic() - begin:.1f} s")
        for peer, call in zip(without, calls[2:]):
            answer = peer.finish(call)
            expect(answer["code"] == MASTER_FAILED and answer.get("send_intact", True), f"the calls of the other side must return: {answer}")
        print(f"the other side's calls returned after {time.monotonic() - begin:.1f} s: {answer['error']}")
        for answer in (peer.call("connect") for peer in without):
            expect(answer["code"] == MASTER_FAILED, f"the other side must not form a separate run: {answer}")

        for a, b in across:
            lab.command(f"unblock {a} {b}")
            lab.command(f"unblock {b} {a}")
        joins = [peer.start("join", world=4) for peer in run.peers]
        for peer, call in zip(run.peers, joins):
            expect(peer.finish(call)["code"] == OK, "all must be in one run again")
        for answer in reduce_all(run.peers):
            expect(answer["code"] == OK and answer["peers"] == 4 and answer["wrong"] == 0, f"all four must reduce together: {answer}")
        run.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
