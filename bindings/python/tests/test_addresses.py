"""Tests of names without an answer, addresses with a zone, and a master's port in the range of outgoing connections."""

import pytest
from lab import in_namespace
from world import all_at_once, world

import numpy as np
import pccl
from pccl import Communicator, MasterNode, ReduceOp

# A name server that never answers.
SILENT_NAME_SERVER = """
    resolv=$(mktemp); echo "nameserver 10.99.0.1" > $resolv; mount --bind $resolv /etc/resolv.conf; rm -f $resolv
    ip link add v0 type veth peer name v1; ip addr add 10.99.0.2/24 dev v0; ip link set v0 up; ip link set v1 up
    ip neigh replace 10.99.0.1 lladdr 02:11:22:33:44:55 dev v0 nud permanent
"""

TIMED = """
    import os, signal, sys, threading, time
    import pccl
    from pccl import Communicator, MasterNode

    def timed(call):
        begin = time.monotonic()
        try:
            call()
            how = "nothing"
        except BaseException as error:
            how = type(error).__name__
            words = str(error)
            print("#", words, file=sys.stderr)
        return how, time.monotonic() - begin

    def interrupted(call, after=0.5):
        threading.Thread(target=lambda: (time.sleep(after), os.kill(os.getpid(), signal.SIGINT)), daemon=True).start()
        return timed(call)
"""


def test_deadlines_and_interrupts_do_not_wait_for_a_name_server():
    out = in_namespace(
        TIMED
        + """
    with MasterNode("127.0.0.1:0") as master:
        master.run()
        there = f"127.0.0.1:{master.port}"
        for how in (dict(address=there, advertise_address="slow.example"), dict(address="slow.example:48148"),
                    dict(address=f"slow.example:1,slower.example:1")):
            c = Communicator(**how)
            print(*timed(lambda: c.connect(timeout=1)))
            print(*timed(c.close))
            c = Communicator(**how)
            print(*interrupted(c.connect))
            c.close()
        print(*interrupted(lambda: MasterNode("slow.example:0")))
        c = Communicator(there, advertise_address="slow.example", connect_timeout=0.5)
        print(*timed(lambda: c.connect(n_attempts=1)))
        c = Communicator("slow.example:1", connect_timeout=0.5)
        print(*timed(lambda: c.connect(n_attempts=1)))
        # The process ends during look-ups.
    """,
        prepare=SILENT_NAME_SERVER,
    )
    outcomes = [(line.split()[0], float(line.split()[1])) for line in out.splitlines()]
    kinds = [kind for kind, _ in outcomes]
    assert kinds == ["PCCLTimeoutError", "nothing", "KeyboardInterrupt"] * 3 + ["KeyboardInterrupt", "PCCLError", "PCCLError"], out
    assert all(seconds < 2 for _, seconds in outcomes), out


def test_zone_is_part_of_an_address():
    with MasterNode("[::1%lo]:0") as master:
        master.run()
        with world(f"[::1%lo]:{master.port}", 2, listen_address="::1%lo") as members:
            all_at_once(*[lambda m=m: m.all_reduce(np.ones(4), np.ones(4), op=ReduceOp.SUM) for m in members])
    Communicator("[fe80::1%lo]:48148").close()
    Communicator("127.0.0.1", advertise_address="[fe80::1%lo]:48149").close()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Communicator("[fe80::1%no-such-if]:48148"),
        lambda: Communicator("127.0.0.1", listen_address="fe80::1%no-such-if"),
        lambda: Communicator("127.0.0.1", advertise_address="[fe80::1%no-such-if]:1"),
        lambda: MasterNode("[fe80::1%no-such-if]:0"),
    ],
)
def test_unknown_interface_is_named(make):
    with pytest.raises(pccl.PCCLError, match='no network interface of this host is named "no-such-if"') as caught:
        make()
    assert caught.value.result == pccl.Result.INVALID_ARGUMENT


def test_error_asks_for_the_zone_of_a_link_local_address():
    with pytest.raises(pccl.PCCLError, match="A link-local address needs its interface"):
        MasterNode("[fe80::1]:0")


def test_run_works_with_only_link_local_addresses():
    """A cable connects the master's host and another. Each reaches the other's peer through the interface to the master."""
    out = in_namespace(
        """
        import os, subprocess, sys, time
        import numpy as np
        from pccl import Attribute, Communicator, MasterNode, ReduceOp

        def run(address):
            with Communicator(address) as c:
                c.connect()
                while c.get_attribute(Attribute.GLOBAL_WORLD_SIZE) < 2:
                    c.update_topology()
                x = np.ones(100_000)
                c.all_reduce(x, x, op=ReduceOp.SUM)
                os.write(1, f"sum {x[0]} {x[-1]}\\n".encode())  # one write, so that the two lines do not mix
                c.update_topology()

        if len(sys.argv) > 2:
            run("[fe80::1%v1]:48148")
        else:
            with MasterNode("[fe80::1%v0]:48148") as master:
                master.run()
                source = open("/proc/self/cmdline").read().split("\\0")[-3]
                other = subprocess.Popen(["timeout", "40", "nsenter", "-t", sys.argv[1], "-n", sys.executable, "-c", source, sys.argv[1], "other"])
                run("[fe80::1%v0]:48148")
                assert other.wait(20) == 0
                os.kill(int(sys.argv[1]), 9)
        """,
        "PID",
        prepare="""
            unshare -n sleep 60 >/dev/null 2>&1 & other=$!
            ip link add v0 type veth peer name v1
            until [ "$(readlink /proc/$other/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.01; done
            ip link set v1 netns $other
            for link in v0 v1; do
                [ $link = v0 ] && in="" number=1 || in="nsenter -t $other -n" number=2
                $in sysctl -qw net.ipv6.conf.$link.addr_gen_mode=1
                $in ip link set lo up
                $in ip link set $link up
                $in ip addr add fe80::$number/64 dev $link nodad
            done
            for argument; do
                shift
                [ "$argument" = PID ] && set -- "$@" $other || set -- "$@" "$argument"
            done
        """,
    )
    assert out.splitlines() == ["sum 2.0 2.0"] * 2, out


def test_attempts_to_reach_an_absent_master_leave_its_port_free():
    """The port is one of four that the kernel gives to outgoing connections.

    Without a precaution, every fourth attempt would connect to itself.
    """
    out = in_namespace(
        """
        import socket, pccl
        from pccl import Communicator, MasterNode
        for host in ("127.0.0.1", "::1", "localhost"):
            c = Communicator(f"[{host}]:40000" if ":" in host else f"{host}:40000", listen_port_first=30000)
            for _ in range(40):
                try:
                    c.connect(n_attempts=1, timeout=10)
                    print("connected")
                except pccl.PCCLError as error:
                    if "refused" not in str(error):
                        print(error)
            c.close()
        with socket.socket() as s:  # without SO_REUSEADDR
            s.bind(("0.0.0.0", 40000))
        with MasterNode("127.0.0.1:40000") as master:
            print(master.port)
        """,
        prepare="sysctl -qw net.ipv4.ip_local_port_range='40000 40003'",
    )
    assert out.split() == ["40000"], out


def test_error_explains_a_port_in_use():
    import os

    with MasterNode("127.0.0.1:0") as master:
        with pytest.raises(pccl.PCCLError, match=rf"process {os.getpid()} \(.*\) listens there"):
            MasterNode(f"127.0.0.1:{master.port}")
        with Communicator(f"127.0.0.1:{master.port}", listen_port_first=master.port, listen_port_last=master.port) as c:
            with pytest.raises(pccl.PCCLError, match=rf"process {os.getpid()} \(.*\) listens there"):
                c.connect(n_attempts=1)
