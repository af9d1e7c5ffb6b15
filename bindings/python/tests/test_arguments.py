"""Tests that an error names an argument of a wrong type or value, and that no value is converted silently."""

import copy
import enum
import pickle
import uuid

import numpy as np
import pytest
from world import all_at_once, world

import pccl
from pccl import DataType, LossPolicy, GraphKind, QuantizationAlgorithm, QuantizationOptions, ReduceOp, ReduceOperandDescriptor
from pccl._arguments import flag, integer, number, parse_enum, path, seconds, text

SELF = uuid.UUID(int=1)
FLOATS = ReduceOperandDescriptor(DataType.FLOAT)


class Tag(enum.IntEnum):
    """An enumeration of a program that names its tags."""

    GRADIENTS = 7


@pytest.fixture(scope="module")
def alone():
    """The only member of a run."""
    with pccl.MasterNode("127.0.0.1:0") as node:
        node.run()
        with pccl.Communicator(f"127.0.0.1:{node.port}") as communicator:
            communicator.connect()
            yield communicator


def reduce(alone, **arguments):
    values = np.ones(3, np.float32)
    alone.all_reduce(values, values, **{"op": ReduceOp.SUM, "timeout": 5, **arguments})


def multiple(alone, **arguments):
    values = np.ones(3, np.float32)
    fields = {"count": 3, "op": ReduceOp.SUM, "tag": 0, "operand_descriptor": FLOATS, **arguments}
    alone.all_reduce_multiple_with_retry([pccl.ReduceOpDescriptor.from_numpy(values, values, pccl.ReduceDescriptor(**fields))])


def halves(alone, **arguments):
    values = np.ones(3, np.float32)
    shard = alone.shard(3)
    alone.reduce_scatter(values, values, **{"shard": shard, "op": ReduceOp.SUM, **arguments})


def gather(alone, **arguments):
    values = np.ones(3, np.float32)
    alone.all_gather(values, values, **{"shard": alone.shard(3), **arguments})


def launch(alone, **arguments):
    values = np.ones(3, np.float32)
    alone.all_reduce_async(values, values, **{"op": ReduceOp.SUM, **arguments})


def quantize(alone, **arguments):
    reduce(alone, quantization_options=QuantizationOptions(**arguments))


def operand(alone, **arguments):
    reduce(alone, operand_descriptor=ReduceOperandDescriptor(**{"datatype": DataType.FLOAT, **arguments}))


def state(**arguments):
    return pccl.TensorInfo(**{"tensor": bytearray(3), "name": "w", **arguments})


def sync(alone, **arguments):
    alone.sync_shared_state(**{"shared_state": pccl.SharedState([state()]), **arguments})


def revise(value):
    pccl.SharedState([state()]).revision = value


ENUMERATIONS = [
    ("op", reduce), ("op", launch), ("op", multiple), ("op", halves), ("algorithm", reduce), ("algorithm", launch), ("algorithm", halves),
    ("algorithm", gather), ("on_peer_loss", reduce), ("on_peer_loss", launch), ("quantized_datatype", quantize), ("algorithm", quantize),
    ("scale", quantize), ("datatype", operand), ("distribution_hint", operand), ("strategy", sync),
    ("attribute", lambda alone, attribute: alone.get_attribute(attribute)), ("kind", lambda alone, kind: alone.set_neighbour_graph(kind)),
    ("compression", lambda alone, compression: pccl.Communicator("localhost:1", compression=compression)),
]


@pytest.mark.parametrize("value", [1, True, None, 2.0, np.int32(1), pccl.Result.SUCCESS, Tag.GRADIENTS, [ReduceOp.SUM]], ids=repr)
@pytest.mark.parametrize(("name", "call"), ENUMERATIONS, ids=lambda part: getattr(part, "__name__", part))
def test_enumerations_refuse_numbers_and_other_values(alone, name, call, value):
    with pytest.raises(TypeError, match=rf"^{name} is .*give a pccl\.\w+ or its name, one of '"):
        call(alone, **{name: value})


@pytest.mark.parametrize(("name", "call"), ENUMERATIONS, ids=lambda part: getattr(part, "__name__", part))
def test_enumerations_refuse_unknown_names(alone, name, call):
    with pytest.raises(ValueError, match=f"^{name} is 'nothing', not one of '"):
        call(alone, **{name: "nothing"})


def test_enumerations_accept_members_and_names():
    assert parse_enum(ReduceOp, ReduceOp.MAX, "op") is parse_enum(ReduceOp, "MAX", "op") is ReduceOp.MAX
    assert parse_enum(LossPolicy, "Repair", "on_peer_loss") is parse_enum(LossPolicy, "REPAIR", "on_peer_loss") is LossPolicy.REPAIR
    with pytest.raises(ValueError, match="op is 'max', not one of 'SUM', 'AVG', 'PROD', 'MAX', 'MIN'"):
        parse_enum(ReduceOp, "max", "op")
    options = QuantizationOptions("INT8", "BLOCK_SCALE", scale="POWER_OF_TWO")
    assert options == QuantizationOptions(DataType.INT8, QuantizationAlgorithm.BLOCK_SCALE, 0, pccl.QuantizationScale.POWER_OF_TWO)
    assert type(options.algorithm) is QuantizationAlgorithm
    assert type(ReduceOperandDescriptor("DOUBLE", "NORMAL").datatype) is DataType


def test_names_reach_the_library(master):
    with world(master, 2) as members:
        arrays = [np.array([1.0, 5.0]), np.array([3.0, 2.0])]
        all_at_once(*[lambda m=m, a=a: m.all_reduce(a, a, op="MAX", algorithm="Ring") for m, a in zip(members, arrays)])
        assert [a.tolist() for a in arrays] == [[3.0, 5.0]] * 2
        assert members[0].get_attribute("LOCAL_WORLD_SIZE") == 2


def test_operators_of_torch_are_accepted_by_meaning(master):
    dist = pytest.importorskip("torch.distributed", reason="PyTorch is not installed")
    wanted = {"SUM": ReduceOp.SUM, "AVG": ReduceOp.AVG, "PRODUCT": ReduceOp.PROD, "MIN": ReduceOp.MIN, "MAX": ReduceOp.MAX}
    for name, op in wanted.items():
        theirs = getattr(dist.ReduceOp, name)
        assert parse_enum(ReduceOp, theirs, "op") is op
        assert parse_enum(ReduceOp, dist.ReduceOp(theirs), "op") is op
    for theirs in (dist.ReduceOp.BAND, dist.ReduceOp.BOR, dist.ReduceOp.BXOR, dist.ReduceOp.PREMUL_SUM, dist._make_nccl_premul_sum(2.0)):
        with pytest.raises(TypeError, match=r"op is torch\.distributed\.ReduceOp\.\w+, which this library does not compute"):
            parse_enum(ReduceOp, theirs, "op")
    with pytest.raises(TypeError, match="on_peer_loss is"):
        parse_enum(LossPolicy, dist.ReduceOp.SUM, "on_peer_loss")
    with world(master, 2) as members:
        arrays = [np.array([1.0, 5.0]), np.array([3.0, 2.0])]
        all_at_once(*[lambda m=m, a=a: m.all_reduce(a, a, op=dist.ReduceOp.MAX) for m, a in zip(members, arrays)])
        assert [a.tolist() for a in arrays] == [[3.0, 5.0]] * 2


WRONG_TYPES = [
    ("tag", reduce, ["a", 1.5, None, True]), ("tag", launch, ["a", None]), ("tag", multiple, ["a", False]), ("tag", halves, ["a"]),
    ("tag", gather, [b"1"]), ("tag", lambda alone, tag: alone.receive(tag, timeout=0), ["a"]),
    ("tag", lambda alone, tag: alone.drop_error_feedback(tag), [None]), ("tag", lambda alone, tag: alone.post(SELF, b"", tag=tag), ["a"]),
    ("timeout", reduce, ["5", True, [1], 1j]), ("timeout", sync, ["5"]), ("timeout", halves, ["5"]), ("timeout", gather, ["5"]),
    ("timeout", lambda alone, timeout: alone.update_topology(timeout=timeout), ["5"]),
    ("timeout", lambda alone, timeout: alone.are_peers_pending(timeout=timeout), ["5"]),
    ("timeout", lambda alone, timeout: alone.optimize_topology(timeout=timeout), ["5"]),
    ("timeout", lambda alone, timeout: alone.connect(timeout=timeout), ["5", False]),
    ("timeout", lambda alone, timeout: alone.receive(timeout=timeout), ["5"]),
    ("timeout", lambda alone, timeout: alone.post(SELF, b"", timeout=timeout), ["5"]),
    ("timeout", lambda alone, timeout: pccl.MasterNode("127.0.0.1:0").wait(timeout), ["5"]),
    ("n_attempts", lambda alone, n_attempts: alone.connect(n_attempts), ["5", None, 1.0]),
    ("error_feedback", reduce, [1, "yes", None]), ("block", quantize, ["32", None, 32.0]), ("count", multiple, ["3", 3.0]),
    ("count", lambda alone, count: alone.shard(count), ["3", 3.0, None]),
    ("max_in_flight", lambda alone, max_in_flight: alone.all_reduce_multiple_with_retry(
        [pccl.ReduceOpDescriptor(bytearray(1), bytearray(1), pccl.ReduceDescriptor(1, ReduceOp.SUM, 0, ReduceOperandDescriptor("UINT8")))],
        max_in_flight=max_in_flight), ["4", None]),
    ("operand_descriptor", reduce, [QuantizationOptions(), DataType.FLOAT, "FLOAT"]), ("operand_descriptor", multiple, [None, DataType.FLOAT]),
    ("quantization_options", reduce, [FLOATS, QuantizationAlgorithm.MIN_MAX, "MIN_MAX"]), ("quantization_options", multiple, [FLOATS]),
    ("quantization_options", gather, [FLOATS]), ("shard", halves, [(0, 3, 1, 1, 0), None, 3]), ("shard", gather, [slice(0, 3)]),
    ("reduce_descriptor", lambda alone, reduce_descriptor: pccl.ReduceOpDescriptor(bytearray(1), bytearray(1), reduce_descriptor), [FLOATS, None]),
    ("descriptors", lambda alone, descriptors: alone.all_reduce_multiple_with_retry(descriptors), [None, 3, [FLOATS], [None]]),
    ("shared_state", sync, [None, [state()], state()]), ("tensor_infos", lambda alone, tensor_infos: pccl.SharedState(tensor_infos),
                                                         [state(), None, [np.ones(3)]]),
    ("revision", lambda alone, revision: revise(revision), ["1", None, 1.0, True]),
    ("name", lambda alone, name: state(name=name), [None, b"w", 3]),
    ("allow_content_inequality", lambda alone, allow_content_inequality: state(allow_content_inequality=allow_content_inequality), [1, None]),
    ("to", lambda alone, to: alone.post(to, b""), ["a", b"0" * 16, None, 0]), ("data", lambda alone, data: alone.post(SELF, data), ["text", None]),
    ("max_bytes", lambda alone, max_bytes: alone.set_mailbox(max_bytes), ["1", 1.5]),
    ("max_messages", lambda alone, max_messages: alone.set_mailbox(1, max_messages), ["1", 1.5]),
    ("degree", lambda alone, degree: alone.set_neighbour_graph("random_regular", degree), ["2", None]),
    ("seed", lambda alone, seed: alone.set_neighbour_graph("random_regular", 2, seed), ["2", 1.5]),
    *[
        (name, lambda alone, **given: pccl.Communicator(**{"address": "localhost:1", **given}), values)
        for name, values in {
            "address": [48148, None, b"localhost:1", ("localhost", 1)], "peer_group": ["0", 1.0, None, True],
            "p2p_connection_pool_size": ["4", None], "listen_address": [4, b"::"], "listen_port_first": ["48149", None],
            "listen_port_last": [1.5], "advertise_address": [4], "connect_timeout": ["5", True], "congestion_control": [4],
            "master_limit": ["5"], "island": [7, [7, 2], (7,), "72"],
        }.items()
    ],
    *[
        (name, lambda alone, **given: pccl.MasterNode(**{"listen_address": "127.0.0.1:0", **given}), values)
        for name, values in {
            "listen_address": [48148, None], "journal": [4, True], "heartbeat_timeout": ["5"], "misuse_grace": ["5"], "recovery_window": [[5]],
            "straggler_after": ["5"], "remove_stragglers_after": ["5"],
        }.items()
    ],
]


@pytest.mark.parametrize(
    ("name", "call", "value"), [(name, call, value) for name, call, values in WRONG_TYPES for value in values],
    ids=lambda part: part if isinstance(part, str) else type(part).__name__)
def test_arguments_of_wrong_types_are_named(alone, name, call, value):
    with pytest.raises(TypeError, match=rf"^{name}\b") as caught:
        call(alone, **{name: value})
    assert "incompatible function arguments" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "call", "value"),
    [
        ("tag", reduce, -1), ("tag", reduce, 1 << 64), ("timeout", reduce, -1), ("timeout", reduce, float("nan")), ("block", quantize, -1),
        ("block", quantize, 1 << 32), ("count", lambda alone, count: alone.shard(count), 0),
        ("max_bytes", lambda alone, max_bytes: alone.set_mailbox(max_bytes), -1),
        ("max_messages", lambda alone, max_messages: alone.set_mailbox(1, max_messages), 1 << 32),
        ("degree", lambda alone, degree: alone.set_neighbour_graph("ring", degree), -1),
        ("timeout", lambda alone, timeout: alone.connect(timeout=timeout), -1),
        ("descriptors", lambda alone, descriptors: alone.all_reduce_multiple_with_retry(descriptors), []),
        ("name", lambda alone, name: state(name=name), "two\0names"), ("name", lambda alone, name: state(name=name), "\ud800"),
        ("name", lambda alone, name: state(name=name), ""),
        ("address", lambda alone, address: pccl.Communicator(address), "localhost:1\0:2"),
    ],
)
def test_arguments_of_wrong_values_are_named(alone, name, call, value):
    with pytest.raises(ValueError, match=rf"^{name}\b"):
        call(alone, **{name: value})


def test_numbers_of_other_libraries_are_accepted():
    assert integer(np.uint16(3), "tag") == integer(np.array(3), "tag") == integer(Tag.GRADIENTS, "tag") - 4 == 3
    assert number(np.float32(0.5), "mixing") == 0.5 and seconds(np.int8(2)) == 2 and seconds(None) is None
    assert flag(np.bool_(True), "flag") is True
    for value in (True, np.bool_(True), np.float64(1), np.array([1, 2]), DataType.INT8):
        with pytest.raises(TypeError, match="^tag is"):
            integer(value, "tag")
    for value in ("1", np.array([1.0, 2.0]), 1j, False, DataType.INT8):
        with pytest.raises(TypeError, match="^mixing is"):
            number(value, "mixing")


def test_paths_are_accepted_in_every_form(tmp_path):
    assert path(tmp_path, "journal") == path(str(tmp_path), "journal") == path(bytes(tmp_path), "journal") == str(tmp_path)
    assert text("w", "name") == "w"
    with pccl.MasterNode("127.0.0.1:0", journal=tmp_path / "journal") as node:
        node.run()
    assert (tmp_path / "journal").exists()


def test_fields_that_are_set_later_are_checked(alone):
    options = QuantizationOptions()
    options.algorithm = ReduceOp.MAX
    with pytest.raises(TypeError, match="^algorithm is ReduceOp.MAX"):
        reduce(alone, quantization_options=options)
    descriptor = pccl.ReduceDescriptor(3, ReduceOp.SUM, 0, ReduceOperandDescriptor(DataType.UINT8))
    operation = pccl.ReduceOpDescriptor(bytearray(3), bytearray(3), descriptor)
    for field, value in {"op": 4, "tag": "a", "count": None, "operand_descriptor": QuantizationOptions(), "quantization_options": FLOATS}.items():
        before = getattr(descriptor, field)
        setattr(descriptor, field, value)
        with pytest.raises(TypeError, match=f"^{field} is"):
            alone.all_reduce_multiple_with_retry([operation])
        setattr(descriptor, field, before)


def test_tensors_without_elements_are_refused_by_name(alone):
    nothing = np.zeros((0, 3), np.float32)
    for call in (lambda: alone.all_reduce(nothing, nothing, op=ReduceOp.SUM), lambda: alone.all_reduce_async(b"", bytearray(), op=ReduceOp.SUM)):
        with pytest.raises(ValueError, match="^send has no elements"):
            call()
    shard = alone.shard(3)
    with pytest.raises(ValueError, match="^send has no elements"):
        alone.reduce_scatter(nothing, None, shard, op=ReduceOp.SUM)
    with pytest.raises(ValueError, match="^recv has no elements"):
        alone.all_gather(None, nothing, shard)
    with pytest.raises(ValueError, match="nothing to reduce"):
        pccl.ReduceOpDescriptor.from_numpy(nothing, nothing, pccl.ReduceDescriptor(0, ReduceOp.SUM, 0, FLOATS))
    with pytest.raises(ValueError, match="count is 0"):
        multiple(alone, count=0)


def test_shared_state_can_have_tensors_without_elements(master):
    with world(master, 2) as members:
        arrays = [np.full(3, i, np.float32) for i in range(2)]
        states = [pccl.SharedState([pccl.TensorInfo(np.zeros(0, np.float32), "nothing"), pccl.TensorInfo(a, "w")]) for a in arrays]
        all_at_once(
            lambda: members[0].sync_shared_state(states[0], "SEND_ONLY"), lambda: members[1].sync_shared_state(states[1], "RECEIVE_ONLY"))
        assert arrays[1].tolist() == [0, 0, 0]


def test_members_of_a_run_cannot_be_pickled_or_copied(master):
    with world(master, 2) as members, pccl.MasterNode("127.0.0.1:0") as node:
        values = [np.ones(3) for _ in members]
        handles = [m.all_reduce_async(v, v, op=ReduceOp.SUM) for m, v in zip(members, values)]
        post = members[0].post(members[1].peer_id(), b"a")
        for thing in (members[0], node, handles[0], post):
            for copied in (pickle.dumps, copy.copy, copy.deepcopy):
                with pytest.raises(TypeError, match=rf"^a pccl\.{type(thing).__name__} cannot be pickled or copied"):
                    copied(thing)
        all_at_once(*[handle.wait for handle in handles])
        assert post.wait() and members[1].receive(timeout=20).data == b"a"


def test_options_and_errors_can_be_pickled():
    for thing in (QuantizationOptions(), FLOATS, pccl.ReduceDescriptor(1, ReduceOp.SUM, 0, FLOATS), pccl.Shard(0, 1, 2, 3, 0)):
        assert pickle.loads(pickle.dumps(thing)) == copy.deepcopy(thing) == thing


def test_graph_kinds_refuse_numbers(alone):
    with pytest.raises(TypeError, match="^kind is 1"):
        alone.set_neighbour_graph(1)
    alone.set_neighbour_graph(GraphKind.RING)
    alone.set_neighbour_graph("None")
