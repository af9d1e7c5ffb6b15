"""Tests of all-reduces between peers in this process."""

import gc
import threading
import weakref

import numpy as np
import pytest
from world import admit, all_at_once, world

import pccl
from pccl import DataType, QuantizationAlgorithm, QuantizationOptions, QuantizationScale, ReduceAlgorithm, ReduceOp, Result

PLAIN = pccl.ReduceOperandDescriptor(DataType.FLOAT)


def reduce_all(members, sends, recvs, **options):
    return all_at_once(*[lambda m=m, s=s, r=r: m.all_reduce(s, r, **options) for m, s, r in zip(members, sends, recvs)])


@pytest.fixture(scope="module")
def pair():
    """The two members of a run, which many tests share."""
    with pccl.MasterNode("127.0.0.1:0") as node:
        node.run()
        with world(f"127.0.0.1:{node.port}", 2) as members:
            yield members


@pytest.mark.parametrize("kind", [kind for kind in DataType if kind <= DataType.DOUBLE], ids=lambda kind: kind.name)
def test_every_type_and_operator_is_reduced(pair, kind):
    a, b = np.arange(1, 9).astype(kind.to_numpy_dtype()), np.full(8, 3).astype(kind.to_numpy_dtype())
    whole = not np.issubdtype(kind.to_numpy_dtype(), np.floating) and kind is not DataType.BFLOAT16
    expected = {
        ReduceOp.SUM: a.astype(float) + 3, ReduceOp.PROD: a.astype(float) * 3, ReduceOp.MAX: np.maximum(a.astype(float), 3),
        ReduceOp.MIN: np.minimum(a.astype(float), 3), ReduceOp.AVG: (a.astype(float) + 3) / 2,
    }
    if whole:
        expected[ReduceOp.AVG] = np.floor(expected[ReduceOp.AVG])
    for op, result in expected.items():
        recvs = [np.zeros_like(a), np.zeros_like(b)]
        infos = reduce_all(pair, [a, b], recvs, op=op)
        for recv, info in zip(recvs, infos):
            assert recv.astype(float).tolist() == result.tolist()
            assert info.local_world_size == 2 and info.tx_bytes > 0 and info.rx_bytes > 0


def test_objects_with_the_buffer_protocol_are_reduced(pair):
    a, b = bytearray([1, 2, 3]), memoryview(bytearray([4, 5, 6]))
    reduce_all(pair, [a, b], [a, b], op=ReduceOp.SUM)
    assert bytes(a) == bytes(b) == bytes([5, 7, 9])


def test_options_reach_the_library(pair):
    for algorithm in ("ring", "direct", ReduceAlgorithm.ONE_HOP):
        values = [np.full(300, float(i + 1), np.float32) for i in range(2)]
        infos = reduce_all(pair, values, values, op=ReduceOp.AVG, algorithm=algorithm, on_peer_loss="repair")
        wanted = ReduceAlgorithm[algorithm.upper()] if isinstance(algorithm, str) else algorithm
        for v, info in zip(values, infos):
            assert info.algorithm is wanted
            assert info.repairs == 0 and info.fewest_took_part == 2 and info.fewest_elements == 300
            assert np.all(v == 1.5)


@pytest.mark.parametrize(
    "options",
    [
        QuantizationOptions(),
        QuantizationOptions(DataType.INT16, QuantizationAlgorithm.ZERO_POINT_SCALE),
        QuantizationOptions(DataType.INT8, QuantizationAlgorithm.BLOCK_SCALE, block=64),
        QuantizationOptions(DataType.INT4, QuantizationAlgorithm.BLOCK_SCALE, scale=QuantizationScale.POWER_OF_TWO),
        QuantizationOptions(DataType.UINT4, QuantizationAlgorithm.MIN_MAX),
        QuantizationOptions(DataType.UINT4, QuantizationAlgorithm.BLOCK_SCALE),
        QuantizationOptions(DataType.UINT2, QuantizationAlgorithm.ZERO_POINT_SCALE),
        QuantizationOptions(DataType.UINT2, QuantizationAlgorithm.BLOCK_SCALE, block=64, scale=QuantizationScale.POWER_OF_TWO),
    ],
    ids=lambda options: f"{options.algorithm.name}-{options.quantized_datatype.name}",
)
def test_quantized_sums_stay_near_the_exact_sum(pair, options):
    random = np.random.default_rng(1)
    values = [random.uniform(-1, 1, 5000).astype(np.float32) for _ in range(2)]
    exact = values[0] + values[1]
    recvs = [np.zeros_like(v) for v in values]
    plain = reduce_all(pair, values, recvs, op=ReduceOp.SUM)
    infos = reduce_all(pair, values, recvs, op=ReduceOp.SUM, operand_descriptor=PLAIN, quantization_options=options, error_feedback=True)
    assert recvs[0].tobytes() == recvs[1].tobytes()
    assert np.max(np.abs(recvs[0] - exact)) < {DataType.UINT2: 3, DataType.INT4: 0.5, DataType.UINT4: 0.5}.get(options.quantized_datatype, 0.05)
    assert infos[0].tx_bytes < 0.7 * plain[0].tx_bytes
    for member in pair:
        member.drop_error_feedback(0)


def test_many_reduces_run_at_once_in_any_order(pair):
    count = 24
    values = [[np.full(2000 + tag, rank + tag, np.float64) for tag in range(count)] for rank in range(2)]

    def run(rank):
        order = list(range(count)) if rank == 0 else list(reversed(range(count)))
        handles = {tag: pair[rank].all_reduce_async(values[rank][tag], values[rank][tag], op=ReduceOp.SUM, tag=tag) for tag in order}
        assert "in flight" in repr(handles[0])
        return [handles[tag].wait() for tag in range(count)]

    for rank, answers in enumerate(all_at_once(lambda: run(0), lambda: run(1))):
        for tag, (is_success, status, info) in enumerate(answers):
            assert is_success is True and status == Result.SUCCESS and info.local_world_size == 2
            assert np.all(values[rank][tag] == 2 * tag + 1)


def test_wait_can_be_repeated_and_called_by_several_threads(pair):
    values = [np.ones(100_000, np.float32) for _ in pair]
    handles = [m.all_reduce_async(v, v, op=ReduceOp.SUM, tag=7) for m, v in zip(pair, values)]
    answers = all_at_once(*[handles[0].wait] * 3, handles[1].wait)
    assert answers[0] == answers[1] == answers[2] == handles[0].wait()
    assert answers[0][0] is True and handles[0].message == ""
    assert repr(handles[0]) == "AsyncReduceHandle(tag=7, SUCCESS)"


def test_buffer_is_in_one_operation_at_a_time(pair):
    a, b = np.ones(10), np.ones(10)
    handle = pair[0].all_reduce_async(a, a, op=ReduceOp.SUM)
    for send, recv in ((a, a), (b, a), (a[5:], b[5:]), (b[:6], b[4:])):
        with pytest.raises(pccl.PCCLError, match="overlap") as caught:
            pair[0].all_reduce_async(send, recv, op=ReduceOp.SUM, tag=1001)
        assert caught.value.result == Result.INVALID_USAGE
    c = np.ones(10)
    pair[1].all_reduce(c, c, op=ReduceOp.SUM)
    assert handle.wait()[0] and a[0] == 2


def test_tag_in_flight_is_refused_at_launch(pair):
    a, b = np.ones(10), np.ones(10)
    handle = pair[0].all_reduce_async(a, a, op=ReduceOp.SUM, tag=5)
    for call in (pair[0].all_reduce_async, pair[0].all_reduce):
        with pytest.raises(pccl.PCCLError, match="tag 5") as caught:
            call(b, b, op=ReduceOp.SUM, tag=5)
        assert caught.value.result == Result.INVALID_USAGE
    c = np.ones(10)
    pair[1].all_reduce(c, c, op=ReduceOp.SUM, tag=5)
    assert handle.wait()[0] and a[0] == 2 and b[0] == 1


def test_tensors_are_kept_while_an_operation_runs(pair):
    class Array(np.ndarray):
        pass

    a = np.ones(1000).view(Array)
    alive = weakref.ref(a)
    handle = pair[0].all_reduce_async(a, a, op=ReduceOp.SUM)
    del a
    gc.collect()
    assert alive() is not None
    b = np.ones(1000)
    pair[1].all_reduce(b, b, op=ReduceOp.SUM)
    assert handle.wait()[0]
    gc.collect()
    assert alive() is None


def test_dropped_handle_delays_no_peer(pair):
    def run(member):
        values = np.ones(50_000)
        member.all_reduce_async(values, values, op=ReduceOp.SUM, tag=9)
        del values
        gc.collect()
        member.update_topology()  # needs an idle communicator

    all_at_once(*[lambda m=m: run(m) for m in pair])


def test_topology_update_is_refused_while_a_reduce_runs(pair):
    values = [np.ones(4) for _ in pair]
    handle = pair[0].all_reduce_async(values[0], values[0], op=ReduceOp.SUM)
    with pytest.raises(pccl.PCCLError) as caught:
        pair[0].update_topology()
    assert caught.value.result == Result.PENDING_ASYNC_OPS
    pair[1].all_reduce(values[1], values[1], op=ReduceOp.SUM)
    assert handle.wait()[0]


def test_several_reduces_are_made_with_retry(pair):
    sizes = [10, 5000, 70_000]
    values = [[np.full(size, rank + 1.0, np.float32) for size in sizes] for rank in range(2)]

    def run(rank):
        operations = [
            pccl.ReduceOpDescriptor.from_numpy(v, v, pccl.ReduceDescriptor(v.size, ReduceOp.SUM, tag, PLAIN, None))
            for tag, v in enumerate(values[rank])
        ]
        return pair[rank].all_reduce_multiple_with_retry(operations, max_in_flight=2)

    infos = all_at_once(lambda: run(0), lambda: run(1))
    assert all(np.all(v == 3) for rank in values for v in rank)
    assert infos[0].local_world_size == 2 and infos[0].tx_bytes > 4 * sum(sizes) / 2


def test_reduces_of_different_sizes_fail_with_both_sizes(pair):
    a, b = np.ones(10), np.ones(11)
    errors = []

    def run(member, values):
        with pytest.raises(pccl.PCCLError) as caught:
            member.all_reduce(values, values, op=ReduceOp.SUM, tag=1)
        errors.append(caught.value)

    all_at_once(lambda: run(pair[0], a), lambda: run(pair[1], b))
    for error in errors:
        assert error.result == Result.INVALID_USAGE
        assert "10" in error.message and "11" in error.message
    assert a[0] == 1 and b[0] == 1


def test_reduce_alone_fails_and_changes_nothing(master):
    with pccl.Communicator(master) as communicator:
        communicator.connect()
        a, b = np.ones(4), np.zeros(4)
        with pytest.raises(pccl.PCCLError) as caught:
            communicator.all_reduce(a, b, op=ReduceOp.SUM)
        assert caught.value.result == Result.TOO_FEW_PEERS and caught.value.func_name == "pcclAllReduce"
        assert b.tolist() == [0] * 4
        with pytest.raises(pccl.PCCLError) as caught:
            communicator.all_reduce_async(a, b, op=ReduceOp.SUM)
        assert caught.value.result == Result.TOO_FEW_PEERS and caught.value.func_name == "pcclAllReduceAsync"
        communicator.update_topology()  # no operation is outstanding
        with pytest.raises(pccl.PCCLError) as caught:
            communicator.optimize_topology()
        assert caught.value.result == Result.INVALID_USAGE


def test_groups_reduce_separately_and_sizes_are_counted(master):
    with world(master, 2) as members, pccl.Communicator(master, peer_group=5) as other:
        admit(members, other)
        for member, local in ((members[0], 2), (other, 1)):
            sizes = {a: member.get_attribute(a) for a in pccl.Attribute}
            assert sizes == {
                pccl.Attribute.GLOBAL_WORLD_SIZE: 3, pccl.Attribute.LOCAL_WORLD_SIZE: local,
                pccl.Attribute.NUM_DISTINCT_PEER_GROUPS: 2, pccl.Attribute.LARGEST_PEER_GROUP_WORLD_SIZE: 2,
            }
        values = [np.ones(10) for _ in members]
        reduce_all(members, values, values, op=ReduceOp.SUM)
        assert values[0][0] == 2


def test_reduces_run_while_another_thread_asks_for_newcomers(pair):
    """Trainers that reduce in the background make these calls."""
    stop = threading.Event()

    def background(member):
        values = np.ones(20_000, np.float32)
        for _ in range(20):
            assert member.all_reduce_async(values, values, op=ReduceOp.AVG, tag=11).wait()[0]
        return values

    def ask(member):
        asked = 0
        while not stop.is_set():
            assert member.are_peers_pending() is False
            asked += 1
        return asked

    askers = [threading.Thread(target=ask, args=(m,)) for m in pair]
    for asker in askers:
        asker.start()
    try:
        results = all_at_once(*[lambda m=m: background(m) for m in pair])
    finally:
        stop.set()
        for asker in askers:
            asker.join()
    assert np.all(results[0] == 1)


def test_reduce_works_after_optimize_topology(pair):
    all_at_once(*[m.optimize_topology for m in pair])
    values = [np.ones(100) for _ in pair]
    reduce_all(pair, values, values, op=ReduceOp.SUM)
    assert values[1][99] == 2


def test_shards_are_reduced_and_gathered(master):
    with world(master, 3) as members:
        values = [np.arange(1000, dtype=np.float32) * (i + 1) for i in range(3)]
        shards = [member.shard(1000) for member in members]
        assert [shard.rank for shard in shards] == [0, 1, 2] and sum(shard.elements for shard in shards) == 1000
        parts = [np.empty(shard.elements, np.float32) for shard in shards]
        infos = all_at_once(*[
            lambda m=m, v=v, p=p, s=s: m.reduce_scatter(v, p, s, op=ReduceOp.AVG) for m, v, p, s in zip(members, values, parts, shards)
        ])
        assert all(info.local_world_size == 3 for info in infos)
        for part, shard in zip(parts, shards):
            assert np.array_equal(part, 2 * np.arange(1000, dtype=np.float32)[shard.place])
        wholes = [np.empty(1000, np.float32) for _ in range(3)]
        all_at_once(*[lambda m=m, p=p, w=w, s=s: m.all_gather(p, w, s, tag=1) for m, p, w, s in zip(members, parts, wholes, shards)])
        assert all(np.array_equal(whole, 2 * np.arange(1000)) for whole in wholes)
        with pytest.raises(ValueError, match="recv has 7 elements, the shard"):
            members[0].reduce_scatter(values[0], np.empty(7, np.float32), shards[0], op=ReduceOp.SUM)
        with pytest.raises(TypeError, match="FLOAT"):
            members[0].all_gather(np.empty(shards[0].elements, np.float64), wholes[0], shards[0])


def test_halves_of_an_all_reduce_run_asynchronously(pair):
    values = [np.arange(1000, dtype=np.float32) * (i + 1) for i in range(2)]
    shards = [m.shard(1000) for m in pair]
    parts = [v[s.place] for v, s in zip(values, shards)]  # a view: the operation works in place
    handles = all_at_once(*[
        lambda m=m, v=v, p=p, s=s: m.reduce_scatter_async(v, p, s, op=ReduceOp.AVG, tag=70) for m, v, p, s in zip(pair, values, parts, shards)
    ])
    assert [handle.wait()[:2] for handle in handles] == [(True, Result.SUCCESS)] * 2
    handles = all_at_once(*[lambda m=m, v=v, p=p, s=s: m.all_gather_async(p, v, s, tag=71) for m, v, p, s in zip(pair, values, parts, shards)])
    assert [handle.wait()[0] for handle in handles] == [True, True]
    for v in values:
        np.testing.assert_array_equal(v, np.arange(1000, dtype=np.float32) * 1.5)


def test_lanes_are_accepted_under_the_name_of_version_1(master):
    pccl.Communicator(master, lanes=2).close()
    pccl.Communicator(master, 0, 2).close()
    with pytest.raises(TypeError, match="lanes and p2p_connection_pool_size"):
        pccl.Communicator(master, p2p_connection_pool_size=2, lanes=2)


def test_peer_without_a_shard_passes_none(master):
    with world(master, 2) as members:
        values = [np.ones(10, np.float32) for _ in range(2)]
        shards = [member.shard(10) for member in members]
        assert sorted(shard.elements for shard in shards) == [0, 10]
        parts = [np.empty(10, np.float32) if shard.elements else None for shard in shards]
        all_at_once(*[lambda m=m, v=v, p=p, s=s: m.reduce_scatter(v, p, s, op=ReduceOp.SUM) for m, v, p, s in zip(members, values, parts, shards)])
        wholes = [np.empty(10, np.float32) for _ in range(2)]
        all_at_once(*[lambda m=m, p=p, w=w, s=s: m.all_gather(p, w, s, tag=1) for m, p, w, s in zip(members, parts, wholes, shards)])
        assert all(np.all(whole == 2) for whole in wholes)
        owner = [shard.elements for shard in shards].index(10)
        with pytest.raises(ValueError, match="recv is None"):
            members[owner].reduce_scatter(values[owner], None, shards[owner], op=ReduceOp.SUM)


@pytest.mark.parametrize("algorithm", ["auto", "ring", "direct"])
@pytest.mark.parametrize("kind", [DataType.FLOAT16, DataType.FLOAT, DataType.DOUBLE])
def test_check_finite_fails_at_all_and_names_peer_and_element(pair, kind, algorithm):
    dtype = kind.to_numpy_dtype()
    values = [np.ones(1000, dtype), np.ones(1000, dtype)]
    values[1][[700, 900]] = np.nan, np.inf
    kept = [value.copy() for value in values]
    recvs = [np.zeros(1000, dtype) for _ in pair]

    def call(member, send, recv):
        with pytest.raises(pccl.PCCLError) as raised:
            member.all_reduce(send, recv, op=ReduceOp.SUM, tag=7, algorithm=algorithm, check_finite=True)
        return raised.value

    errors = all_at_once(*[lambda m=m, s=s, r=r: call(m, s, r) for m, s, r in zip(pair, values, recvs)])
    for error in errors:
        assert error.result == Result.INVALID_ARGUMENT
        assert "element 700 of sendbuff is infinite or not a number" in str(error)
        assert "peer " in str(error)
    for value, before in zip(values, kept):
        assert np.array_equal(value, before, equal_nan=True)
    values[1][[700, 900]] = 2
    reduce_all(pair, values, recvs, op=ReduceOp.SUM, tag=7, algorithm=algorithm, check_finite=True)
    assert recvs[0][700] == recvs[1][700] == 3
    assert np.array_equal(recvs[0], recvs[1])


def test_check_finite_works_in_place_and_asynchronously(pair):
    values = [np.ones(100, np.float32), np.full(100, np.inf, np.float32)]
    handles = [m.all_reduce_async(v, v, op=ReduceOp.AVG, tag=8, check_finite=True) for m, v in zip(pair, values)]
    for handle in handles:
        succeeded, result, _ = handle.wait()
        assert not succeeded and result == Result.INVALID_ARGUMENT
        assert "element 0 of sendbuff" in handle.message
    assert values[0][0] == 1 and np.isinf(values[1][0])
    whole = [np.full(100, -1, np.int32) for _ in pair]
    reduce_all(pair, whole, whole, op=ReduceOp.SUM, tag=8, check_finite=True)
    assert whole[0][0] == -2


def test_check_finite_works_for_both_halves_of_an_all_reduce(pair):
    send = [np.ones(1024, np.float32), np.ones(1024, np.float32)]
    send[0][5] = np.nan

    def scatter(member, values):
        shard = member.shard(1024)
        with pytest.raises(pccl.PCCLError, match="element 5 of sendbuff"):
            member.reduce_scatter(values, np.empty(shard.elements, np.float32), shard, op=ReduceOp.SUM, tag=9, check_finite=True)
        part = np.ones(shard.elements, np.float32)
        if shard.rank == 1:
            part[3] = np.inf
        with pytest.raises(pccl.PCCLError, match="element 3 of sendbuff"):
            member.all_gather(part, np.empty(1024, np.float32), shard, tag=9, check_finite=True)

    all_at_once(*[lambda m=m, v=v: scatter(m, v) for m, v in zip(pair, send)])
