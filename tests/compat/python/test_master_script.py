"""Tests of master scripts in the style of version 1: they start a master, reach their end, and serve until a signal."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

import pccl

LIMIT_S = 60

SCRIPTS = {
    "a global": """
        import sys
        from pccl import MasterNode
        master = MasterNode(listen_address=sys.argv[1])
        master.run()
    """,
    "a local": """
        import sys
        from pccl import MasterNode

        def main():
            master: MasterNode = MasterNode(listen_address=sys.argv[1])
            try:
                master.run()
            except KeyboardInterrupt:
                master.interrupt()

        if __name__ == "__main__":
            main()
    """,
    "sys.exit(main())": """
        import sys
        from pccl import MasterNode

        def main():
            master = MasterNode(sys.argv[1])
            master.run()

        sys.exit(main())
    """,
    "a cycle": """
        import gc, sys
        from pccl import *

        class Service:
            def __init__(self, address):
                self.itself = self
                self.master = MasterNode(address)
                self.master.run()

        Service(sys.argv[1])
        gc.collect()
    """,
}

START = """
    import atexit, gc, os, signal, sys, threading, time
    import pccl
    from pccl import MasterNode
    master = MasterNode(listen_address=sys.argv[1])
    master.run()
"""


def until_it_serves(address, process=None):
    """Waits until the master serves: a peer joins and leaves."""
    host, port = address.split(":")
    end = time.monotonic() + LIMIT_S
    while True:
        try:
            socket.create_connection((host, int(port)), 1).close()
            break
        except OSError:
            assert process is None or process.poll() is None, f"status {process.returncode}: {process.communicate()}"
            assert time.monotonic() < end, f"nothing listens on {address}"
            time.sleep(0.01)
    with pccl.Communicator(address) as peer:
        peer.connect()
        assert peer.get_attribute(pccl.Attribute.GLOBAL_WORLD_SIZE) == 1


def until_its_program_has_ended(process):
    """Waits for the line that a process writes when its program has ended and its master still serves."""
    line = process.stderr.readline()
    assert line.startswith("pccl: the program has ended"), line + process.stderr.read()


def ended(process, status=0):
    out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == status, f"status {process.returncode}\n{out}\n{err}"
    assert status == 1 or "Traceback" not in err, err
    return out, err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("form", SCRIPTS)
def test_master_script_serves_until_a_signal(start, address, form, number):
    process = start(SCRIPTS[form], address)
    until_its_program_has_ended(process)
    until_it_serves(address, process)
    assert process.poll() is None
    process.send_signal(number)
    ended(process)


@pytest.mark.parametrize(
    "handler",
    [
        "lambda number, frame: master.interrupt()",
        "lambda number, frame: sys.exit(0)",
        "signal.default_int_handler",
    ],
)
def test_handler_of_the_program_ends_the_master(start, address, handler):
    process = start(START + f"""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, {handler})
    """, address)
    until_its_program_has_ended(process)
    until_it_serves(address, process)
    process.send_signal(signal.SIGTERM)
    ended(process)


def test_master_serves_after_a_handler_without_interrupt(start, address):
    process = start(START + """
    signal.signal(signal.SIGINT, lambda number, frame: print("not yet", flush=True))
    """, address)
    until_its_program_has_ended(process)
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "not yet\n"
    until_it_serves(address, process)
    process.send_signal(signal.SIGTERM)
    ended(process)


def test_ignored_sigint_stays_ignored(start, address):
    process = start(START + "    signal.signal(signal.SIGINT, signal.SIG_IGN)\n", address)
    until_its_program_has_ended(process)
    process.send_signal(signal.SIGINT)
    until_it_serves(address, process)
    process.send_signal(signal.SIGTERM)
    ended(process)


@pytest.mark.parametrize(
    "ending",
    [
        "master.interrupt()",
        "master.interrupt(); del master",
        "master.interrupt(); master.wait()",
        "master.close()",
        "exec('with master: pass')",
        "atexit.register(master.interrupt)",
        "threading.Timer(0.2, master.interrupt).start()",
        "threading.Timer(0.2, master.interrupt).start(); master.wait()",
    ],
)
def test_process_ends_after_its_master_was_interrupted(start, address, ending):
    ended(start(START + f"    {ending}\n", address))


def test_process_ends_if_its_master_never_ran(start, address):
    ended(start("import sys, pccl; master = pccl.MasterNode(sys.argv[1])", address))


def test_uncaught_exception_ends_master_and_process(start, address):
    _, err = ended(start(START + "    raise KeyError('mistake')\n", address), status=1)
    assert "KeyError: 'mistake'" in err and "pccl:" not in err


def test_uncaught_ctrl_c_ends_master_and_process(start, address):
    process = start(START + "    print('serves', flush=True); time.sleep(60)\n", address)
    assert process.stdout.readline() == "serves\n"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=LIMIT_S)
    assert process.returncode in (-signal.SIGINT, 130)


def test_exit_status_is_kept(start, address):
    process = start(START + "    sys.exit(3)\n", address)
    until_its_program_has_ended(process)
    until_it_serves(address, process)
    process.send_signal(signal.SIGTERM)
    ended(process, status=3)


def test_os_exit_ends_the_process_at_once(start, address):
    ended(start(START + "    os._exit(4)\n", address), status=4)


def test_master_serves_after_its_last_reference_is_dropped(start, address):
    process = start(START + """
    del master
    gc.collect()
    with pccl.Communicator(sys.argv[1]) as peer:
        peer.connect()
        print(peer.get_attribute(pccl.Attribute.GLOBAL_WORLD_SIZE), flush=True)
    """, address)
    assert process.stdout.readline() == "1\n"
    until_its_program_has_ended(process)
    until_it_serves(address, process)
    process.send_signal(signal.SIGTERM)
    ended(process)


def test_daemon_master_ends_with_its_last_reference(start, address):
    out, err = ended(start("""
    import sys
    from pccl import MasterNode
    for _ in range(2):  # the second master needs the port of the first
        master = MasterNode(sys.argv[1], daemon=True)
        master.run()
        del master
    last = MasterNode(sys.argv[1], daemon=True)
    last.run()
    print("done")
    """, address))
    assert out == "done\n" and err == ""


def test_two_masters_serve_until_both_are_interrupted(start, address):
    process = start(START + """
    other = MasterNode("127.0.0.1:0")
    other.run()
    threading.Timer(0.2, master.interrupt).start()
    """, address)
    until_its_program_has_ended(process)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    ended(process)


def test_daemon_thread_runs_while_the_process_serves(start, address):
    process = start(START + """
    leave = threading.Event()
    def train():
        leave.wait(2)  # by the end of this wait the program has ended
        with pccl.Communicator(sys.argv[1]) as peer:
            peer.connect()
            print("joined", flush=True)
    threading.Thread(target=train, daemon=True).start()
    """, address)
    until_its_program_has_ended(process)
    assert process.stdout.readline() == "joined\n"
    process.send_signal(signal.SIGTERM)
    ended(process)


def test_fork_does_not_wait_for_the_master_of_its_parent(start, address):
    out, _ = ended(start(START + """
    child = os.fork()
    if child == 0:
        sys.exit(5)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    master.interrupt()
    """, address))
    assert out == "5\n"


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing_worker_serves_until_termination(start, address, method):
    process = start("""
    import multiprocessing, sys
    from pccl import Communicator, MasterNode

    def serve(address):
        master = MasterNode(address)
        master.run()

    if __name__ == "__main__":
        worker = multiprocessing.get_context(sys.argv[2]).Process(target=serve, args=(sys.argv[1],))
        worker.start()
        print("started", flush=True)
        sys.stdin.readline()
        print(worker.is_alive())
        worker.terminate()
        worker.join()
        print(worker.exitcode)
    """, address, method, stdin=subprocess.PIPE)
    assert process.stdout.readline() == "started\n"
    until_its_program_has_ended(process)
    until_it_serves(address, process)
    out, err = process.communicate("end\n", timeout=LIMIT_S)
    assert process.returncode == 0 and out.split() == ["True", "0"], out + err


def test_worker_that_fails_does_not_serve(start, address):
    out, err = ended(start("""
    import multiprocessing, sys
    from pccl import MasterNode

    def serve(address):
        master = MasterNode(address)
        master.run()
        raise KeyError("mistake")

    if __name__ == "__main__":
        worker = multiprocessing.get_context("fork").Process(target=serve, args=(sys.argv[1],))
        worker.start()
        worker.join()
        print(worker.exitcode)
        sys.exit(1)
    """, address), status=1)
    assert out == "1\n" and "KeyError" in err


def test_master_ends_with_its_interactive_session(address):
    session = f"from pccl import MasterNode\nmaster = MasterNode('{address}')\nmaster.run()\nprint('serves')\n"
    done = subprocess.run([sys.executable, "-i"], input=session, capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 0 and "serves" in done.stdout


@pytest.mark.parametrize("level", ["ERROR", "OFF"])
def test_log_level_silences_the_serving_line(start, address, level):
    process = start(SCRIPTS["a local"], address, env={"PCCL_LOG_LEVEL": level})
    until_it_serves(address, process)
    # The program may not have reached its end yet. SIGTERM would then end it by its default action.
    end = time.monotonic() + LIMIT_S
    while process.poll() is None and time.monotonic() < end:
        with open(f"/proc/{process.pid}/status") as status:
            caught = next(int(line.split()[1], 16) for line in status if line.startswith("SigCgt"))
        if caught >> (signal.SIGTERM - 1) & 1:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert ended(process) == ("", "")


@pytest.mark.parametrize("command", [["-m", "pccl.master"], ["-c", "import sys, pccl.master; sys.exit(pccl.master.main())"]], ids=["module", "script"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_master_program_serves(address, command, number):
    process = subprocess.Popen(
        [sys.executable, *command, "--listen-address", address], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    try:
        assert process.stdout.readline() == f"pccl-master: listening on {address}\n"
        until_it_serves(address, process)
        process.send_signal(number)
        ended(process)
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--help"], 0, "--listen-address"),
        (["--version"], 0, pccl.__version__),
        (["--listen"], 64, "expected one argument"),
        (["--heartbeat-timeout", "soon"], 64, "write 500ms, 10s or 2m"),
        (["--log-level", "loud"], 64, "invalid choice"),
        (["--listen-address", "127.0.0.1:99999"], 1, "99999"),
        (["--listen-address", "127.0.0.1:0", "--heartbeat-timeout", "1ms"], 1, "heartbeat_timeout"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_master_program_explains_its_command_line(arguments, status, words):
    done = subprocess.run([sys.executable, "-m", "pccl.master", *arguments], capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == status, done.stderr
    assert words in done.stdout + done.stderr and "Traceback" not in done.stderr


def test_master_program_continues_a_run_from_its_journal(address, tmp_path):
    journal = tmp_path / "run.journal"
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-m", "pccl.master", "--listen-address", address, "--journal", journal, "--log-level", "off"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            assert process.stdout.readline(), process.stderr.read()
            process.send_signal(signal.SIGTERM)
            ended(process)
        finally:
            process.kill()
            process.communicate()
        assert journal.exists()
