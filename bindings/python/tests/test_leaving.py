"""Tests of leaving a run: no peer waits for one that has finished."""

import threading

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: tests of training methods are skipped")

from training import EXACT, seeded  # noqa: E402
from world import all_at_once, until  # noqa: E402

import pccl.torch as methods  # noqa: E402
from pccl import Attribute, Communicator, PCCLError, PCCLTimeoutError  # noqa: E402


def connected(communicator):
    try:
        communicator.get_attribute(Attribute.GLOBAL_WORLD_SIZE)
    except PCCLError:
        return False
    return True


def two(master, live, kind=methods.DiLoCo, **settings):
    """Starts a run with two peers and returns the results of `live(peer, model, trainer)`, which enters the block itself."""

    def peer(i):
        with seeded(i):
            model = torch.nn.Linear(3, 2)
        trainer = kind(model, communicator=Communicator(master), sync_every=1, **{"min_peers": 1, **settings})
        return live(i, model, trainer)

    return all_at_once(lambda: peer(0), lambda: peer(1))


def make_steps(model, trainer, steps):
    for _ in range(steps):
        with torch.no_grad():
            model.weight.add_(0.1)
        trainer.step(timeout=20)


@pytest.mark.parametrize("ends", ["finish", "block", "error"])
def test_peers_do_not_wait_for_a_finished_peer(master, ends):
    evaluates = threading.Event()

    def train(i, model, trainer):
        with trainer:
            while trainer.status.world_size < 2:
                trainer.step(timeout=20)
            make_steps(model, trainer, 2 if i == 0 else 6)
            if ends == "finish":
                trainer.finish(timeout=20)
            if ends == "error" and i == 0:
                raise ZeroDivisionError

    def live(i, model, trainer):
        if ends == "error" and i == 0:
            with pytest.raises(ZeroDivisionError):
                train(i, model, trainer)
        else:
            train(i, model, trainer)
        if i == 1:
            evaluates.set()
        else:  # fails if the other peer waits for this one
            assert evaluates.wait(60)
        return trainer

    trainers = two(master, live)
    assert not any(connected(trainer.communicator) for trainer in trainers)


def test_finished_trainer_still_has_its_outer_state(master, tmp_path):
    def live(i, model, trainer):
        with trainer:
            make_steps(model, trainer, 3)
            status = trainer.finish(timeout=20)
            assert not connected(trainer.communicator)
            outer = trainer.outer_parameters()
            assert torch.allclose(outer["weight"], model.weight)
            trainer.save(tmp_path / f"state{i}")
            assert trainer.status.outer_steps == status.outer_steps == 3
            with pytest.raises(RuntimeError, match="has left its run"):
                trainer.join()
            with pytest.raises(PCCLError, match="not in the run"):
                trainer.step()
        trainer.communicator.close()
        return outer["weight"], status.digest

    (a, one), (b, other) = two(master, live, min_peers=2, **EXACT)
    assert torch.equal(a, b) and one == other


@pytest.mark.parametrize("kind", [methods.AsyncDiLoCo, methods.EagerDiLoCo, methods.StreamingDiLoCo, methods.CO2], ids=lambda kind: kind.__name__)
def test_last_average_is_not_lost_when_all_leave(master, kind):
    both_have_stepped = threading.Barrier(2)  # if one leaves during the other's last step, the other can wait for min_peers

    def live(i, model, trainer):
        with trainer:
            make_steps(model, trainer, 4)
            both_have_stepped.wait(30)
            trainer.finish(timeout=20)
        return model.weight.detach().clone(), trainer

    settings = {"fragments": 1, "overlap_steps": 0} if kind is methods.StreamingDiLoCo else {}
    (a, _), (b, _) = two(master, live, kind, min_peers=2, outer_lr=0.3, **settings)
    assert torch.equal(a, b)


@pytest.mark.parametrize("own", [False, True], ids=["leave=False", "connected by the program"])
def test_communicator_for_further_use_stays_connected(master, own):
    communicator = Communicator(master)
    if own:
        communicator.connect()
    model = torch.nn.Linear(2, 2)
    with methods.DiLoCo(model, communicator=communicator, sync_every=1, leave=own) as trainer:
        make_steps(model, trainer, 2)
        trainer.finish()
        assert connected(communicator)
    assert connected(communicator)
    communicator.close()


def test_peer_leaves_the_run_if_its_block_is_not_entered(master, monkeypatch):
    trainer = methods.DiLoCo(torch.nn.Linear(2, 2), communicator=Communicator(master), min_peers=2)
    join = trainer.join
    monkeypatch.setattr(trainer, "join", lambda: join(timeout=1))  # no other peer joins
    with pytest.raises(PCCLTimeoutError), trainer:
        pass
    assert not connected(trainer.communicator)


def test_gossip_leaves_the_run(master):
    communicator = Communicator(master)
    model = torch.nn.Linear(2, 2)
    with methods.PushSum(model, communicator=communicator, sync_every=1) as trainer:
        make_steps(model, trainer, 3)
        trainer.finish()
        assert trainer.outer_parameters()["weight"].shape == (2, 2)
    until(lambda: not connected(communicator))
