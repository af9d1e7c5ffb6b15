"""Tests of the names, signatures and values that programs use."""

import inspect
import pickle

import numpy as np
import pytest

import pccl
from pccl import _enums, _pccl

ENUMS = {
    pccl.Result: {
        "SUCCESS": "pcclSuccess", "NOT_INITIALIZED": "pcclNotInitialized", "INTERNAL_ERROR": "pcclInternalError",
        "INVALID_ARGUMENT": "pcclInvalidArgument", "INVALID_USAGE": "pcclInvalidUsage", "TOO_FEW_PEERS": "pcclTooFewPeers",
        "MASTER_CONNECTION_FAILED": "pcclMasterConnectionFailed", "RANK_CONNECTION_FAILED": "pcclRankConnectionFailed",
        "RANK_CONNECTION_LOST": "pcclRankConnectionLost", "NO_SHARED_STATE_AVAILABLE": "pcclNoSharedStateAvailable",
        "PENDING_ASYNC_OPS": "pcclPendingAsyncOps", "UPDATE_TOPOLOGY_FAILED": "pcclUpdateTopologyFailed",
        "TOPOLOGY_OPTIMIZATION_FAILED": "pcclTopologyOptimizationFailed", "TIMEOUT": "pcclTimeout",
    },
    pccl.ReduceOp: {"SUM": "pcclSum", "AVG": "pcclAvg", "PROD": "pcclProd", "MAX": "pcclMax", "MIN": "pcclMin"},
    pccl.Attribute: {
        "GLOBAL_WORLD_SIZE": "PCCL_ATTRIBUTE_GLOBAL_WORLD_SIZE", "LOCAL_WORLD_SIZE": "PCCL_ATTRIBUTE_PEER_GROUP_WORLD_SIZE",
        "NUM_DISTINCT_PEER_GROUPS": "PCCL_ATTRIBUTE_NUM_DISTINCT_PEER_GROUPS",
        "LARGEST_PEER_GROUP_WORLD_SIZE": "PCCL_ATTRIBUTE_LARGEST_PEER_GROUP_WORLD_SIZE",
    },
    pccl.SharedStateSyncStrategy: {
        "ENFORCE_POPULAR": "PCCL_SHARED_STATE_SYNC_STRATEGY_ENFORCE_POPULAR",
        "RECEIVE_ONLY": "PCCL_SHARED_STATE_SYNC_STRATEGY_RECEIVE_ONLY", "SEND_ONLY": "PCCL_SHARED_STATE_SYNC_STRATEGY_SEND_ONLY",
    },
    pccl.DataType: {
        "UINT8": "pcclUint8", "INT8": "pcclInt8", "INT16": "pcclInt16", "UINT16": "pcclUint16", "UINT32": "pcclUint32",
        "INT32": "pcclInt32", "UINT64": "pcclUint64", "INT64": "pcclInt64", "FLOAT16": "pcclFloat16", "BFLOAT16": "pcclBFloat16",
        "FLOAT": "pcclFloat", "DOUBLE": "pcclDouble", "INT4": "pcclInt4", "UINT4": "pcclUint4", "UINT2": "pcclUint2",
    },
    pccl.DeviceType: {"CPU": "pcclDeviceCpu", "CUDA": "pcclDeviceCuda"},
    pccl.DistributionHint: {"NONE": "pcclDistributionNone", "NORMAL": "pcclDistributionNormal", "UNIFORM": "pcclDistributionUniform"},
    pccl.QuantizationAlgorithm: {
        "NONE": "pcclQuantNone", "MIN_MAX": "pcclQuantMinMax", "ZERO_POINT_SCALE": "pcclQuantZeroPointScale",
        "BLOCK_SCALE": "pcclQuantBlockScale",
    },
    pccl.QuantizationScale: {"FLOAT": "pcclScaleFloat", "POWER_OF_TWO": "pcclScalePowerOfTwo"},
    pccl.ReduceAlgorithm: {
        "AUTO": "pcclAlgorithmAuto", "RING": "pcclAlgorithmRing", "DIRECT": "pcclAlgorithmDirect", "ONE_HOP": "pcclAlgorithmOneHop",
    },
    pccl.LossPolicy: {"RETRY": "pcclLossPolicyRetry", "REPAIR": "pcclLossPolicyRepair"},
    pccl.Compression: {"AUTO": "pcclCompressionAuto", "OFF": "pcclCompressionOff", "ON": "pcclCompressionOn"},
    pccl.GraphKind: {
        "NONE": "pcclGraphNone", "RING": "pcclGraphRing", "RANDOM_REGULAR": "pcclGraphRandomRegular", "EXPONENTIAL": "pcclGraphExponential",
        "BARABASI_ALBERT": "pcclGraphBarabasiAlbert",
    },
    _enums.Method: {
        "LOCAL": "pcclMethodLocal", "DILOCO": "pcclMethodDiLoCo", "ASYNC_DILOCO": "pcclMethodAsyncDiLoCo", "EAGER_DILOCO": "pcclMethodEagerDiLoCo",
        "STREAMING_DILOCO": "pcclMethodStreamingDiLoCo", "CO2": "pcclMethodCO2", "GOSSIP": "pcclMethodGossip", "PUSH_SUM": "pcclMethodPushSum",
    },
    _enums.OuterOptimizer: {"SGD": "pcclOuterSgd", "HEAVY_BALL": "pcclOuterHeavyBall", "NESTEROV": "pcclOuterNesterov"},
    _enums.Newcomers: {"DRAIN": "pcclNewcomersDrain", "SHARE_PENDING": "pcclNewcomersSharePending", "RESYNC": "pcclNewcomersResync"},
    _enums.Fragments: {"STRIDED": "pcclFragmentsStrided", "SEQUENTIAL": "pcclFragmentsSequential", "EVEN": "pcclFragmentsEven"},
    _enums.Penalty: {"NONE": "pcclPenaltyNone", "CONSTANT": "pcclPenaltyConstant", "GAP_AWARE": "pcclPenaltyGapAware"},
    _enums.Graph: {
        "RING": "pcclGraphRing", "RANDOM_REGULAR": "pcclGraphRandomRegular", "EXPONENTIAL": "pcclGraphExponential",
        "BARABASI_ALBERT": "pcclGraphBarabasiAlbert",
    },
    _enums.Partners: {"ALL": "pcclPartnersAll", "ONE": "pcclPartnersOne", "NEXT": "pcclPartnersNext"},
    _enums.Merge: {"AVAILABLE": "pcclMergeAvailable", "AFTER_ALL": "pcclMergeAfterAll", "SYNCHRONOUS": "pcclMergeSynchronous"},
    _enums.Variance: {
        "OF_RECEIVED": "pcclVarianceOfReceived", "OF_OWN": "pcclVarianceOfOwn", "WEIGHTED": "pcclVarianceWeighted", "NONE": "pcclVarianceNone",
    },
    _enums.NonFinite: {"LEAVE_OUT": "pcclNonFiniteLeaveOut", "FAIL": "pcclNonFiniteFail"},
}


@pytest.mark.parametrize("enum", ENUMS, ids=lambda enum: enum.__name__)
def test_enumeration_has_the_names_and_values_of_the_headers(enum):
    constants = _pccl.constants()
    assert {name: member.value for name, member in enum.__members__.items()} == {name: constants[c] for name, c in ENUMS[enum].items()}
    for member in enum:
        assert str(member) == f"{member:}" == f"{enum.__name__}.{member.name}"


def test_every_enumeration_of_the_package_is_compared():
    kinds = {kind for kind in vars(_enums).values() if inspect.isclass(kind) and issubclass(kind, _enums._Enum) and kind is not _enums._Enum}
    assert kinds == set(ENUMS)


def test_no_constant_of_the_headers_is_missing():
    assert set(_pccl.constants()) == {c for names in ENUMS.values() for c in names.values()}


# Version 1's parameters, in order. New parameters may be added after `*`, but not among the positional ones.
SIGNATURES = [
    (pccl.PCCLError, "(result, func_name)"),
    (pccl.ReduceOperandDescriptor, "(datatype, distribution_hint=DistributionHint.NONE)"),
    (pccl.QuantizationOptions, "(quantized_datatype=DataType.UINT8, algorithm=QuantizationAlgorithm.MIN_MAX)"),
    (pccl.ReduceDescriptor, "(count, op, tag, operand_descriptor, quantization_options)"),
    (pccl.ReduceOpDescriptor.from_torch, "(send, recv, reduce_descriptor)"),
    (pccl.ReduceOpDescriptor.from_numpy, "(send, recv, reduce_descriptor)"),
    (pccl.TensorInfo.from_torch, "(tensor, name, *, allow_content_inequality=False)"),
    (pccl.TensorInfo.from_numpy, "(tensor, name, *, allow_content_inequality=False)"),
    (pccl.SharedState, "(tensor_infos)"),
    (pccl.SharedState.push_revision, "(self)"),
    (pccl.AsyncReduceHandle.wait, "(self)"),
    (pccl.Communicator, "(address, peer_group=0, p2p_connection_pool_size=0)"),
    (pccl.Communicator.connect, "(self, n_attempts=5)"),
    (pccl.Communicator.update_topology, "(self)"),
    (pccl.Communicator.are_peers_pending, "(self)"),
    (pccl.Communicator.optimize_topology, "(self)"),
    (pccl.Communicator.get_attribute, "(self, attribute)"),
    (pccl.Communicator.sync_shared_state, "(self, shared_state, strategy=SharedStateSyncStrategy.ENFORCE_POPULAR)"),
    (pccl.Communicator.all_reduce, "(self, send, recv, *, op, tag=0, operand_descriptor=None, quantization_options=None)"),
    (pccl.Communicator.all_reduce_async, "(self, send, recv, *, op, tag=0, operand_descriptor=None, quantization_options=None)"),
    (pccl.Communicator.all_reduce_multiple_with_retry, "(self, descriptors, *, max_in_flight=4)"),
    (pccl.MasterNode, "(listen_address)"),
    (pccl.MasterNode.run, "(self)"),
    (pccl.MasterNode.interrupt, "(self)"),
    (pccl.cuda.is_available, "()"),
]


@pytest.mark.parametrize(("function", "wanted"), SIGNATURES, ids=[function.__qualname__ for function, _ in SIGNATURES])
def test_functions_accept_the_parameters_of_version_1(function, wanted):
    have = list(inspect.signature(function).parameters.values())
    keyword_only = False
    position = 0
    for part in filter(None, wanted.strip("()").split(", ")):
        if part == "*":
            keyword_only = True
            continue
        name, _, default = part.partition("=")
        parameter = next((p for p in have if p.name == name), None)
        assert parameter is not None, f"{name} is missing"
        assert (parameter.kind is inspect.Parameter.KEYWORD_ONLY) == keyword_only
        if not keyword_only:
            assert have[position] is parameter, f"{name} has moved"
            position += 1
        if default:
            assert str(parameter.default) == default
        elif function is not pccl.ReduceDescriptor and function is not pccl.MasterNode:  # both got a default after version 1
            assert parameter.default is inspect.Parameter.empty
        have_left = [p for p in have if p.name not in wanted]
    for parameter in have_left if wanted != "()" else have:
        assert parameter.default is not inspect.Parameter.empty, f"{parameter.name} is new and has no default"


def test_everything_public_is_documented():
    for name in pccl.__all__:
        thing = getattr(pccl, name)
        assert thing.__doc__, name
        if inspect.isclass(thing) and thing.__module__ != "enum":
            for method, function in inspect.getmembers(thing, inspect.isfunction):
                if not method.startswith("_") and function.__qualname__.startswith(name):
                    assert function.__doc__, f"{name}.{method}"


def test_version_is_that_of_the_library():
    assert pccl.__version__ == "{}.{}.{}".format(_pccl.version() // 10000, _pccl.version() // 100 % 100, _pccl.version() % 100)


def test_build_reports_whether_it_has_cuda():
    assert pccl.cuda.is_available() is False


def test_error_has_result_function_and_message_and_is_pickled():
    for error in (pccl.PCCLError(pccl.Result.TOO_FEW_PEERS, "pcclAllReduce"), pccl.PCCLError(5, "pcclAllReduce", "alone"),
                  pccl.PCCLTimeoutError(5, "pcclAllReduce", "late")):
        again = pickle.loads(pickle.dumps(error))
        for e in (error, again):
            assert e.result is pccl.Result.TOO_FEW_PEERS
            assert e.func_name == "pcclAllReduce"
            assert "TOO_FEW_PEERS" in str(e) and e.message in str(e)
        assert type(again) is type(error)
    assert issubclass(pccl.PCCLTimeoutError, TimeoutError) and issubclass(pccl.PCCLTimeoutError, pccl.PCCLError)


@pytest.mark.parametrize("kind", [kind for kind in pccl.DataType if kind <= pccl.DataType.DOUBLE], ids=lambda kind: kind.name)
def test_numpy_dtypes_are_converted_both_ways(kind):
    dtype = kind.to_numpy_dtype()
    assert dtype.itemsize == kind.itemsize
    assert pccl.DataType.from_numpy_dtype(dtype) is kind
    assert pccl.DataType.from_numpy_dtype(dtype.name) is kind


@pytest.mark.parametrize("dtype", ["bool", "complex64", "datetime64[s]", "U3", np.dtype("float32").newbyteorder(), [("a", "f4")]], ids=str)
def test_numpy_dtypes_that_cannot_be_reduced_are_refused(dtype):
    with pytest.raises(TypeError, match="not supported|byte order"):
        pccl.DataType.from_numpy_dtype(np.dtype(dtype))


@pytest.mark.parametrize("name", ["INT4", "UINT4", "UINT2"])
def test_types_smaller_than_a_byte_are_refused_as_operands(name):
    kind = pccl.DataType[name]
    with pytest.raises(TypeError, match=name):
        kind.to_numpy_dtype()
    with pytest.raises(ValueError, match=f"{name} has no itemsize"):
        kind.itemsize


def test_reprs_show_the_state_of_objects(master):
    communicator = pccl.Communicator(master, 3)
    assert repr(communicator) == f"Communicator('{master}', peer_group=3, not connected)"
    communicator.connect()
    assert repr(communicator) == f"Communicator('{master}', peer_group=3, world size 1)"
    communicator.close()
    assert repr(communicator) == f"Communicator('{master}', peer_group=3, closed)"
    with pccl.MasterNode("127.0.0.1:0") as node:
        assert repr(node) == "MasterNode('127.0.0.1:0')"
    assert repr(node) == "MasterNode('127.0.0.1:0', ended)"
    info = pccl.TensorInfo.from_numpy(np.zeros((2, 3)), "w", allow_content_inequality=True)
    assert repr(pccl.SharedState([info])) == (
        "SharedState(revision=0, tensors=[TensorInfo('w', shape=(2, 3), allow_content_inequality=True)])")
    assert "RING" in repr(pccl.ReduceInfo(2, 3, 4, pccl.ReduceAlgorithm.RING))


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: pccl.Communicator("no port:x"), pccl.PCCLError),
        (lambda: pccl.Communicator(""), pccl.PCCLError),
        (lambda: pccl.Communicator("localhost:1", -1), ValueError),
        (lambda: pccl.Communicator("localhost:1", 0, 1 << 40), ValueError),
        (lambda: pccl.Communicator("localhost:1", 0, 1000), pccl.PCCLError),
        (lambda: pccl.Communicator("localhost:1", listen_port_first=70000), ValueError),
        (lambda: pccl.Communicator("localhost:1", compression="perhaps"), ValueError),
        (lambda: pccl.Communicator("localhost:1", island=(7, 0)), pccl.PCCLError),
        (lambda: pccl.Communicator("localhost:1", island=(0, 2)), pccl.PCCLError),
        (lambda: pccl.Communicator("localhost:1", connect_timeout=-1), ValueError),
        (lambda: pccl.Communicator(48148), TypeError),
        (lambda: pccl.MasterNode("127.0.0.1:99999"), pccl.PCCLError),
        (lambda: pccl.MasterNode("127.0.0.1:0", heartbeat_timeout=0.001), pccl.PCCLError),
        (lambda: pccl.MasterNode("127.0.0.1:0", misuse_grace=-5), ValueError),
        (lambda: pccl.SharedState([]), ValueError),
        (lambda: pccl.TensorInfo.from_numpy(np.zeros(3), ""), ValueError),
        (lambda: setattr(pccl.SharedState([pccl.TensorInfo.from_numpy(np.zeros(3), "a")]), "revision", -1), ValueError),
    ],
)
def test_invalid_arguments_are_refused(make, error):
    with pytest.raises(error) as caught:
        make()
    assert str(caught.value)


def test_port_in_use_is_an_error_with_a_message():
    with pccl.MasterNode("127.0.0.1:0") as node, pytest.raises(pccl.PCCLError) as caught:
        pccl.MasterNode(f"127.0.0.1:{node.port}")
    assert caught.value.result == pccl.Result.MASTER_CONNECTION_FAILED
    assert caught.value.message


def test_master_runs_once_until_interrupted():
    node = pccl.MasterNode("localhost:0")  # a host name is accepted
    with pytest.raises(pccl.PCCLError):
        node.interrupt()
    node.run()
    with pytest.raises(pccl.PCCLError):
        node.run()
    assert node.wait(0) is False
    node.interrupt()
    assert node.wait() is True
    node.interrupt()  # a second call does nothing
    node.close()
    node.close()
    with pytest.raises(pccl.PCCLError, match="closed"):
        node.run()


def test_calls_on_a_closed_communicator_raise(master):
    with pccl.Communicator(master) as communicator:
        communicator.connect()
        assert not communicator.closed
    assert communicator.closed
    values = np.ones(3)
    for call in (communicator.connect, communicator.update_topology, communicator.are_peers_pending, communicator.abort,
                 lambda: communicator.all_reduce(values, values, op=pccl.ReduceOp.SUM),
                 lambda: communicator.get_attribute(pccl.Attribute.GLOBAL_WORLD_SIZE)):
        with pytest.raises(pccl.PCCLError, match="closed") as caught:
            call()
        assert caught.value.result == pccl.Result.INVALID_USAGE


def test_attempts_to_connect_are_counted():
    with pccl.MasterNode("127.0.0.1:0") as node:
        address = f"127.0.0.1:{node.port}"
    communicator = pccl.Communicator(address)  # nothing listens there now
    with pytest.raises(pccl.PCCLError) as caught:
        communicator.connect(n_attempts=2)
    assert caught.value.result == pccl.Result.MASTER_CONNECTION_FAILED
    assert caught.value.func_name == "pcclConnect"
    with pytest.raises(ValueError):
        communicator.connect(n_attempts=0)
