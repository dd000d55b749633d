# SPDX-License-Identifier: Apache-2.0
"""The programs of tests/upstream that stand in for, or in front of, a real S3 server,
each as a process that lives as long as the test."""
from target import *


class Program:
    """A script of tests/upstream on a port of its own."""

    def __init__(self, script, *arguments):
        self.script, self.arguments = script, [str(argument) for argument in arguments]
        self.port, self._port_lock = take_port()
        self.process = None
        at_end(self.stop)

    def start(self):
        self.process = subprocess.Popen(
            [sys.executable, "-B", os.path.join(UPSTREAM_SCRIPTS, self.script), str(self.port)]
            + self.arguments, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), 5).close()
                return self
            except OSError:
                time.sleep(0.02)  # polls for the listening socket: there is no event
        raise RuntimeError("%s does not start" % self.script)

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.wait()
        self.process = None


class Faulty(Program):
    """faulty.py in front of a port: break_it() gives it rules, log() tells what passed."""

    def __init__(self, upstream_port):
        self.control_port, self._control_lock = take_port()
        super().__init__("faulty.py", self.control_port, upstream_port)
        self.start()

    def start(self):
        super().start()
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                self._control("GET", "/rules")
                return self
            except OSError:
                time.sleep(0.02)  # polls for the control port, which opens second
        raise RuntimeError("faulty.py does not listen to orders")

    def _control(self, method, path, value=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.control_port, timeout=30)
        try:
            connection.request(method, path, json.dumps(value) if value is not None else None)
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            raise ValueError("faulty.py: %s" % text.decode())
        return json.loads(text)

    def break_it(self, *rules):
        self._control("PUT", "/rules", rules)

    def heal(self):
        self._control("PUT", "/rules", [])

    def fired(self):
        return sum(rule["fired"] for rule in self._control("GET", "/rules"))

    def log(self):
        return self._control("GET", "/log")

    def forget(self):
        self._control("DELETE", "/log")


class Sink(Program):
    """sink.py: stats() gives its counters."""

    def __init__(self, *arguments):
        super().__init__("sink.py", *arguments)
        self.access_key, self.secret_key = "sink", "sink"
        self.start()

    def stats(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("GET", "/_sink")
        return json.loads(connection.getresponse().read())
