"""A master that is killed and started again while a large all-reduce runs: the transfer does not pause, and the call succeeds.

    restart_test.py [--build DIR] [--rate RATE]     prints the used share of the path while there was no master

Exit status 77: a lab is not permitted on this machine.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import lab as netlab  # noqa: E402
from cases import need_lab  # noqa: E402

AWAY_S = 2.0
MBIT = 400


def start_master(lab, build, folder):
    master = lab.start(0, [build / "bin/pccl-master", "--listen", f"0.0.0.0:{netlab.MASTER_PORT}", "--journal", folder + "/journal"],
                       stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    if "listening" not in master.stdout.readline():
        raise netlab.LabError("pccl-master did not start")
    return master


def carried(lab):
    return lab.counters(1, 2)["bytes"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=HERE.parent.parent / "build")
    args = parser.parse_args()
    need_lab()
    with netlab.Lab(3, "5ms", f"{MBIT}mbit") as lab, tempfile.TemporaryDirectory() as folder:
        master = start_master(lab, args.build, folder)
        command = [args.build / "bin/pccl-perf", "--master", f"{lab.addresses[0]}:{netlab.MASTER_PORT}", "--peers", "2", "-b", "256M", "-e", "256M",
                   "-w", "0", "-n", "1"]
        peers = [lab.start(host, command, stdout=subprocess.DEVNULL) for host in (1, 2)]
        while carried(lab) < 20e6:  # the transfer is well in progress
            time.sleep(0.02)
        master.kill()
        master.wait()
        before = carried(lab)
        time.sleep(AWAY_S)
        share = (carried(lab) - before) * 8 / AWAY_S / (MBIT * 1e6)
        start_master(lab, args.build, folder)
        codes = [peer.wait(60) for peer in peers]
        print(f"without a master for {AWAY_S:g} s: {share:.0%} of the path used; exit statuses {codes}")
        return 0 if codes == [0, 0] and share > 0.7 else 1


if __name__ == "__main__":
    sys.exit(main())
