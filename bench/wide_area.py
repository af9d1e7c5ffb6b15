"""All-reduce over an emulated wide-area network (tests/netlab), with iperf3 over 16 connections as what the path carries."""

import json
import pathlib
import subprocess
import sys
import tempfile
import time

from contestants import Failed, install, only_row

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "netlab"))
import lab as netlab  # noqa: E402

PORT = 48148
IPERF3_PORT = 5201
SETTLE_S = 3
LIMIT_S = 600


def why_not():
    return netlab.why_not()


def iperf3_gbits(network, seconds):
    """Gigabits per second from host 0 to host 1 over 16 connections, once they have settled."""
    install({"iperf3": "iperf3"})
    server = network.start(1, ["iperf3", "--server", "--one-off", "--json"], stdout=subprocess.PIPE, text=True)
    for _ in range(50):
        if f":{IPERF3_PORT:04X} " in network.run(1, ["cat", "/proc/net/tcp", "/proc/net/tcp6"]):
            break
        time.sleep(0.1)
    network.run(0, ["iperf3", "--client", network.addresses[1], "-P", "16", "-t", str(SETTLE_S + seconds), "--json"])
    # Of the seconds that the receiver saw: its sum over all would count what was still queued at the end.
    intervals = json.loads(server.communicate(timeout=30)[0])["intervals"]
    settled = [interval["sum"] for interval in intervals if interval["sum"]["seconds"] > 0.5][SETTLE_S:]
    return sum(part["bytes"] for part in settled) * 8 / sum(part["seconds"] for part in settled) / 1e9


def pccl_us(network, build, size, iterations, warm_up):
    """The time of one all-reduce among all hosts; the master is on host 0."""
    master = network.start(0, [str(build / "bin" / "pccl-master"), "--listen", f"0.0.0.0:{PORT}"], stdout=subprocess.PIPE,
                           stderr=subprocess.DEVNULL, text=True)
    if "listening" not in master.stdout.readline():
        raise Failed("pccl-master did not start")
    with tempfile.TemporaryDirectory() as folder:
        outs = [pathlib.Path(folder) / f"{host}.json" for host in range(network.hosts)]
        peers = [network.start(host, [str(word) for word in (
            build / "bin" / "pccl-perf", "--master", f"{network.addresses[0]}:{PORT}", "--peers", network.hosts, "-b", size, "-e", size,
            "-n", iterations, "-w", warm_up, "--json", outs[host])], stdout=subprocess.DEVNULL) for host in range(network.hosts)]
        try:
            worst = max(peer.wait(LIMIT_S) for peer in peers)
        except subprocess.TimeoutExpired as error:
            raise Failed(f"pccl-perf took more than {LIMIT_S} s") from error
        finally:
            for process in [master, *peers]:
                process.kill()
                process.wait()
        if worst != 0:
            raise Failed(f"pccl-perf: exit status {worst}")
        return only_row(next(out for out in outs if out.exists()))
