#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The server's own TLS: versions, names, client certificates, reload, and every
kind of transfer through it."""
import re
import socket
import ssl
import threading

from lib import *

PKI = os.path.join(WORK, "pki")
HSTS = "max-age=31536000; includeSubDomains"
big = body(64 << 20, seed=3)
v1, v2 = versions(8 << 20, 2)


# ---- Certificates ---------------------------------------------------------------------

def pki(name):
    return os.path.join(PKI, name)


def openssl(*command):
    return run("openssl", *command)


def make_ca(name):
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-days", "30", "-subj", "/CN=" + name, "-keyout", pki(name + ".key"),
            "-out", pki(name + ".pem"))


def make_cert(name, hosts, ca="ca"):
    """name.pem (certificate, then its CA) and name.key; hosts as in subjectAltName."""
    with open(pki(name + ".ext"), "w") as file:
        file.write("subjectAltName=%s\n" % hosts)
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
            "/CN=" + name, "-keyout", pki(name + ".key"), "-out", pki(name + ".csr"))
    openssl("x509", "-req", "-in", pki(name + ".csr"), "-CA", pki(ca + ".pem"), "-CAkey",
            pki(ca + ".key"), "-CAcreateserial", "-days", "20", "-extfile", pki(name + ".ext"),
            "-out", pki(name + ".crt"))
    with open(pki(name + ".pem"), "wb") as chain:
        for part in (name + ".crt", ca + ".pem"):
            chain.write(open(pki(part), "rb").read())


os.makedirs(PKI)
make_ca("ca")
make_ca("strangers")
LOCAL = "DNS:localhost,IP:127.0.0.1"
make_cert("main", LOCAL)
make_cert("next", LOCAL)
make_cert("other", "DNS:*.other.test")
make_cert("user", "DNS:user")
make_cert("stranger", "DNS:user", ca="strangers")


# ---- A server with TLS ------------------------------------------------------------------

class TlsServer(Server):
    """Waits for its log's line instead of a plain answer."""

    def __init__(self, tls, env=None, **more):
        self.ca = pki("ca.pem")
        super().__init__(env=env, config={"advanced": {"tls": dict({"enabled": True}, **tls)}},
                         **more)

    @property
    def url(self):
        return "https://localhost:%d" % self.port

    def start(self, extra_env=None, timeout_s=20):
        seen = self.log().count("listening on ")
        self.spawn(extra_env)
        wait_for(lambda: self.log().count("listening on ") > seen or
                 self.process.poll() is not None, timeout_s)
        if self.process.poll() is not None:
            raise RuntimeError("the server ended:\n" + self.log()[-3000:])
        return self

    def curl(self, *options, path="/_/health", **kwargs):
        kwargs.setdefault("timeout", 60)
        return run("curl", "-sS", "--cacert", self.ca, *options, self.url + path, **kwargs)

    def hello(self, **kwargs):
        """A connection after its handshake. An end without goodbye is an error."""
        context = ssl.create_default_context(cafile=self.ca)
        context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
        for cert in kwargs.pop("certs", []):
            context.load_cert_chain(pki(cert + ".pem"), pki(cert + ".key"))
        context.set_alpn_protocols(kwargs.pop("alpn", ["http/1.1"]))
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        return context.wrap_socket(plain, server_hostname=kwargs.pop("name", "localhost"),
                                   suppress_ragged_eofs=False)

    def common_name(self, **kwargs):
        with self.hello(**kwargs) as wire:
            return dict(part[0] for part in wire.getpeercert()["subject"])["commonName"]

    def hang_up_and_wait(self, line):
        """SIGHUP, and then the log's line about it."""
        seen = self.log().count(line)
        self.process.send_signal(signal.SIGHUP)
        wait_for(lambda: self.log().count(line) > seen)


def wait_for(condition, timeout_s=20):
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("it did not come to pass")
        time.sleep(0.02)


def install(name, target="live"):
    """The files that a server reads become those of `name`, one by one."""
    for end in (".pem", ".key"):
        shutil.copy(pki(name + end), pki(target + end + ".new"))
        os.rename(pki(target + end + ".new"), pki(target + end))


def boto(server, **config):
    import boto3
    from botocore.config import Config
    return boto3.client("s3", endpoint_url=server.url, region_name=REGION, verify=server.ca,
                        config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 0},
                                      read_timeout=120, **config))


install("main")
server = TlsServer({"cert_path": pki("live.pem"), "key_path": pki("live.key"),
                    "certificates": [{"cert_path": pki("other.pem"),
                                      "key_path": pki("other.key")}]},
                   env={"DGP_HEAD_TIMEOUT_SECS": "2", "DGP_LOG_LEVEL": "debug"})
s3 = boto(server)


# ---- Handshakes -------------------------------------------------------------------------

@case
def curl_speaks_tls_1_2_and_1_3():
    requires("curl")
    for version, maximum in (("1.2", "1.2"), ("1.3", "1.3")):
        heads = server.curl("--tlsv" + version, "--tls-max", maximum, "-v", "-o", "/dev/null")
        assert "SSL connection using TLSv" + version in heads, heads
        assert "strict-transport-security: " + HSTS in heads.lower().replace(HSTS.lower(), HSTS), heads
        assert "http/1.1" in heads, heads


@case
def tls_1_1_is_refused():
    requires("openssl")
    # Security level 0 lets the client offer it at all.
    done = subprocess.run(["openssl", "s_client", "-connect", "127.0.0.1:%d" % server.port,
                           "-tls1_1", "-cipher", "ALL:@SECLEVEL=0"], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=30)
    assert done.returncode != 0 and b"alert protocol version" in done.stdout, done.stdout[-2000:]


@case
def min_version_1_3_refuses_1_2():
    strict = TlsServer({"cert_path": pki("live.pem"), "key_path": pki("live.key"),
                        "min_version": "1.3"})
    strict.curl("--tlsv1.3")
    said = strict.curl("--tls-max", "1.2", check=False)
    assert "protocol version" in said, said
    same(strict.stop(), 0)


@case
def the_certificate_follows_the_name_asked_for():
    same(server.common_name(), "main")
    same(server.common_name(name="a.other.test"), "other")


@case
def a_name_nobody_has_gets_the_main_certificate():
    try:
        server.common_name(name="unknown.test")
        raise RuntimeError("the client took it")
    except ssl.SSLCertVerificationError as error:
        assert "not valid for 'unknown.test'" in str(error), error


@case
def only_http_1_1_is_agreed_on():
    with server.hello(alpn=["h2", "http/1.1"]) as wire:
        same(wire.selected_alpn_protocol(), "http/1.1")
    try:
        server.hello(alpn=["h2"])
        raise RuntimeError("h2 was agreed on")
    except ssl.SSLError as error:
        assert "no application protocol" in str(error), error


@case
def a_session_is_resumed():
    context = ssl.create_default_context(cafile=server.ca)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    session = None
    for expected in (False, True, True):
        plain = socket.create_connection(("127.0.0.1", server.port), timeout=30)
        with context.wrap_socket(plain, server_hostname="localhost", session=session) as wire:
            same(wire.session_reused, expected)
            session = wire.session


@case
def a_handshake_that_stalls_is_cut():
    """Both at the first byte and in the middle."""
    for first in (b"", b"\x16\x03\x01\x02\x00\x01"):
        started = time.monotonic()
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as stalled:
            stalled.sendall(first)
            same(stalled.recv(100), b"")
        took = time.monotonic() - started
        assert 1.5 < took < 12, took


@case
def plain_http_on_the_tls_port_is_closed_cleanly():
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as plain:
        plain.sendall(b"GET /_/health HTTP/1.1\r\nHost: localhost\r\n\r\n" + b"x" * 100000)
        got = b""
        while True:
            more = plain.recv(4096)  # a reset would raise
            if not more:
                break
            got += more
    assert b"HTTP" not in got, got
    assert "http.tls_failed" in server.log() and "http request" in server.log()


@case
def the_goodbye_of_tls_comes_before_the_end():
    with server.hello() as wire:
        wire.sendall(b"GET /_/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        text = b""
        while True:
            more = wire.recv(4096)  # a bare end would raise
            if not more:
                break
            text += more
    assert text.startswith(b"HTTP/1.1 200 "), text


# ---- Transfers ----------------------------------------------------------------------------

@case
def boto3_moves_64_mib_both_ways():
    s3.create_bucket(Bucket="box")
    answer = s3.put_object(Bucket="box", Key="big.dat", Body=big)
    same(answer["ETag"], etag_of(big))
    same(sha256(s3.get_object(Bucket="box", Key="big.dat")["Body"].read()), sha256(big))


@case
def a_trailing_checksum_over_https_is_verified():
    """What a current boto3 does by itself: a payload in chunks with a trailer."""
    import io
    seen = []
    s3.meta.events.register("before-send.s3.PutObject", lambda request, **_:
                            seen.append(request.headers.get("x-amz-content-sha256", b"")))
    s3.put_object(Bucket="box", Key="trailer.dat", Body=io.BytesIO(big[:3000001]),
                  ChecksumAlgorithm="CRC32")
    text = seen[0].decode() if isinstance(seen[0], bytes) else seen[0]
    same(text, "STREAMING-UNSIGNED-PAYLOAD-TRAILER")
    same(s3.get_object(Bucket="box", Key="trailer.dat")["Body"].read(), big[:3000001])


@case
def ranges_come_through():
    for first, last in ((0, 0), (12345, 9999999), (len(big) - 70000, len(big) - 1)):
        answer = s3.get_object(Bucket="box", Key="big.dat", Range="bytes=%d-%d" % (first, last))
        same(answer["ResponseMetadata"]["HTTPStatusCode"], 206)
        assert answer["Body"].read() == big[first:last + 1], (first, last)


@case
def a_delta_comes_back():
    for key, data in (("rel/v1.zip", v1), ("rel/v2.zip", v2)):
        s3.put_object(Bucket="box", Key=key, Body=data)
    assert any(name.endswith(".delta") for name in server.files("box")), server.files("box")
    same(sha256(s3.get_object(Bucket="box", Key="rel/v2.zip")["Body"].read()), sha256(v2))
    part = s3.get_object(Bucket="box", Key="rel/v2.zip", Range="bytes=4000000-4100000")
    same(part["Body"].read(), v2[4000000:4100001])


@case
def aws_cli_copies_both_ways():
    requires("aws")
    source, target = os.path.join(WORK, "source"), os.path.join(WORK, "target")
    with open(source, "wb") as file:
        file.write(big[:20 << 20])  # several parts
    for part in ((source, "s3://box/cli.dat"), ("s3://box/cli.dat", target)):
        run("aws", "--endpoint-url", server.url, "--ca-bundle", server.ca, "s3", "cp", "--quiet",
            *part)
    same(sha256(open(target, "rb").read()), sha256(big[:20 << 20]))


def signed(method, path, data=None, **headers):
    sign_headers(server, method, path, {}, headers, data)
    lines = ["%s %s HTTP/1.1" % (method, path)]
    lines += ["%s: %s" % pair for pair in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def read_head(wire):
    text = b""
    while b"\r\n\r\n" not in text:
        more = wire.recv(1)
        assert more, text
        text += more
    return text


def read_exactly(wire, count):
    parts = []
    while count:
        more = wire.recv(min(count, 1 << 20))
        assert more, count
        parts.append(more)
        count -= len(more)
    return b"".join(parts)


@case
def a_slow_reader_gets_every_byte():
    with server.hello() as wire:
        wire.sendall(signed("GET", "/box/big.dat"))
        assert read_head(wire).startswith(b"HTTP/1.1 200 ")
        digest, left = hashlib.sha256(), len(big)
        while left:
            if left % 3 == 0:
                time.sleep(0.01)  # the point: the socket of the server fills
            more = read_exactly(wire, min(left, 1 << 20))
            digest.update(more)
            left -= len(more)
        same(digest.hexdigest(), sha256(big))
        # And the connection goes on.
        wire.sendall(signed("GET", "/box/trailer.dat", Range="bytes=0-9"))
        assert b"206" in read_head(wire)
        same(read_exactly(wire, 10), big[:10])


@case
def pipelined_requests_in_one_record_are_all_answered():
    with server.hello() as wire:
        wire.sendall(b"".join(signed("GET", "/box/trailer.dat", Range="bytes=%d-%d" % (at, at + 9))
                              for at in range(60)))
        for at in range(60):
            assert b"206" in read_head(wire)
            same(read_exactly(wire, 10), big[at:at + 10])


@case
def a_chunked_upload_in_odd_pieces_arrives():
    data = big[:300000]
    for size in (1000, 70001):
        pieces = [data[at:at + size] for at in range(0, len(data), size)]
        wire_text = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
        headers = {"Transfer-Encoding": "chunked", "x-amz-content-sha256": sha256(data)}
        with server.hello() as wire:
            text = signed("PUT", "/box/chunked.dat", None, **headers) + wire_text
            for at in range(0, len(text), 33333):
                wire.sendall(text[at:at + 33333])
            assert read_head(wire).startswith(b"HTTP/1.1 200 ")
        same(s3.get_object(Bucket="box", Key="chunked.dat")["Body"].read(), data)


@case
def a_refused_upload_keeps_its_answer_and_its_connection():
    with server.hello() as wire:
        wire.sendall(signed("PUT", "/nowhere-at-all/x", big[:500000], **{"Content-Length": "500000"})
                     + big[:500000])
        head = read_head(wire)
        assert head.startswith(b"HTTP/1.1 404 "), head
        read_exactly(wire, int(re.search(rb"Content-Length: (\d+)", head).group(1)))
        wire.sendall(signed("GET", "/box/trailer.dat", Range="bytes=0-9"))
        assert b"206" in read_head(wire)


@case
def many_clients_at_once_get_their_own_bytes():
    failures = []

    def fetch(number):
        try:
            first = number * 1000003
            answer = boto(server).get_object(Bucket="box", Key="big.dat",
                                             Range="bytes=%d-%d" % (first, first + 4999999))
            if answer["Body"].read() != big[first:first + 5000000]:
                failures.append("client %d got other bytes" % number)
        except Exception as error:  # a thread's own must be seen
            failures.append(repr(error))

    threads = [threading.Thread(target=fetch, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    same(failures, [])


@case
def a_client_that_leaves_in_the_middle_is_forgotten():
    for _ in range(5):
        with server.hello() as wire:
            wire.sendall(signed("GET", "/box/big.dat"))
            read_head(wire)
    text = server.curl(path="/_/metrics")
    assert "deltaglider" in text, text[:500]
    wait_for(lambda: server.log().count("the client left") >= 1)


@case
def a_client_that_does_not_read_is_cut_in_the_middle():
    strict = TlsServer({"cert_path": pki("main.pem"), "key_path": pki("main.key")},
                       env={"DGP_RESPONSE_TIMEOUT_SECS": "2"})
    boto(strict).create_bucket(Bucket="box")
    boto(strict).put_object(Bucket="box", Key="big.dat", Body=big)
    with strict.hello() as wire:
        sign_headers(strict, "GET", "/box/big.dat", {}, headers := {}, None)
        wire.sendall(("GET /box/big.dat HTTP/1.1\r\n" + "".join(
            "%s: %s\r\n" % pair for pair in headers.items()) + "\r\n").encode())
        assert read_head(wire).startswith(b"HTTP/1.1 200 ")
        wait_for(lambda: "the client left before the end" in strict.log())
        count = 0
        try:
            while more := wire.recv(1 << 20):
                count += len(more)
            raise RuntimeError("a cut response ended like a whole one")
        except (ssl.SSLError, ConnectionResetError):
            pass
        assert count < len(big), count
    same(strict.stop(), 0)


# ---- Reload -------------------------------------------------------------------------------

@case
def a_reload_serves_the_new_certificate_and_a_download_goes_on():
    with server.hello() as wire:
        wire.sendall(signed("GET", "/box/big.dat"))
        read_head(wire)
        first = read_exactly(wire, 1 << 20)
        install("next")
        server.hang_up_and_wait("TLS certificate not_after=")
        wait_for(lambda: server.common_name() == "next")
        for _ in range(8):  # every loop
            same(server.common_name(), "next")
        same(server.common_name(name="a.other.test"), "other")
        same(sha256(first + read_exactly(wire, len(big) - len(first))), sha256(big))
        wire.sendall(signed("GET", "/box/trailer.dat", Range="bytes=0-9"))
        assert b"206" in read_head(wire)


@case
def a_broken_reload_keeps_the_old_certificate():
    keep = open(pki("live.pem"), "rb").read()
    for broken in (b"not a certificate\n", keep[:300], open(pki("other.pem"), "rb").read(), None):
        if broken is None:
            os.unlink(pki("live.pem"))
        else:
            with open(pki("live.pem"), "wb") as file:
                file.write(broken)
        server.hang_up_and_wait("The certificates stay as they are")
        same(server.common_name(), "next")
    log = server.log()
    assert "live.pem" in log and "live.key" in log and "No such file" in log, log[-2000:]
    install("main")
    server.hang_up_and_wait("TLS certificate not_after=")
    wait_for(lambda: server.common_name() == "main")


@case
def a_broken_certificate_refuses_the_start():
    with open(pki("junk.pem"), "w") as file:
        file.write("junk")
    for cert, key in (("junk.pem", "main.key"), ("main.pem", "other.key"), ("main.pem", "no.key")):
        bad = TlsServer({"cert_path": pki(cert), "key_path": pki(key)}, autostart=False)
        same(bad.spawn().wait(20) != 0, True)
        bad.process = None
        wrong = cert if cert == "junk.pem" else key
        assert "advanced.tls" in bad.log() and wrong in bad.log(), bad.log()


# ---- Client certificates -------------------------------------------------------------------

def mutual(**tls):
    return TlsServer(dict({"cert_path": pki("main.pem"), "key_path": pki("main.key"),
                           "client_ca_path": pki("ca.pem")}, **tls))


def answers(wire):
    """TLS 1.3 tells of a refused certificate with the first read."""
    with wire:
        wire.sendall(b"GET /_/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return wire.recv(9)


def turned_away(guarded, **kwargs):
    try:
        return answers(guarded.hello(**kwargs)) == b""
    except ssl.SSLError as error:
        return "ALERT" in str(error).upper()


@case
def a_client_certificate_is_required():
    guarded = mutual()
    same(answers(guarded.hello(certs=["user"])), b"HTTP/1.1 ")
    same(turned_away(guarded), True)
    same(turned_away(guarded, certs=["stranger"]), True)
    same(answers(guarded.hello(certs=["user"])), b"HTTP/1.1 ")
    same(guarded.stop(), 0)


@case
def an_optional_client_certificate_must_be_good_if_it_comes():
    guarded = mutual(client_cert="optional")
    same(answers(guarded.hello()), b"HTTP/1.1 ")
    same(answers(guarded.hello(certs=["user"])), b"HTTP/1.1 ")
    same(turned_away(guarded, certs=["stranger"]), True)
    same(guarded.stop(), 0)


# ---- Without files --------------------------------------------------------------------------

@case
def a_server_without_files_signs_for_localhost_itself():
    alone = TlsServer({})
    text = ssl.get_server_certificate(("127.0.0.1", alone.port))
    alone.ca = pki("alone.pem")
    with open(alone.ca, "w") as file:
        file.write(text)
    alone.curl()
    run("curl", "-sSf", "--cacert", alone.ca, "https://127.0.0.1:%d/_/health" % alone.port)
    alone.hang_up_and_wait("TLS certificate not_after=")
    alone.curl()  # still the same one
    same(alone.stop(), 0)


main()
