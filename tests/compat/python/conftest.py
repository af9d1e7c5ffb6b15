"""Fixtures that the tests share: an address for a master, and processes that run a program from a file."""

import os
import random
import socket
import subprocess
import sys
import textwrap

import pytest


@pytest.fixture
def address():
    """A port that was free a moment ago, on a random address of the loopback network.

    Programs in the style of version 1 cannot report which port the system chose, so they get one.
    """
    host = f"127.{random.randrange(1, 255)}.{random.randrange(256)}.{random.randrange(1, 255)}"
    with socket.socket() as free:
        free.bind((host, 0))
        return f"{host}:{free.getsockname()[1]}"


@pytest.fixture
def start(tmp_path):
    """Starts programs, each from a separate file, and kills them at the end of the test."""
    started = []

    def run(source, *arguments, python=(), **options):
        file = tmp_path / f"program{len(started)}.py"
        file.write_text(textwrap.dedent(source))
        process = subprocess.Popen(
            [sys.executable, "-u", *python, str(file), *map(str, arguments)],
            stdin=options.pop("stdin", subprocess.DEVNULL), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, **options.pop("env", {})}, **options)
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()
