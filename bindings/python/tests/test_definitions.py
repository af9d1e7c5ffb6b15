"""Tests of the comparison of models when a peer joins, and of the tensors that newcomers receive."""

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: tests of training methods are skipped")

from training import EXACT, member, seeded, together  # noqa: E402

import pccl.torch as methods  # noqa: E402
from pccl import Communicator, PCCLError, Result  # noqa: E402


def refusal(master, first, second, settings=None, others=None):
    """Returns the error text of a peer with the model `second` that joins a run of `first`."""
    with member(master, first, **(settings or {})) as stepped:
        assert stepped.wait(30)
        trainer = methods.DiLoCo(second, communicator=Communicator(master), sync_every=1, **(settings if others is None else others) or {})
        with pytest.raises(PCCLError) as caught:
            trainer.join(timeout=30)
        trainer.close()
        trainer.communicator.close()
    assert caught.value.result == Result.INVALID_USAGE
    return str(caught.value)


def linear(rows, columns, name="weight", dtype=torch.float32):
    module = torch.nn.Module()
    module.register_parameter(name, torch.nn.Parameter(torch.ones(rows, columns, dtype=dtype)))
    return module


def test_shape_that_differs_is_refused_with_both_shapes(master):
    words = refusal(master, linear(4, 8), linear(8, 4))
    assert 'here "tensor 0: weight [8, 4] float32, trained"' in words
    assert 'in the run "tensor 0: weight [4, 8] float32, trained"' in words


def test_type_that_differs_is_refused_with_both_types(master):
    words = refusal(master, linear(4, 8), linear(4, 8, dtype=torch.bfloat16))
    assert "weight [4, 8] bfloat16" in words and "weight [4, 8] float32" in words


def test_name_that_differs_is_refused_with_both_names(master):
    words = refusal(master, linear(4, 8), linear(4, 8, name="kernel"))
    assert "kernel [4, 8]" in words and "weight [4, 8]" in words


def test_order_that_differs_is_refused(master):
    def make(names):
        module = torch.nn.Module()
        for name in names:
            module.register_parameter(name, torch.nn.Parameter(torch.ones(2)))
        return module

    words = refusal(master, make("ab"), make("ba"))
    assert '"tensor 0: b [2] float32, trained"' in words and '"tensor 0: a [2] float32, trained"' in words


def test_additional_tensor_is_refused_by_name(master):
    words = refusal(master, torch.nn.Linear(2, 2, bias=False), torch.nn.Linear(2, 2))
    assert 'here "tensor 1: bias [2] float32, trained"' in words and "in the run" in words


def test_layer_frozen_at_only_one_peer_is_refused(master):
    def make(frozen):
        model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1))
        model[0].requires_grad_(not frozen)
        return model

    words = refusal(master, make(True), make(False))
    assert "0.weight [2, 2] float32, trained" in words and "0.weight [2, 2] float32, frozen" in words


def test_settings_that_differ_are_refused_with_both_values(master):
    words = refusal(master, linear(2, 2), linear(2, 2), {"outer_lr": 0.5}, {"outer_lr": 0.25})
    assert "0.25" in words and "0.5" in words


def with_base(seed):
    """Makes a model with a frozen layer and a trained one."""
    with seeded(seed):
        model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 1))
    model[0].requires_grad_(False)
    return model


def test_first_peers_begin_with_one_frozen_base(master):
    bases = together(master, with_base, lambda i, model, trainer: (trainer.step(), model[0].weight.clone())[1], count=3)
    assert all(torch.equal(base, bases[0]) for base in bases)
    assert any(torch.equal(bases[0], with_base(i)[0].weight) for i in range(3))


def test_newcomer_receives_the_frozen_base(master):
    first, second = with_base(0), with_base(1)
    with member(master, first) as stepped:
        assert stepped.wait(30)
        with methods.DiLoCo(second, communicator=Communicator(master), sync_every=1):
            assert torch.equal(second[0].weight, with_base(0)[0].weight)
            assert torch.equal(second[0].bias, first[0].bias)
    assert torch.equal(first[0].weight, with_base(0)[0].weight)


def test_frozen_tensors_are_only_compared_on_request(master):
    words = refusal(master, with_base(0), with_base(1), {"share_frozen": "compare"})
    assert words.count("0.weight [4, 4] float32, frozen, content ") == 2
    with member(master, with_base(3), share_frozen="compare") as stepped:
        assert stepped.wait(30)
        with methods.DiLoCo(with_base(3), communicator=Communicator(master), sync_every=1, share_frozen="compare") as trainer:
            assert trainer.step().world_size == 2


def test_frozen_tensors_and_buffers_are_ignored_on_request(master):
    def make(i):
        model = with_base(i)
        model.register_buffer("scale", torch.full((i + 1,), float(i)))
        return model

    def live(i, model, trainer):
        trainer.step()
        return torch.equal(model[0].weight, with_base(i)[0].weight) and model.scale.shape == (i + 1,)

    assert together(master, make, live, share_frozen=False, share_buffers=False) == [True, True]
    with pytest.raises(TypeError, match="share_frozen is 'given'"):
        methods.DiLoCo(make(0), communicator=Communicator(master), share_frozen="given")
    with pytest.raises(TypeError, match="share_buffers is 'none'"):
        methods.DiLoCo(make(0), communicator=Communicator(master), share_buffers="none")


def test_first_peers_begin_with_one_version_of_buffers(master):
    def make(i):
        model = torch.nn.Linear(2, 2)
        model.register_buffer("scale", torch.full((3,), float(i + 1)))
        model.register_buffer("scratch", torch.full((3,), float(i + 1)), persistent=False)
        return model

    def live(i, model, trainer):
        found = (model.scale.tolist(), model.scratch.tolist())
        model.scale.fill_(10.0 + i)
        trainer.step()
        return found, model.scale[0].item()

    (first, one), (second, other) = together(master, make, live)
    assert first == second and first[0] == first[1]
    assert (one, other) == (10.0, 11.0)  # members can differ
    (first, _), (second, _) = together(master, make, live, share_buffers="persistent")
    assert first[0] == second[0] and first[1] != second[1]
    (first, _), (second, _) = together(master, make, live, share_buffers=lambda name: name == "scratch")
    assert first[0] != second[0] and first[1] == second[1]


class Wrapper(torch.nn.Module):
    """A wrapper that holds only a module, like DistributedDataParallel."""

    def __init__(self, module):
        super().__init__()
        self.module = module


class Block(torch.nn.Module):
    def __init__(self, name, module):
        super().__init__()
        self.before = torch.nn.Linear(2, 2)
        self.add_module(name, module)


@pytest.mark.parametrize("wrap", [torch.compile, Wrapper, lambda m: Wrapper(torch.compile(m))], ids=["compile", "module", "both"])
def test_wrapped_and_plain_models_train_together(master, wrap):
    outer = together(
        master, lambda i: wrap(torch.nn.Linear(2, 2)) if i == 0 else torch.nn.Linear(2, 2), lambda i, model, trainer: (trainer.step(), trainer.outer_parameters())[1]
    )
    assert [sorted(parameters) for parameters in outer] == [["bias", "weight"]] * 2


def test_wrappers_inside_a_model_are_not_part_of_names(master):
    def names(model):
        trainer = methods.DiLoCo(model, communicator=Communicator(master))
        try:
            return list(trainer.outer_parameters())
        finally:
            trainer.close()

    plain = ["before.weight", "before.bias", "inner.weight", "inner.bias"]
    assert names(Block("inner", torch.nn.Linear(2, 2))) == plain
    assert names(Block("inner", torch.compile(torch.nn.Linear(2, 2)))) == plain
    assert names(Block("inner", Wrapper(torch.nn.Linear(2, 2)))) == plain
    assert names(Block("inner", Block("_fsdp_wrapped_module", torch.nn.Linear(2, 2)))) == [
        "before.weight", "before.bias", "inner.before.weight", "inner.before.bias", "inner.weight", "inner.bias",
    ]
    # Here the program itself chose the name "module".
    assert names(Block("module", torch.nn.Linear(2, 2))) == ["before.weight", "before.bias", "module.weight", "module.bias"]
    assert names((f"module._orig_mod.{name}", p) for name, p in torch.nn.Linear(2, 2).named_parameters()) == ["weight", "bias"]


def test_names_keep_wrapper_parts_if_they_would_be_equal(master):
    model = torch.nn.Linear(2, 2)
    model.add_module("_orig_mod", torch.nn.Linear(2, 2))
    trainer = methods.DiLoCo(model, communicator=Communicator(master))
    assert list(trainer.outer_parameters()) == ["weight", "bias", "_orig_mod.weight", "_orig_mod.bias"]
    trainer.close()


def test_checkpoint_of_a_wrapped_model_fits_the_plain_one(master, tmp_path):
    first, second = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)
    trainer = methods.DiLoCo(torch.compile(first), communicator=Communicator(master), **EXACT)
    trainer.save(tmp_path / "state")
    state = (tmp_path / "state").read_bytes()
    assert b"_orig_mod" not in state
    trainer.close()
    plain = methods.DiLoCo(second, communicator=Communicator(master), **EXACT)
    plain.load(tmp_path / "state")
    assert torch.equal(first.weight, second.weight)
    plain.close()
