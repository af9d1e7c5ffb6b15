"""Starts a master program, lets a peer join its run, and ends it with each of the two signals.

Programs in the style of version 1 take a port and cannot report which one the system chose. The test therefore passes a port that
was free a moment before, on a random address of the loopback network. ccoip_master listens on port 48148 of all addresses, so it
runs in a separate network namespace. The test is skipped (status 77) if the system permits no namespace.
"""

import argparse
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

LIMIT_S = 30


def free_address():
    host = f"127.{random.randrange(1, 255)}.{random.randrange(256)}.{random.randrange(1, 255)}"
    with socket.socket() as free:
        free.bind((host, 0))
        return f"{host}:{free.getsockname()[1]}"


def until_it_listens(address, process):
    host, port = address.split(":")
    end = time.monotonic() + LIMIT_S
    while True:
        try:
            socket.create_connection((host, int(port)), 1).close()
            return
        except OSError:
            assert process.poll() is None, f"the master ended with status {process.returncode}\n{process.communicate()}"
            assert time.monotonic() < end, f"nothing listens on {address}"
            time.sleep(0.01)


def join(peer, address):
    done = subprocess.run([peer, address], capture_output=True, text=True, timeout=LIMIT_S)
    assert (done.returncode, done.stdout) == (0, "world 1\n"), done


def program(options):
    for number in (signal.SIGINT, signal.SIGTERM):
        address = free_address()
        master = subprocess.Popen([options.program, address], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            until_it_listens(address, master)
            join(options.peer, address)
            master.send_signal(number)
            out, err = master.communicate(timeout=LIMIT_S)
        finally:
            master.kill()
        assert master.returncode == 0 and out.splitlines() == ["cuda: no", "ended"], (master.returncode, out, err)


def ccoip_master(options):
    if os.environ.get("PCCL_COMPAT_NAMESPACE") != "1":
        command = ["unshare", "--net", "--map-root-user"]
        if not (shutil.which("unshare") and shutil.which("ip")) or subprocess.run([*command, "true"], capture_output=True).returncode != 0:
            print("skipped: the system permits no network namespace")
            sys.exit(77)
        sys.exit(subprocess.run([*command, sys.executable, *sys.argv], env={**os.environ, "PCCL_COMPAT_NAMESPACE": "1"}).returncode)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with tempfile.TemporaryDirectory(prefix="pccl-compat-") as home:
        for _ in range(2):  # the second master does not continue the run of the first
            environment = {**os.environ, "HOME": home, "XDG_STATE_HOME": home, "STATE_DIRECTORY": home}
            master = subprocess.Popen([options.ccoip_master], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
            try:
                assert master.stdout.readline() == "pccl-master: listening on 0.0.0.0:48148\n"
                for host in ("127.0.0.1", "127.8.7.6"):
                    join(options.peer, f"{host}:48148")
                master.send_signal(signal.SIGTERM)
                master.communicate(timeout=LIMIT_S)
            finally:
                master.kill()
            assert master.returncode == 0
            assert not list(pathlib.Path(home).iterdir()), "the master has written a journal without an option for it"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", choices=["program", "ccoip_master"])
    parser.add_argument("--program", required=True)
    parser.add_argument("--peer", required=True)
    parser.add_argument("--ccoip-master", required=True)
    options = parser.parse_args()
    {"program": program, "ccoip_master": ccoip_master}[options.case](options)


if __name__ == "__main__":
    main()
