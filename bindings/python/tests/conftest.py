"""Fixtures that the tests share."""

import pytest

import pccl


@pytest.fixture
def master():
    """The address of a master in this process."""
    with pccl.MasterNode("127.0.0.1:0", heartbeat_timeout=3) as node:
        node.run()
        yield f"127.0.0.1:{node.port}"
