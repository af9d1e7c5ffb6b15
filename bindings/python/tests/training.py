"""Peers that train in threads of this process, for tests of pccl.torch."""

import contextlib
import threading
import time

import torch

import pccl.torch as methods
from pccl import Communicator
from world import all_at_once

EXACT = {"outer_lr": 1.0, "outer_momentum": 0.0, "outer_optimizer": methods.OuterOptimizer.SGD}
"""With these settings, the outer parameters become the mean of the peers' parameters."""


_generator = threading.Lock()


@contextlib.contextmanager
def seeded(seed):
    """Seeds PyTorch's random generator. All threads share it, so the others wait until the block ends."""
    with _generator:
        torch.manual_seed(seed)
        yield


def together(master, make, live, count=2, kind=methods.DiLoCo, **settings):
    """Starts a run with `count` peers, each with the model `make(peer)`, and returns the results of `live(peer, model, trainer)`.

    `live` is called in the `with` block of its trainer.
    """

    def peer(i):
        model = make(i)
        with kind(model, communicator=Communicator(master), sync_every=settings.get("sync_every", 1), min_peers=count,
                  **{name: value for name, value in settings.items() if name != "sync_every"}) as trainer:
            return live(i, model, trainer)

    return all_at_once(*[lambda i=i: peer(i) for i in range(count)])


@contextlib.contextmanager
def member(master, model, before_step=lambda: None, **settings):
    """Runs a member that makes steps until the block ends. Yields an event that is set after its first step."""
    stop, stepped, failures = threading.Event(), threading.Event(), []

    def live():
        try:
            with methods.DiLoCo(model, communicator=Communicator(master), sync_every=1, **settings) as trainer:
                while not stop.is_set():
                    before_step()
                    trainer.step()
                    stepped.set()
                    time.sleep(0.001)
        except BaseException as error:  # noqa: BLE001
            failures.append(error)
            stepped.set()

    thread = threading.Thread(target=live)
    thread.start()
    try:
        yield stepped
    finally:
        stop.set()
        thread.join(60)
    assert not failures, failures
