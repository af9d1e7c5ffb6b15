"""Small senders and receivers that the test of the lab runs on its hosts: traffic.py ROLE ARGUMENTS. Each prints one line with its result."""

import hashlib
import select
import socket
import statistics
import sys
import threading
import time

PORT = 5201
BLOCK = bytes(range(256)) * 1024


def udp_socket(address):
    out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    out.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    out.bind((address, PORT))
    return out


def echo(address):
    """Answers datagrams until it is killed."""
    end = udp_socket(address)
    print("ready", flush=True)
    while True:
        data, peer = end.recvfrom(2048)
        end.sendto(data, peer)


def ping(address, count, timeout_s):
    """Prints the number of answers and their median round trip in milliseconds."""
    end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    end.settimeout(float(timeout_s))
    times = []
    for i in range(int(count)):
        begin = time.monotonic()
        end.sendto(i.to_bytes(4, "big"), (address, PORT))
        try:
            while end.recv(2048) != i.to_bytes(4, "big"):
                pass
            times.append((time.monotonic() - begin) * 1e3)
        except TimeoutError:
            pass
    print(len(times), statistics.median(times) if times else "nan")


def count(address, silence_s):
    """Counts datagrams until none arrives for a while."""
    end = udp_socket(address)
    print("ready", flush=True)
    end.recv(2048)
    received = 1
    end.settimeout(float(silence_s))
    try:
        while end.recv(2048):
            received += 1
    except TimeoutError:
        print(received)


def burst(address, number):
    """Sends that many datagrams, slowly enough for any receiver."""
    end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for i in range(int(number)):
        end.sendto(b"x" * 100, (address, PORT))
        if i % 50 == 49:
            time.sleep(0.002)
    print(number)


def sink(address, port, settle_s, measure_s):
    """Receives a stream and prints megabits per second after `settle_s`. If `measure_s` is 0, prints the bytes until its end and their hash."""
    listener = socket.create_server((address, int(port)))
    print("ready", flush=True)
    stream, _ = listener.accept()
    settle, measure = float(settle_s), float(measure_s)
    buffer = bytearray(1 << 20)
    if measure == 0:
        content, total = hashlib.sha256(), 0
        while got := stream.recv_into(buffer):
            content.update(memoryview(buffer)[:got])
            total += got
        print(total, content.hexdigest())
        return
    begin = time.monotonic()
    while time.monotonic() < begin + settle:
        stream.recv_into(buffer)
    begin, total = time.monotonic(), 0
    while (now := time.monotonic()) < begin + measure:
        total += stream.recv_into(buffer)
    print(total * 8 / (now - begin) / 1e6)


def source(address, port, seconds):
    """Sends a stream for that time, or until the other end closes."""
    stream = socket.create_connection((address, int(port)), timeout=20)
    end = time.monotonic() + float(seconds)
    try:
        while time.monotonic() < end:
            stream.sendall(BLOCK)
    except OSError:
        pass
    print("sent")


def sinks(address, port, number, settle_s, measure_s):
    """Receives several streams; prints megabits per second of each after `settle_s`."""
    listener = socket.create_server((address, int(port)))
    print("ready", flush=True)
    streams = {listener.accept()[0]: 0 for _ in range(int(number))}
    begin = time.monotonic() + float(settle_s)
    end = begin + float(measure_s)
    while (now := time.monotonic()) < end:
        for stream in select.select(list(streams), [], [], 0.1)[0]:
            got = len(stream.recv(1 << 16))
            streams[stream] += got if now >= begin else 0
    print(" ".join(str(total * 8 / (end - begin) / 1e6) for total in streams.values()))


def sources(address, port, number, seconds):
    """Sends several streams for that time, or until the other end closes."""
    threads = [threading.Thread(target=source, args=(address, port, seconds)) for _ in range(int(number))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def send(address, port, blocks):
    """Sends that many blocks and prints their hash."""
    content = hashlib.sha256()
    with socket.create_connection((address, int(port)), timeout=60) as stream:
        for i in range(int(blocks)):
            block = i.to_bytes(8, "big") + BLOCK[8:]
            content.update(block)
            stream.sendall(block)
    print(content.hexdigest())


if __name__ == "__main__":
    {f.__name__: f for f in (echo, ping, count, burst, sink, source, sinks, sources, send)}[sys.argv[1]](*sys.argv[2:])
