"""Tests of PyTorch tensors."""

import gc

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: tests of PyTorch tensors are skipped")

import numpy as np  # noqa: E402
from world import all_at_once, world  # noqa: E402

import pccl  # noqa: E402
from pccl import DataType, ReduceOp  # noqa: E402
from pccl._tensors import view  # noqa: E402

KINDS = [kind for kind in DataType if kind <= DataType.DOUBLE]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_dtypes_are_converted_both_ways(kind):
    dtype = kind.to_torch_dtype()
    assert DataType.from_torch_dtype(dtype) is kind
    t = torch.zeros(3, 4, dtype=dtype)
    v = view(t, "t", writable=True)
    assert (v.address, v.count, v.datatype) == (t.data_ptr(), 12, kind)


def test_unsupported_dtypes_are_refused():
    for dtype in (torch.bool, torch.complex64, torch.float8_e4m3fn):
        with pytest.raises(TypeError, match="not supported"):
            DataType.from_torch_dtype(dtype)
        with pytest.raises(TypeError, match="gradient.*not supported"):
            view(torch.zeros(3, dtype=dtype), "gradient")
    for kind in (DataType.INT4, DataType.UINT4, DataType.UINT2):
        with pytest.raises(TypeError, match=kind.name):
            kind.to_torch_dtype()


def test_unsuitable_tensors_are_refused_by_name():
    with pytest.raises(ValueError, match="w is not contiguous"):
        view(torch.zeros(4, 4).t(), "w")
    with pytest.raises(TypeError, match="w has layout torch.sparse_coo"):
        view(torch.zeros(4, 4).to_sparse(), "w")
    with pytest.raises(ValueError, match="w is on device meta"):
        view(torch.zeros(4, device="meta"), "w")


def freed(elements, first=0):
    """Makes a tensor whose storage was freed, as FSDP does between two uses."""
    whole = torch.ones(elements + first)
    part = whole[first:]
    whole.untyped_storage().resize_(0)
    return part


def fake():
    with torch._subclasses.fake_tensor.FakeTensorMode():
        return torch.ones(3)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: torch.ones(4, 4).to_mkldnn(), TypeError, "layout torch._mkldnn"),
        (lambda: torch.ones(4, 4).to_sparse_csr(), TypeError, "layout torch.sparse_csr"),
        (lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8), TypeError, "torch.qint8 are not supported"),
        (lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), TypeError, "nested"),
        (lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged), TypeError, "NestedTensor"),
        (fake, TypeError, "FakeTensor"),
        (lambda: torch._to_functional_tensor(torch.ones(3)), ValueError, "no memory"),
        (lambda: torch._efficientzerotensor(3), ValueError, "no memory"),
        (lambda: freed(6), ValueError, "no memory"),
        (lambda: freed(6, 4), ValueError, "no memory"),
        (lambda: torch.ones(1).expand(3), ValueError, "not contiguous"),
    ],
)
def test_tensors_whose_memory_is_not_their_value_are_refused(make, error, words):
    with pytest.raises(error, match=f"^w.*{words}"):
        view(make(), "w")


def test_tensors_inside_function_transforms_are_refused():
    def read(tensor):
        with pytest.raises(TypeError, match="^w is a tensor of PyTorch's own that has no memory"):
            view(tensor, "w")
        return tensor.sum()

    torch.vmap(read)(torch.ones(2, 3))
    torch.func.grad(read)(torch.ones(3))


def negated(*values):
    """Makes a tensor whose memory holds the values with the other sign."""
    tensor = torch._neg_view(torch.tensor([float(value) for value in values])) if len(values) > 1 else torch.tensor(values[0] * 1j).conj().imag
    assert tensor.is_neg() and tensor.is_contiguous() and tensor.reshape(-1).tolist() == [-value for value in values]
    return tensor


def reduce_both(pair, sends, recvs, call):
    all_at_once(*[lambda m=m, s=s, r=r: call(m, s, r) for m, s, r in zip(pair, sends, recvs)])
    return [recv.reshape(-1).tolist() for recv in recvs]


def launch_and_wait(member, send, recv):
    handle = member.all_reduce_async(send, recv, op=ReduceOp.SUM)
    assert handle.wait()[0] and handle.wait()[0]


def several(member, send, recv):
    operand = pccl.ReduceOperandDescriptor(DataType.FLOAT)
    member.all_reduce_multiple_with_retry(
        [pccl.ReduceOpDescriptor.from_torch(send, recv, pccl.ReduceDescriptor(send.numel(), ReduceOp.SUM, 0, operand))])


@pytest.fixture(scope="module")
def pair():
    with pccl.MasterNode("127.0.0.1:0") as node:
        node.run()
        with world(f"127.0.0.1:{node.port}", 2) as members:
            yield members


@pytest.mark.parametrize("call", [lambda m, s, r: m.all_reduce(s, r, op=ReduceOp.SUM), launch_and_wait, several], ids=["all_reduce", "async", "multiple"])
def test_negated_tensors_are_reduced_by_value(pair, call):
    assert reduce_both(pair, [negated(2), torch.tensor(-2.0)], [torch.zeros(()), negated(7)], call) == [[-4.0]] * 2
    in_place = [negated(1, 2), torch.tensor([-10.0, -20.0])]
    assert reduce_both(pair, in_place, in_place, call) == [[-11.0, -22.0]] * 2
    assert in_place[0].is_neg()


def test_base_of_a_negated_view_gets_the_result(pair):
    numbers = torch.tensor(1 + 2j)
    recvs = [numbers.conj().imag, torch.zeros(())]
    reduce_both(pair, [torch.tensor(3.0), torch.tensor(4.0)], recvs, lambda m, s, r: m.all_reduce(s, r, op=ReduceOp.SUM))
    assert recvs[0].item() == 7 and numbers.item() == 1 - 7j


def test_halves_of_an_all_reduce_accept_negated_tensors(pair):
    wholes = [torch._neg_view(torch.full((1000,), 1.0)), torch.full((1000,), -2.0)]
    shards = [member.shard(1000) for member in pair]
    parts = [torch._neg_view(torch.zeros(shards[0].elements)), torch.zeros(shards[1].elements)]
    all_at_once(*[lambda m=m, w=w, p=p, s=s: m.reduce_scatter(w, p, s, op=ReduceOp.SUM) for m, w, p, s in zip(pair, wholes, parts, shards)])
    assert [part.unique().tolist() for part in parts] == [[-3.0]] * 2
    results = [torch.zeros(1000), torch._neg_view(torch.zeros(1000))]
    all_at_once(*[lambda m=m, r=r, p=p, s=s: m.all_gather(p, r, s) for m, r, p, s in zip(pair, results, parts, shards)])
    assert [result.unique().tolist() for result in results] == [[-3.0]] * 2


def test_shared_state_and_messages_accept_negated_tensors(pair):
    tensors = [negated(1, 2), negated(5, 6)]
    states = [pccl.SharedState([pccl.TensorInfo.from_torch(tensor, "w")]) for tensor in tensors]
    all_at_once(
        *[lambda m=m, s=s, how=how: m.sync_shared_state(s, how) for m, s, how in zip(pair, states, ["SEND_ONLY", "RECEIVE_ONLY"])])
    assert [tensor.tolist() for tensor in tensors] == [[-1.0, -2.0]] * 2
    post = pair[0].post(pair[1].peer_id(), negated(3, 4))
    message = pair[1].receive(timeout=20)
    assert post.wait() and torch.frombuffer(message.data, dtype=torch.float32).tolist() == [-3.0, -4.0]


def test_copy_lives_as_long_as_its_operation(pair):
    recvs = [torch.zeros(1 << 16) for _ in pair]
    first = pair[0].all_reduce_async(torch._neg_view(torch.ones(1 << 16)), recvs[0], op=ReduceOp.SUM, tag=3)
    gc.collect()
    others = [torch.full((1 << 16,), 9.0) for _ in range(20)]  # these would reuse its memory
    second = pair[1].all_reduce_async(torch.ones(1 << 16), recvs[1], op=ReduceOp.SUM, tag=3)
    assert first.wait()[0] and second.wait()[0] and len(others) == 20
    assert [recv.unique().tolist() for recv in recvs] == [[0.0]] * 2


def test_tensors_that_require_gradients_are_reduced(pair):
    weights = [torch.nn.Parameter(torch.ones(3)) for _ in pair]
    assert reduce_both(pair, weights, weights, lambda m, s, r: m.all_reduce(s, r, op=ReduceOp.SUM)) == [[2.0] * 3] * 2


def test_parameters_and_their_views_are_accepted():
    layer = torch.nn.Linear(4, 3)
    assert view(layer.weight, "w", writable=True).address == layer.weight.data_ptr()
    assert view(layer.weight[1], "w", writable=True).count == 4


def test_every_type_is_summed(master):
    with world(master, 2) as members:
        for kind in KINDS:
            tensors = [torch.arange(1, 6).to(kind.to_torch_dtype()) for _ in members]
            infos = all_at_once(*[lambda m=m, t=t: m.all_reduce(t, t, op=ReduceOp.SUM) for m, t in zip(members, tensors)])
            for t, info in zip(tensors, infos):
                assert t.tolist() == [2, 4, 6, 8, 10], kind
                assert info.local_world_size == 2


def test_shared_state_of_a_model_is_synchronized(master):
    with world(master, 2) as members:
        models = [torch.nn.Linear(5, 2) for _ in members]
        states = [
            pccl.SharedState([pccl.TensorInfo.from_torch(p, name) for name, p in model.named_parameters()]) for model in models]
        strategies = [pccl.SharedStateSyncStrategy.SEND_ONLY, pccl.SharedStateSyncStrategy.RECEIVE_ONLY]
        all_at_once(*[lambda m=m, s=s, how=how: m.sync_shared_state(s, how) for m, s, how in zip(members, states, strategies)])
        assert torch.equal(models[0].weight, models[1].weight)
        assert torch.equal(models[0].bias, models[1].bias)


def test_tensor_and_array_are_reduced_together(master):
    with world(master, 2) as members:
        t, a = torch.ones(1000), np.ones(1000, np.float32)
        all_at_once(lambda: members[0].all_reduce(t, t, op=ReduceOp.SUM), lambda: members[1].all_reduce(a, a, op=ReduceOp.SUM))
        assert t.tolist() == a.tolist() == [2.0] * 1000
