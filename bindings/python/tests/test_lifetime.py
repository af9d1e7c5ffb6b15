"""Tests of the end of objects in any order, threads, the interpreter and forks.

Each test runs in a separate process, which must end with status 0.
"""

import itertools

import pytest
from test_blocking import PEERS
from world import finish, script

ORDERS = ["".join(order) for order in itertools.permutations("nah")]


@pytest.mark.parametrize("order", ORDERS)
def test_objects_may_be_dropped_in_any_order(order):
    process = script(
        PEERS
        + """
    del calls, third
    handle = a.all_reduce_async(values, values, op=ReduceOp.SUM)
    names = {"n": "node", "a": "a", "h": "handle"}
    for letter in sys.argv[1]:
        del globals()[names[letter]]
    print("done")
    """,
        order,
    )
    assert finish(process)[0].split() == ["done"]


@pytest.mark.parametrize(
    "ending",
    [
        "pass",
        "sys.exit(0)",
        "handle = a.all_reduce_async(values, values, op=ReduceOp.SUM)",
        "threading.Thread(target=calls['all_reduce'], daemon=True).start(); time.sleep(0.2)",
        "threading.Thread(target=calls['update_topology'], daemon=True).start()",
        "[threading.Thread(target=calls[name], daemon=True).start() for name in ('connect', 'all_reduce', 'master')]; time.sleep(0.2)",
        "import atexit; atexit.register(lambda: print(a.get_attribute(Attribute.GLOBAL_WORLD_SIZE)))",
        "sys.modules['kept'] = [node, a, b]",
        "import gc; gc.disable(); cycle = [a, node]; cycle.append(cycle); del cycle",
        "import builtins; builtins.kept = a",
    ],
)
def test_interpreter_may_end_at_any_time(ending):
    process = script(PEERS + f"\n    print('before')\n    {ending}\n")
    out, err = finish(process)
    assert out.split()[0] == "before"
    assert "Fatal" not in err and "terminate" not in err


def test_uncaught_ctrl_c_leaves_the_run():
    process = script(
        PEERS
        + """
    threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    a.all_reduce(values, values, op=ReduceOp.SUM)
    """
    )
    _, err = process.communicate(timeout=60)
    assert process.returncode in (-2, 130)
    assert "KeyboardInterrupt" in err and "Fatal" not in err


def test_dropped_communicator_leaves_the_run():
    process = script(
        PEERS
        + """
    del calls, third
    del a
    while b.get_attribute(Attribute.GLOBAL_WORLD_SIZE) > 1:
        b.are_peers_pending()
    print("left")
    """
    )
    assert finish(process)[0].split() == ["left"]


def test_handle_keeps_the_communicator_until_wait_returns():
    process = script(
        PEERS
        + """
    del calls, third
    handle = a.all_reduce_async(values, values, op=ReduceOp.SUM)
    del a
    other = np.ones(1000, np.float32)
    b.all_reduce(other, other, op=ReduceOp.SUM)
    print(handle.wait()[0])
    while b.get_attribute(Attribute.GLOBAL_WORLD_SIZE) > 1:
        b.are_peers_pending()
    print("left")
    """
    )
    assert finish(process)[0].split() == ["True", "left"]


def test_handles_of_a_closed_communicator_fail():
    process = script(
        PEERS
        + """
    handle = a.all_reduce_async(values, values, op=ReduceOp.SUM)
    a.close()
    is_success, status, info = handle.wait()
    print(is_success, Result(status).name, handle.message)
    """
    )
    out = finish(process)[0]
    assert out.startswith("False RANK_CONNECTION_LOST") and "closed" in out


def test_fork_gets_clear_errors_and_disturbs_no_peer():
    process = script(
        PEERS
        + """
    handle = a.all_reduce_async(values, values, op=ReduceOp.SUM)
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        answers = []
        for call in (calls["all_reduce"], calls["update_topology"], lambda: handle.wait(), lambda: node.interrupt(), lambda: a.abort()):
            try:
                call()
            except PCCLError as error:
                answers.append("fork" in error.message and error.result is Result.INVALID_USAGE)
        a.close()
        del a, b, node, handle, calls, third
        mine = MasterNode("127.0.0.1:0", daemon=True)  # the fork can make its own objects
        mine.run()
        with Communicator(f"127.0.0.1:{mine.port}") as alone:
            alone.connect()
            answers.append(alone.get_attribute(Attribute.GLOBAL_WORLD_SIZE))
        print(answers, flush=True)
        sys.exit(0)  # a normal exit, which runs all exit handlers
    assert os.waitpid(child, 0)[1] == 0
    other = np.ones(1000, np.float32)
    b.all_reduce(other, other, op=ReduceOp.SUM)
    print(handle.wait()[0], values[0])
    """
    )
    out = finish(process)[0].splitlines()
    assert out == ["[True, True, True, True, True, 1]", "True 2.0"]


@pytest.mark.parametrize("library", ["nothing", "numpy", "torch"])
def test_import_loads_no_other_library(library):
    if library != "nothing":
        pytest.importorskip(library)
    process = script(
        """
    import sys
    library = sys.argv[1]
    others = {"numpy", "torch"} - {library}
    for other in others:
        sys.modules[other] = None  # an import of it would fail
    if library != "nothing" and library != "torch":
        __import__(library)
    import pccl, threading
    assert not [name for name in ("numpy", "torch") if sys.modules.get(name) is not None and name != library]
    node = pccl.MasterNode("127.0.0.1:0", daemon=True)
    node.run()
    a, b = (pccl.Communicator(f"127.0.0.1:{node.port}") for _ in range(2))
    a.connect()
    joined = threading.Thread(target=b.connect)
    joined.start()
    while a.get_attribute(pccl.Attribute.GLOBAL_WORLD_SIZE) < 2:
        a.update_topology()
    joined.join()
    if library == "torch":
        del sys.modules["numpy"]
        import torch
        values = [torch.ones(3) for _ in range(2)]
    elif library == "numpy":
        import numpy
        values = [numpy.ones(3) for _ in range(2)]
    else:
        values = [memoryview(bytearray(12)).cast("f") for _ in range(2)]
        for v in values:
            v[0] = 1
    handle = a.all_reduce_async(values[0], values[0], op=pccl.ReduceOp.SUM)
    b.all_reduce(values[1], values[1], op=pccl.ReduceOp.SUM)
    handle.wait()
    print(float(values[0][0]), float(values[1][0]))
    """,
        library,
    )
    assert finish(process)[0].split() == ["2.0", "2.0"]
