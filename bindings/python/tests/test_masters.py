"""Tests of inner optimizers that keep float32 masters, of wrapped optimizers, and of hooks on changed parameters."""

import copy
import warnings

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: tests of training methods are skipped")

from training import EXACT, seeded, together  # noqa: E402

import pccl.torch as methods  # noqa: E402
from pccl import Communicator  # noqa: E402
from pccl.torch import _masters  # noqa: E402


def low_precision(i, bias=False):
    with seeded(0):
        model = torch.nn.Linear(4, 2, bias=bias).bfloat16()
    with torch.no_grad():
        model.weight.zero_()
    return model


class Mastered:
    """An optimizer with masters: it moves them towards another place at each peer, and writes the parameters from them."""

    def __init__(self, model, peer):
        self.parameters = list(model.parameters())
        self.masters = [p.detach().float().clone() for p in self.parameters]
        self.place = 1.0 if peer == 0 else 3.0

    def step(self):
        with torch.no_grad():
            for parameter, master in zip(self.parameters, self.masters):
                master.sub_(0.05 * (master - self.place))
                parameter.copy_(master)


class Megatron(Mastered):
    def __init__(self, model, peer):
        super().__init__(model, peer)
        self.float16_groups, self.fp32_from_float16_groups = [self.parameters], [self.masters]


class MegatronReloads(Mastered):
    def reload_model_params(self):
        for parameter, master in zip(self.parameters, self.masters):
            master.copy_(parameter)


class ApexStash(Mastered):
    def __init__(self, model, peer):
        super().__init__(model, peer)
        self._amp_stash = type("Stash", (), {"fp16_groups": [self.parameters], "fp32_from_fp16_groups": [self.masters]})()


class ApexMasterParams(Mastered):
    def __init__(self, model, peer):
        super().__init__(model, peer)
        self.param_groups, self.master_params = [{"params": self.parameters}], list(self.masters)


class DeepSpeed(Mastered):
    def __init__(self, model, peer):
        super().__init__(model, peer)
        self.bf16_groups_flat = [p.detach().view(-1) for p in self.parameters]
        self.fp32_groups_flat_partition = [master.view(-1) for master in self.masters]


class InState(Mastered):
    def __init__(self, model, peer):
        super().__init__(model, peer)
        self.state = {p: {"master_param": master} for p, master in zip(self.parameters, self.masters)}


class Outside:
    def __init__(self, model, peer):
        self.optimizer = Megatron(model, peer)
        self.masters = self.optimizer.masters
        self.step = self.optimizer.step


KNOWN = [Megatron, MegatronReloads, ApexStash, ApexMasterParams, DeepSpeed, InState, Outside]


def distance(master, make_optimizer, give, steps=8, count=2, **settings):
    """Trains two peers and returns the largest difference between their masters."""
    settings = {**EXACT, "sync_every": 2, **settings}

    def live(i, model, trainer):
        optimizer = make_optimizer(model, i)
        give(trainer, optimizer)
        for _ in range(steps):
            optimizer.step()
            trainer.step()
        return [m.clone() for m in optimizer.masters]

    ends = together(master, low_precision, live, count, **settings)
    return max(float((a - b).abs().max()) for a, b in zip(*ends))


@pytest.mark.parametrize("kind", KNOWN, ids=lambda kind: kind.__name__)
def test_averages_reach_masters_of_known_shapes(master, kind):
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        assert distance(master, kind, lambda trainer, optimizer: trainer.register_parameters_hook(methods.masters_of(optimizer))) == 0.0


@pytest.mark.parametrize("form", ["list", "dict", "pairs", "hook"])
def test_averages_reach_masters_that_are_passed(master, form):
    def peer_models(i):
        model = low_precision(i)
        return model, Mastered(model, i)

    made = [peer_models(i) for i in range(2)]
    settings = []
    for model, optimizer in made:
        pairs = list(zip(model.parameters(), optimizer.masters))
        settings.append({
            "list": {"masters": optimizer.masters},
            "dict": {"masters": {"weight": optimizer.masters[0]}},
            "pairs": {"masters": pairs},
            "hook": {"on_parameters_changed": lambda pairs=pairs: methods.copy_to_masters(pairs)},
        }[form])

    from world import all_at_once

    def live(i):
        model, optimizer = made[i]
        with methods.DiLoCo(model, communicator=Communicator(master), sync_every=2, min_peers=2, **EXACT, **settings[i]) as trainer:
            for _ in range(8):
                optimizer.step()
                trainer.step()

    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        all_at_once(lambda: live(0), lambda: live(1))
    assert torch.equal(made[0][1].masters[0], made[1][1].masters[0])
    assert made[0][1].masters[0].mean() > 0.3


@pytest.mark.parametrize("settings", [{}, {"sync_every": 1}, {"kind": methods.AsyncDiLoCo}], ids=["every other step", "every step", "async"])
def test_search_finds_masters_and_warns(master, settings):
    settings = dict(settings)
    with pytest.warns(RuntimeWarning, match="trains alone.*Found 1 tensors"):
        assert distance(master, Mastered, lambda *_: None, steps=16, find_masters=True, **settings) < 0.1


def test_trainer_does_not_search_for_masters_by_default(master, monkeypatch):
    monkeypatch.setattr(_masters, "_all_tensors", lambda: pytest.fail("the process was searched"))
    with pytest.warns(RuntimeWarning, match="trains alone.*find_masters=True"):
        distance(master, Mastered, lambda *_: None)


class Hidden(Mastered):
    """An optimizer that keeps its masters in one row, which no search finds."""

    def __init__(self, model, peer):
        super().__init__(model, peer)
        self.row = torch.cat([master.reshape(-1) for master in self.masters])
        self.masters = [self.row]

    def step(self):
        with torch.no_grad():
            self.row.sub_(0.05 * (self.row - self.place))
            self.parameters[0].copy_(self.row.reshape(self.parameters[0].shape))


def test_unknown_masters_cause_a_warning_with_the_remedy(master):
    with pytest.warns(RuntimeWarning, match="trains alone.*masters=optimizer.*on_parameters_changed"):
        distance(master, Hidden, lambda *_: None)


def test_search_ignores_tensors_that_are_equal_by_chance(master):
    zeros = [torch.zeros(2) for _ in range(5)]

    class WithBias(Mastered):
        def step(self):
            with torch.no_grad():
                self.masters[0].sub_(0.05 * (self.masters[0] - self.place))
                self.parameters[0].copy_(self.masters[0])
                self.parameters[1].copy_(self.masters[1])  # zeros, like other tensors of the process

    def live(i, model, trainer):
        with torch.no_grad():
            model.bias.zero_()
        optimizer = WithBias(model, i)
        for _ in range(12):
            optimizer.step()
            trainer.step()
        return optimizer.masters[0].clone()

    with pytest.warns(RuntimeWarning, match="Found 2 tensors"):
        a, b = together(master, lambda i: low_precision(i, bias=True), live, **EXACT, sync_every=2, find_masters=True)
    assert torch.equal(a, b) and all(torch.equal(z, torch.zeros(2)) for z in zeros)


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW, torch.optim.Adagrad], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("sync_every", [1, 2, 5])
def test_ordinary_optimizers_cause_no_warning(master, optimizer, sync_every):
    def live(i, model, trainer):
        inner = optimizer(model.parameters(), lr=0.05)
        generator = torch.Generator().manual_seed(i)
        for _ in range(30):
            inner.zero_grad()
            (model(torch.randn(8, 6, generator=generator)) - i).square().mean().backward()
            inner.step()
            trainer.step()

    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        together(master, lambda i: torch.nn.Linear(6, 3), live, sync_every=sync_every)


def test_hooks_are_called_when_parameters_change(master):
    calls = []
    model = torch.nn.Linear(2, 2)
    trainer = methods.DiLoCo(model, communicator=Communicator(master), sync_every=3)
    handle = trainer.register_parameters_hook(lambda: calls.append("changed"))
    trainer.join()
    assert len(calls) == 1
    for _ in range(5):
        with torch.no_grad():
            model.weight.add_(1.0)
        trainer.step()
    assert len(calls) == 2
    handle.remove()
    trainer.step()
    assert len(calls) == 2
    with pytest.raises(TypeError, match="hook is a int"):
        trainer.register_parameters_hook(3)
    trainer.finish()


def test_masters_of_a_wrong_size_are_refused(master):
    model = low_precision(0)

    def make(masters):
        methods.DiLoCo(model, communicator=Communicator(master), masters=masters)

    with pytest.raises(ValueError, match="masters has 2 tensors, and 1 are trained"):
        make([torch.zeros(2, 4)] * 2)
    with pytest.raises(ValueError, match="'weight' has 3 elements, and the parameter 8"):
        make([torch.zeros(3)])
    with pytest.raises(ValueError, match="masters names 'bias'"):
        make({"bias": torch.zeros(2)})
    with pytest.raises(TypeError, match="SGD without masters|masters is a SGD"):
        make(torch.optim.SGD(model.parameters(), lr=0.1))


def test_copy_keeps_master_elements_that_round_to_the_parameter():
    low = torch.tensor([1.0, 2.0, 3.0], dtype=torch.bfloat16)
    high = torch.tensor([1.0009, 2.5, 3.0])
    methods.copy_to_masters([(low, high)])
    assert high.tolist() == [pytest.approx(1.0009), 2.0, 3.0]
    with pytest.raises(ValueError, match="2 elements"):
        methods.copy_to_masters([(low, torch.zeros(2))])


class Prepared(torch.optim.Optimizer):
    """A wrapper like that of Accelerate.

    Its class is an optimizer that was never initialized, and it makes a step only when gradients have been accumulated.
    """

    def __init__(self, optimizer, every=1):
        self.optimizer = optimizer
        self.every = every
        self.calls = 0

    def step(self, closure=None):
        self.calls += 1
        if self.calls % self.every == 0:
            self.optimizer.step(closure)


@pytest.mark.parametrize("wrap", [Prepared, lambda o: Prepared(Prepared(o)), lambda o: type("Private", (), {"_optimizer": o, "step": o.step})()],
                         ids=["once", "twice", "private"])
def test_wrapped_optimizer_is_attached(master, wrap):
    model = torch.nn.Linear(2, 2)
    optimizer = wrap(torch.optim.AdamW(model.parameters(), lr=0.01))
    with methods.DiLoCo(model, communicator=Communicator(master), sync_every=2) as trainer:
        handle = trainer.attach(optimizer)
        model(torch.ones(1, 2)).sum().backward()
        for _ in range(6):
            optimizer.step()
        assert trainer.status.inner_steps == 6 and trainer.status.outer_steps == 3
        handle.remove()
        optimizer.step()
        assert trainer.status.inner_steps == 6


def test_steps_that_only_accumulate_are_not_counted(master):
    model = torch.nn.Linear(2, 2)
    optimizer = Prepared(torch.optim.SGD(model.parameters(), lr=0.01), every=4)
    with methods.DiLoCo(model, communicator=Communicator(master), sync_every=1) as trainer:
        trainer.attach(optimizer)
        for _ in range(8):
            optimizer.step()
        assert trainer.status.inner_steps == 2


def test_attach_refuses_other_objects_and_names_the_remedy(master):
    model = low_precision(0)
    with methods.DiLoCo(model, communicator=Communicator(master)) as trainer:
        with pytest.raises(TypeError, match="a object cannot be attached.*register_step_post_hook"):
            trainer.attach(object())
        wrapper = Megatron(model, 0)
        wrapper.optimizer = torch.optim.SGD(wrapper.masters, lr=0.1)
        with pytest.raises(TypeError, match="Megatron cannot be attached.*masters="):
            trainer.attach(wrapper)
        with pytest.raises(TypeError, match="other tensors than this trainer has"):
            trainer.attach(Prepared(torch.optim.SGD([copy.deepcopy(p) for p in model.parameters()], lr=0.1)))
