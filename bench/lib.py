# SPDX-License-Identifier: Apache-2.0
"""What every benchmark needs: a server and an nginx on free ports, signed
requests without a client library, and the CPU time of a running process."""
import contextlib
import datetime
import hashlib
import hmac
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.parse

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ACCESS, SECRET, REGION = "benchbenchbench", "benchsecretbenchsecret", "us-east-1"
TICKS = os.sysconf("SC_CLK_TCK")


def build_dir():
    return os.environ.get("DG_BUILD", os.path.join(ROOT, "build"))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def cpu_seconds(*pids):
    """User and system seconds used so far by these processes, all threads."""
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def anonymous_bytes(pid):
    """RssAnon + RssShmem: what the process holds, without mapped files."""
    total = 0
    with open(f"/proc/{pid}/status") as status:
        for line in status:
            if line.startswith(("RssAnon:", "RssShmem:")):
                total += int(line.split()[1]) * 1024
    return total


def wait_port(port, process=None, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process is not None and process.poll() is not None:
            raise RuntimeError(f"process ended with {process.returncode} before listening")
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        time.sleep(0.02)
    raise RuntimeError(f"nothing listens on {port}")


class Server:
    """deltaglider_proxy from the build tree, with its own data directory."""

    def __init__(self, work, name="server", advanced=None, loops=2, buckets=None,
                 storage=None):
        self.port = free_port()
        self.dir = os.path.join(work, name)
        self.data = os.path.join(self.dir, "data")
        os.makedirs(self.data, exist_ok=True)
        options = {"listen_addr": f"127.0.0.1:{self.port}", "loop_threads": loops,
                   "log_level": "info", "cache_dir": f"{self.dir}/cache",
                   "spool_dir": f"{self.dir}/spool", "state_dir": f"{self.dir}/state"}
        options.update(advanced or {})
        config = {"access": {"access_key_id": ACCESS, "secret_access_key": SECRET},
                  "storage": dict(storage or {"backend": {"type": "filesystem",
                                                          "path": self.data}},
                                  buckets=buckets or {}),
                  "advanced": options}
        self.config = os.path.join(self.dir, "server.yaml")
        with open(self.config, "w") as out:
            json.dump(config, out)  # JSON is YAML
        self.start()

    def start(self):
        self.log = open(os.path.join(self.dir, "log"), "ab")
        plugins = ":".join(os.path.join(build_dir(), "plugins", p)
                           for p in ("backend-fs", "backend-s3", "codec-xdelta3",
                                     "crypt-aesgcm"))
        self.process = subprocess.Popen(
            [os.path.join(build_dir(), "core", "deltaglider_proxy"), "--config", self.config],
            stdout=self.log, stderr=self.log, env={**os.environ, "DGP_PLUGIN_DIR": plugins})
        wait_port(self.port, self.process)
        self.pid = self.process.pid

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()

    def url(self, bucket, key="", method="GET", **query):
        return presign(self.port, method, bucket, key, query)

    def request(self, method, bucket, key="", body=None, headers=None, **query):
        """Status, headers and body of one presigned request."""
        url = self.url(bucket, key, method, **query)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        try:
            connection.request(method, url[url.index("/", 8):], body=body, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def must(self, method, bucket, key="", body=None, headers=None, **query):
        status, answer_headers, answer = self.request(method, bucket, key, body, headers, **query)
        if status >= 300:
            raise RuntimeError(f"{method} /{bucket}/{key}: {status} {answer[:300]!r}")
        return answer_headers, answer


class Nginx:
    """nginx with the same number of workers, an access log, sendfile, and
    open_file_cache off, serving one directory."""

    def __init__(self, work, root, workers=2):
        self.port = free_port()
        self.dir = os.path.join(work, "nginx")
        os.makedirs(self.dir, exist_ok=True)
        config = os.path.join(self.dir, "nginx.conf")
        with open(config, "w") as out:
            out.write(f"""
user root; worker_processes {workers}; daemon off; pid {self.dir}/pid;
error_log {self.dir}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log {self.dir}/access.log; sendfile on; tcp_nopush on; keepalive_requests 100000000;
  open_file_cache off; default_type application/octet-stream;
  client_body_temp_path {self.dir}/b; proxy_temp_path {self.dir}/p; fastcgi_temp_path {self.dir}/f;
  uwsgi_temp_path {self.dir}/u; scgi_temp_path {self.dir}/s;
  server {{ listen 127.0.0.1:{self.port} reuseport; root {root}; }}
}}
""")
        binary = shutil.which("nginx") or "/usr/sbin/nginx"
        self.process = subprocess.Popen([binary, "-c", config, "-p", self.dir],
                                        stderr=subprocess.DEVNULL)
        wait_port(self.port, self.process)
        self.pids = [int(p) for p in subprocess.check_output(
            ["pgrep", "-P", str(self.process.pid)]).split()]

    def stop(self):
        self.process.terminate()
        self.process.wait()


def _quote(text, safe="-_.~"):
    return urllib.parse.quote(text, safe=safe)


def presign(port, method, bucket, key, query=None, seconds=86400):
    """A presigned URL, SigV4 (AWS: Authenticating Requests, query parameters)."""
    now = datetime.datetime.now(datetime.timezone.utc)
    stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    scope = f"{day}/{REGION}/s3/aws4_request"
    host = f"127.0.0.1:{port}"
    path = _quote("/" + bucket + ("/" + key if key else ""), "/-_.~")
    params = {"X-Amz-Algorithm": "AWS4-HMAC-SHA256", "X-Amz-Credential": f"{ACCESS}/{scope}",
              "X-Amz-Date": stamp, "X-Amz-Expires": str(seconds), "X-Amz-SignedHeaders": "host"}
    params.update({name.replace("_", "-"): value for name, value in (query or {}).items()})
    text = "&".join(f"{_quote(n)}={_quote(str(v))}" for n, v in sorted(params.items()))
    canonical = f"{method}\n{path}\n{text}\nhost:{host}\n\nhost\nUNSIGNED-PAYLOAD"
    to_sign = (f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n"
               + hashlib.sha256(canonical.encode()).hexdigest())
    secret = ("AWS4" + SECRET).encode()
    for part in (day, REGION, "s3", "aws4_request"):
        secret = hmac.new(secret, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(secret, to_sign.encode(), hashlib.sha256).hexdigest()
    return f"http://{host}{path}?{text}&X-Amz-Signature={signature}"


def wrk(urls, seconds=5, connections=32, threads=2, work="."):
    """Requests per second of GETs over these URLs, keep-alive. Fails if any
    answer was not 2xx."""
    script = os.path.join(work, "wrk.lua")
    with open(script, "w") as out:
        out.write("local u = {\n" + "".join(f"  '{u[u.index('/', 8):]}',\n" for u in urls) +
                  "}\nlocal i = 0\nfunction request() i = i % #u + 1; "
                  "return wrk.format('GET', u[i]) end\n")
    base = urls[0][:urls[0].index("/", 8)]
    text = subprocess.check_output(["wrk", f"-t{threads}", f"-c{connections}", f"-d{seconds}s",
                                    "-s", script, base], text=True)
    if "Non-2xx" in text or "Socket errors" in text:
        raise RuntimeError("wrk saw errors:\n" + text)
    return float(text.split("Requests/sec:")[1].split()[0])


def pull(url, capacity=1 << 20):
    """Reads one GET to its end, discarding. Returns bytes, seconds, seconds to
    the first body byte."""
    port = int(url.split(":")[2].split("/")[0])
    begin = time.monotonic()
    sock = socket.create_connection(("127.0.0.1", port))
    sock.sendall(f"GET {url[url.index('/', 8):]} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
                 "Connection: close\r\n\r\n".encode())
    buffer, head, first, total = bytearray(capacity), b"", None, 0
    view = memoryview(buffer)
    while True:
        n = sock.recv_into(buffer)
        if n == 0:
            break
        if first is None:
            head += bytes(view[:n])
            end = head.find(b"\r\n\r\n")
            if end < 0 or len(head) == end + 4:
                continue
            if b" 200 " not in head[:20] and b" 206 " not in head[:20]:
                raise RuntimeError(head[:400])
            first, total = time.monotonic() - begin, len(head) - end - 4
        else:
            total += n
    sock.close()
    return total, time.monotonic() - begin, first


def push(server, bucket, key, path, times=1):
    """PUTs a file with curl on one connection. Returns wall seconds."""
    args = ["curl", "-sS", "--fail-with-body", "-H", "Expect:", "-o", "/dev/null"]
    for i in range(times):
        if i:
            args += ["--next", "-sS", "--fail-with-body", "-H", "Expect:", "-o", "/dev/null"]
        name = key if times == 1 else f"{key.rsplit('.', 1)[0]}-{i}.{key.rsplit('.', 1)[1]}"
        args += ["-T", path, server.url(bucket, name, "PUT")]
    begin = time.monotonic()
    subprocess.run(args, check=True)
    return time.monotonic() - begin


def machine():
    with open("/proc/cpuinfo") as info:
        model = next(line.split(":")[1].strip() for line in info if line.startswith("model name"))
    release = dict(line.rstrip().split("=", 1) for line in open("/etc/os-release") if "=" in line)
    with open("/proc/meminfo") as info:
        memory = int(info.readline().split()[1]) // 1048576
    return (f"{os.cpu_count()} x {model}, {memory} GiB, Linux {os.uname().release}, "
            f"{release['PRETTY_NAME'].strip(chr(34))}, "
            f"{subprocess.check_output(['gcc', '--version'], text=True).splitlines()[0]}")


def note(text):
    print(text, file=sys.stderr, flush=True)
