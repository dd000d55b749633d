# SPDX-License-Identifier: Apache-2.0
"""Raw sockets against gate-server or plain-server: what the gate's tests share.

    with Gate("-h", "500") as server:
        with server.connect() as c:
            c.send(b"GET /tiny HTTP/1.1\r\nHost: h\r\n\r\n")
            assert c.response().status == 200

Nothing sleeps to let something happen: every wait is for bytes, for the end of
a connection, or for a counter of the server's. A handler that must take longer
than something else pauses until it is told to go on (Gate.go_on). A bound on time
that a busy machine could break is so wide that it cannot."""
import concurrent.futures
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.environ.get("top_builddir", os.path.dirname(os.path.dirname(HERE)))
WAIT = float(os.environ.get("DG_GATE_WAIT", "30"))  # no answer after this: there is none
HOST = b"Host: h\r\n"
# GLib's slices are handed from thread to thread under locks that ThreadSanitizer
# does not see; plain malloc it understands.
os.environ["G_SLICE"] = "always-malloc"


class NoAnswer(AssertionError):
    pass


class Response:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def __repr__(self):
        return f"<{self.status} {self.headers} {self.body[:80]!r}>"


class Conn:
    def __init__(self, port, wait=WAIT, host="127.0.0.1", rcvbuf=None):
        self.sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        if rcvbuf:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        self.sock.settimeout(wait)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.connect((host, port))
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def close(self, reset=False):
        if reset:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.sock.close()

    def send(self, data):
        self.sock.sendall(data)
        return self

    def request(self, method, target, body=None, headers=b"", host=HOST):
        head = method.encode() + b" " + target.encode() + b" HTTP/1.1\r\n" + host + headers
        if body is not None:
            head += b"Content-Length: %d\r\n" % len(body)
        return self.send(head + b"\r\n" + (body or b""))

    def taken(self, wait=WAIT):
        """Waits until the server has read what was sent: its kernel holds nothing."""
        here, there = (":%04X" % self.sock.getsockname()[1], ":%04X" % self.sock.getpeername()[1])
        end = time.monotonic() + wait
        while time.monotonic() < end:
            with open("/proc/net/tcp") as table:
                for line in table:
                    fields = line.split()
                    if fields[1].endswith(there) and fields[2].endswith(here):
                        if fields[4].endswith(":00000000"):
                            return self
            time.sleep(0.005)
        raise NoAnswer("the server does not read")

    def more(self):
        try:
            data = self.sock.recv(262144)
        except socket.timeout:
            raise NoAnswer(f"no answer within the time; so far: {self.buffer[:200]!r}") from None
        self.buffer += data
        return bool(data)

    def line(self):
        while b"\r\n" not in self.buffer:
            if not self.more():
                raise NoAnswer(f"closed instead of an answer; so far: {self.buffer[:200]!r}")
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        return line

    def head(self):
        match = re.fullmatch(rb"HTTP/1\.[01] (\d\d\d) [ -~]*", self.line())
        assert match, "not a status line"
        headers = {}
        while line := self.line():
            name, value = line.split(b":", 1)
            assert name.lower() not in headers, f"{name} twice"
            headers[name.lower().decode()] = value.strip().decode("latin-1")
        return Response(int(match[1]), headers, b"")

    def body(self, length):
        while len(self.buffer) < length:
            if not self.more():
                raise NoAnswer(f"cut after {len(self.buffer)} of {length} bytes")
        body, self.buffer = self.buffer[:length], self.buffer[length:]
        return body

    def response(self, head_only=False):
        """The next final response; 100 Continue is skipped."""
        while (response := self.head()).status == 100:
            pass
        if not head_only and response.status not in (204, 304):
            response.body = self.body(int(response.headers["content-length"]))
        return response

    def chunk(self):
        """The next chunk of a body; b"" is the last."""
        data = self.body(int(self.line(), 16))
        assert self.line() == b""
        return data

    def document(self):
        """The body of an answer that may have begun before its length was known."""
        head = self.head()
        if "content-length" in head.headers:
            return self.body(int(head.headers["content-length"]))
        body = b""
        while data := self.chunk():
            body += data
        return body

    def ends(self):
        """Nothing more comes, and the server closes."""
        while not self.buffer and self.more():
            pass
        assert not self.buffer, f"more than was asked for: {self.buffer[:200]!r}"
        return True

    def is_open(self):
        """Still good for a request."""
        return self.request("GET", "/tiny").response().status == 200


class Server:
    binary = None

    picks_port = False  # it listens on port 0 and says which that is

    def __init__(self, *arguments, prefix=(), port=None):
        self.log = tempfile.TemporaryFile(prefix="gate-log-")
        for _ in range(1 if port or self.picks_port else 5):  # others take ports, too
            self.port = self.start(port or self.free_port(), prefix, arguments)
            if self.port:
                return
        raise RuntimeError(f"{self.binary} did not start: {self.process.wait()}")

    def free_port(self):
        if self.picks_port:
            return 0
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return probe.getsockname()[1]

    def start(self, port, prefix, arguments):
        path = os.path.join(BUILD, "tests", "gate", self.binary)
        self.process = subprocess.Popen([*prefix, path, str(port), *map(str, arguments)],
                                        stdout=subprocess.PIPE, stderr=self.log)
        ready = self.process.stdout.readline().split()
        return int(ready[1]) if ready else None

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def log_text(self):
        self.log.seek(0)
        return self.log.read().decode("utf-8", "replace")

    def connect(self, wait=None, **more):
        return Conn(self.port, wait or WAIT, **more)

    def cpu_seconds(self):
        with open(f"/proc/{self.process.pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def anonymous_bytes(self):
        with open(f"/proc/{self.process.pid}/status") as status:
            return sum(int(line.split()[1]) * 1024 for line in status
                       if line.startswith(("RssAnon:", "RssShmem:")))


class Plain(Server):
    binary = "plain-server"

    def go_on(self):
        """Lets /slow answer."""
        self.process.send_signal(signal.SIGUSR1)


class Gate(Server):
    binary = "gate-server"
    picks_port = True

    def go_on(self, pausing=1):
        """Ends the pauses of the handlers that run, once there are so many."""
        if pausing:
            self.until(lambda s: s["pausing"] >= pausing, "no pause")
        self.process.send_signal(signal.SIGUSR1)

    def hurry(self):
        """Ends all pauses, for good."""
        self.process.send_signal(signal.SIGUSR2)

    def stats(self):
        with self.connect() as c:
            return json.loads(c.request("GET", "/_/stats").response().body)

    def until(self, condition, what, seconds=WAIT):
        end = time.monotonic() + seconds
        while not condition(stats := self.stats()):
            assert time.monotonic() < end, f"{what}: {stats}"
            time.sleep(0.005)
        return stats

    def idle(self):
        """Every exchange ended, every handler was released once."""
        return self.until(lambda s: s["opened"] == s["released"] and s["readers"] == 0
                          and s["active"] == 0 and s["idle_workers"] == s["workers"], "leak")

    def stop(self, expect=0):
        """SIGTERM; the exit code also tells of unreleased handlers (4)."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(WAIT * 3)
        assert code == expect, f"exit {code}, not {expect}: {self.log_text()[-4000:]}"

    def __exit__(self, kind, *rest):
        try:
            if kind is None and self.process.poll() is None:
                self.stop()
            elif kind is not None:
                print(self.log_text()[-4000:])
        finally:
            super().__exit__(kind, *rest)


_cases = []


def case(function):
    _cases.append(function)
    return function


def run_one(function):
    name = function.__name__.replace("_", " ")
    begun = time.monotonic()
    try:
        function()
    except Exception:
        return f"not ok {name}\n{traceback.format_exc()}"
    return f"ok {name} ({time.monotonic() - begun:.2f} s)"


def main():
    """Runs the cases, or those whose name holds one of the words given. Most of
    their time they wait for a deadline, so several run at once."""
    wanted = sys.argv[1:]
    chosen = [f for f in _cases if not wanted or any(word in f.__name__ for word in wanted)]
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(int(os.environ.get("DG_GATE_JOBS", "6"))) as pool:
        for text in pool.map(run_one, chosen):
            failed += text.startswith("not ok")
            print(text, flush=True)
    sys.exit(1 if failed else 0)
