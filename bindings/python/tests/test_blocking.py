"""Tests of calls that wait: other threads run meanwhile; Ctrl-C and deadlines end a call, other signals do not."""

import signal
import threading
import time

import numpy as np
import pytest
from world import admit, all_at_once, finish, script, until, world

import pccl
from pccl import Attribute, Communicator, ReduceOp, Result

# A process with a master and two members. The second never makes the call in which the first waits.
PEERS = """
    import os, signal, sys, threading, time
    import numpy as np
    import pccl
    from pccl import *

    def peers():
        node = MasterNode("127.0.0.1:0", daemon=True)  # the process can end while the master serves
        node.run()
        a, b = (Communicator(f"127.0.0.1:{node.port}") for _ in range(2))
        a.connect()
        joined = threading.Thread(target=b.connect)
        joined.start()
        while a.get_attribute(Attribute.GLOBAL_WORLD_SIZE) < 2:
            a.update_topology()
        joined.join()
        return node, a, b

    node, a, b = peers()
    values = np.ones(1000, np.float32)
    state = SharedState([TensorInfo.from_numpy(values, "w")])
    one = ReduceOpDescriptor.from_numpy(
        values, values, ReduceDescriptor(1000, ReduceOp.SUM, 0, ReduceOperandDescriptor(DataType.FLOAT), None))
    third = Communicator(f"127.0.0.1:{node.port}")
    calls = {
        "connect": lambda: third.connect(),
        "update_topology": lambda: a.update_topology(),
        "optimize_topology": lambda: a.optimize_topology(),
        "sync_shared_state": lambda: a.sync_shared_state(state),
        "all_reduce": lambda: a.all_reduce(values, values, op=ReduceOp.SUM),
        "wait": lambda: a.all_reduce_async(values, values, op=ReduceOp.SUM).wait(),
        "all_reduce_multiple_with_retry": lambda: a.all_reduce_multiple_with_retry([one]),
        "master": lambda: node.wait(),
    }
"""
CALLS = ["connect", "update_topology", "optimize_topology", "sync_shared_state", "all_reduce", "wait", "all_reduce_multiple_with_retry"]


@pytest.mark.parametrize("call", [*CALLS, "master"])
def test_ctrl_c_ends_a_call_and_keeps_the_communicator(call):
    process = script(
        PEERS
        + """
    threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    try:
        calls[sys.argv[1]]()
    except KeyboardInterrupt:
        print("interrupted")
    assert values[0] == 1
    assert a.get_attribute(Attribute.GLOBAL_WORLD_SIZE) == 2
    a.close()
    third.close()
    while b.get_attribute(Attribute.GLOBAL_WORLD_SIZE) > 1:  # waits until `b` knows that the other has left
        b.are_peers_pending()
    print("left")
    """,
        call,
    )
    out, _ = finish(process)
    assert out.split() == ["interrupted", "left"]


def test_second_thread_is_not_disturbed_by_ctrl_c():
    process = script(
        PEERS
        + """
    done = []
    def background():
        other = np.ones(1000, np.float32)
        b.all_reduce(other, other, op=ReduceOp.SUM)
        done.append(other[0])
    thread = threading.Thread(target=background)
    thread.start()
    threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    try:
        time.sleep(20)
    except KeyboardInterrupt:
        a.all_reduce(values, values, op=ReduceOp.SUM)
    thread.join()
    print(values[0], done)
    """
    )
    out, _ = finish(process)
    assert out.startswith("2.0")


def test_call_continues_after_a_handler_that_does_not_raise():
    process = script(
        PEERS
        + """
    heard = []
    def on_signal(number, frame):
        heard.append(number)
        assert a.get_attribute(Attribute.GLOBAL_WORLD_SIZE) == 2  # a handler can make calls
        a.are_peers_pending()
        if len(heard) == 3:
            threading.Thread(target=lambda: b.all_reduce(np.ones(1000, np.float32), bytearray_like, op=ReduceOp.SUM)).start()
    bytearray_like = np.zeros(1000, np.float32)
    signal.signal(signal.SIGUSR1, on_signal)
    def send():
        for _ in range(3):
            time.sleep(0.15)
            os.kill(os.getpid(), signal.SIGUSR1)
    threading.Thread(target=send).start()
    a.all_reduce(values, values, op=ReduceOp.SUM)
    print(len(heard), values[0])
    """
    )
    out, _ = finish(process)
    assert out.split() == ["3", "2.0"]


def test_signal_handler_can_close_the_waiting_communicator():
    process = script(
        PEERS
        + """
    signal.signal(signal.SIGTERM, lambda number, frame: a.close())
    threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
    try:
        a.all_reduce(values, values, op=ReduceOp.SUM)
    except PCCLError as error:
        print(error.result.name, a.closed)
    """
    )
    out, _ = finish(process)
    assert out.split() == ["RANK_CONNECTION_LOST", "True"]


def test_ctrl_c_ends_connect_between_attempts():
    process = script(
        """
    import os, signal, threading, pccl
    node = pccl.MasterNode("127.0.0.1:0")
    address = f"127.0.0.1:{node.port}"
    node.close()
    threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    try:
        pccl.Communicator(address).connect(n_attempts=1000)
    except KeyboardInterrupt:
        print("interrupted")
    """
    )
    assert finish(process)[0].split() == ["interrupted"]


def test_other_threads_run_while_a_call_waits(master):
    with world(master, 2) as members:
        values = np.ones(10)
        waits = threading.Thread(target=lambda: members[0].all_reduce(values, values, op=ReduceOp.SUM))
        waits.start()
        counted = 0
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            counted += 1
        assert waits.is_alive() and counted > 1000
        other = np.ones(10)
        members[1].all_reduce(other, other, op=ReduceOp.SUM)
        waits.join()
        assert values[0] == 2


@pytest.mark.parametrize("call", CALLS)
def test_deadline_ends_a_call(master, call):
    with world(master, 2) as members, Communicator(master) as third:
        values = np.ones(1000, np.float32)
        one = pccl.ReduceOpDescriptor.from_numpy(
            values, values, pccl.ReduceDescriptor(1000, ReduceOp.SUM, 0, pccl.ReduceOperandDescriptor(pccl.DataType.FLOAT), None))
        a = members[0]
        calls = {
            "connect": lambda: third.connect(timeout=0.2),
            "update_topology": lambda: a.update_topology(timeout=0.2),
            "optimize_topology": lambda: a.optimize_topology(timeout=0.2),
            "sync_shared_state": lambda: a.sync_shared_state(
                pccl.SharedState([pccl.TensorInfo.from_numpy(values, "w")]), timeout=0.2),
            "all_reduce": lambda: a.all_reduce(values, values, op=ReduceOp.SUM, timeout=0.2),
            "wait": lambda: a.all_reduce_async(values, values, op=ReduceOp.SUM).wait(timeout=0.2),
            "all_reduce_multiple_with_retry": lambda: a.all_reduce_multiple_with_retry([one], timeout=0.2),
        }
        with pytest.raises(pccl.PCCLTimeoutError) as caught:
            calls[call]()
        assert isinstance(caught.value, TimeoutError) and caught.value.result == Result.RANK_CONNECTION_LOST
        assert values[0] == 1
        if call == "all_reduce":  # the communicator can still be used
            with pytest.raises(pccl.PCCLError):
                members[1].all_reduce(values.copy(), values.copy(), op=ReduceOp.SUM)
            pair = [np.ones(10), np.ones(10)]
            all_at_once(*[lambda m=m, v=v: m.all_reduce(v, v, op=ReduceOp.SUM) for m, v in zip(members, pair)])
            assert pair[0][0] == 2


def test_handle_has_one_result_after_its_deadline(master):
    with world(master, 2) as members:
        values = np.ones(10)
        handle = members[0].all_reduce_async(values, values, op=ReduceOp.SUM)
        with pytest.raises(pccl.PCCLTimeoutError):
            handle.wait(0.1)
        assert handle.wait()[:2] == handle.wait()[:2] == (False, Result.RANK_CONNECTION_LOST)
        assert handle.message


@pytest.mark.parametrize("how", ["abort", "close"])
def test_another_thread_ends_a_call(master, how):
    with world(master, 2) as members:
        values = np.ones(10)
        errors = []

        def run():
            with pytest.raises(pccl.PCCLError) as caught:
                members[0].all_reduce(values, values, op=ReduceOp.SUM)
            errors.append(caught.value.result)

        waits = threading.Thread(target=run)
        waits.start()
        until(lambda: not errors and members[1].get_attribute(Attribute.GLOBAL_WORLD_SIZE) == 2)
        time.sleep(0.1)  # the call has probably begun; otherwise the result would be the same or INVALID_USAGE
        getattr(members[0], how)()
        if how == "abort":
            until(lambda: errors or members[0].abort())
        waits.join()
        assert errors[0] in (Result.RANK_CONNECTION_LOST, Result.INVALID_USAGE)
        assert members[0].closed == (how == "close")


def test_call_fails_after_a_loss_and_can_be_repeated(master):
    with world(master, 2) as members, Communicator(master) as third:
        admit(members, third)
        values = [np.full(100_000, 1.0), np.full(100_000, 2.0)]

        def run(member, v):
            failures = 0
            while True:
                try:
                    return failures, member.all_reduce(v, v, op=ReduceOp.SUM)
                except pccl.PCCLError as error:
                    assert error.result == Result.RANK_CONNECTION_LOST and error.message
                    failures += 1

        threading.Timer(0.3, third.close).start()  # it never made the call
        for failures, info in all_at_once(*[lambda m=m, v=v: run(m, v) for m, v in zip(members, values)]):
            assert failures == 1 and info.local_world_size == 2
        assert values[0][0] == values[1][0] == 3


def test_library_keeps_the_signal_handlers_of_python():
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler  # the library changes no handler
