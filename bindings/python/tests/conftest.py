"""What the tests share. A test that hangs prints where all threads are and ends the run."""

import faulthandler

import pytest

import pccl

LIMIT = 100.0


@pytest.fixture(autouse=True)
def limit():
    faulthandler.dump_traceback_later(LIMIT, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture
def master():
    """The address of a master in this process."""
    with pccl.MasterNode("127.0.0.1:0", heartbeat_timeout=3) as node:
        node.run()
        yield f"127.0.0.1:{node.port}"
