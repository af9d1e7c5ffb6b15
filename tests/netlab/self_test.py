"""Tests of the lab itself: programs must observe the delays, rates and losses that were requested.

    self_test.py [CASE...]     exit status 77: a lab is not permitted on this machine

Measurements depend on the load of the machine, so a wrong one is repeated, at most twice.
"""

import os
import pathlib
import signal
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import lab as netlab  # noqa: E402
from cases import expect, run_cases  # noqa: E402

PORT = "5201"
MTU, HEADERS = 1500, 52  # bytes of the headers of TCP with timestamps and of IP
ATTEMPTS = 3


def traffic(lab, host, *arguments, ready=False):
    command = [sys.executable, str(HERE / "traffic.py"), *map(str, arguments)]
    child = lab.start(host, command, stdout=subprocess.PIPE, text=True)
    if ready and child.stdout.readline().strip() != "ready":
        raise AssertionError(f"{arguments} did not start")
    return child


def result(child, timeout_s=60):
    return child.communicate(timeout=timeout_s)[0].split()


def persistently(measure, good, words):
    """Repeats a measurement until its result is good."""
    for attempt in range(ATTEMPTS):
        value = measure()
        print(f"{words}: {value:.4g}{'' if good(value) else ' (off)'}", flush=True)
        if good(value):
            return
        time.sleep(attempt)
    raise AssertionError(f"{words}: {value:.4g}")


def round_trip():
    for delay_ms in (0, 5, 25, 75):
        with netlab.Lab(2, delay=f"{delay_ms}ms") as lab:
            traffic(lab, 1, "echo", lab.addresses[1], ready=True)

            def measure():
                received, median = result(traffic(lab, 0, "ping", lab.addresses[1], 20, 2))
                expect(received == "20", f"{received} of 20 answers arrived")
                return float(median)

            asked = 2 * delay_ms
            persistently(measure, lambda ms: asked <= ms <= asked * 1.02 + 0.5, f"round trip of {asked} ms")


def stream(lab, port=PORT, settle=1.5, measure=2.5):
    sink = traffic(lab, 1, "sink", lab.addresses[1], port, settle, measure, ready=True)
    source = traffic(lab, 0, "source", lab.addresses[1], port, settle + measure + 1)
    return sink, source


def throughput():
    for rate_mbit in (100, 1000):
        with netlab.Lab(2, delay="5ms", rate=f"{rate_mbit}mbit", congestion="cubic") as lab:

            def measure():
                sink, source = stream(lab)
                value = float(result(sink)[0]) / (1 - HEADERS / MTU)
                result(source)
                return value

            persistently(measure, lambda mbit: 0.95 * rate_mbit <= mbit <= 1.05 * rate_mbit, f"Mbit/s of {rate_mbit}, headers added")


def loss():
    with netlab.Lab(2, loss="1%", delay="1ms") as lab:
        counter = traffic(lab, 1, "count", lab.addresses[1], 2, ready=True)
        result(traffic(lab, 0, "burst", lab.addresses[1], 20000))
        received = int(result(counter)[0])
        seen = lab.counters(0, 1)
        print(f"{20000 - received} of 20000 datagrams lost, requested was 1 %")
        expect(100 <= seen["lost"] <= 320, f"lost {seen['lost']}")
        expect(20000 - received >= seen["lost"] - 5, "more datagrams arrived than the lab delivered")
        # Segments in the middle of larger packets are lost. The stream must still arrive complete.
        lab.command("set * * loss 0.2%")
        before = lab.counters(0, 1)
        sink = traffic(lab, 1, "sink", lab.addresses[1], PORT, 0, 0, ready=True)
        sent = result(traffic(lab, 0, "send", lab.addresses[1], PORT, 400))
        total, received = result(sink)
        after = lab.counters(0, 1)
        expect(int(total) == 400 * 256 * 1024 and [received] == sent, "the content of the stream changed")
        segments = after["segments"] - before["segments"]
        fraction = (after["lost"] - before["lost"]) / segments
        together = segments / (after["packets"] - before["packets"])
        print(f"{fraction:.3%} of {segments:.0f} segments lost, requested were 0.2 %; a packet contains {together:.1f} segments")
        expect(0.0013 <= fraction <= 0.0027, "the rate of loss differs from the requested one")


def block():
    with netlab.Lab(3, delay="1ms") as lab:
        for host in (1, 2):
            traffic(lab, host, "echo", lab.addresses[host], ready=True)

        def answers(host, count=3):
            return int(result(traffic(lab, 0, "ping", lab.addresses[host], count, 0.3))[0])

        expect(answers(1) == 3 and answers(2) == 3, "answers are missing")
        lab.command("block 1 0")  # blocks the return direction only
        expect(answers(1) == 0 and answers(2) == 3, "the wrong direction was blocked")
        expect(lab.counters(0, 1)["dropped"] == 0 and lab.counters(1, 0)["dropped"] == 3, "the other direction was blocked")
        lab.command("unblock 1 0")
        expect(answers(1) == 3, "the path is still blocked")
        lab.command("block 0 *")
        expect(answers(1) == 0 and answers(2) == 0, "* does not block all")
        for wrong in ("block 0 9", "set 0 1 delay soon", "nonsense", "set 0 1 rate"):
            try:
                lab.command(wrong)
            except netlab.LabError as error:
                print(f"refused: {error}")
            else:
                raise AssertionError(f"accepted: {wrong}")


def shape():
    with netlab.Lab(2, delay="2ms", rate="400mbit", congestion="cubic") as lab:
        lab.command(f"shape 0 1 port {PORT} rate 10%")

        def measure():
            streams = [stream(lab, port) for port in (PORT, "5202")]
            slow, fast = (float(result(sink)[0]) / (1 - HEADERS / MTU) for sink, _ in streams)
            for _, source in streams:
                result(source)
            print(f"{slow:.1f} and {fast:.1f} Mbit/s, requested were 40 and 360")
            return max(abs(slow / 40 - 1), abs(fast / 360 - 1))

        persistently(measure, lambda off: off <= 0.1, "shaped off by")


def slow_lane():
    with netlab.Lab(2, delay="2ms", rate="200mbit", congestion="cubic") as lab:
        counts = []

        def measure():
            sinks = traffic(lab, 1, "sinks", lab.addresses[1], PORT, 4, 2.5, 2.5, ready=True)
            sources = traffic(lab, 0, "sources", lab.addresses[1], PORT, 4, 6)
            counts.append(lab.slow_lane(0, 1, "2%")[1])
            rates = sorted(float(word) for word in result(sinks))
            result(sources)
            print("Mbit/s: " + " ".join(f"{rate:.1f}" for rate in rates))
            return rates[0] if rates[1] > 15 else 0.0

        persistently(measure, lambda mbit: 3.2 <= mbit <= 4.4, "Mbit/s of the slow one of 4, of 4")
        expect(set(counts) == {4}, f"found {counts} connections, not 4")
        try:
            lab.slow_lane(1, 0, "1%", timeout_s=0.5)
        except netlab.LabError as error:
            print(f"refused: {error}")
        else:
            raise AssertionError("found connections where there are none")


def remove():
    with netlab.Lab(2, delay="1ms") as lab:
        traffic(lab, 1, "echo", lab.addresses[1], ready=True)
        expect(result(traffic(lab, 0, "ping", lab.addresses[1], 2, 0.5))[0] == "2", "no answers")
        lab.remove(1)
        lab.command("unblock * *")
        expect(result(traffic(lab, 0, "ping", lab.addresses[1], 2, 0.5))[0] == "0", "a removed host answers")


def alive(marks):
    """Ids of processes whose command line contains one of these words."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and any(mark in (entry / "cmdline").read_text().split("\0") for mark in marks):
                found.append(int(entry.name))
        except OSError:
            pass
    return found


def programs_end_with_the_lab():
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        mark = f"{100000 + os.getpid()}.{int(number)}"
        command = ["sh", "-c", f"setsid sleep {mark} & wait"]  # a signal to the parent's group does not reach the sleep
        driver = subprocess.Popen([sys.executable, str(HERE / "netlab"), "run", "--hosts", "2", "--", *command])
        end = time.monotonic() + 20
        while len(alive([mark])) < 2 and time.monotonic() < end:
            time.sleep(0.05)
        expect(len(alive([mark])) == 2, "the programs did not start")
        driver.send_signal(number)
        driver.wait(20)
        while alive([mark]) and time.monotonic() < end:
            time.sleep(0.05)
        left = alive([mark])
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        expect(not left, f"{number.name}: programs were left running")
        print(f"{number.name}: no program is left")
    netlab.clean()


CASES = {case.__name__: case for case in (round_trip, throughput, loss, block, shape, slow_lane, remove, programs_end_with_the_lab)}


def main():
    run_cases(CASES, sys.argv[1:], lambda _, case: case())


if __name__ == "__main__":
    main()
