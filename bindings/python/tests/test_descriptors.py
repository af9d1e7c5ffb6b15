"""Tests that no other process keeps the sockets and files of a process, so that its end is detected at once."""

import os
import signal
import threading
import time

import pytest
from world import admit, all_at_once, finish, script

import pccl
from pccl import Attribute, Communicator, MasterNode, ReduceOp

HEARTBEAT = 20.0  # much longer than any of these tests waits
AT_ONCE = 3.0

LISTS_DESCRIPTORS = """
    import sys, subprocess, pccl
    from pccl import Communicator, MasterNode
    with MasterNode("127.0.0.1:0", journal=sys.argv[1]) as master:
        master.run()
        with Communicator(f"127.0.0.1:{master.port}", advertise_address="localhost") as communicator:
            communicator.connect()
            helper = "import os\\nfor fd in sorted(map(int, os.listdir('/proc/self/fd'))):\\n try: print(fd, os.readlink(f'/proc/self/fd/{fd}'))\\n except OSError: pass"
            print(subprocess.run([sys.executable, "-c", helper], close_fds=False, stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout)
"""

# Joins, starts another process that can inherit descriptors, prints a line, and makes reduces until it is killed.
MEMBER = """
    import multiprocessing, os, signal, subprocess, sys, time
    import numpy as np, pccl
    from pccl import Attribute, Communicator, ReduceOp
    address, port, how = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    communicator = Communicator(address, listen_port_first=port, listen_port_last=port)
    communicator.connect()
    while communicator.get_attribute(Attribute.GLOBAL_WORLD_SIZE) < 2:
        communicator.update_topology()
    x = np.ones(10)
    communicator.all_reduce(x, x, op=ReduceOp.SUM)
    if how == "helper":
        other = subprocess.Popen(["sleep", "60"], close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).pid
    elif how == "fork":
        worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
        worker.start()
        other = worker.pid
    else:
        other = 0
    print(other, flush=True)
    if how == "exec":
        sys.stdin.readline()
        os.execv(sys.executable, [sys.executable, "-c", "import time; print('replaced', flush=True); time.sleep(60)"])
    sys.stdin.read()
"""

MASTER = """
    import multiprocessing, sys, time
    from pccl import MasterNode
    master = MasterNode(f"127.0.0.1:{sys.argv[1]}")
    master.run()
    print(master.port, flush=True)
    sys.stdin.readline()
    worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    worker.start()
    print(worker.pid, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def service():
    with MasterNode("127.0.0.1:0", heartbeat_timeout=HEARTBEAT) as master:
        master.run()
        yield f"127.0.0.1:{master.port}"


def free_port():
    import socket

    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def test_started_program_inherits_no_socket_or_file(tmp_path):
    out, _ = finish(script(LISTS_DESCRIPTORS, tmp_path / "journal"))
    inherited = [line for line in out.splitlines() if line and int(line.split()[0]) > 2 and "/proc/" not in line]
    assert inherited == [], out


def lost_after(member, end):
    """Calls `end`, which ends the other member, while this one makes reduces. Returns the seconds until a reduce failed."""
    failed = []

    def reduces():
        import numpy as np

        x = np.ones(10)
        with pytest.raises(pccl.PCCLError):
            while True:
                member.all_reduce(x, x, op=ReduceOp.SUM, timeout=2 * HEARTBEAT)
        failed.append(time.monotonic())

    thread = threading.Thread(target=reduces)
    thread.start()
    time.sleep(0.1)  # a reduce waits for the other member
    begin = time.monotonic()
    end()
    thread.join()
    return failed[0] - begin


@pytest.mark.parametrize("how", ["helper", "fork", "exec"])
def test_death_of_a_member_is_detected_while_its_children_live(service, how):
    port = free_port()
    process = script(MEMBER, service, port, how, stdin=-1)
    other = 0
    try:
        with Communicator(service) as member:
            member.connect()
            while member.get_attribute(Attribute.GLOBAL_WORLD_SIZE) < 2:
                member.update_topology()
            import numpy as np

            x = np.ones(10)
            member.all_reduce(x, x, op=ReduceOp.SUM)
            other = int(process.stdout.readline())

            def end():
                if how == "exec":
                    process.stdin.write("\n")
                    process.stdin.flush()
                else:
                    process.kill()

            assert lost_after(member, end) < AT_ONCE
            if other:
                os.kill(other, 0)  # fails if that process has ended
            # Its successor listens on the same port at once.
            with Communicator(service, listen_port_first=port, listen_port_last=port) as successor:
                admit([member], successor)
                all_at_once(*[lambda c=c: c.all_reduce(np.ones(10), np.ones(10), op=ReduceOp.SUM) for c in (member, successor)])
    finally:
        if other:
            os.kill(other, signal.SIGKILL)
        process.kill()
        process.communicate()


def test_death_of_a_master_is_detected_while_its_fork_lives():
    process = script(MASTER, 0, stdin=-1)
    port = process.stdout.readline().strip()
    other = 0
    try:
        with Communicator(f"127.0.0.1:{port}") as member:
            member.connect()
            process.stdin.write("\n")
            process.stdin.flush()
            other = int(process.stdout.readline())
            process.kill()
            begin = time.monotonic()
            with pytest.raises(pccl.PCCLError):
                while True:
                    member.are_peers_pending(timeout=2 * HEARTBEAT)
            assert time.monotonic() - begin < AT_ONCE
            os.kill(other, 0)
        with MasterNode(f"127.0.0.1:{port}") as successor:  # connections of the first master are in TIME_WAIT
            assert successor.port == int(port)
    finally:
        if other:
            os.kill(other, signal.SIGKILL)
        process.kill()
        process.communicate()


def test_fork_can_make_a_communicator(service):
    source = """
        import os, sys
        import pccl
        from pccl import Communicator
        first = Communicator(sys.argv[1])
        first.connect()
        child = os.fork()
        if child == 0:
            try:
                first.are_peers_pending()
            except pccl.PCCLError as error:
                assert "fork" in str(error), error
            second = Communicator(sys.argv[1].replace("127.0.0.1", "localhost"), 7)
            try:
                second.connect(timeout=0.5)  # nobody admits it within this time
            except pccl.PCCLTimeoutError:
                os._exit(0)
            os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        assert not first.are_peers_pending(timeout=10) or True
        first.close()
        print("well")
    """
    out, _ = finish(script(source, service))
    assert "well" in out


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (1, 2), (0, 1, 2)])
def test_sockets_do_not_replace_closed_standard_streams(service, closed, tmp_path):
    """If a socket took such a number, log lines would be written to it."""
    source = """
        import os, sys
        from pccl import Communicator
        with Communicator(sys.argv[1]) as communicator:
            communicator.connect()
            communicator.update_topology()
            streams = [os.readlink(f"/proc/self/fd/{fd}") for fd in range(3)]
        open(sys.argv[2], "w").write("\\n".join(streams))
    """
    result = tmp_path / "result"
    finish(script(source, service, result, preexec_fn=lambda: [os.close(fd) for fd in closed], env={"PCCL_LOG_LEVEL": "DEBUG"}))
    streams = result.read_text().splitlines()
    assert [streams[fd] for fd in closed] == ["/dev/null"] * len(closed)
