"""Several peers in this process, which make their common calls in one thread each; and scripts in separate processes."""

import contextlib
import os
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

from pccl import Attribute, Communicator


def all_at_once(*calls):
    """Makes all calls at the same time, and returns their results when all have returned."""
    with ThreadPoolExecutor(len(calls)) as pool:
        futures = [pool.submit(call) for call in calls]
        # The first failure is the cause: later ones can be timeouts of peers that waited for the failed one.
        done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        for future in done:
            if future.exception() is not None:
                future.result()
        return [future.result() for future in futures]


def admit(members, newcomer, **connect):
    """Lets all members vote until the newcomer is in."""
    joined = threading.Thread(target=lambda: newcomer.connect(**connect))
    joined.start()
    size = len(members)
    while members[0].get_attribute(Attribute.GLOBAL_WORLD_SIZE) <= size:
        all_at_once(*[member.update_topology for member in members])
    joined.join()


@contextlib.contextmanager
def world(master, count, **options):
    """Yields `count` members of one run, and closes them at the end."""
    members = [Communicator(master, **options) for _ in range(count)]
    try:
        members[0].connect()
        for i in range(1, count):
            admit(members[:i], members[i])
        yield members
    finally:
        for member in members:
            member.close()


def until(condition, limit=30.0):
    """Waits until a condition holds."""
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, f"the condition did not hold within {limit} s"
        time.sleep(0.005)


def script(source, *arguments, **options):
    """Starts a Python process that runs `source`. Its output can be read from pipes."""
    return subprocess.Popen(
        [sys.executable, "-u", "-X", "faulthandler", "-c", textwrap.dedent(source), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **options.pop("env", {})},
        **options,
    )


def finish(process, limit=60.0):
    """Waits until a process has ended with status 0, and returns its output. A failure shows both streams."""
    try:
        out, err = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"the process did not end within {limit} s\n--- stdout\n{out}\n--- stderr\n{err}") from None
    assert process.returncode == 0, f"exit status {process.returncode}\n--- stdout\n{out}\n--- stderr\n{err}"
    return out, err
