"""PyTorch tensors."""

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: tests of PyTorch tensors are skipped")

import numpy as np  # noqa: E402
from world import all_at_once, world  # noqa: E402

import pccl  # noqa: E402
from pccl import DataType, ReduceOp  # noqa: E402
from pccl._tensors import view  # noqa: E402

KINDS = [kind for kind in DataType if kind <= DataType.DOUBLE]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_dtype_there_and_back_and_its_tensors(kind):
    dtype = kind.to_torch_dtype()
    assert DataType.from_torch_dtype(dtype) is kind
    t = torch.zeros(3, 4, dtype=dtype)
    v = view(t, "t", writable=True)
    assert (v.address, v.count, v.datatype) == (t.data_ptr(), 12, kind)


def test_other_dtypes_are_refused():
    for dtype in (torch.bool, torch.complex64, torch.float8_e4m3fn):
        with pytest.raises(TypeError, match="not supported"):
            DataType.from_torch_dtype(dtype)
        with pytest.raises(TypeError, match="gradient.*not supported"):
            view(torch.zeros(3, dtype=dtype), "gradient")
    for kind in (DataType.INT4, DataType.UINT4, DataType.UINT2):
        with pytest.raises(TypeError, match=kind.name):
            kind.to_torch_dtype()


def test_tensors_that_do_not_fit_are_refused_by_name():
    with pytest.raises(ValueError, match="w is not contiguous"):
        view(torch.zeros(4, 4).t(), "w")
    with pytest.raises(TypeError, match="w has layout torch.sparse_coo"):
        view(torch.zeros(4, 4).to_sparse(), "w")
    with pytest.raises(ValueError, match="w is on device meta"):
        view(torch.zeros(4, device="meta"), "w")


def test_parameters_and_views_of_them():
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


def test_shared_state_of_a_model(master):
    with world(master, 2) as members:
        models = [torch.nn.Linear(5, 2) for _ in members]
        states = [
            pccl.SharedState([pccl.TensorInfo.from_torch(p, name) for name, p in model.named_parameters()]) for model in models]
        strategies = [pccl.SharedStateSyncStrategy.SEND_ONLY, pccl.SharedStateSyncStrategy.RECEIVE_ONLY]
        all_at_once(*[lambda m=m, s=s, how=how: m.sync_shared_state(s, how) for m, s, how in zip(members, states, strategies)])
        assert torch.equal(models[0].weight, models[1].weight)
        assert torch.equal(models[0].bias, models[1].bias)


def test_a_tensor_and_an_array_meet(master):
    with world(master, 2) as members:
        t, a = torch.ones(1000), np.ones(1000, np.float32)
        all_at_once(lambda: members[0].all_reduce(t, t, op=ReduceOp.SUM), lambda: members[1].all_reduce(a, a, op=ReduceOp.SUM))
        assert t.tolist() == a.tolist() == [2.0] * 1000
