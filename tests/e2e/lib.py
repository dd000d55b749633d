# SPDX-License-Identifier: Apache-2.0
"""What the end-to-end tests in Python share: a server of their own on a free
port with a data directory of its own, cases that print one line each, and
clients.

A test file looks like this:

    from lib import *

    server = Server()

    @case
    def an_object_comes_back_byte_identical():
        ...

    main()

Lines go to stdout as `ok NAME`, `not ok NAME` or `skip NAME: why`; tests/e2e/run
counts them. Everything a case leaves behind is removed at the end.
"""
import atexit
import ctypes
import fcntl
import hashlib
import http.client
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.parse

os.environ["BOTO_DISABLE_CRT"] = "true"

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.environ.get("top_builddir") or os.path.abspath(os.path.join(HERE, "..", ".."))
ACCESS_KEY = "e2e-access-key"
SECRET_KEY = "e2e-secret-key-with-some-length"
REGION = "us-east-1"
STRICT = os.environ.get("DG_E2E_STRICT", "0") not in ("", "0")

os.environ["AWS_ACCESS_KEY_ID"] = ACCESS_KEY
os.environ["AWS_SECRET_ACCESS_KEY"] = SECRET_KEY
os.environ["AWS_DEFAULT_REGION"] = REGION
os.environ["AWS_CONFIG_FILE"] = "/dev/null"
os.environ["AWS_SHARED_CREDENTIALS_FILE"] = "/dev/null"
os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY",
             "AWS_CA_BUNDLE", "AWS_PROFILE"):
    os.environ.pop(name, None)

_libc = ctypes.CDLL(None)
WORK = tempfile.mkdtemp(prefix="dg-e2e-", dir=os.environ.get("DG_E2E_TMPDIR"))
_servers = []
_endings = []
_cases = []


def _cleanup():
    for server in _servers:
        server.kill()
    for ending in _endings:
        ending()
    shutil.rmtree(WORK, ignore_errors=True)


def at_end(function):
    """Calls it when the test ends, after the servers' end, before files are removed."""
    _endings.append(function)


atexit.register(_cleanup)
for _signal in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(_signal, lambda number, frame: sys.exit(128 + number))


PORT_LOCKS = os.path.join(tempfile.gettempdir(), "dg-e2e-ports-%d" % os.getuid())


def take_port():
    """A port for as long as the file returned with it stays open: tests that run
    side by side lock it against each other. Below the range from which the
    kernel takes ports of outgoing connections. Bound without SO_REUSEPORT, so
    that a server which shares its port with others is noticed."""
    low, high = (int(n) for n in os.environ.get("DG_E2E_PORTS", "20000-29999").split("-"))
    os.makedirs(PORT_LOCKS, exist_ok=True)
    ports = list(range(low, high + 1))
    random.SystemRandom().shuffle(ports)
    for port in ports:
        lock = open(os.path.join(PORT_LOCKS, str(port)), "w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", port))
            return port, lock
        except OSError:
            lock.close()
    raise RuntimeError("no free port from %d to %d" % (low, high))


def take_ports(count):
    """As take_port(), for `count` ports in a row: servers that take some of them
    only later. From a range of their own, in blocks of 64."""
    assert count <= 64
    low, high = (int(n) for n in os.environ.get("DG_E2E_BLOCKS", "30000-32767").split("-"))
    os.makedirs(PORT_LOCKS, exist_ok=True)
    blocks = list(range(low, high - 62, 64))
    random.SystemRandom().shuffle(blocks)
    for block in blocks:
        lock = open(os.path.join(PORT_LOCKS, str(block)), "w")
        probes = [socket.socket() for _ in range(count)]
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for offset, probe in enumerate(probes):
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", block + offset))
            return block, lock
        except OSError:
            lock.close()
        finally:
            for probe in probes:
                probe.close()
    raise RuntimeError("no %d free ports in a row from %d to %d" % (count, low, high))


def server_binary():
    return os.path.join(BUILD, "core", "deltaglider_proxy")


def _die_with_parent():
    """A server does not outlive a test that was killed: PR_SET_PDEATHSIG."""
    _libc.prctl(1, signal.SIGKILL)


class Endpoint:
    """An S3 endpoint on 127.0.0.1:port and the keys to it."""
    access_key, secret_key = ACCESS_KEY, SECRET_KEY

    def __init__(self):
        self._clients = {}

    @property
    def url(self):
        return "http://127.0.0.1:%d" % self.port

    def client(self, **config):
        """A boto3 client; extra arguments go to botocore's Config."""
        import boto3
        from botocore.config import Config
        name = json.dumps(config, sort_keys=True)
        if name not in self._clients:
            settings = dict(s3={"addressing_style": "path"}, retries={"max_attempts": 0},
                            signature_version="s3v4", read_timeout=120)
            settings.update(config)
            self._clients[name] = boto3.client(
                "s3", endpoint_url=self.url, region_name=REGION,
                aws_access_key_id=self.access_key, aws_secret_access_key=self.secret_key,
                config=Config(**settings))
        return self._clients[name]

    def make_bucket(self, name):
        """Or find it made: a server makes those its configuration names."""
        answer = self.request("PUT", "/" + name)
        assert answer.status == 200 or answer.code == "BucketAlreadyOwnedByYou", answer

    def request(self, method, path, body=None, headers=None, sign=True, query=None, timeout_s=60):
        """One raw request with a signature of our own making: nothing is
        normalised on the way. path is sent as given. Returns a Response."""
        headers = dict(headers or {})
        if sign:
            sign_headers(self, method, path, query or {}, headers, body,
                         access_key=self.access_key, secret=self.secret_key)
        target = path
        if query:
            target += "?" + canonical_query(query)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        try:
            connection.putrequest(method, target, skip_accept_encoding=True,
                                  skip_host="Host" in headers)
            if body is not None and "Content-Length" not in headers \
                    and "Transfer-Encoding" not in headers:
                headers["Content-Length"] = str(len(body))
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            return Response(answer.status, answer.headers, answer.read())
        finally:
            connection.close()


class Server(Endpoint):
    """One server process. start() waits until it answers; stop() asks it to
    end and expects exit 0; kill() is kill -9. config is what the YAML file holds,
    written anew at each start; without it, the environment alone configures."""

    def __init__(self, env=None, data=None, autostart=True, prefix=None, config=None):
        super().__init__()
        self.root = tempfile.mkdtemp(prefix="srv-", dir=WORK)
        self.data = data or os.path.join(self.root, "data")
        self.env = dict(env or {})
        self.config = config
        self.prefix = list(prefix or [])  # a command that runs the server, e.g. prlimit
        self.port, self._port_lock = take_port()
        self.process = None
        self.log_path = os.path.join(self.root, "log")
        _servers.append(self)
        if autostart:
            self.start()

    def spawn(self, extra_env=None):
        env = dict(os.environ)
        for name in list(env):
            if name.startswith("DGP_"):
                del env[name]
        env.update({
            "DGP_LISTEN_ADDR": "127.0.0.1:%d" % self.port,
            "DGP_DATA_DIR": self.data,
            "DGP_CACHE_DIR": os.path.join(self.root, "cache"),
            "DGP_SPOOL_DIR": os.path.join(self.root, "spool"),
            "DGP_STATE_DIR": os.path.join(self.root, "state"),
            "DGP_ACCESS_KEY_ID": ACCESS_KEY,
            "DGP_SECRET_ACCESS_KEY": SECRET_KEY,
            "DGP_LOG_LEVEL": "info",
            # A test repeats a request within the window on purpose.
            "DGP_REPLAY_WINDOW_SECS": "0",
        })
        if self.config is not None:
            env["DGP_CONFIG"] = os.path.join(self.root, "config.yaml")
            with open(env["DGP_CONFIG"], "w") as file:
                json.dump(self.config, file, indent=1)  # every JSON text is YAML
            if "storage" in self.config:
                env["DGP_DATA_DIR"] = None
        env.update(self.env)
        env.update(extra_env or {})
        env = {name: value for name, value in env.items() if value is not None}
        os.makedirs(self.data, exist_ok=True)
        log = open(self.log_path, "ab")
        self.process = subprocess.Popen(self.prefix + [server_binary()], cwd=self.root, env=env,
                                        stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                        preexec_fn=_die_with_parent)
        log.close()
        return self.process

    def start(self, extra_env=None, timeout_s=20):
        self.spawn(extra_env)
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError("the server ended with %d:\n%s"
                                   % (self.process.returncode, self.log()[-3000:]))
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
                connection.request("GET", "/_/health")
                if connection.getresponse().status == 200:
                    return self
            except OSError:
                pass
            time.sleep(0.02)  # polls for the listening socket: there is no event to wait for
        raise RuntimeError("the server does not answer:\n" + self.log()[-3000:])

    def stop(self, timeout_s=30):
        if self.process is None:
            return None
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout_s)
        self.process = None
        return code

    def kill(self):
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
        if self.process is not None:
            self.process.wait()
        self.process = None

    def drop(self):
        """Kills it and forgets all about it, its files and its port included."""
        self.kill()
        self._port_lock.close()
        _servers.remove(self)
        shutil.rmtree(self.root, ignore_errors=True)

    def restart(self, extra_env=None):
        self.stop()
        return self.start(extra_env)

    def log(self):
        try:
            with open(self.log_path, "r", errors="replace") as log:
                return log.read()
        except FileNotFoundError:
            return ""

    def path(self, bucket, key=""):
        """Where an object's files lie, for names the layout holds as they are."""
        return os.path.join(self.data, bucket, "deltaspaces", key)

    def files(self, bucket=None):
        """Every regular file below the data directory, relative to it."""
        top = os.path.join(self.data, bucket) if bucket else self.data
        return sorted(os.path.relpath(os.path.join(folder, name), self.data)
                      for folder, _, names in os.walk(top) for name in names)


class Response:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def code(self):
        """The S3 error code of the body, or None."""
        begin, end = self.body.find(b"<Code>"), self.body.find(b"</Code>")
        return self.body[begin + 6:end].decode() if 0 <= begin < end else None

    def __repr__(self):
        return "%d %r %r" % (self.status, dict(self.headers), self.body[:600])


def canonical_query(query):
    quote = lambda text: urllib.parse.quote(text, safe="-_.~")
    return "&".join("%s=%s" % pair for pair in
                    sorted((quote(name), quote(value)) for name, value in query.items()))


def _hmac(key, text):
    import hmac
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def signing_key(date, secret=SECRET_KEY):
    key = _hmac(("AWS4" + secret).encode(), date)
    for part in (REGION, "s3", "aws4_request"):
        key = _hmac(key, part)
    return key


def sign_headers(server, method, path, query, headers, body, now=None, access_key=ACCESS_KEY,
                 secret=SECRET_KEY):
    """Adds SigV4 headers; every header present is signed. Returns the seed
    signature, for chunk signatures."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    headers.setdefault("Host", "127.0.0.1:%d" % server.port)
    headers.setdefault("x-amz-date", stamp)
    if "x-amz-content-sha256" not in {name.lower() for name in headers}:
        headers["x-amz-content-sha256"] = hashlib.sha256(body or b"").hexdigest() \
            if body is None or isinstance(body, (bytes, bytearray)) else "UNSIGNED-PAYLOAD"
    stamp = headers["x-amz-date"]
    lower = {name.lower(): " ".join(str(value).split()) for name, value in headers.items()}
    signed = ";".join(sorted(lower))
    canonical = "\n".join([method, path, canonical_query(query),
                           "".join("%s:%s\n" % (n, lower[n]) for n in sorted(lower)), signed,
                           lower["x-amz-content-sha256"]])
    scope = "%s/%s/s3/aws4_request" % (stamp[:8], REGION)
    text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope,
                      hashlib.sha256(canonical.encode("latin-1")).hexdigest()])
    signature = _hmac(signing_key(stamp[:8], secret), text).hex()
    headers["Authorization"] = "AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%s" \
        % (access_key, scope, signed, signature)
    return signature


def body(size, seed=0):
    """Reproducible bytes that do not compress."""
    return random.Random(seed * 1000003 + size).randbytes(size)


def versions(size, count, seed=1, edits=20):
    """`count` versions of one binary: each differs from the last in a few places."""
    rng = random.Random(seed)
    current = bytearray(rng.randbytes(size))
    result = []
    for _ in range(count):
        result.append(bytes(current))
        for _ in range(edits):
            at = rng.randrange(max(1, size - 64))
            current[at:at + 8] = rng.randbytes(8)
    return result


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def etag_of(data):
    return '"%s"' % hashlib.md5(data).hexdigest()


def error_of(call, *args, **kwargs):
    """Calls a boto3 operation that must fail: (status, code)."""
    from botocore.exceptions import ClientError
    try:
        call(*args, **kwargs)
    except ClientError as error:
        return (error.response["ResponseMetadata"]["HTTPStatusCode"],
                error.response["Error"]["Code"])
    raise AssertionError("the call succeeded")


class Skip(Exception):
    pass


def requires(*commands):
    """Each command must be installed, else the case is skipped; with
    DG_E2E_STRICT=1, as scripts/check sets it, that is a failure."""
    for command in commands:
        if shutil.which(command) is None:
            if STRICT:
                raise AssertionError("%s is not installed, and skipping is not allowed" % command)
            raise Skip("%s is not installed" % command)


def case(function):
    _cases.append(function)
    return function


def run(*command, check=True, **kwargs):
    """A client command; its output is shown when it fails."""
    kwargs.setdefault("timeout", 300)
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, **kwargs)
    if check and done.returncode != 0:
        raise AssertionError("%s: exit %d\n%s" % (" ".join(map(str, command)), done.returncode,
                                                  done.stdout.decode(errors="replace")[-3000:]))
    return done.stdout.decode(errors="replace")


def same(actual, expected, what="value"):
    if actual != expected:
        raise AssertionError("%s: got %.500r, expected %.500r" % (what, actual, expected))


def main():
    topic = os.path.splitext(os.path.basename(sys.argv[0]))[0]
    only = sys.argv[1:]
    failed = 0
    for function in _cases:
        if only and not any(part in function.__name__ for part in only):
            continue
        name = "%s: %s" % (topic, function.__name__.replace("_", " "))
        started = time.monotonic()
        try:
            function()
            print("ok %s (%.1f s)" % (name, time.monotonic() - started), flush=True)
        except Skip as why:
            print("skip %s: %s" % (name, why), flush=True)
        except BaseException as error:
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                raise
            failed += 1
            print("not ok %s" % name, flush=True)
            traceback.print_exc()
            sys.stderr.flush()
    for server in _servers:
        if server.process is None:
            continue
        ended = server.process.poll()
        if ended is not None:
            failed += 1
            print("not ok %s: a server ended by itself with %d" % (topic, ended), flush=True)
            sys.stderr.write(server.log()[-6000:])
            server.process = None
            continue
        code = server.stop()
        if code != 0:  # with sanitizers: leaks, too
            failed += 1
            print("not ok %s: a server ended with %d when it was told to stop" % (topic, code),
                  flush=True)
            sys.stderr.write(server.log()[-6000:])
    sys.exit(1 if failed else 0)
