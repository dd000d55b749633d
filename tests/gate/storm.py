#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Clients that leave at random points, while workers are slow. What must hold:
nothing crashes (run this on a build with sanitizers to make that mean
something), every handler is released exactly once, and the server is idle and
well afterwards. storm.py [CONNECTIONS]; DG_GATE_SEED repeats a run."""
import os
import random
import sys
import threading

from gatelib import HOST, Gate

COUNT = int(sys.argv[1]) if len(sys.argv) > 1 else int(os.environ.get("DG_GATE_STORM", "900"))
SEED = int(os.environ.get("DG_GATE_SEED", random.randrange(1 << 30)))
THREADS = 6


def one_request(rng):
    """A request, whole."""
    kind = rng.randrange(11)
    body = rng.randbytes(rng.choice([0, 1, 100, 70000, 300000, 900000]))
    delay = rng.choice([0, 0, 1, 3])
    if kind == 0:
        return b"GET /tiny HTTP/1.1\r\n" + HOST + b"\r\n"
    if kind == 1:
        return b"GET /hop HTTP/1.1\r\n" + HOST + b"\r\n"
    if kind == 2:
        return b"GET /kept HTTP/1.1\r\n" + HOST + b"\r\n"
    if kind == 3:
        return (b"GET /stream?n=%d&delay=%d HTTP/1.1\r\n" %
                (rng.choice([1, 1000, 700000, 5000000]), delay) + HOST + b"\r\n")
    if kind == 4:
        return b"GET /file HTTP/1.1\r\n" + HOST + b"\r\n"
    if kind == 5:
        return b"GET /sleep?ms=%d HTTP/1.1\r\n" % rng.randrange(20) + HOST + b"\r\n"
    if kind == 6:
        return (b"PUT /sink?fast=1&delay=%d HTTP/1.1\r\n" % delay + HOST +
                b"Content-Length: %d\r\n\r\n" % len(body) + body)
    if kind == 7:
        pieces = b"".join(b"%x\r\n" % len(piece) + piece + b"\r\n" for piece in
                          (body[i:i + 20000] for i in range(0, len(body), 20000)))
        return (b"PUT /sink?fast=1&delay=%d HTTP/1.1\r\n" % delay + HOST +
                b"Transfer-Encoding: chunked\r\n\r\n" + pieces + b"0\r\n\r\n")
    if kind == 8:
        return (rng.choice([b"PUT /deny", b"PUT /refuse", b"PUT /sink?refuse=5000", b"GET /hop"]) +
                b" HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    if kind == 9:
        return (b"PUT /sink?fast=1 HTTP/1.1\r\n" + HOST + b"Expect: 100-continue\r\n"
                b"Content-Length: %d\r\n\r\n" % len(body) + body)
    return rng.choice([b"GET /stream?n=9000000&fail=2000000 HTTP/1.1\r\n" + HOST + b"\r\n",
                       b"nonsense\r\n\r\n", b"PUT /collect HTTP/1.1\r\n" + HOST +
                       b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"])


def one_connection(server, rng):
    requests = b"".join(one_request(rng) for _ in range(rng.randrange(1, 5)))
    if rng.random() < 0.7:
        requests = requests[:rng.randrange(len(requests) + 1)]
    with server.connect(0.5, rcvbuf=rng.choice([None, 4096])) as c:
        at = 0
        while at < len(requests):
            step = rng.choice([1, 7, 100, 5000, 100000, 1000000])
            c.sock.setblocking(rng.random() < 0.5)
            try:
                at += c.sock.send(requests[at:at + step])
            except BlockingIOError:
                break
            if rng.random() < 0.2:
                c.sock.settimeout(rng.choice([0.001, 0.01, 0.05]))
                try:
                    c.sock.recv(rng.choice([1, 1000, 1000000]))
                except (TimeoutError, BlockingIOError):
                    pass
            if rng.random() < 0.05:
                break
        c.close(reset=rng.random() < 0.5)


def storm(server, number):
    rng = random.Random(SEED * 1000 + number)
    for _ in range(COUNT // THREADS):
        try:
            one_connection(server, rng)
        except OSError:
            pass


def main():
    binary = sys.executable
    for options in (["-w", 3, "-c", 20, "-l", 2], ["-w", 16, "-c", 3, "-l", 3, "-t", 40]):
        with Gate(*options, "-f", binary) as server:
            threads = [threading.Thread(target=storm, args=[server, i]) for i in range(THREADS)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            server.idle()  # until then others may hold every slot
            with server.connect() as c:
                assert c.is_open()
            server.idle()
            # 408 and its like: one line for each request that was dispatched, at least.
            stats = server.until(lambda s: s["done"] >= s["requests"] - 2, "lines are missing")
            assert stats["double_release"] == 0
            assert server.process.poll() is None
        print(f"ok abort storm {options} ({stats['requests']} requests, "
              f"{stats['cancelled']} cancelled, seed {SEED})")


main()
