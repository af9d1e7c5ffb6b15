"""Tests that a trainer follows replaced tensors of a model, and raises on a change that a run cannot follow."""

import warnings

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: tests of training methods are skipped")

from training import EXACT, member, together  # noqa: E402

import pccl.torch as methods  # noqa: E402
from pccl import Communicator  # noqa: E402


@pytest.fixture
def alone(master):
    """Makes a joined trainer of one peer, with an outer step at each step."""
    trainers = []

    def make(model, sync_every=1, **settings):
        trainer = methods.DiLoCo(model, communicator=Communicator(master), sync_every=sync_every, **EXACT, **settings)
        trainers.append(trainer)
        trainer.join()
        return trainer

    yield make
    for trainer in trainers:
        trainer.close()
        trainer.communicator.close()


class Counting(torch.nn.Module):
    """A module with two buffers that count steps: `forward` assigns one and changes the other in place."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 2)
        self.register_buffer("assigned", torch.zeros(1))
        self.register_buffer("in_place", torch.zeros(1))

    def forward(self, x):
        self.assigned = self.assigned + 1.0
        self.in_place.add_(1.0)
        return self.layer(x)


def test_newcomer_receives_buffers_that_forward_assigns(master):
    first, second = Counting(), Counting()
    with member(master, first, lambda: first(torch.ones(1, 2))) as stepped:
        assert stepped.wait(30)
        with methods.DiLoCo(second, communicator=Communicator(master), sync_every=1):
            assert second.assigned.item() == second.in_place.item() > 0


class Odd(torch.nn.Module):
    """A module with buffers of all kinds, whose values depend on `value`."""

    def __init__(self, value):
        super().__init__()
        self.layer = torch.nn.Linear(2, 2)
        self.register_buffer("flags", torch.tensor([value % 2 == 0, True, False]))
        self.register_buffer("complex", torch.full((2, 2), complex(value, -value)))
        self.register_buffer("conjugated", torch.full((2,), complex(value, value)).conj())
        self.register_buffer("negated", torch.full((3,), complex(0, value)).conj().imag)
        self.register_buffer("float8", torch.full((5,), float(value)).to(torch.float8_e4m3fn))
        self.register_buffer("words", torch.full((3,), value, dtype=torch.uint16))
        self.register_buffer("scalar", torch.tensor(float(value), dtype=torch.float64))
        self.register_buffer("none", torch.zeros(0, 7))
        self.register_buffer("expanded", torch.full((1, 3), float(value)).expand(4, 3))
        self.register_buffer("transposed", torch.arange(6.0).add(value).reshape(2, 3).t())
        self.register_buffer("tied", self.expanded)


def same(a, b):
    a, b = a.detach().resolve_conj().resolve_neg().contiguous(), b.detach().resolve_conj().resolve_neg().contiguous()
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a.reshape(-1).view(torch.uint8), b.reshape(-1).view(torch.uint8))


def test_newcomer_receives_buffers_of_every_kind(master):
    first, second = Odd(4), Odd(3)
    with member(master, first) as stepped:
        assert stepped.wait(30)
        with methods.DiLoCo(second, communicator=Communicator(master), sync_every=1) as trainer:
            for (name, got), wanted in zip(second.named_buffers(), Odd(4).buffers()):
                assert same(got, wanted), name
            assert second.tied is second.expanded
            trainer.step()
    for (name, held), wanted in zip(first.named_buffers(), Odd(4).buffers()):
        assert same(held, wanted), name


def test_expanded_buffer_is_replaced_if_values_do_not_fit(master):
    def make(values):
        model = torch.nn.Linear(2, 2)
        model.register_buffer("scale", values)
        model.register_buffer("tied", model.scale)
        return model

    first, second = make(torch.tensor([1.0, 2.0, 3.0])), make(torch.ones(1).expand(3))
    with member(master, first) as stepped:
        assert stepped.wait(30)
        with methods.DiLoCo(second, communicator=Communicator(master), sync_every=1) as trainer:
            assert second.scale.tolist() == [1.0, 2.0, 3.0] and second.tied is second.scale
            trainer.step()


def test_constant_expanded_buffers_are_accepted(master):
    def make(i):
        model = torch.nn.Linear(2, 2)
        model.register_buffer("scale", torch.ones(1).expand(4))
        return model

    assert together(master, make, lambda i, model, trainer: (trainer.step().contributors, model.scale.stride())) == [(2, (0,))] * 2


def test_quantized_and_sparse_buffers_are_refused_by_name(master):
    for buffer in (torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8), torch.eye(3).to_sparse()):
        model = torch.nn.Linear(2, 2)
        model.register_buffer("odd", buffer)
        with pytest.raises(TypeError, match="buffer 'odd' is (quantized|of layout).*share_buffers"):
            methods.DiLoCo(model, communicator=Communicator(master))
        methods.DiLoCo(model, communicator=Communicator(master), share_buffers=lambda name: name != "odd").close()


def test_parameters_without_data_are_refused_by_name(master):
    with pytest.raises(ValueError, match="'weight' is on the meta device"):
        methods.DiLoCo(torch.nn.Linear(2, 2, device="meta"), communicator=Communicator(master))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lazy = torch.nn.LazyLinear(2)
    with pytest.raises(ValueError, match="'weight' is not initialized"):
        methods.DiLoCo(lazy, communicator=Communicator(master))
    with pytest.raises(TypeError, match=r"the name of parameters\[0\] is 7"):
        methods.DiLoCo([(7, torch.ones(1))], communicator=Communicator(master))
    with pytest.raises(TypeError, match=r"parameters\[0\] is of type list: give tensors"):
        methods.DiLoCo([[1.0]], communicator=Communicator(master))
    with pytest.raises(ValueError, match="'w' is an expanded view"):
        methods.DiLoCo([("w", torch.ones(1).expand(3))], communicator=Communicator(master))


def half_way(master, replace):
    """Lets two peers change their models by `replace` and make an outer step.

    Returns the weights of both, and for each peer its old tensor now and before the change.
    """

    def live(i, model, trainer):
        old = model.weight
        trainer.step()
        before = old.detach().clone()
        replace(i, model)
        trainer.step()
        return model.weight.detach().clone(), old.detach().clone(), before, old is model.weight

    (a, old_a, before_a, _), (b, old_b, before_b, _) = together(master, lambda i: torch.nn.Linear(3, 2, bias=False), live, **EXACT)
    return a, b, (old_a, before_a), (old_b, before_b)


def test_replaced_parameter_is_averaged_and_the_old_one_is_kept(master):
    def replace(i, model):
        model.weight = torch.nn.Parameter(torch.full((2, 3), float(i + 1)))

    a, b, *olds = half_way(master, replace)
    assert torch.allclose(a, torch.full((2, 3), 1.5)) and torch.equal(a, b)
    assert all(torch.equal(now, before) for now, before in olds)


def test_load_state_dict_with_assign_is_followed(master):
    a, b, *_ = half_way(master, lambda i, model: model.load_state_dict({"weight": torch.full((2, 3), float(i + 1))}, assign=True))
    assert torch.allclose(a, torch.full((2, 3), 1.5)) and torch.equal(a, b)


def test_parameter_that_becomes_non_contiguous_is_followed(master):
    def replace(i, model):
        model.weight = torch.nn.Parameter(torch.full((3, 2), float(i + 1)).t())

    a, b, *_ = half_way(master, replace)
    assert torch.allclose(a, torch.full((2, 3), 1.5)) and torch.equal(a, b)


def test_module_that_is_replaced_is_followed(master):
    def make(i):
        return torch.nn.Sequential(torch.nn.Linear(2, 2, bias=False))

    def live(i, model, trainer):
        trainer.step()
        model[0] = torch.nn.Linear(2, 2, bias=False)
        model[0].weight.data.fill_(float(i + 1))
        trainer.step()
        return model[0].weight.detach()

    assert all(torch.allclose(weight, torch.full((2, 2), 1.5)) for weight in together(master, make, live, **EXACT))


def test_values_loaded_before_joining_are_used(master):
    model = torch.nn.Linear(2, 2, bias=False)
    trainer = methods.DiLoCo(model, communicator=Communicator(master), **EXACT)
    model.load_state_dict({"weight": torch.full((2, 2), 7.0)})
    trainer.join()
    assert torch.equal(model.weight, torch.full((2, 2), 7.0))
    trainer.close()
    trainer.communicator.close()


def test_tensors_passed_directly_are_held(alone):
    model = torch.nn.Linear(2, 2, bias=False)
    trainer = alone(model.named_parameters())
    held = model.weight
    model.weight = torch.nn.Parameter(torch.zeros(2, 2))
    with torch.no_grad():
        held.fill_(3.0)
    trainer.step()
    assert torch.equal(trainer.outer_parameters()["weight"], torch.full((2, 2), 3.0))
    assert torch.equal(model.weight, torch.zeros(2, 2))
    held.data = torch.zeros(3)
    with pytest.raises(RuntimeError, match=r"'weight': its shape was \[2, 2\].*is \[3\] now"):
        trainer.step()


def unfreeze(model):
    model[0].requires_grad_(True)


def add_parameter(model):
    model.extra = torch.nn.Parameter(torch.ones(2))


def add_buffer(model):
    model.register_buffer("extra", torch.ones(2))


def remove_parameter(model):
    model[1].bias = None


def remove_buffer(model):
    model.kept = None


def tie(model):
    model[1].weight = model[0].weight


def reshape_buffer(model):
    model.kept = torch.ones(9)


def retype_buffer(model):
    model.kept = model.kept.double()


def reshape_parameter(model):
    model[1].weight = torch.nn.Parameter(torch.ones(5, 2))


CHANGES = {
    unfreeze: r"parameter '0.weight'.*requires a gradient now",
    add_parameter: r"parameter 'extra'.*did not have it as a trained parameter",
    add_buffer: r"buffer 'extra'.*share_buffers",
    remove_parameter: r"parameter '1.bias'.*does not have it any more",
    remove_buffer: r"buffer 'kept'.*does not have it any more.*share_buffers",
    tie: r"parameter '1.weight'.*tied",
    reshape_buffer: r"buffer 'kept'.*shape was \[2\].*is \[9\] now.*share_buffers",
    retype_buffer: r"buffer 'kept'.*type was float32.*is float64 now",
    reshape_parameter: r"parameter '1.weight'.*shape was \[2, 2\].*is \[5, 2\] now",
    torch.nn.Module.half: r"(buffer 'kept'|parameter '0.weight').*type was float32.*is float16 now",
}


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_error_names_a_change_that_a_run_cannot_follow(alone, change):
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    model[0].requires_grad_(False)
    model.register_buffer("kept", torch.ones(2))
    trainer = alone(model)
    trainer.step()
    change(model)
    with pytest.raises(RuntimeError, match=CHANGES[change]):
        trainer.step()


@pytest.mark.parametrize("change", [unfreeze, torch.nn.Module.half, remove_parameter, reshape_parameter], ids=lambda change: change.__name__)
def test_changes_are_detected_in_the_middle_of_a_round(alone, change):
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    model[0].requires_grad_(False)
    trainer = alone(model, sync_every=100)
    trainer.step()
    change(model)
    with pytest.raises(RuntimeError, match=CHANGES[change]):
        trainer.step()


def test_layer_frozen_later_causes_one_warning(alone):
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    trainer = alone(model, sync_every=3)
    model[0].weight.requires_grad_(False)
    with pytest.warns(RuntimeWarning, match="'0.weight' does not require a gradient any more"):
        trainer.step()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(6):
            trainer.step()


def test_default_device_does_not_matter(master):
    torch.set_default_device("meta")
    try:
        made = together(master, lambda i: torch.nn.Linear(3, 3, device="cpu"), lambda i, model, trainer: (trainer.step(), trainer.outer_parameters())[1])
        trainer = methods.DiLoCo(torch.nn.Linear(3, 3, device="cpu"), communicator=Communicator(master))
        assert {tensor.device.type for tensor in [*trainer.outer_parameters().values(), *trainer.state_dict().values()]} == {"cpu"}
        trainer.close()
    finally:
        torch.set_default_device("cpu")
    assert all(tensor.device.type == "cpu" for outer in made for tensor in outer.values())
