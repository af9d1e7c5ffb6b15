"""Tests of averages of gradients and of rows of tensors: every type is kept exactly or refused."""

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: tests of gradients are skipped")

from world import all_at_once, finish, script, world  # noqa: E402

import pccl  # noqa: E402
from pccl.torch import _gradients, all_reduce_gradients, flatten, unflatten  # noqa: E402


@pytest.fixture(scope="module")
def pair():
    with pccl.MasterNode("127.0.0.1:0") as node:
        node.run()
        with world(f"127.0.0.1:{node.port}", 2) as members:
            yield members


@pytest.fixture
def default_device():
    """Sets a default device without memory; programs set theirs to an accelerator."""
    torch.set_default_device("meta")
    yield
    torch.set_default_device(None)


def parameter(gradient, dtype=None):
    p = torch.nn.Parameter(torch.zeros(gradient.shape, dtype=dtype or gradient.dtype, device="cpu"))
    p.grad = gradient
    return p


def average(pair, parameters, **options):
    return all_at_once(*[lambda m=m, p=p: all_reduce_gradients(p, m, **options) for m, p in zip(pair, parameters)])


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128], ids=str)
def test_complex_gradients_are_averaged(pair, dtype):
    both = [[parameter(torch.full((2, 3), value, dtype=dtype))] for value in (1 + 1j, 3 + 5j)]
    average(pair, both)
    assert all(p.grad.dtype is dtype and torch.all(p.grad == 2 + 3j) for [p] in both)


def test_each_type_is_averaged_exactly(pair):
    small = 2.0**-40  # 1 + small is not a float32
    kinds = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.complex64, torch.float64, torch.complex128]
    both = [[parameter(torch.full((5,), 1.0, dtype=kind)) for kind in kinds] for _ in pair]
    both[0][1].grad += 2 * small
    both[0][6].grad += 2j * small
    infos = average(pair, both, bucket_bytes=64)
    for parameters in both:
        assert [p.grad.dtype for p in parameters] == kinds
        assert torch.all(parameters[1].grad == 1 + small) and torch.all(parameters[6].grad == complex(1, small))
        assert all(torch.all(parameters[i].grad == 1) for i in (0, 2, 3, 4, 5))
    assert infos[0].local_world_size == 2


def test_buckets_depend_only_on_order_sizes_and_types():
    f32, f64, c64 = torch.float32, torch.float64, torch.complex64
    sizes = [(f32, 10), (f64, 10), (f32, 4), (c64, 100), (f32, 3), (f64, 1)]
    gradients = [(kind, torch.zeros(size, dtype=kind)) for kind, size in sizes]
    buckets = _gradients._buckets(gradients, 64)
    assert [(kind, [g.numel() for g in bucket]) for kind, bucket in buckets] == [
        (f32, [10, 4]), (f64, [10]), (c64, [100]), (f32, [3]), (f64, [1])]


def test_peer_without_gradients_has_the_same_buckets(pair):
    kinds = [torch.float32, torch.complex64, torch.float64]
    both = [[parameter(torch.full((3,), 4.0, dtype=kind)) for kind in kinds] for _ in pair]
    for p in both[1]:
        p.grad = None
    average(pair, both)
    assert all(torch.all(p.grad == 2) and p.grad.dtype is kind for parameters in both for p, kind in zip(parameters, kinds))


def test_negated_and_conjugated_gradients_are_averaged(pair):
    both = [
        [parameter(torch._neg_view(torch.ones(3))), parameter(torch.full((3,), 1 + 2j).conj())],
        [parameter(torch.full((3,), 3.0)), parameter(torch.full((3,), 1 + 4j))],
    ]
    average(pair, both)
    assert all(torch.all(a.grad == 1) and torch.all(b.grad == 1 + 1j) for a, b in both)


def test_gradients_without_elements_are_left_out(pair):
    both = [[parameter(torch.zeros(0)), parameter(torch.full((2,), float(i)))] for i in range(2)]
    average(pair, both, bucket_bytes=4)
    assert all(torch.all(p.grad == 0.5) for _, p in both)
    with pytest.raises(ValueError, match="nothing to average"):
        all_reduce_gradients([parameter(torch.zeros(0))], pair[0])


def test_buckets_are_in_host_memory(pair, default_device):
    both = [[parameter(torch.full((2,), float(i), device="cpu"))] for i in range(2)]
    average(pair, both)
    assert all(torch.all(p.grad == 0.5) for [p] in both)
    assert flatten([torch.ones(3, device="cpu")]).device.type == "cpu"


def sparse(p):
    p.grad = torch.ones(2, 2).to_sparse()


def of_another_type(p):
    p.grad_dtype = None  # any type
    p.grad = torch.ones(2, 2, dtype=torch.float64)


def expanded(p):
    p.grad = torch.ones(1).expand(2, 2)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (sparse, "the gradient of b has layout torch.sparse_coo"),
        (of_another_type, "the gradient of b is torch.float64, where torch.float32 is expected"),
        (expanded, "the gradient of b is expanded"),
    ],
)
def test_unsuitable_gradients_are_named_and_nothing_changes(pair, spoil, words):
    if spoil is of_another_type and not hasattr(torch.nn.Parameter(torch.zeros(1)), "grad_dtype"):
        pytest.skip("this PyTorch has no gradients of another type than their parameter's")
    model = torch.nn.ParameterDict({"a": torch.nn.Parameter(torch.zeros(2)), "b": torch.nn.Parameter(torch.zeros(2, 2))})
    spoil(model.b)
    with pytest.raises((TypeError, ValueError), match=words):
        all_reduce_gradients(model.named_parameters(), pair[0])
    assert model.a.grad is None


def test_gradients_of_another_type_are_averaged(pair):
    if not hasattr(torch.nn.Parameter(torch.zeros(1)), "grad_dtype"):
        pytest.skip("this PyTorch has no gradients of another type than their parameter's")
    both = [[torch.nn.Parameter(torch.zeros(3, dtype=torch.bfloat16))] for _ in pair]
    for [p] in both:
        p.grad_dtype = torch.float32
    both[0][0].grad = torch.full((3,), 1 + 2.0**-20)
    average(pair, both)
    assert all(p.grad.dtype is torch.float32 and torch.all(p.grad == 0.5 + 2.0**-21) for [p] in both)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        (torch.nn.Linear(2, 2), "parameters is of type Linear"), (torch.ones(3), "parameters is of type Tensor"), (None, "parameters is None"),
        (torch.optim.SGD([torch.ones(1)], 0.1).param_groups, "param_groups"), ([torch.ones(1), "w"], r"parameters\[1\] is 'w'"),
        ({"w": torch.ones(1)}, "items"), ([(3, torch.ones(1))], r"the name of parameters\[0\] is 3"),
        ([torch.nn.Parameter(torch.zeros(2).to(torch.float8_e4m3fn))], "the gradient of parameter 0 is torch.float8_e4m3fn"),
        ([torch.nn.Parameter(torch.zeros(2, device="meta"))], "parameter 0 is on device meta"),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_parameters_of_wrong_types_are_refused(pair, parameters, words):
    with pytest.raises((TypeError, ValueError), match=words):
        all_reduce_gradients(parameters, pair[0])


@pytest.mark.parametrize(
    ("name", "value"),
    [("bucket_bytes", "25"), ("first_tag", None), ("max_in_flight", "4"), ("quantization", pccl.DataType.INT8), ("communicator", "localhost")])
def test_options_of_wrong_types_are_named(pair, name, value):
    options = {"communicator": pair[0], name: value}
    with pytest.raises(TypeError, match=f"^{name} is"):
        all_reduce_gradients([parameter(torch.ones(2))], **options)


def test_row_holds_its_tensors_exactly():
    third = torch.tensor([1 / 3], dtype=torch.float64)
    half = torch.tensor([0.5, 1.0], dtype=torch.bfloat16)
    assert flatten([half, torch.ones(1)]).dtype is torch.float32
    for tensors in ([third], [half, third]):
        row = flatten(tensors)
        assert row.dtype is torch.float64 and row[-1] == third[0]
        copies = [torch.zeros_like(tensor) for tensor in tensors]
        unflatten(row, copies)
        assert all(torch.equal(tensor, copied) for tensor, copied in zip(tensors, copies))
    assert flatten([torch._neg_view(torch.ones(2))]).tolist() == [-1, -1]
    assert flatten([]).numel() == 0
    pairs = torch.zeros(1, dtype=torch.complex64)
    assert flatten([torch.full((1,), 1 + 2j).conj()], pairs) is pairs and pairs.tolist() == [1 - 2j]


@pytest.mark.parametrize(
    ("tensors", "out", "error", "words"),
    [
        ([torch.ones(2), torch.ones(2, dtype=torch.complex64)], None, TypeError, r"tensors\[1\] is torch.complex64"),
        ([torch.ones(2, dtype=torch.int64)], None, TypeError, r"tensors\[0\] is torch.int64"),
        ([torch.ones(2, dtype=torch.float64)], torch.zeros(2), TypeError, "torch.float64, which a row of torch.float32 does not hold"),
        ([torch.ones(2)], torch.zeros(2, dtype=torch.bfloat16), TypeError, "torch.float32, which a row of torch.bfloat16"),
        ([torch.ones(2, 2).to_sparse()], None, TypeError, r"tensors\[0\] has layout"),
        ([torch.ones(4)], torch.zeros(2, 2), ValueError, "out has shape"),
        (torch.ones(2), None, TypeError, "tensors is of type Tensor"),
        ([torch.ones(2)], [0.0, 0.0], TypeError, "out is"),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_row_refuses_tensors_that_it_cannot_hold(tensors, out, error, words):
    with pytest.raises(error, match=words):
        _gradients.flatten(tensors, out)  # the public name means torch.flatten if it is called with one tensor


def test_unflatten_refuses_before_it_writes():
    first = torch.zeros(2)
    for other in (torch.zeros(2, dtype=torch.complex64), torch.zeros(2, dtype=torch.int32)):
        with pytest.raises(TypeError, match=r"tensors\[1\] is torch\."):
            unflatten(torch.ones(4), [first, other])
    with pytest.raises(TypeError, match="flat is"):
        unflatten([1.0], [first])
    assert first.tolist() == [0, 0]


def test_island_is_made_under_a_default_device(master, tmp_path):
    process = script(
        """
        import sys, torch, torch.distributed as dist, pccl.torch
        dist.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=0, world_size=1)
        torch.set_default_device("meta")
        with pccl.torch.Island(sys.argv[1]) as island:
            island.gather()
            print(island.agree(1, 7))
        torch.set_default_device("cpu")
        dist.destroy_process_group()
        """,
        master, tmp_path / "meeting")
    assert finish(process)[0] == "7\n"
