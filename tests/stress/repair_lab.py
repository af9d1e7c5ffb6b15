"""Kills one of four members in the wide-area lab when it has sent a part of its bytes of a large average. Prints the bytes that the others
sent after that, as a share of the bytes of the whole operation. Exit status 1: the share is above --at-most, or an element is wrong; 77: a
lab is not permitted on this machine.

    repair_lab.py --build build                          the figures of docs/internals/reliability.md: with repair, and without
    repair_lab.py --build build --on-peer-loss repair --size 64 --at-most 0.25
"""

import argparse
import json
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "netlab"))
import lab as netlab  # noqa: E402

SKIPPED = 77
MEMBERS = 4
VICTIM = 2
POLL_S = 0.002
LIMIT_S = 300


def sent_by(lab, host):
    """Bytes that a host has sent to its neighbours, as counted by the network."""
    return sum(lab.counters(host, other)["bytes"] for other in range(MEMBERS) if other != host)


def one_run(build, fault, size, rate, kill_at, in_place):
    """The answers of the survivors, the time of the kill, and the bytes of the operation per member."""
    whole = 2 * (MEMBERS - 1) * size // MEMBERS  # bytes of each member, without headers
    with netlab.Lab(MEMBERS, delay="0.5ms", rate=rate) as lab:
        master = lab.start(0, [str(build / "bin" / "pccl-master"), "--no-journal", "--listen", f"0.0.0.0:{netlab.MASTER_PORT}"],
                           stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        if "listening" not in master.stdout.readline():
            raise netlab.LabError("pccl-master did not start")
        members = [lab.start(host, [str(build / "bin" / "pccl-repair-member"), "--master", f"{lab.addresses[0]}:{netlab.MASTER_PORT}",
                                    "--slot", str(host), "--bytes", str(size), "--on-peer-loss", fault, *(["--in-place"] if in_place else [])],
                             stdout=subprocess.PIPE, text=True) for host in range(MEMBERS)]
        for member in members:
            if member.stdout.readline().strip() != "joined":
                raise netlab.LabError("a member did not join")
        before, end = sent_by(lab, VICTIM), time.monotonic() + LIMIT_S
        while (sent := sent_by(lab, VICTIM) - before) < kill_at * whole:
            if time.monotonic() > end or members[VICTIM].poll() is not None:
                raise netlab.LabError(f"the victim sent {sent} of {whole} bytes and then stopped")
            time.sleep(POLL_S)
        members[VICTIM].kill()
        answers = [json.loads(member.communicate(timeout=LIMIT_S)[0]) for host, member in enumerate(members) if host != VICTIM]
        master.kill()
    return {"killed_at": sent / whole, "answers": answers, "whole": whole}


def judge(run, count):
    """An error text, or None if all survivors hold the same correct averages."""
    answers = run["answers"]
    survivors = sum(1 << host for host in range(MEMBERS) if host != VICTIM)
    if any(a["wrong"] for a in answers):
        return "some elements are not the average of any contributions"
    if len({a["hash"] for a in answers}) != 1:
        return "members hold different bits"
    for a in answers:
        if sum(a["participants"].values()) != count or any(int(mask) & survivors != survivors for mask in a["participants"]):
            return f"some averages lack a survivor: {a['participants']}"
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("--on-peer-loss", choices=("repair", "retry"), action="append", help="default: both")
    parser.add_argument("--size", type=int, default=1024, help="size of the buffer in MiB")
    parser.add_argument("--rate", default="1gbit")
    parser.add_argument("--kill-at", type=float, default=0.9, help="share of its bytes that the victim has sent when it is killed")
    parser.add_argument("--in-place", action="store_true")
    parser.add_argument("--at-most", type=float, help="largest allowed share of the operation's bytes that is sent again with repair")
    args = parser.parse_args()
    if problem := netlab.why_not():
        print(f"skipped: {problem}")
        sys.exit(SKIPPED)
    size, failed = args.size << 20, False
    for fault in args.fault or ["repair", "retry"]:
        run = one_run(args.build.resolve(), fault, size, args.rate, args.kill_at, args.in_place)
        again = max(a["again_bytes"] for a in run["answers"]) / run["whole"]
        fewest = run["answers"][0]["fewest_elements"] / (size // 4) if fault == "repair" else 1.0
        seconds = max(a["seconds"] for a in run["answers"])
        print(f"{fault}: {args.size} MiB, killed at {run['killed_at']:.1%}: {again:.1%} of the operation's bytes sent again at most by one "
              f"member; {fewest:.1%} of the elements averaged without the victim; {seconds:.1f} s", flush=True)
        if wrong := judge(run, size // 4):
            print(f"{fault}: {wrong}")
            failed = True
        if fault == "repair" and args.at_most is not None and again > args.at_most:
            print(f"repair: more than {args.at_most:.0%}")
            failed = True
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
