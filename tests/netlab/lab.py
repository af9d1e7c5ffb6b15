"""A wide-area network on one machine: hosts are network namespaces, and netlab-forwarder carries packets between them with delay, rate,
queue and loss. A lab leaves nothing on the machine: the namespaces have no names and end with their last process, and the forwarder kills
the processes in them when this process ends, even by SIGKILL.

    with Lab(hosts=2, delay="25ms", rate="1gbit") as lab:
        process = lab.start(0, ["sleep", "1"])
        lab.command("block 0 1")
"""

import ctypes
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
CLONE_NEWNET = 0x40000000
PR_SET_PDEATHSIG = 1
MARK = "NETLAB"  # environment variable of every process of a lab, with the lab's folder
PREFIX = "netlab-"
MASTER_PORT = 48148  # port of pccl-master
ESTABLISHED = "01"
LIBC = ctypes.CDLL(None, use_errno=True)


class LabError(RuntimeError):
    """An error text that names the failure and the remedy."""


def why_not():
    """The reason why a lab is not permitted on this machine, or None."""
    if os.uname().sysname != "Linux":
        return "network namespaces need Linux"
    if not os.path.exists("/dev/net/tun"):
        return "/dev/net/tun is missing: load the kernel module tun, or give the container that device"
    if os.geteuid() != 0:
        return "network namespaces and TUN devices need root: run it with sudo"
    probe = subprocess.run([forwarder(), "--hosts", "1"], input="", capture_output=True, text=True, check=False)
    if probe.returncode != 0 or not probe.stdout.startswith("ready"):
        return f"not permitted here ({probe.stderr.strip()}); a container needs --cap-add NET_ADMIN,SYS_ADMIN --device /dev/net/tun"
    return None


def forwarder():
    """The path of the program: $NETLAB_FORWARDER, or in the build folder, or on PATH."""
    named = os.environ.get("NETLAB_FORWARDER")
    if named:
        return named
    built = sorted(HERE.parent.parent.glob("build*/bin/netlab-forwarder"), key=lambda path: path.stat().st_mtime)
    found = str(built[-1]) if built else shutil.which("netlab-forwarder")
    if not found:
        raise LabError("netlab-forwarder is not built: run `ninja -C build netlab-forwarder`, or set NETLAB_FORWARDER")
    return found


def ask(path, text):
    """Sends one command to a lab's socket. Returns the answer without its `ok`."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(path))
        connection.sendall(text.encode() + b"\n")
        answer = ""
        while not (answer.endswith("ok\n") or answer.startswith("error: ") and answer.endswith("\n")):
            more = connection.recv(65536).decode()
            if not more:
                break
            answer += more
    if answer.startswith("error: "):
        raise LabError(f"{text}: {answer[7:].strip()}")
    return answer.removesuffix("ok\n")


class Lab:
    def __init__(self, hosts, delay=None, rate=None, queue=None, loss=None, mtu=1500, seed=1, congestion=None):
        self.hosts = hosts
        self.addresses = [f"10.77.0.{i + 1}" for i in range(hosts)]
        self.settings = {"delay": delay, "rate": rate, "queue": queue, "loss": loss}
        self.congestion = congestion
        self.options = ["--hosts", str(hosts), "--mtu", str(mtu), "--seed", str(seed)]
        self.folder = None
        self.process = None
        self.spaces = []
        self.children = []

    def __enter__(self):
        if problem := why_not():
            raise LabError(problem)
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=PREFIX))
        try:
            self.open()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    @property
    def socket(self):
        return self.folder / "control"

    def open(self):
        # The forwarder has its own process group, because this process handles Ctrl-C. It ends with its standard input, which closes even
        # when this process is killed.
        self.process = subprocess.Popen([forwarder(), *self.options, "--socket", str(self.socket)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, start_new_session=True)
        words = self.process.stdout.readline().split()
        if not words or words[0] != "ready":
            raise LabError("the forwarder did not start; see above")
        self.spaces = [os.open(f"/proc/{words[1]}/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC) for fd in words[2:]]
        (self.folder / "pid").write_text(words[1])
        (self.folder / "spaces").write_text(" ".join(f"/proc/{words[1]}/fd/{fd}" for fd in words[2:]))
        chosen = " ".join(f"{key} {value}" for key, value in self.settings.items() if value is not None)
        if chosen:
            self.command(f"set * * {chosen}")
        if self.congestion:
            for host in range(self.hosts):
                self.set_congestion(host, self.congestion)

    def close(self):
        if self.process:
            self.process.stdin.close()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for child in self.children:
            child.wait()
        for space in self.spaces:
            os.close(space)
        self.spaces = []
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def command(self, text):
        return ask(self.socket, text)

    def counters(self, a, b):
        """The counters of one direction: a dict of the fields that `show` prints."""
        words = self.command(f"show {a} {b}").split()[2:]
        return {key: float(value) for key, value in zip(words[::2], words[1::2])}

    def environment(self, host):
        return {**os.environ, MARK: str(self.folder), "NETLAB_CONTROL": str(self.socket), "HOST_INDEX": str(host),
                "HOST_ADDRESS": self.addresses[host], "HOSTS": ",".join(self.addresses), "MASTER_ADDRESS": self.addresses[0]}

    def start(self, host, command, env=None, **popen):
        """Starts a program on a host. If it still runs at the end of the lab, it is killed."""
        space = self.spaces[host]

        def enter():
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if LIBC.setns(space, CLONE_NEWNET) != 0:
                os._exit(126)

        try:
            child = subprocess.Popen(command, preexec_fn=enter, env={**self.environment(host), **(env or {})}, **popen)
        except OSError as error:
            raise LabError(f"{command[0]}: {error.strerror}") from error
        self.children.append(child)
        return child

    def run(self, host, command, **popen):
        """Runs a program on a host until it ends. Returns its standard output."""
        child = self.start(host, command, stdout=subprocess.PIPE, text=True, **popen)
        out, _ = child.communicate()
        if child.returncode != 0:
            raise LabError(f"{' '.join(command)}: exit status {child.returncode}")
        return out

    def lanes(self, a, b):
        """The connections from one program on host a to one on host b, or back, by the port that each has for itself; if several such
        programs have connections, those of the one with the most. Connections to a pccl-master do not count."""
        groups = {}
        for local, address, remote in parse_connections(self.run(a, ["cat", "/proc/net/tcp", "/proc/net/tcp6"])):
            if address == self.addresses[b] and MASTER_PORT not in (local, remote):
                groups.setdefault(("to", remote), []).append(local)
                groups.setdefault(("from", local), []).append(remote)
        return max(groups.values(), key=len, default=[])

    def slow_lane(self, a, b, rate, timeout_s=60, settle_s=1):
        """Waits until there are several connections between two hosts and their number is stable. Then limits one of them to this rate in both
        directions. Returns (its port, the number of connections)."""
        end, lanes, since = time.monotonic() + timeout_s, [], 0.0
        while len(lanes) < 2 or time.monotonic() < since + settle_s:
            if time.monotonic() > end:
                raise LabError(f"there are {len(lanes)} connections between hosts {a} and {b}; one of several can be slow")
            time.sleep(0.1)
            now = sorted(self.lanes(a, b))
            if now != lanes:
                lanes, since = now, time.monotonic()
        for one, other in ((a, b), (b, a)):
            self.command(f"shape {one} {other} port {lanes[-1]} rate {rate}")
        return lanes[-1], len(lanes)

    def sysctl(self, host, name, value):
        path = "/proc/sys/" + name.replace(".", "/")
        self.run(host, ["sh", "-c", 'printf %s "$1" > "$2"', "sh", value, path])

    def set_congestion(self, host, name):
        """Sets the algorithm by route, because the default of a namespace can only be an algorithm that the machine allows every user."""
        route = ["ip", "route", "change", "10.77.0.0/24", "dev", "wan0", "src", self.addresses[host], "congctl", name]
        try:
            self.run(host, route)
        except LabError as error:
            raise LabError(f"congestion control {name} (with iproute2): {error}") from error

    def remove(self, host):
        """Removes the host from the network. Its processes continue without a network until they are stopped."""
        self.command(f"remove {host}")


def parse_connections(text):
    """[(local port, address of the other end, its port)] of the established IPv4 connections in /proc/net/tcp and tcp6."""
    out = []
    for words in map(str.split, text.splitlines()):
        if len(words) < 4 or words[3] != ESTABLISHED or ":" not in words[1]:
            continue
        local_port = int(words[1].rpartition(":")[2], 16)
        address, _, port = words[2].rpartition(":")
        out.append((local_port, socket.inet_ntoa(bytes.fromhex(address[-8:])[::-1]), int(port, 16)))
    return out


def running():
    """Folders of labs whose forwarder is alive."""
    return [folder for folder in lab_folders() if is_forwarder(folder)]


def lab_folders():
    """The folder of labs, which must belong to this user: others could create one with that name."""
    found = pathlib.Path(tempfile.gettempdir()).glob(PREFIX + "*")
    return sorted(path for path in found if path.is_dir() and path.stat().st_uid == os.geteuid())


def is_forwarder(folder):
    try:
        pid = (folder / "pid").read_text()
        return b"netlab-forwarder" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]
    except OSError:
        return False


def clean():
    """Kills processes of labs whose forwarder was itself killed, and removes their folders. Returns how many processes."""
    dead = {str(folder) for folder in lab_folders() if (folder / "pid").exists() and not is_forwarder(folder)}
    killed = 0
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            variables = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if any(f"{MARK}={folder}".encode() in variables for folder in dead):
            os.kill(int(entry.name), signal.SIGKILL)
            killed += 1
    for folder in dead:
        shutil.rmtree(folder, ignore_errors=True)
    return killed
