"""Regimes over an emulated wide area (tests/netlab). iperf3 over 16 connections measures the capacity of the path."""

import json
import pathlib
import subprocess
import sys
import tempfile
import time

from contestants import Failed, install, samples_of
from measuring import GIB, KIB, MIB, Rounds, bus_gbits, check, ratio, row, size_name, take_turns, time_name

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "netlab"))
import lab as netlab  # noqa: E402

IPERF3_PORT = 5201
SETTLE_S = 3
LIMIT_S = 600
QUANTIZED = ("-q", "minmax:u8")
# Connections learn a new path during ten operations of 0.2 s. Their times have a plateau at first, which a warm-up that watches the
# times takes for the end.
WARM_UP = ("-w", 10)
SLOW_LANES = 16
SLOW_PART = 10  # the slow lane has this fraction of its equal share


def why_not():
    return netlab.why_not()


def iperf3_gbits(network, seconds):
    """Gigabits per second from host 0 to host 1 over 16 connections, after they have settled."""
    server = network.start(1, ["iperf3", "--server", "--one-off", "--json"], stdout=subprocess.PIPE, text=True)
    for _ in range(50):
        if f":{IPERF3_PORT:04X} " in network.run(1, ["cat", "/proc/net/tcp", "/proc/net/tcp6"]):
            break
        time.sleep(0.1)
    network.run(0, ["iperf3", "--client", network.addresses[1], "-P", "16", "-t", str(SETTLE_S + seconds), "--json"])
    # Counts the receiver's seconds. Its total would include the bytes that were still queued at the end.
    intervals = json.loads(server.communicate(timeout=30)[0])["intervals"]
    settled = [interval["sum"] for interval in intervals if interval["sum"]["seconds"] > 0.5][SETTLE_S:]
    return sum(part["bytes"] for part in settled) * 8 / sum(part["seconds"] for part in settled) / 1e9


def pccl(network, build, sizes, iterations, options=(), meanwhile=None):
    """{size: sample} of one run of pccl-perf on all hosts. The master runs on host 0. Calls `meanwhile` once the peers have started."""
    master = network.start(0, [str(build / "bin" / "pccl-master"), "--no-journal", "--listen", f"0.0.0.0:{netlab.MASTER_PORT}"], stdout=subprocess.PIPE,
                           stderr=subprocess.DEVNULL, text=True)
    if "listening" not in master.stdout.readline():
        raise Failed("pccl-master did not start")
    factor = sizes[-1] // sizes[0] if len(sizes) == 2 else 2
    with tempfile.TemporaryDirectory() as folder:
        outs = [pathlib.Path(folder) / f"{host}.json" for host in range(network.hosts)]
        peers = [network.start(host, [str(word) for word in (
            build / "bin" / "pccl-perf", "--master", f"{network.addresses[0]}:{netlab.MASTER_PORT}", "--peers", network.hosts,
            "-b", sizes[0], "-e", sizes[-1], "-f", factor, "-n", iterations, *options, "--json", outs[host])], stdout=subprocess.DEVNULL)
            for host in range(network.hosts)]
        try:
            if meanwhile:
                meanwhile()
            worst = max(peer.wait(LIMIT_S) for peer in peers)
        except subprocess.TimeoutExpired as error:
            raise Failed(f"pccl-perf took more than {LIMIT_S} s") from error
        except netlab.LabError as error:
            raise Failed(str(error)) from error
        finally:
            for process in [master, *peers]:
                process.kill()
                process.wait()
        if worst != 0:
            raise Failed(f"pccl-perf: exit status {worst}")
        return samples_of(next(out for out in outs if out.exists()))


def path_words(one_way_ms, rate):
    return [f"{2 * one_way_ms} ms", rate or "any"]


def of_iperf3(gbits, iperf3, ranks, us, one_way_us, bar):
    """Two hosts wait for the bytes only. With more hosts, a block also crosses 2(N-1) hops in sequence."""
    of_bytes = ratio(gbits, iperf3)
    if ranks == 2:
        return [check("of iperf3 -P 16", of_bytes, at_least=bar)]
    of_all = of_bytes and of_bytes + 2 * (ranks - 1) * one_way_us / us
    return [check("of iperf3 -P 16", of_bytes), check("of iperf3 -P 16 and the delays of all hops", of_all, at_least=bar)]


def bandwidth_rows(context, ranks, one_way_ms, rate, sizes, bar, with_quantized):
    install({"iperf3": "iperf3"})
    iterations = context.chosen(5, 3)
    with netlab.Lab(ranks, delay=f"{one_way_ms}ms", rate=rate) as network:

        def turn_of(build, *options):
            return lambda: pccl(network, build, sizes, iterations, (*WARM_UP, *options))

        measures = {"float32": turn_of(context.build)}
        if with_quantized:
            measures["8 bits"] = turn_of(context.build, *QUANTIZED)
        measures |= {name: turn_of(build) for name, build in context.older.items()}
        measures["iperf3"] = lambda: {"gbits": iperf3_gbits(network, context.chosen(6, 10))}
        taken = take_turns(measures, context.lab_rounds, f"{ranks} hosts, {rate}")
    iperf3 = Rounds({"iperf3": taken.pop("iperf3")}).median("iperf3", "gbits")
    for size in sizes:
        rounds = Rounds({name: [of[size] for of in samples] for name, samples in taken.items()})
        us = rounds.medians()
        context.say(f"{ranks} hosts, {2 * one_way_ms} ms, {rate}, {size_name(size)}", us)
        gbits = bus_gbits(ranks, size, us["float32"])
        checks = of_iperf3(gbits, iperf3, ranks, us["float32"], 1e3 * one_way_ms, bar)
        cells = [str(ranks), *path_words(one_way_ms, rate), size_name(size), time_name(us["float32"])]
        if with_quantized:
            cells.append(time_name(us["8 bits"]))
            checks.append(check("times float32, with 8 bits", ratio(us["float32"], us["8 bits"]), at_least=3.5))
        checks += [check(f"times {name}", ratio(us[name], us["float32"])) for name in context.older]
        cells += [f"{gbits:.3f} Gbit/s" if gbits else "", f"{iperf3:.3f} Gbit/s" if iperf3 else ""]
        yield row(cells, checks, ranks=ranks, round_trip_ms=2 * one_way_ms, rate=rate, size=size, gbits=gbits, iperf3_gbits=iperf3,
                  quantized_gbits=bus_gbits(ranks, size, us.get("8 bits")), rounds=rounds.samples)


def wan(context):
    head = ["hosts", "round trip", "rate", "size", "time", "time, 8 bits", "bus bandwidth", "iperf3 -P 16"]
    sizes = context.chosen([64 * MIB], [64 * MIB, 256 * MIB])
    return head, [one for ranks in context.chosen_ranks((2,), (2, 4))
                  for one in bandwidth_rows(context, ranks, 25, "1gbit", sizes, 0.92, True)]


def wan_fast(context):
    head = ["hosts", "round trip", "rate", "size", "time", "bus bandwidth", "iperf3 -P 16"]
    return head, list(bandwidth_rows(context, 2, 50, "5gbit", context.chosen([256 * MIB], [GIB]), 0.85, False))


def wan_latency(context):
    rows = []
    for one_way_ms in (25, 75):
        for ranks in context.chosen_ranks((2, 4), (2, 4, 8)):
            with netlab.Lab(ranks, delay=f"{one_way_ms}ms") as network:
                taken = take_turns({"PCCL": lambda: pccl(network, context.build, [4 * KIB], 10)[4 * KIB]}, context.lab_rounds, "latency")
            rounds = Rounds(taken)
            us = rounds.median("PCCL")
            context.say(f"{ranks} hosts, {2 * one_way_ms} ms, 4 KiB", rounds.medians())
            rows.append(row([str(ranks), f"{2 * one_way_ms} ms", time_name(us)],
                            [check("round trips", ratio(us, 2e3 * one_way_ms), at_most=1.7)],
                            ranks=ranks, round_trip_ms=2 * one_way_ms, rounds=rounds.samples))
    return ["hosts", "round trip", "time"], rows


def slow_lane(context):
    size, rate_mbit = context.chosen(64 * MIB, 256 * MIB), 1000
    options = ("--lanes", SLOW_LANES, "-w", 2, "-c", 0)
    slow = f"{rate_mbit / SLOW_LANES / SLOW_PART:g}mbit"
    with netlab.Lab(2, delay="25ms", rate=f"{rate_mbit}mbit") as network:

        def with_slow_lane():
            ports = []
            try:
                return pccl(network, context.build, [size], 3, options, lambda: ports.append(network.slow_lane(0, 1, slow)[0]))[size]
            finally:
                for port in ports:
                    network.command(f"shape * * port {port} rate none")

        taken = take_turns({"all equal": lambda: pccl(network, context.build, [size], 3, options)[size], "one slow": with_slow_lane},
                           context.lab_rounds, "slow lane")
    rounds = Rounds(taken)
    us = rounds.medians()
    context.say(f"2 hosts, {SLOW_LANES} lanes, {size_name(size)}", us)
    return (["lanes", "rate of the slow lane", "size", "all equal", "one slow"],
            [row([str(SLOW_LANES), slow, size_name(size), time_name(us["all equal"]), time_name(us["one slow"])],
                 [check("times the time without", ratio(us["one slow"], us["all equal"]), at_most=1.15)], rounds=rounds.samples)])
