"""Scripts in a network of their own: as root, and where namespaces are permitted."""

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
    """The output of a Python script that runs behind shell commands in a network namespace, where loopback is up."""
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
