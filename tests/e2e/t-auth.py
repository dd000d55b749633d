#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Who may do what, and how payloads are protected: SigV4 in headers and
queries, the five payload modes, clock skew, replay, open mode."""
import base64
import re
import zlib
from lib import *

server = Server()
s3 = server.client()
s3.create_bucket(Bucket="auth")
EMPTY = hashlib.sha256(b"").hexdigest()


def put(path="/auth/key", data=b"data", **options):
    """A PUT whose every part can be bent: see sign_headers()."""
    headers = dict(options.pop("headers", {}))
    now = options.pop("now", None)
    after = options.pop("after", {})
    sign_headers(server, "PUT", path, {}, headers, data, now=now, **options)
    headers.update(after)
    return server.request("PUT", path, body=data, headers=headers, sign=False)


def stored(key="key"):
    return s3.get_object(Bucket="auth", Key=key)["Body"].read()


@case
def a_right_signature_passes_and_every_bent_one_fails():
    same(put().status, 200)
    for code, status, options in (
            ("SignatureDoesNotMatch", 403, dict(secret="wrong")),
            ("AccessDenied", 403, dict(access_key="nobody")),
            ("RequestTimeTooSkewed", 403, dict(now=time.time() - 3600)),
            ("RequestTimeTooSkewed", 403, dict(now=time.time() + 3600)),
            ("XAmzContentSHA256Mismatch", 400,
             dict(headers={"x-amz-content-sha256": hashlib.sha256(b"else").hexdigest()})),
            ("SignatureDoesNotMatch", 403, dict(after={"x-amz-content-sha256": EMPTY})),
            ("SignatureDoesNotMatch", 403, dict(after={"x-amz-meta-unsigned": "1"}))):
        answer = put(data=b"data", **options)
        same((answer.status, answer.code), (status, code), options)
    same(stored(), b"data")
    same(put(now=time.time() - 200).status, 200)


@case
def requests_without_credentials_are_refused():
    for method, path in (("GET", "/"), ("GET", "/auth"), ("GET", "/auth/key"),
                         ("PUT", "/auth/key"), ("DELETE", "/auth/key"), ("POST", "/auth/key"),
                         ("PUT", "/newbucket"), ("HEAD", "/auth/key")):
        answer = server.request(method, path, sign=False)
        same(answer.status, 403, (method, path))
        if method != "HEAD":
            same(answer.code, "AccessDenied")
    same(server.request("HEAD", "/", sign=False).status, 200)
    same(server.request("OPTIONS", "/auth/key", sign=False).status, 200)


@case
def an_anonymous_stranger_cannot_tell_what_exists():
    there = server.request("GET", "/auth/key", sign=False)
    absent = server.request("GET", "/nosuchbucket/key", sign=False)
    same((there.status, there.code), (absent.status, absent.code))


@case
def malformed_credentials_are_told_so():
    for header in ("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA256 Credential=x", "Bearer abc", "AWS a:b",
                   "AWS4-HMAC-SHA256 Credential=%s/20150830/us-east-1/s3/aws4_request, "
                   "SignedHeaders=host, Signature=00" % ACCESS_KEY,
                   "AWS4-HMAC-SHA256 Credential=a/b/c/d/e,SignedHeaders=host,Signature=" + "0" * 64):
        answer = server.request("GET", "/auth/key", sign=False, headers={
            "Authorization": header, "x-amz-content-sha256": EMPTY,
            "x-amz-date": time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())})
        assert answer.status in (400, 403), (header, answer)
        assert answer.code, answer


@case
def presigned_links_expire_and_are_bound_to_their_request():
    url = s3.generate_presigned_url("get_object", Params={"Bucket": "auth", "Key": "key"},
                                    ExpiresIn=60)
    path = url[len(server.url):]
    same(server.request("GET", path, sign=False).status, 200)
    same(server.request("GET", path, sign=False).status, 200)  # again: a link is for many uses
    same(server.request("HEAD", path, sign=False).status, 403)
    same(server.request("GET", path.replace("/key", "/other"), sign=False).code,
         "SignatureDoesNotMatch")
    same(server.request("GET", path + "&response-content-type=text/html", sign=False).code,
         "SignatureDoesNotMatch")
    same(server.request("GET", path.replace("Expires=60", "Expires=61"), sign=False).code,
         "SignatureDoesNotMatch")

    def presigned(age_s, expires):
        from botocore.auth import S3SigV4QueryAuth
        from botocore.awsrequest import AWSRequest
        from botocore.credentials import Credentials
        import botocore.auth
        import datetime

        class Past(datetime.datetime):
            @classmethod
            def utcnow(cls):
                return datetime.datetime.utcfromtimestamp(time.time() - age_s)
        request = AWSRequest("GET", server.url + "/auth/key")
        original = botocore.auth.datetime.datetime
        botocore.auth.datetime.datetime = Past
        try:
            S3SigV4QueryAuth(Credentials(ACCESS_KEY, SECRET_KEY), "s3", REGION,
                             expires=expires).add_auth(request)
        finally:
            botocore.auth.datetime.datetime = original
        return server.request("GET", request.url[len(server.url):], sign=False)
    same(presigned(50, 60).status, 200)
    answer = presigned(100, 60)
    same((answer.status, answer.code), (403, "AccessDenied"))
    assert b"expired" in answer.body
    same(presigned(0, 604801).status, 400)
    same(presigned(0, 0).status, 400)
    same(presigned(-3600, 60).status, 403)


@case
def metadata_in_a_presigned_query_is_kept():
    from botocore.auth import S3SigV4QueryAuth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials
    request = AWSRequest("PUT", server.url + "/auth/hoisted?x-amz-meta-color=deep%20blue"
                                             "&x-amz-meta-dg-tool=forged")
    S3SigV4QueryAuth(Credentials(ACCESS_KEY, SECRET_KEY), "s3", REGION,
                     expires=60).add_auth(request)
    same(server.request("PUT", request.url[len(server.url):], body=b"x", sign=False).status, 200)
    same(s3.head_object(Bucket="auth", Key="hoisted")["Metadata"], {"color": "deep blue"})


# ---- aws-chunked -----------------------------------------------------------------------

def signed_chunks(pieces, seed, stamp, trailer=None, bend=None):
    """The body of STREAMING-AWS4-HMAC-SHA256-PAYLOAD[-TRAILER]."""
    key, scope = signing_key(stamp[:8]), "%s/%s/s3/aws4_request" % (stamp[:8], REGION)
    out, previous = b"", seed
    for number, piece in enumerate(list(pieces) + [b""]):
        text = "\n".join(["AWS4-HMAC-SHA256-PAYLOAD", stamp, scope, previous, EMPTY,
                          hashlib.sha256(piece).hexdigest()])
        previous = _hmac_hex(key, text)
        shown = "0" * 64 if bend == number else previous
        out += b"%x;chunk-signature=%s\r\n" % (len(piece), shown.encode())
        if piece or not trailer:
            out += piece + b"\r\n"
    if trailer:
        lines = "".join("%s:%s\n" % pair for pair in trailer.items())
        text = "\n".join(["AWS4-HMAC-SHA256-TRAILER", stamp, scope, previous,
                          hashlib.sha256(lines.encode()).hexdigest()])
        shown = "0" * 64 if bend == "trailer" else _hmac_hex(key, text)
        out += "".join("%s:%s\r\n" % pair for pair in trailer.items()).encode()
        out += b"x-amz-trailer-signature:%s\r\n\r\n" % shown.encode()
    return out


def _hmac_hex(key, text):
    import hmac
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def put_signed(key, pieces, trailer=None, bend=None, announced=None, cut=0):
    mode = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" + ("-TRAILER" if trailer else "")
    size = sum(map(len, pieces)) if announced is None else announced
    headers = {"x-amz-content-sha256": mode, "Content-Encoding": "aws-chunked",
               "x-amz-decoded-content-length": str(size)}
    if trailer:
        headers["x-amz-trailer"] = ",".join(trailer)
    seed = sign_headers(server, "PUT", "/auth/" + key, {}, headers, None)
    data = signed_chunks(pieces, seed, headers["x-amz-date"], trailer, bend)
    return server.request("PUT", "/auth/" + key, body=data[:len(data) - cut], headers=headers,
                          sign=False)


def put_unsigned_trailer(key, pieces, trailer, announced=None, chunked=False):
    size = sum(map(len, pieces)) if announced is None else announced
    headers = {"x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
               "Content-Encoding": "aws-chunked", "x-amz-decoded-content-length": str(size)}
    if trailer:
        headers["x-amz-trailer"] = ",".join(trailer)
    data = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n"
    data += "".join("%s:%s\r\n" % pair for pair in trailer.items()).encode() + b"\r\n"
    if chunked:
        data = b"".join(b"%x\r\n%s\r\n" % (len(data[at:at + 1000]), data[at:at + 1000])
                        for at in range(0, len(data), 1000)) + b"0\r\n\r\n"
        headers["Transfer-Encoding"] = "chunked"
    sign_headers(server, "PUT", "/auth/" + key, {}, headers, None)
    return server.request("PUT", "/auth/" + key, body=data, headers=headers, sign=False)


def crc32(data):
    return base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()


@case
def signed_chunks_are_verified_one_by_one():
    for key in ("chunks.bin", "chunks.zip"):
        for pieces in ([], [b"x"], [body(65536, 1), body(65536, 2), body(100, 3)],
                       [body(300001)], [body(8192, n) for n in range(9)]):
            same(put_signed(key, pieces).status, 200, [len(piece) for piece in pieces])
            same(stored(key), b"".join(pieces))
        pieces = [body(65536, 4), body(65536, 5), body(100, 6)]
        before = stored(key)
        for bend in range(4):
            answer = put_signed(key, pieces, bend=bend)
            same((answer.status, answer.code), (403, "SignatureDoesNotMatch"), bend)
        same(stored(key), before)


@case
def signed_trailers_are_verified():
    pieces = [body(70000, 1), body(5, 2)]
    data = b"".join(pieces)
    answer = put_signed("trailer", pieces, {"x-amz-checksum-crc32": crc32(data)})
    same((answer.status, answer.headers["x-amz-checksum-crc32"]), (200, crc32(data)))
    same(stored("trailer"), data)
    for bend in (0, 2, "trailer"):
        answer = put_signed("trailer", pieces, {"x-amz-checksum-crc32": crc32(data)}, bend=bend)
        same((answer.status, answer.code), (403, "SignatureDoesNotMatch"), bend)
    answer = put_signed("trailer", pieces, {"x-amz-checksum-crc32": crc32(b"other")})
    same((answer.status, answer.code), (400, "BadDigest"))
    same(stored("trailer"), data)


@case
def unsigned_trailers_are_verified():
    pieces = [body(70000, 1), body(5, 2)]
    data = b"".join(pieces)
    for chunked in (False, True):
        for key in ("unsigned.bin", "unsigned.zip"):
            answer = put_unsigned_trailer(key, pieces, {"x-amz-checksum-crc32": crc32(data)},
                                          chunked=chunked)
            same((answer.status, answer.headers["x-amz-checksum-crc32"]), (200, crc32(data)))
            same(stored(key), data)
            answer = put_unsigned_trailer(key, pieces, {"x-amz-checksum-crc32": crc32(b"x")},
                                          chunked=chunked)
            same((answer.status, answer.code), (400, "BadDigest"))
            same(stored(key), data)
    same(put_unsigned_trailer("unsigned.bin", [], {}).status, 200)
    same(stored("unsigned.bin"), b"")


@case
def announced_lengths_must_be_true():
    pieces = [body(1000)]
    s3.put_object(Bucket="auth", Key="length", Body=b"before")
    for announced in (999, 1001, 0):
        for answer in (put_signed("length", pieces, announced=announced),
                       put_unsigned_trailer("length", pieces, {}, announced=announced)):
            same((answer.status, answer.code), (400, "IncompleteBody"), announced)
    answer = put_signed("length", pieces, cut=90)
    same(answer.status, 400, answer)
    headers = {"x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER"}
    answer = server.request("PUT", "/auth/length", body=b"0\r\n\r\n", headers=headers)
    same((answer.status, answer.code), (411, "MissingContentLength"))
    same(stored("length"), b"before")


@case
def a_cut_upload_changes_nothing():
    for key in ("cut.bin", "cut.zip"):
        s3.put_object(Bucket="auth", Key=key, Body=b"before")
        headers = {"Content-Length": "2000000", "x-amz-content-sha256": "UNSIGNED-PAYLOAD"}
        sign_headers(server, "PUT", "/auth/" + key, {}, headers, None)
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            head = "PUT /auth/%s HTTP/1.1\r\n" % key
            head += "".join("%s: %s\r\n" % pair for pair in headers.items())
            connection.sendall(head.encode() + b"\r\n" + body(1000000))
        same(stored(key), b"before")


def special_lines(server, kind, least):
    """The lines of that kind, once there are so many."""
    deadline = time.monotonic() + 30
    while True:
        lines = [line[line.index(kind + " | "):] for line in server.log().splitlines()
                 if kind + " | " in line]
        if len(lines) >= least:
            return lines
        assert time.monotonic() < deadline, lines
        time.sleep(0.02)


@case
def mutations_are_not_replayed():
    other = Server(env={"DGP_REPLAY_WINDOW_SECS": "60"})
    other.client().create_bucket(Bucket="auth")
    headers = {}
    sign_headers(other, "PUT", "/auth/key", {}, headers, b"data")
    send = lambda method: other.request(method, "/auth/key", body=b"data", headers=headers,
                                        sign=False)
    same(send("PUT").status, 200)
    answer = send("PUT")
    same((answer.status, answer.code), (400, "InvalidArgument"))
    assert b"replay" in answer.body.lower()
    lines = special_lines(other, "AUDIT", 1)
    assert re.fullmatch(r"AUDIT \| action=replay_rejected \| user=%s \| target=PutObject \| "
                        r"ip=127.0.0.1 \| ua=\S+ \| bucket=auth \| path=key" % ACCESS_KEY,
                        lines[0]), lines
    headers = {}
    sign_headers(other, "GET", "/auth/key", {}, headers, None)
    for _ in range(3):
        same(other.request("GET", "/auth/key", headers=headers, sign=False).status, 200)
    other.stop()


@case
def open_mode_asks_for_nothing_but_still_decodes():
    other = Server(env={"DGP_AUTHENTICATION": "none", "DGP_ACCESS_KEY_ID": None,
                        "DGP_SECRET_ACCESS_KEY": None})
    same(other.request("PUT", "/open-bucket", sign=False).status, 200)
    same(other.request("PUT", "/open-bucket/k", body=b"abc", sign=False).status, 200)
    same(other.request("GET", "/open-bucket/k", sign=False).body, b"abc")
    same(other.client().get_object(Bucket="open-bucket", Key="k")["Body"].read(), b"abc")
    answer = other.request("PUT", "/open-bucket/chunked", sign=False, body=b"3\r\nxyz\r\n0\r\n\r\n",
                           headers={"x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
                                    "x-amz-decoded-content-length": "3"})
    same(answer.status, 200, answer)
    same(other.request("GET", "/open-bucket/chunked", sign=False).body, b"xyz")
    other.stop()


@case
def no_credentials_no_start():
    other = Server(autostart=False, env={"DGP_ACCESS_KEY_ID": None, "DGP_SECRET_ACCESS_KEY": None})
    other.spawn()
    same(other.process.wait(20), 1)
    assert "DGP_ACCESS_KEY_ID" in other.log() or "authentication" in other.log(), other.log()
    other.process = None


@case
def secrets_stay_out_of_the_log():
    url = s3.generate_presigned_url("get_object", Params={"Bucket": "auth", "Key": "key"})
    server.request("GET", url[len(server.url):], sign=False)
    log = server.log()
    assert SECRET_KEY not in log
    assert url.split("X-Amz-Signature=")[1] not in log
    assert "Signature=" not in log


@case
def failures_slow_down_and_lock_out_as_configured():
    other = Server(env={"DGP_RATE_LIMIT_MAX_ATTEMPTS": "12", "DGP_RATE_LIMIT_LOCKOUT_SECS": "3"})

    def attempt(secret):
        headers = {}
        sign_headers(other, "GET", "/", {}, headers, None, secret=secret)
        started = time.monotonic()
        answer = other.request("GET", "/", headers=headers, sign=False)
        return answer.status, answer.code, time.monotonic() - started

    spent = 0
    for number in range(1, 11):
        status, code, seconds = attempt("wrong")
        same((status, code), (403, "SignatureDoesNotMatch"))
        spent += seconds
    assert spent < 1.9, spent  # ten of the shortest delays are 2 s
    same(attempt(SECRET_KEY)[0], 200)  # and all is forgotten
    for number in range(1, 13):
        status, code, seconds = attempt("wrong")
        same((status, code), (403, "SignatureDoesNotMatch"))
        least = {11: 0.2, 12: 0.4}.get(number, 0)
        assert least <= seconds < least + 1.5, (number, seconds)
    locked_at = time.monotonic()
    for secret in ("wrong", SECRET_KEY):
        status, code, seconds = attempt(secret)
        same((status, code), (503, "SlowDown"))
        assert seconds < 1
    while attempt(SECRET_KEY)[0] == 503:  # until the lockout ends, counted in whole seconds
        assert time.monotonic() - locked_at < 10
        time.sleep(0.05)
    assert time.monotonic() - locked_at > 0.9
    other.stop()
    lines = special_lines(other, "SECURITY", 20)
    events = [re.fullmatch(r"SECURITY \| event=(\S+) \| ip=127.0.0.1 \| bucket_key=127.0.0.1\\\|%s "
                           r"\| trust_proxy=false \| attempts=(\d+) \| reason=(\S+) \| ua=\S+"
                           % ACCESS_KEY, line).groups() for line in lines]
    same(events[:8 + 9], [("repeated_auth_failure", str(n), "invalid_signature")
                          for n in (*range(3, 11), *range(3, 12))])
    same(events[17], ("brute_force_lockout", "12", "invalid_signature"))
    same(set(events[18:]), {("brute_force_blocked", "12", "invalid_access_key")})


@case
def a_delayed_answer_comes_late_also_after_a_broken_body():
    other = Server(env={"DGP_RATE_LIMIT_MAX_ATTEMPTS": "100"})
    for number in range(1, 13):
        headers = {"Transfer-Encoding": "chunked"} if number == 12 else {}
        sign_headers(other, "PUT", "/bucket/key", {}, headers, None, secret="wrong")
        if number < 12:
            same(other.request("PUT", "/bucket/key", headers=headers, sign=False).code,
                 "SignatureDoesNotMatch")
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", other.port), timeout=10) as connection:
        headers.setdefault("Host", "127.0.0.1:%d" % other.port)
        head = "".join("%s: %s\r\n" % pair for pair in headers.items())
        connection.sendall(("PUT /bucket/key HTTP/1.1\r\n%s\r\nzzz\r\n" % head).encode())
        answer = connection.recv(4096)
    assert answer.startswith(b"HTTP/1.1 403 "), answer
    assert time.monotonic() - started > 0.3, "the delay was skipped"
    other.stop()


@case
def a_limit_of_0_neither_slows_down_nor_locks_out():
    other = Server(env={"DGP_RATE_LIMIT_MAX_ATTEMPTS": "0"})
    started = time.monotonic()
    for _ in range(30):
        headers = {}
        sign_headers(other, "GET", "/", {}, headers, None, access_key="nobody")
        same(other.request("GET", "/", headers=headers, sign=False).code, "AccessDenied")
    assert time.monotonic() - started < 5
    other.stop()


@case
def lines_for_machines_cannot_be_forged_and_are_whole_in_json():
    other = Server(env={"DGP_LOG_FORMAT": "json", "DGP_TRUST_PROXY_HEADERS": "true",
                        "DGP_TRUSTED_PROXY_CIDRS": "127.0.0.0/8"})
    agent = 'evil | event=x" \\ ' + "u" * 300
    for number in range(3):
        headers = {"User-Agent": agent, "X-Forwarded-For": "192.0.2.66, 127.0.0.2"}
        sign_headers(other, "GET", "/", {}, headers, None, access_key="no|body")
        same(other.request("GET", "/", headers=headers, sign=False).code, "AccessDenied")
    other.stop()
    lines = [json.loads(line) for line in other.log().splitlines() if "SECURITY |" in line]
    same(len(lines), 1)
    same((lines[0]["level"].lower(), lines[0]["event"]), ("warn", "security"))
    shown = agent.replace("\\", "\\\\").replace("|", "\\|")
    wanted = ("SECURITY | event=repeated_auth_failure | ip=192.0.2.66 | bucket_key=192.0.2.66 | "
              "trust_proxy=true | attempts=3 | reason=invalid_access_key | ua=")
    assert lines[0]["message"].startswith(wanted), lines
    said = lines[0]["message"][len(wanted):]
    assert shown.startswith(said) and 256 <= len(said) <= 260, said
    assert '"peer":"192.0.2.66"' in other.log()


@case
def forms_that_are_refused_are_audited():
    other = Server()
    fields = b"".join(b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % pair
                      for pair in ((b"key", b"k"), (b"file", b"data")))
    answer = other.request("POST", "/auth", body=fields + b"--b--\r\n", sign=False,
                           headers={"Content-Type": "multipart/form-data; boundary=b"})
    same(answer.status, 403)
    other.stop()
    lines = special_lines(other, "AUDIT", 1)
    assert len(lines) == 1 and "action=s3_post_denied | user=- | target=" in lines[0], lines


@case
def a_form_signed_in_its_headers_is_what_was_signed():
    def send(key, data, **headers):
        form = ('--b\r\nContent-Disposition: form-data; name="key"\r\n\r\n%s\r\n'
                '--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n%s\r\n'
                '--b--\r\n' % (key, data)).encode()
        headers.setdefault("x-amz-content-sha256", hashlib.sha256(form).hexdigest())
        return server.request("POST", "/auth", body=form, headers={
            "Content-Type": "multipart/form-data; boundary=b", **headers})
    same(send("form-good", "abc").status, 204)
    same(send("form-plain", "abc", **{"x-amz-content-sha256": "UNSIGNED-PAYLOAD"}).status, 204)
    other = hashlib.sha256(b"another form").hexdigest()
    answer = send("form-bad", "abc", **{"x-amz-content-sha256": other})
    same((answer.status, answer.code), (400, "XAmzContentSHA256Mismatch"))
    answer = send("form-bad", "abc", **{
        "x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        "x-amz-decoded-content-length": "3"})
    same((answer.status, answer.code), (501, "NotImplemented"))
    same([server.request("HEAD", "/auth/form-" + name).status for name in ("good", "plain", "bad")],
         [200, 200, 404])


main()
