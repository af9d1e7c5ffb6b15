"""Tests of the arguments of training methods: errors name wrong types, and members of other enumerations are refused."""

import copy
import inspect
import pickle

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: tests of training methods are skipped")

import pccl  # noqa: E402
import pccl.torch as methods  # noqa: E402
from pccl import _pccl  # noqa: E402
from pccl._enums import Method  # noqa: E402
from pccl.torch import Fragments, Graph, Merge, Newcomers, OuterOptimizer, Partners, Penalty, Variance  # noqa: E402


@pytest.fixture(scope="module")
def communicator():
    with pccl.MasterNode("127.0.0.1:0") as node:
        node.run()
        with pccl.Communicator(f"127.0.0.1:{node.port}") as communicator:
            yield communicator


ENUMERATIONS = [
    (methods.DiLoCo, "outer_optimizer", OuterOptimizer.NESTEROV), (methods.AsyncDiLoCo, "newcomers", Newcomers.SHARE_PENDING),
    (methods.StreamingDiLoCo, "fragment_pattern", Fragments.SEQUENTIAL), (methods.CO2, "penalty_mode", Penalty.CONSTANT),
    (methods.Gossip, "graph", Graph.RANDOM_REGULAR), (methods.Gossip, "partners", Partners.ONE), (methods.Gossip, "merge", Merge.AFTER_ALL),
    (methods.Gossip, "variance", Variance.OF_OWN), (methods.DiLoCo, "algorithm", pccl.ReduceAlgorithm.RING), (methods.DiLoCo, "on_peer_loss", pccl.LossPolicy.REPAIR),
]


@pytest.mark.parametrize(("method", "name", "member"), ENUMERATIONS, ids=lambda part: part if isinstance(part, str) else "")
def test_settings_accept_members_and_names(communicator, method, name, member):
    weights = torch.nn.Linear(2, 2)
    for value in (member, member.name, member.name.lower()):
        method(weights, communicator=communicator, **{name: value}).close()
    for value in (1, True, pccl.Result.SUCCESS, pccl.GraphKind.RING, 1.0):
        with pytest.raises(TypeError, match=rf"^{name} is .*give a pccl\.(torch\.)?{type(member).__name__} or its name"):
            method(weights, communicator=communicator, **{name: value})
    with pytest.raises(ValueError, match=f"^{name} is 'nothing', not one of"):
        method(weights, communicator=communicator, **{name: "nothing"})


METHODS = [
    methods.Local, methods.DiLoCo, methods.AsyncDiLoCo, methods.EagerDiLoCo, methods.StreamingDiLoCo, methods.CO2, methods.Gossip, methods.PushSum,
]
C_NAMES = {"outer_lr": "outer_learning_rate", "round_s": "round_ms", "rejoin_s": "rejoin_ms", "exchange_wait_s": "exchange_wait_ms"}
NOT_IN_C = {
    "self", "parameters", "communicator", "island", "quantization", "error_feedback", "algorithm", "on_peer_loss", "share_buffers", "share_frozen",
    "masters", "find_masters", "on_parameters_changed", "leave", "uncorrected", "state_file",
}


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)
def test_signature_has_every_default_of_the_library(method):
    defaults = _pccl.trainer_defaults(method._METHOD)
    parameters = inspect.signature(method).parameters
    for name, parameter in parameters.items():
        assert parameter.kind is not inspect.Parameter.VAR_KEYWORD
        assert name == "parameters" or f" {name}: " in method.__doc__
        if name not in NOT_IN_C:
            expected = defaults[C_NAMES.get(name, name)] / (1000 if name.endswith("_s") else 1)
            assert parameter.default == pytest.approx(expected), name


def test_every_setting_of_the_library_is_in_a_signature():
    shown = {C_NAMES.get(name, name) for method in METHODS for name in inspect.signature(method).parameters} - NOT_IN_C
    assert shown == set(_pccl.trainer_defaults(Method.DILOCO))


@pytest.mark.parametrize(
    ("method", "name"),
    [
        (methods.DiLoCo, "newcomers"), (methods.DiLoCo, "fragments"), (methods.StreamingDiLoCo, "weighted"), (methods.EagerDiLoCo, "sharded"),
        (methods.CO2, "outer_optimizer"), (methods.Gossip, "quantization"), (methods.PushSum, "own_weight"), (methods.Local, "sync_every"),
    ],
)
def test_setting_of_another_method_raises_type_error(communicator, method, name):
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'"):
        method(torch.nn.Linear(2, 2), communicator=communicator, **{name: 1})


def test_methods_share_only_a_base_class(communicator):
    assert all(method.__bases__ == (methods.Trainer,) for method in METHODS)


SETTINGS = [
    (methods.DiLoCo, {
        "sync_every": ["100", 1.5, True], "outer_lr": ["0.7", True], "outer_momentum": [[0.9]], "weighted": [1, "yes"], "sharded": [0],
        "min_peers": ["2"], "verify_every": [1.5], "optimize_topology": ["no"], "round_s": ["1"], "rejoin_s": ["1"], "error_feedback": [1],
        "share_buffers": ["yes"], "quantization": [pccl.DataType.INT8, pccl.ReduceOperandDescriptor(pccl.DataType.FLOAT)],
        "communicator": ["localhost:1"], "state_file": [4],
    }),
    (methods.StreamingDiLoCo, {"fragments": ["2"], "overlap_steps": [1.5], "mixing": ["0.5"]}),
    (methods.CO2, {"penalty": ["1"], "clip_momentum": ["1"]}),
    (methods.Gossip, {
        "graph_degree": ["4"], "graph_seed": [1.5], "own_weight": ["0.5"], "weigh_by_age": [1, "yes"], "exchange_wait_s": ["1", True],
        "uncorrected": [4],
    }),
]


@pytest.mark.parametrize(
    ("method", "name", "value"), [(method, name, value) for method, table in SETTINGS for name, values in table.items() for value in values],
    ids=lambda part: part if isinstance(part, str) else "")
def test_settings_of_wrong_types_are_named(communicator, method, name, value):
    with pytest.raises(TypeError, match=rf"^{name} is") as caught:
        method(torch.nn.Linear(2, 2), **{"communicator": communicator, name: value})
    assert "incompatible function arguments" not in str(caught.value)


@pytest.mark.parametrize("name", ["sync_every", "min_peers", "round_s"])
def test_settings_beyond_their_range_are_named(communicator, name):
    for value in (-1, 1 << 40):
        with pytest.raises(ValueError, match=f"^{name}"):
            methods.DiLoCo(torch.nn.Linear(2, 2), communicator=communicator, **{name: value})


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        (torch.optim.SGD([torch.ones(1)], 0.1).param_groups, r"parameters\[0\] is a dict: parameters looks like an optimizer's param_groups"),
        (torch.optim.SGD([torch.ones(1)], 0.1), "parameters is of type SGD"), (torch.ones(2, 2), "parameters is of type Tensor"),
        ({"w": torch.ones(1)}, "items"), (None, "parameters is None"), (["w"], r"parameters\[0\] is 'w'"),
        ([(None, torch.ones(1))], r"the name of parameters\[0\] is None"), ([("w", 3)], r"parameters\[0\] is 3"),
        ([("w", torch.ones(2, 2).to_sparse())], "w.* layout torch.sparse_coo"), ([("w", torch.ones(2, device="meta"))], "w.* meta"),
        ([("w", torch.ones(1).expand(3))], "w.* expanded"),
        ([("w", torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8))], "w.* quantized"),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_parameters_of_wrong_types_are_refused(communicator, parameters, words):
    with pytest.raises((TypeError, ValueError), match=words):
        methods.DiLoCo(parameters, communicator=communicator)


def test_trainer_calls_name_wrong_arguments(communicator):
    trainer = methods.DiLoCo(torch.nn.Linear(2, 2), communicator=communicator, weighted=True)
    for call in (trainer.join, trainer.step, trainer.end_round, trainer.finish):
        with pytest.raises(TypeError, match="^timeout is '5'"):
            call(timeout="5")
    with pytest.raises(TypeError, match="^weight is"):
        trainer.add_weight("5")
    for call in (trainer.save, trainer.load):
        with pytest.raises(TypeError, match="^path is"):
            call(5)
    for copied in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match=r"a pccl\.torch\.DiLoCo cannot be pickled or copied"):
            copied(trainer)
    trainer.close()


def test_negated_parameter_is_trained_by_value(communicator, tmp_path):
    """The memory of the parameter holds the value with the other sign."""
    weights = torch._neg_view(torch.full((3,), 2.0))
    trainer = methods.DiLoCo([("w", weights)], communicator=communicator)
    assert trainer.outer_parameters()["w"].tolist() == [-2.0] * 3
    trainer.save(tmp_path / "state")
    with torch.no_grad():
        weights.zero_()
    trainer.load(tmp_path / "state")
    assert weights.tolist() == [-2.0] * 3
    trainer.close()
