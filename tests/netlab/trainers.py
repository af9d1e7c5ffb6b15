"""A master and peers on the hosts of a lab. Each peer is a pccl-test-peer that lines of JSON control, as in tests/integration."""

import json
import os
import pathlib
import queue
import subprocess
import threading
import time

LIMIT_S = 60


def program(name):
    """The path of a program in the folder of netlab-forwarder."""
    return str(pathlib.Path(os.environ["NETLAB_FORWARDER"]).parent / name)


class Log:
    """The lines that a process writes, each with the time of its arrival."""

    def __init__(self, stream, name):
        self.lines = []
        self.name = name
        self.changed = threading.Condition()
        threading.Thread(target=self.read, args=(stream,), daemon=True).start()

    def read(self, stream):
        for line in stream:
            with self.changed:
                self.lines.append((time.monotonic(), line.rstrip()))
                self.changed.notify_all()

    def find(self, *words, since=0.0):
        return next(((at, line) for at, line in self.lines if at >= since and all(word in line for word in words)), None)

    def wait_for(self, *words, since=0.0, limit_s=LIMIT_S):
        """(time, line) of the first line that contains all these words."""
        end = time.monotonic() + limit_s
        with self.changed:
            while not (found := self.find(*words, since=since)):
                if not self.changed.wait(max(0.0, end - time.monotonic())):
                    raise AssertionError(f"{self.name} did not log {words} within {limit_s} s; its log:\n" + self.text())
            return found

    def text(self):
        return "\n".join(line for _, line in self.lines)


class Peer:
    def __init__(self, lab, host, master, **settings):
        self.host = host
        self.process = lab.start(host, [program("pccl-test-peer"), f"peer{host}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, text=True, env={"PCCL_LOG_LEVEL": "WARN"})
        self.answers = {}
        self.next_id = 0
        self.events = queue.Queue()
        self.came = threading.Condition()
        self.log = Log(self.process.stderr, f"peer{host}")
        threading.Thread(target=self.read, daemon=True).start()
        self.call("init")
        self.call("create", master=master, **settings)

    def read(self):
        for line in self.process.stdout:
            message = json.loads(line)
            message["at"] = time.monotonic()
            with self.came:
                if "event" in message:
                    self.events.put(message)
                else:
                    self.answers[message["id"]] = message
                self.came.notify_all()

    def start(self, call, **arguments):
        self.next_id += 1
        self.process.stdin.write(json.dumps({**arguments, "call": call, "id": self.next_id}) + "\n")
        self.process.stdin.flush()
        return self.next_id

    def finish(self, number, limit_s=LIMIT_S):
        end = time.monotonic() + limit_s
        with self.came:
            while number not in self.answers:
                if not self.came.wait(max(0.0, end - time.monotonic())):
                    raise AssertionError(f"peer{self.host} did not answer within {limit_s} s")
            return self.answers.pop(number)

    def answered(self, number):
        with self.came:
            return number in self.answers

    def call(self, call, limit_s=LIMIT_S, **arguments):
        return self.finish(self.start(call, **arguments), limit_s)


class Run:
    """A master on the lab's host `first`, and a joined peer on each host after it, or on the first `count` of them. `peers[i]` is the peer
    that the master calls peer i + 1."""

    def __init__(self, lab, *options, count=None, first=0, **settings):
        self.lab = lab
        self.first = first
        self.master = lab.start(first, [program("pccl-master"), "--no-journal", "--log-level", "INFO", *options], stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True)
        self.master.stdout.readline()
        self.log = Log(self.master.stderr, "the master")
        self.peers = []
        for host in range(first + 1, lab.hosts if count is None else first + count + 1):
            peer = self.spawn(host, **settings)
            calls = [other.start("join", world=host - first) for other in [*self.peers, peer]]
            self.peers.append(peer)
            for each, number in zip(self.peers, calls):
                answer = each.finish(number)
                if answer["code"] != 0:
                    raise AssertionError(f"join: {answer}")

    def spawn(self, host, **settings):
        """A peer that is not connected yet and is not in `peers`."""
        return Peer(self.lab, host, f"{self.lab.addresses[self.first]}:48148", **settings)

    def stop(self):
        for peer in self.peers:
            peer.process.kill()
        self.master.terminate()
