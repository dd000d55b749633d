# SPDX-License-Identifier: Apache-2.0
"""The rows that need another S3 server below ours: a real one in memory
(tests/upstream/rgw-up), and one that checks and discards (tests/upstream/sink.py)
for what is larger than memory. Imported by bench/run."""
import contextlib
import http.client
import json
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time

import lib

MiB = 1 << 20
SCRIPTS = os.path.join(lib.ROOT, "tests", "upstream")
SEALED = {"encryption": {"mode": "aes256-gcm-proxy", "key": "6b" * 32}}
TRANSFERS, TRANSFER_BYTES = 100, 256 * MiB


def backend(port, **more):
    return dict({"name": "up", "type": "s3", "endpoint": f"http://127.0.0.1:{port}",
                 "region": lib.REGION, "force_path_style": True, "allow_local": True,
                 "access_key_id": lib.ACCESS, "secret_access_key": lib.SECRET}, **more)


@contextlib.contextmanager
def gateway(work):
    """A real S3 server; yields its port."""
    directory = os.path.join(work, "rgw")
    port = 31000
    env = dict(os.environ, UPSTREAM_ACCESS_KEY=lib.ACCESS, UPSTREAM_SECRET_KEY=lib.SECRET,
               UPSTREAM_OWNER=str(os.getpid()))
    subprocess.run([os.path.join(SCRIPTS, "rgw-up"), directory, str(port)], check=True, env=env)
    try:
        yield port
    finally:
        subprocess.run([os.path.join(SCRIPTS, "rgw-down"), directory], check=True)
        shutil.rmtree(directory, ignore_errors=True)


class Direct:
    """The upstream itself, as lib.push() and lib.pull() see a server."""

    def __init__(self, port):
        self.port = port

    def url(self, bucket, key="", method="GET", **query):
        return lib.presign(self.port, method, bucket, key, query)


def interleaved(ours, theirs, times=9):
    """Medians, and both run in the same minute."""
    ours(), theirs()
    pairs = [(ours(), theirs()) for _ in range(times)]
    return [statistics.median(pair[who] for pair in pairs) for who in (0, 1)]


class Passage:
    """What a client gets through us and at the upstream itself, for plain and sealed
    bodies of 64 MiB and for versions of a binary. Measured once for all rows."""

    def __init__(self, bench):
        self.figures = {}
        with gateway(bench.work) as port:
            for name, more in (("plain", {}), ("sealed", SEALED)):
                server = bench.server("through-" + name,
                                      storage={"backends": [backend(port, **more)]})
                try:
                    self.measure(bench, name, server, Direct(port))
                finally:
                    server.stop()

    def measure(self, bench, name, server, direct):
        bucket = "bench-" + name
        server.must("PUT", bucket)
        _, reference, target = bench.pair("kern", "jdk", "swc", "esb")

        def put(key, path):
            return interleaved(lambda: lib.push(server, bucket, "ours/" + key, path),
                               lambda: lib.push(direct, bucket, "direct/" + key, path))

        def get(key):
            def once(place, prefix):
                total, seconds, first = lib.pull(place.url(bucket, prefix + key))
                seen.setdefault(prefix, []).append((total, first))
                return seconds
            seen = {}
            times = interleaved(lambda: once(server, "ours/"), lambda: once(direct, "direct/"))
            assert seen["ours/"][0][0] == seen["direct/"][0][0], seen
            return times + [statistics.median(first for _, first in seen[prefix])
                            for prefix in ("ours/", "direct/")]
        lib.push(server, bucket, "ours/reference.tar", reference)
        self.figures[name, "put"] = put("blob.bin", bench.blob64)
        self.figures[name, "get"] = get("blob.bin")
        self.figures[name, "put delta"] = put("version.tar", target)
        self.figures[name, "get delta"] = get("version.tar")
        self.size = {"put": 64 * MiB, "get": 64 * MiB, "put delta": os.path.getsize(target),
                     "get delta": os.path.getsize(target)}

    def throughput(self, name, work):
        ours, theirs = self.figures[name, work][:2]
        size = self.size[work] / 1e6
        return theirs / ours, f"{size / ours:.0f} against {size / theirs:.0f} MB/s"

    def first_byte(self, name, work):
        ours, theirs = self.figures[name, work][2:]
        return (ours - theirs) * 1e3, f"{ours * 1e3:.1f} against {theirs * 1e3:.1f} ms"


def passage(bench):
    if not hasattr(bench, "passage"):
        bench.passage = Passage(bench)
    return bench.passage


# ---- Memory -----------------------------------------------------------------------

def pattern_file(bench):
    """256 MiB of what the sink expects."""
    sys.path.insert(0, SCRIPTS)
    from sink import pattern
    path = os.path.join(bench.work, "pattern")
    if not os.path.exists(path) or os.path.getsize(path) != TRANSFER_BYTES:
        with open(path, "wb") as out:
            at = 0
            while at < TRANSFER_BYTES:
                at += out.write(pattern(at, TRANSFER_BYTES - at))
    return path


def peak_during(server, commands):
    """The most anonymous memory the server held while the commands ran side by side."""
    stop, peak = threading.Event(), [0]

    def watch():
        while not stop.is_set():
            peak[0] = max(peak[0], lib.anonymous_bytes(server.pid))
            stop.wait(0.1)
    watcher = threading.Thread(target=watch)
    watcher.start()
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
               for command in commands]
    answers = [process.communicate()[0] for process in running]
    stop.set()
    watcher.join()
    if any(process.returncode for process in running):
        raise RuntimeError(f"a transfer failed: {sorted(set(answers))}")
    return peak[0], answers


def parallel_memory(bench):
    path = pattern_file(bench)
    port = lib.free_port()
    sink = subprocess.Popen([sys.executable, os.path.join(SCRIPTS, "sink.py"), str(port)])
    server = None
    try:
        lib.wait_port(port, sink)
        server = bench.server("parallel", storage={"backends": [backend(port)]},
                              advanced={"max_concurrent_requests": 2 * TRANSFERS})
        server.must("PUT", "bench")
        idle = lib.anonymous_bytes(server.pid)
        curl = ["curl", "-sS", "--fail-with-body", "--max-time", "1800", "-H", "Expect:"]
        begin = time.monotonic()
        put, _ = peak_during(server, [curl + ["-T", path, server.url("bench", f"{i}.bin", "PUT")]
                                      for i in range(TRANSFERS)])
        middle = time.monotonic()
        get, sizes = peak_during(server, [
            curl + ["-o", "/dev/null", "-w", "%{size_download}", server.url("bench", f"{i}.bin")]
            for i in range(TRANSFERS)])
        end = time.monotonic()
        if set(sizes) != {str(TRANSFER_BYTES)}:
            raise RuntimeError(f"short answers: {sorted(set(sizes))}")
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("GET", "/_sink")
        counters = json.loads(connection.getresponse().read())
    finally:
        if server:
            server.stop()
        sink.terminate()
        sink.wait()
    if counters.get("wrong") or counters.get("unverified"):
        raise RuntimeError(f"the sink saw other bytes: {counters}")
    total = TRANSFERS * TRANSFER_BYTES / 1e6
    return ((max(put, get) - idle) / MiB,
            f"PUT {(put - idle) / MiB:.0f}, GET {(get - idle) / MiB:.0f} above {idle / MiB:.0f}; "
            f"{total / (middle - begin):.0f} and {total / (end - middle):.0f} MB/s")
