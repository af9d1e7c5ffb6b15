"""Compares the C headers with the package. Python has every field, function and enumerator that is not listed here."""

import dataclasses
import inspect
import os
import pathlib
import re

import pytest

import pccl
from pccl import _pccl

SOURCE = pathlib.Path(os.environ.get("PCCL_SOURCE") or pathlib.Path(__file__).resolve().parents[3])
HEADERS = sorted((SOURCE / "include" / "pccl").glob("*.h"))
BINDING = "".join(file.read_text() for file in sorted((SOURCE / "bindings/python/src").glob("*.cc")))
TEXT = re.sub(r"/\*.*?\*/", "", "".join(file.read_text() for file in HEADERS), flags=re.S)

NO_PARAMETER = "the binding sets it"
PLAIN_C = "version 1's form; Python uses the form with options"

FUNCTIONS_LEFT_OUT = {
    "pcclGetErrorString": "PCCLError has the text",
    "pcclCreateCommunicator": PLAIN_C, "pcclAllReduce": PLAIN_C, "pcclAllReduceAsync": PLAIN_C, "pcclAwaitAsyncReduce": PLAIN_C,
    "pcclCreateMaster": PLAIN_C,
    "pcclCommConfigInit": "a macro for Sized", "pcclReduceOptionsInit": "a macro for Sized", "pcclReduceReportInit": "a macro for Sized",
    "pcclMasterConfigInit": "a macro for Sized",
    "pcclLogWarning": "for layers that log through the library", "pcclPollWaitHook": "for layers that wait outside the library",
    "pcclTrainerStateBytes": "Python has state_file and no state_buffer",
}
"""Functions that the binding does not call, with the reason."""

STRUCTS_LEFT_OUT = {
    "ccoip_ipv4_address_t": PLAIN_C, "ccoip_ipv6_address_t": PLAIN_C, "ccoip_inet_address_t": PLAIN_C, "ccoip_socket_address_t": PLAIN_C,
    "pcclCommCreateParams_t": PLAIN_C, "pcclAsyncReduceOp_t": "AsyncReduceHandle", "pcclPostOp_t": "PostHandle", "pcclRankUuid_t": "uuid.UUID",
    "pcclBuildInfo_t": "pccl.cuda.is_available", "pcclSharedState_t": "SharedState", "pcclTensorInfo_t": "TensorInfo",
    "pcclReduceSingleDescriptor_t": "ReduceOpDescriptor", "pcclReduceOpDescriptor_t": "ReduceOpDescriptor",
}


def parameters(*functions):
    return {name for function in functions for name in inspect.signature(function).parameters}


def fields(kind):
    return {field.name for field in dataclasses.fields(kind)}


def trainer_parameters():
    methods = pytest.importorskip("pccl.torch", exc_type=ImportError)
    kinds = (methods.DiLoCo, methods.AsyncDiLoCo, methods.StreamingDiLoCo, methods.CO2, methods.Gossip)
    return parameters(*kinds)


def trainer_status():
    return fields(pytest.importorskip("pccl.torch", exc_type=ImportError).TrainerStatus)


# For each struct: its names in Python, the names that differ there, and the fields that Python does not have.
STRUCTS = {
    "pcclReduceInfo_t": (lambda: fields(pccl.ReduceInfo), {}, set()),
    "pcclReduceReport_t": (lambda: fields(pccl.ReduceInfo), {"world_size": "local_world_size"}, {"struct_size"}),
    "pcclReduceOperandDescriptor_t": (lambda: fields(pccl.ReduceOperandDescriptor), {}, set()),
    "pcclQuantizationOptions_t": (lambda: fields(pccl.QuantizationOptions), {}, set()),
    "pcclReduceDescriptor_t": (lambda: fields(pccl.ReduceDescriptor), {"src_descriptor": "operand_descriptor"}, set()),
    "pcclReduceOptions_t": (
        lambda: parameters(pccl.Communicator.all_reduce) | fields(pccl.QuantizationOptions),
        {"quantization_block": "block", "quantization_scale": "scale"}, {"struct_size"},
    ),
    "pcclCommConfig_t": (
        lambda: parameters(pccl.Communicator),
        {"master_address": "address", "connect_timeout_ms": "connect_timeout", "master_limit_ms": "master_limit", "island_peers": "island"},
        {"struct_size"},
    ),
    "pcclMasterConfig_t": (
        lambda: parameters(pccl.MasterNode),
        {f"{name}_ms": name for name in ("heartbeat_timeout", "misuse_grace", "recovery_window", "straggler_after", "remove_stragglers_after")},
        {"struct_size"},
    ),
    "pcclSharedStateSyncInfo_t": (lambda: fields(pccl.SharedStateSyncInfo), {}, set()),
    "pcclShard_t": (lambda: set(pccl.Shard._fields), {}, set()),
    "pcclMessageInfo_t": (lambda: set(pccl.Message._fields), {"from": "sender", "bytes": "data"}, set()),
    "pcclGraphOptions_t": (lambda: parameters(pccl.Communicator.set_neighbour_graph), {}, set()),
    "pcclTrainerConfig_t": (
        trainer_parameters,
        {
            "outer_learning_rate": "outer_lr", "round_ms": "round_s", "rejoin_ms": "rejoin_s", "exchange_wait_ms": "exchange_wait_s",
            "reduce": "algorithm", "island_consensus": "island",
        },
        {"struct_size", "method", "agree_context", "state_buffer", "state_buffer_bytes"},
    ),
    "pcclTrainerStatus_t": (trainer_status, {"events": "outer_step"}, {"struct_size"}),
}


def c_structs():
    found = {}
    for body, name in re.findall(r"typedef struct \w+ \{(.*?)\} (\w+);", TEXT, re.S):
        found[name] = [re.search(r"(\w+)(?:\[\d+\])?$", line.strip())[1] for line in body.split(";") if line.strip()]
    return found


def test_every_struct_of_the_headers_is_listed():
    assert set(c_structs()) - set(STRUCTS_LEFT_OUT) == set(STRUCTS)


@pytest.mark.parametrize("struct", STRUCTS)
def test_python_has_every_field_of_a_struct(struct):
    names, renamed, left_out = STRUCTS[struct]
    in_c = c_structs()[struct]
    assert left_out <= set(in_c) and set(renamed) <= set(in_c)
    missing = {renamed.get(name, name) for name in in_c if name not in left_out} - names()
    assert not missing, f"add these fields of {struct} to Python, or list them as left out: {missing}"


def test_binding_calls_every_function():
    functions = set(re.findall(r"PCCL_EXPORT [\w ]+[ *](pccl\w+)\(", TEXT))
    assert len(functions) > 60
    called = {name for name in functions if re.search(rf"\b{name.removesuffix('Sized')}\b", BINDING)}
    assert functions - called == set(FUNCTIONS_LEFT_OUT) - called
    assert set(FUNCTIONS_LEFT_OUT) <= functions


def test_every_enumerator_is_a_constant_of_the_binding():
    in_c = set()
    for body in re.findall(r"typedef enum \w+ \{(.*?)\}", TEXT, re.S):
        in_c |= {entry.partition("=")[0].strip() for entry in body.split(",") if "PCCL_STATUS_TABLE" not in entry}
    left_out = {"inetIPv4", "inetIPv6"}  # version 1's addresses
    status = {name for name in _pccl.constants() if re.search(rf"X\({name}, \d+", TEXT)}
    assert in_c - left_out == set(_pccl.constants()) - status
    assert "pcclTimeout" in status


def test_every_event_of_a_trainer_is_a_flag_of_its_status():
    bits = {name.lower(): int(value) for name, value in re.findall(r"#define PCCL_TRAINER_(\w+) (\d+)U", TEXT)}
    assert bits == _pccl.trainer_events
    assert set(bits) <= trainer_status()
