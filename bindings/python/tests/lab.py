"""Runs scripts in a separate network namespace. This needs root, and a system that permits namespaces."""

import os
import subprocess
import sys
import textwrap

import pytest
from world import finish

REASON = "network namespaces are not permitted here"


def permitted():
    return os.geteuid() == 0 and subprocess.run(["unshare", "-n", "-m", "true"], stderr=subprocess.DEVNULL).returncode == 0


def in_namespace(source, *arguments, prepare="", limit=60.0):
    """Runs shell commands and then a Python script in a network namespace with loopback, and returns the script's output."""
    if not permitted():
        pytest.skip(REASON)
    shell = f'set -e\nip link set lo up\n{textwrap.dedent(prepare)}\nexec "$@"'
    process = subprocess.Popen(
        ["unshare", "-n", "-m", "sh", "-c", shell, "sh", sys.executable, "-u", "-X", "faulthandler", "-c", textwrap.dedent(source)]
        + [str(argument) for argument in arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )
    return finish(process, limit)[0]
