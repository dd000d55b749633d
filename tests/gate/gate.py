#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What a client sees of the gate: framing, early answers, deadlines, limits,
the end. The handlers are gate-server's."""
import re
import tempfile
import threading
import time

from gatelib import HOST, Gate, NoAnswer, case, main

FOREVER = 30


def expect_put(path, length, version=b"1.1"):
    return (b"PUT " + path + b" HTTP/" + version + b"\r\n" + HOST +
            b"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n" % length)


def checksum(data):
    total = 0
    for byte in data:
        total = (total * 31 + byte) & 0xffffffffffffffff
    return b"got %d %d\n" % (len(data), total)


@case
def a_request_may_come_byte_by_byte():
    request = (b"\r\n\r\nPUT /sink HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
               b"5;x=y\r\nhello\r\n1\r\n!\r\n0\r\nT: v\r\n\r\nGET /tiny HTTP/1.1\r\n" + HOST + b"\r\n")
    with Gate() as server, server.connect() as c:
        for byte in request:
            c.send(bytes([byte]))
        assert c.response().body == checksum(b"hello!")
        assert c.response().body == b"hello world\n"


@case
def one_hundred_and_fifty_mixed_requests_in_one_burst_are_answered_in_order():
    burst, want = b"", []
    for i in range(150):
        kind = i % 10
        if kind == 0:
            burst += b"GET /echo?%d HTTP/1.1\r\n" % i + HOST + b"\r\n"
            want.append((200, b"query=" + str(i).encode().hex().encode()))
        elif kind == 1:
            burst += b"GET /hop HTTP/1.1\r\n" + HOST + b"\r\n"
            want.append((200, b"hello"))
        elif kind == 2:
            body = b"b" * (i * 50)
            burst += b"PUT /sink HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % len(body)
            burst += body
            want.append((200, checksum(body)))
        elif kind == 3:
            burst += (b"PUT /collect HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
                      b"3\r\nabc\r\n3\r\n%03d\r\n0\r\n\r\n" % i)
            want.append((200, b"abc%03d" % i))
        elif kind == 4:
            burst += b"HEAD /hop HTTP/1.1\r\n" + HOST + b"\r\n"
            want.append((200, None))
        elif kind == 5:
            burst += b"GET /status?code=204 HTTP/1.1\r\n" + HOST + b"\r\n"
            want.append((204, b""))
        elif kind == 6:
            burst += b"PUT /deny HTTP/1.1\r\n" + HOST + b"Content-Length: 7\r\n\r\nGET / H"
            want.append((403, b"AccessDenied"))
        elif kind == 7:
            burst += b"GET /stream?n=%d HTTP/1.1\r\n" % (i * 3001) + HOST + b"\r\n"
            want.append((200, i * 3001))
        elif kind == 8:
            burst += b"GET /nothing HTTP/1.1\r\n" + HOST + b"\r\n"
            want.append((404, b"NoSuchKey"))
        else:
            burst += b"GET /kept HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n\r\nabc"
            want.append((200, b"hello"))
    with Gate() as server, server.connect() as c:
        threading.Thread(target=c.send, args=[burst]).start()
        for status, body in want:
            response = c.response(head_only=body is None)
            assert response.status == status, (response, status)
            if isinstance(body, int):
                assert len(response.body) == body
            elif body:
                assert body in response.body, (response, body)
        assert c.is_open()
        stats = server.idle()
        assert stats["double_release"] == 0 and stats["opened"] >= 75


@case
def an_accepted_body_is_asked_for_with_100_continue():
    with Gate() as server, server.connect() as c:
        c.send(expect_put(b"/sink", 5))
        assert c.head().status == 100
        c.send(b"hello")
        assert c.response().body == checksum(b"hello")
        c.send(expect_put(b"/sink", 5, b"1.0") + b"hello")
        assert c.head().status == 200, "HTTP/1.0 knows no 100"


@case
def a_refusal_instead_of_100_closes():
    with Gate() as server:
        for path, status in (b"/deny", 403), (b"/refuse", 404):
            with server.connect() as c:
                c.send(expect_put(path, 5))
                response = c.response()
                assert response.status == status and response.headers["connection"] == "close"
                assert c.ends()
            with server.connect() as c:  # curl sends it all the same
                c.send(expect_put(path, 5) + b"hello")
                response = c.response()
                assert response.status == status
                # Its body may have been here before our answer was: then all is well.
                assert c.ends() if "connection" in response.headers else c.is_open()
        server.idle()


@case
def a_refusal_of_a_small_body_keeps_the_connection():
    with Gate() as server, server.connect() as c:
        for path, status in ("/deny", 403), ("/refuse", 404), ("/sink?refuse=10", 400):
            response = c.request("PUT", path, b"x" * 300000).response()
            assert response.status == status and "connection" not in response.headers, response
            assert c.is_open()
        # The rest of the body follows the answer.
        c.send(b"PUT /deny HTTP/1.1\r\n" + HOST + b"Content-Length: 100000\r\n\r\n")
        assert c.response().status == 403
        c.send(b"GET /smuggled HTTP/1.1\r\n\r\n".ljust(100000, b"x"))
        assert c.is_open()


@case
def a_refusal_of_a_large_body_arrives_though_the_client_keeps_sending():
    length = 24 << 20
    with Gate() as server:
        for path, status in (b"/deny", 403), (b"/refuse", 404):
            with server.connect() as c:
                c.send(b"PUT " + path + b" HTTP/1.1\r\n" + HOST +
                       b"Content-Length: %d\r\n\r\n" % length)
                for _ in range(length >> 16):
                    c.send(b"x" * 65536)
                response = c.response()
                assert response.status == status and response.headers["connection"] == "close"
                assert c.ends()
        with server.connect() as c:  # of unknown length
            c.send(b"PUT /deny HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhe")
            assert c.response().headers["connection"] == "close"
            assert c.ends()


@case
def a_malformed_chunk_ends_the_upload_with_400():
    with Gate() as server:
        for path in b"/sink", b"/sink?delay=30", b"/collect":
            with server.connect() as c:
                c.send(b"PUT " + path + b" HTTP/1.1\r\n" + HOST +
                       b"Transfer-Encoding: chunked\r\n\r\n5\r\nhelloXX\r\n0\r\n\r\n")
                assert c.response().status == 400
                assert c.ends()
        server.idle()
        server.until(lambda s: s["done"] == s["requests"] - 1, "not one line for each request")


@case
def head_204_and_304_have_no_body():
    with Gate() as server, server.connect() as c:
        c.request("HEAD", "/large?n=5000")
        response = c.response(head_only=True)
        assert response.headers["content-length"] == "5000"
        c.request("HEAD", "/stream?n=1000000")
        assert c.response(head_only=True).headers["content-length"] == "1000000"
        for code in 204, 304:
            response = c.request("GET", f"/status?code={code}").response()
            assert response.status == code and "content-length" not in response.headers
            assert response.headers["etag"] == '"e"'
        assert c.is_open()
        server.idle()


@case
def http_1_0_keeps_alive_only_when_asked():
    with Gate() as server:
        with server.connect() as c:
            c.send(b"GET /tiny HTTP/1.0\r\n\r\n")
            response = c.response()
            assert response.status == 200 and response.headers["connection"] == "close"
            assert c.ends()
        with server.connect() as c:
            for _ in range(3):
                c.send(b"GET /hop HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
                assert c.response().headers["connection"] == "keep-alive"
        with server.connect() as c:
            response = c.request("GET", "/tiny", headers=b"Connection: TE, Close\r\n").response()
            assert response.headers["connection"] == "close" and c.ends()


@case
def absolute_targets_and_options_star_are_decided():
    with Gate() as server, server.connect() as c:
        response = c.request("GET", "http://h/echo?q").response()
        assert b"path=" + b"/echo".hex().encode() in response.body
        response = c.request("OPTIONS", "*").response()
        assert response.status == 200 and "PUT" in response.headers["allow"]
        assert c.request("GET", "http://other/echo").response().status == 400
        assert c.ends()


@case
def every_answer_carries_the_common_headers():
    seen = set()
    with Gate() as server:
        for request in (b"GET /tiny HTTP/1.1\r\n" + HOST + b"\r\n",
                        b"GET /nothing HTTP/1.1\r\n" + HOST + b"\r\n",
                        b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n",
                        b"nonsense\r\n\r\n"):
            with server.connect() as c:
                headers = c.send(request).response().headers
                assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-"
                                    r"[0-9a-f]{12}", headers["x-amz-request-id"]), headers
                seen.add(headers["x-amz-request-id"])
                assert headers["x-amz-id-2"] and headers["server"] == "DeltaGlider"
                assert headers["x-content-type-options"] == "nosniff"
                assert headers["x-frame-options"] == "DENY"
                time.strptime(headers["date"], "%a, %d %b %Y %H:%M:%S GMT")
    assert len(seen) == 4


@case
def a_line_break_in_a_header_value_splits_no_response():
    with Gate() as server, server.connect() as c:
        headers = c.request("GET", "/split").response().headers
        assert "injected" not in headers and "x-bad" not in headers and headers["x-good"] == "5"


@case
def handlers_see_every_header_byte_for_byte():
    many = b"".join(b"X-H%d: \t v%d \xc3\xa9\r\n" % (i, i) for i in range(190))
    with Gate() as server, server.connect() as c:
        text = c.request("GET", "/echo?a=%2f//..", headers=many).response().body.decode()
    fields = [line.split("=", 1) for line in text.splitlines()]
    names = [bytes.fromhex(v) for k, v in fields if k == "name"]
    values = [bytes.fromhex(v) for k, v in fields if k == "value"]
    assert names == [b"Host"] + [b"X-H%d" % i for i in range(190)]
    assert values[1:] == [b"v%d \xc3\xa9" % i for i in range(190)]
    assert dict(map(tuple, fields))["peer"] == b"127.0.0.1".hex()


@case
def large_bodies_keep_every_byte_in_both_directions():
    data = b"".join(i.to_bytes(8, "big") for i in range(0, 1 << 20, 8))
    with Gate("-w", 2) as server, server.connect() as c:
        assert c.request("GET", f"/stream?n={8 << 17}").response().body == data
        assert c.request("PUT", "/sink", data).response().body == checksum(data)
        head = b"PUT /sink HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
        c.send(head + b"".join(b"%x\r\n" % len(piece) + piece + b"\r\n" for piece in
                               (data[i:i + 9999] for i in range(0, len(data), 9999))) +
               b"0\r\n\r\n")
        assert c.response().body == checksum(data)
        assert len(c.request("GET", "/large?n=9000000").response().body) == 9000000


@case
def a_file_is_sent_whole():
    with tempfile.NamedTemporaryFile(prefix="gate-") as file:
        data = bytes(range(256)) * 40000
        file.write(data)
        file.flush()
        with Gate("-f", file.name) as server, server.connect() as c:
            assert c.request("GET", "/file").response().body == data
            assert c.is_open()


@case
def a_reader_that_fails_gives_an_error_or_a_cut_never_wrong_bytes():
    with Gate() as server:
        with server.connect() as c:
            assert c.request("GET", "/stream?n=9000000&fail=100").response().status == 500
            assert c.request("GET", "/stream?n=100&missing=5").response().status == 500
            assert c.is_open()
        for query in "n=9000000&fail=5000000", "n=4000000&missing=1":
            with server.connect() as c:
                c.request("GET", "/stream?" + query)
                head = c.head()
                assert head.status == 200
                try:
                    c.body(int(head.headers["content-length"]))
                    raise RuntimeError("the response was completed")
                except (NoAnswer, ConnectionError):
                    pass
        server.idle()


@case
def an_idle_connection_is_closed():
    with Gate("-i", 2000) as server:
        with server.connect() as c:
            assert c.ends()
        with server.connect() as c:
            assert c.is_open()
            assert c.ends()


@case
def a_body_that_drips_is_refused():
    with Gate("-b", 400) as server, server.connect() as c:
        c.send(b"PUT /sink HTTP/1.1\r\n" + HOST + b"Content-Length: 1000000\r\n\r\nabc")
        response = c.response()
        assert response.status == 408 and b"RequestTimeout" in response.body
        assert c.ends()
        server.idle()


@case
def a_client_that_does_not_read_is_cut():
    with Gate("-b", 400) as server, server.connect(rcvbuf=4096) as c:
        c.request("GET", "/stream?n=500000000")
        server.until(lambda s: s["cancelled"] == 1, "not cut")
        server.idle()


def read_slowly(c, seconds, length, pause_s):
    """Whether it was cut, and how long we were silent at most, by our own fault."""
    begun = last = time.monotonic()
    silence_s = 0
    while last - begun < seconds:
        try:
            if not c.sock.recv(length):
                return True, silence_s
        except ConnectionError:
            return True, silence_s
        time.sleep(pause_s)
        now = time.monotonic()
        silence_s, last = max(silence_s, now - last), now
    return False, silence_s


@case
def a_slow_client_that_keeps_reading_is_not_cut():
    for _ in range(5):
        with Gate("-b", 800) as server, server.connect(rcvbuf=16384) as c:
            c.request("GET", "/stream?n=100000000")
            # so little that our own kernel's buffer hides it
            cut, silence_s = read_slowly(c, seconds=4, length=10000, pause_s=0.1)
            if not cut and server.stats()["cancelled"] == 0:
                return
        assert silence_s > 0.4, "cut"
    raise AssertionError("this machine is too busy to read every 0.4 s")


@case
def a_slow_server_is_not_taken_for_a_slow_client():
    with Gate("-b", 1000, "-h", 1000, "-i", 1000) as server, server.connect() as c:
        assert c.request("GET", "/sleep?ms=3000").response().status == 200
        assert c.request("PUT", "/sink?delay=3000", b"x").response().status == 200


@case
def waiting_costs_no_cpu():
    with Gate("-l", 1) as server:
        with server.connect() as c:  # more requests than are held at once
            c.request("GET", "/sleep?ms=60000")
            threading.Thread(target=c.send, args=[(b"GET /tiny HTTP/1.1\r\n" + HOST + b"\r\n") * 9000]
                             ).start()
            server.until(lambda s: s["active"] == 1, "not begun")
            before = server.cpu_seconds()
            time.sleep(1)
            server.go_on()
            assert c.response().status == 200
            assert server.cpu_seconds() - before < 0.3, "the loop spins beside a full input"
            for _ in range(9000):
                assert c.response().status == 200
        with server.connect() as c:  # a worker slower than the upload
            before = server.cpu_seconds()
            c.request("PUT", "/sink?fast=1&delay=300", b"x" * 1200000)
            assert c.response().status == 200
            assert server.cpu_seconds() - before < 0.3, "the loop spins beside a busy worker"
        with server.connect(rcvbuf=4096) as c:  # a client slower than the download
            c.request("GET", "/stream?n=9000000")
            server.until(lambda s: s["idle_workers"] == s["workers"], "still reading")
            before = server.cpu_seconds()
            time.sleep(0.5)
            assert server.cpu_seconds() - before < 0.1, "the loop spins beside a slow reader"


DECLARATION = b'<?xml version="1.0" encoding="UTF-8"?>\n'


def blanks(c, count):
    """The answer has begun, and goes on with so many blanks."""
    head = c.head()
    assert head.status == 200 and head.headers["transfer-encoding"] == "chunked", head
    assert "content-length" not in head.headers
    assert head.headers["content-type"] == "application/xml"
    assert c.chunk() == DECLARATION
    for _ in range(count):
        assert c.chunk() == b"\n"


def after_blanks(c):
    """What comes after any more of them, to the end."""
    while (data := c.chunk()) == b"\n":
        pass
    assert c.chunk() == b""
    return data


@case
def a_slow_answer_begins_with_blanks_and_ends_with_its_document():
    with Gate("-k", 200, "-l", 1, "-w", 2) as server, server.connect() as c:
        for method, body in (("GET", None), ("POST", b"x" * 50000)):
            c.request(method, "/slow?ms=60000", body)
            blanks(c, 3)
            with server.connect() as other:  # the loop and the other worker serve on
                assert other.request("GET", "/hop").response().status == 200
            server.go_on()
            assert after_blanks(c) == b"<Done/>"
        assert c.is_open()
        server.idle()


@case
def a_slow_handler_that_is_quick_answers_as_any_other():
    with Gate("-k", 20000) as server, server.connect() as c:
        response = c.request("GET", "/slow?ms=300").response()
        assert (response.status, response.body) == (200, DECLARATION + b"<Done/>"), response
        response = c.request("GET", "/slow?ms=300&code=0").response()
        assert response.status == 404 and b"<Code>NoSuchKey</Code>" in response.body
        assert c.is_open()


@case
def a_failure_after_the_blanks_is_an_error_document_and_is_logged_as_the_failure():
    with tempfile.NamedTemporaryFile("r") as log:
        with Gate("-k", 200, "-L", log.name) as server, server.connect() as c:
            c.request("GET", "/slow?ms=60000&code=0")
            blanks(c, 1)
            server.go_on()
            body = after_blanks(c)
            assert body.startswith(b"<Error><Code>NoSuchKey</Code>") and b"<?xml" not in body, body
            assert c.is_open()
            server.idle()
        lines = [line for line in log.read().splitlines() if "/slow" in line]
        assert len(lines) == 1 and " status=404 " in lines[0], lines


@case
def a_slow_answer_to_http_1_0_ends_with_the_connection():
    with Gate("-k", 200) as server, server.connect() as c:
        c.send(b"GET /slow?ms=60000 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        head = c.head()
        assert head.status == 200 and "transfer-encoding" not in head.headers, head
        assert head.headers["connection"] == "close"
        assert c.body(len(DECLARATION) + 1) == DECLARATION + b"\n"
        server.go_on()
        while c.more():
            pass
        assert c.buffer.lstrip(b"\n") == b"<Done/>", c.buffer


@case
def a_client_that_leaves_during_the_blanks_cancels_the_handler():
    with Gate("-k", 200) as server:
        with server.connect() as c:
            c.request("GET", "/slow?ms=60000")
            assert c.head().status == 200
        server.until(lambda s: s["cancelled"] == 1, "not cancelled")
        server.idle()


@case
def a_slow_handler_has_a_deadline_of_its_own():
    with Gate("-k", 200, "-t", 300) as server, server.connect() as c:
        c.request("GET", "/slow?ms=60000")
        blanks(c, 4)  # beyond the deadline of others
        server.go_on()
        assert after_blanks(c) == b"<Done/>"
    with tempfile.NamedTemporaryFile("r") as log:
        with Gate("-k", 200, "-T", 3000, "-L", log.name) as server:
            for version in b"1.1", b"1.0":
                with server.connect() as c:
                    c.send(b"GET /slow?ms=60000 HTTP/" + version + b"\r\n" + HOST + b"\r\n")
                    if version == b"1.1":
                        blanks(c, 1)
                        body = after_blanks(c)
                    else:
                        assert c.head().status == 200
                        while c.more():
                            pass
                        body, c.buffer = c.buffer.removeprefix(DECLARATION).lstrip(b"\n"), b""
                    assert body.startswith(b"<Error><Code>GatewayTimeout</Code>"), body
                    assert body.endswith(b"</Error>") and c.ends()
            server.idle()
        lines = [line for line in log.read().splitlines() if "/slow" in line]
        assert len(lines) == 2 and all(" status=504 " in line for line in lines), lines


@case
def requests_behind_a_slow_one_get_their_answers_in_order():
    with Gate("-k", 200) as server, server.connect() as c:
        c.request("GET", "/slow?ms=60000").request("GET", "/tiny").request("GET", "/slow?ms=0")
        blanks(c, 1)
        server.go_on()
        assert after_blanks(c) == b"<Done/>"
        assert c.response().body == b"hello world\n"
        assert c.document().replace(b"\n", b"") == DECLARATION.strip() + b"<Done/>"


@case
def a_held_answer_comes_late_and_holds_up_nobody():
    with Gate("-l", 1, "-w", 1, "-c", 1) as server:
        def fifty_others():
            begun = time.monotonic()
            with server.connect() as c:
                for _ in range(50):
                    assert c.request("GET", "/hop").response().status == 200
            return time.monotonic() - begun
        hold_s = max(4, 20 * fifty_others())  # with a whole machine, and with a share of one
        held = [server.connect(hold_s + FOREVER) for _ in range(20)]
        begun = time.monotonic()
        for number, c in enumerate(held):
            target = f"/held?ms={hold_s * 1000:.0f}"
            if number % 2:
                c.request("PUT", target, b"x" * 100000)
            else:
                c.request("GET", target)
        fifty_others()
        assert time.monotonic() - begun < 0.95 * hold_s, "others waited"
        for c in held:
            assert c.response().status == 403
            assert 0.95 * hold_s <= time.monotonic() - begun < hold_s + FOREVER
            assert c.is_open()
            c.close()
        server.idle()


@case
def a_client_that_leaves_while_its_answer_is_held_costs_nothing():
    with Gate("-l", 1) as server:
        with server.connect() as c:
            c.request("GET", "/held?ms=60000")
            done = server.until(lambda s: s["connections"] == 2, "not there")["done"]
        server.until(lambda s: s["connections"] == 1 and s["done"] > done, "not gone")
        server.idle()


@case
def held_answers_leave_at_once_when_the_server_stops():
    with Gate("-g", 50000) as server, server.connect() as c:
        c.request("GET", "/held?ms=60000").taken()
        server.process.terminate()
        assert c.response().status == 403
        assert server.process.wait(FOREVER) == 0


@case
def requests_beyond_the_limit_wait_for_their_turn():
    with Gate("-c", 2) as server:
        conns = [server.connect(FOREVER) for _ in range(6)]
        begun = time.monotonic()
        for c in conns:
            c.request("GET", "/sleep?ms=200")
        leaver = conns.pop()
        leaver.close()
        for c in conns:
            assert c.response().status == 200
        took = time.monotonic() - begun
        assert took > 0.55, f"{took}: not two at a time"
        server.idle()


@case
def health_is_told_while_every_slot_is_taken():
    with Gate("-c", 1) as server, server.connect() as c, server.connect() as d:
        c.request("GET", "/sleep?ms=60000")
        server.until(lambda s: s["active"] == 1, "not begun")
        d.request("GET", "/tiny")
        assert server.until(lambda s: s["queued"] == 1, "not queued")["active"] == 1
        server.go_on()
        assert c.response().status == 200 and d.response().status == 200


@case
def a_request_that_waits_too_long_is_told_to_slow_down():
    with Gate("-c", 1, "-t", 700) as server, server.connect() as c, server.connect() as d:
        c.request("GET", "/sleep?ms=60000&deaf=1")
        server.until(lambda s: s["active"] == 1, "not begun")
        d.request("GET", "/tiny")
        assert c.response().status == 504
        assert d.response().status in (200, 503)
        server.go_on()


@case
def a_stuck_worker_costs_504_and_nothing_else():
    with Gate("-t", 300) as server:
        with server.connect() as c:
            response = c.request("GET", "/sleep?ms=60000&deaf=1").response()
            assert response.status == 504 and c.ends()
        with server.connect() as c:
            assert c.is_open()
        server.go_on()
        assert server.idle()["cancelled"] == 1
        server.until(lambda s: s["done"] == s["requests"] - 1, "not one line for each request")


@case
def a_stuck_worker_costs_504_while_the_client_keeps_sending():
    length = 24 << 20
    with Gate("-t", 300) as server, server.connect() as c:
        c.send(b"PUT /sink?delay=60000 HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % length)
        for _ in range(length >> 16):
            c.send(b"x" * 65536)
        assert c.response().status == 504 and c.ends()
        server.hurry()


@case
def connections_beyond_the_cap_are_closed():
    with Gate("-n", 5) as server:
        conns = [server.connect() for _ in range(5)]
        assert all(c.is_open() for c in conns)
        with server.connect() as c:
            try:
                assert c.ends()
            except ConnectionError:
                pass
        conns.pop().close()
        end = time.monotonic() + FOREVER
        while True:
            try:
                with server.connect() as c:
                    assert c.is_open()
                break
            except (NoAnswer, ConnectionError):
                assert time.monotonic() < end
        for c in conns:
            c.close()


@case
def a_client_that_leaves_cancels_its_handler():
    with Gate() as server:
        with server.connect() as c:
            c.request("GET", "/sleep?ms=60000")
            server.until(lambda s: s["opened"] == 1, "not begun")
        stats = server.idle()
        assert stats["cancelled"] == 1
        with server.connect() as c:
            c.send(b"PUT /sink HTTP/1.1\r\n" + HOST + b"Content-Length: 1000000\r\n\r\nabc")
            server.until(lambda s: s["opened"] == 2, "not begun")
        stats = server.idle()
        assert stats["cancelled"] == 2


@case
def blocked_workers_do_not_starve_short_requests():
    with Gate("-w", 8) as server:
        uploads = [server.connect(FOREVER) for _ in range(12)]
        for c in uploads:
            c.request("PUT", "/sink?delay=60000", b"x" * 10)
        server.until(lambda s: s["opened"] >= 6, "uploads did not begin")
        with server.connect() as c:
            for _ in range(20):
                assert c.request("GET", "/hop").response().status == 200
        server.hurry()
        for c in uploads:
            assert c.response().status == 200


@case
def sigterm_lets_requests_finish():
    with Gate("-g", 50000) as server:
        busy, upload, idle, partial = (server.connect() for _ in range(4))
        assert idle.is_open()
        busy.request("GET", "/sleep?ms=60000")
        upload.send(b"PUT /sink HTTP/1.1\r\n" + HOST + b"Content-Length: 10\r\n\r\nhello")
        partial.send(b"GET /tiny HTTP/1.1\r\n").taken()
        server.until(lambda s: s["opened"] == 2 and s["pausing"] == 1, "not begun")
        server.process.terminate()
        assert idle.ends()
        try:
            with server.connect() as late:
                late.request("GET", "/tiny").response()
            raise RuntimeError("still listening")
        except (ConnectionError, NoAnswer):
            pass
        server.go_on(pausing=0)
        upload.send(b"world")
        partial.send(HOST + b"\r\n")
        for c in busy, upload, partial:
            response = c.response()
            assert response.status == 200 and response.headers["connection"] == "close"
            assert c.ends()
            c.close()
        assert server.process.wait(FOREVER) == 0


@case
def after_the_deadline_the_rest_is_cut():
    with Gate("-g", 200) as server, server.connect() as c:
        c.request("GET", "/sleep?ms=60000")
        server.until(lambda s: s["opened"] == 1, "not begun")
        server.stop(expect=1)
    with Gate("-g", 100) as server, server.connect() as c:
        c.request("GET", "/sleep?ms=60000&deaf=1")
        server.until(lambda s: s["opened"] == 1, "not begun")
        server.stop(expect=2)


@case
def memory_stays_flat():
    mib = 1 << 20
    with Gate("-l", 2) as server:
        if server.stats()["sanitized"]:
            return  # shadow memory is not ours to bound
        idle = peak = server.anonymous_bytes()
        with server.connect(FOREVER) as c:
            c.send(b"PUT /sink?fast=1 HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" %
                   (200 * mib))
            for _ in range(200):
                c.send(bytes(mib))
                peak = max(peak, server.anonymous_bytes())
            assert c.response().body == b"got %d 0\n" % (200 * mib)
            c.request("GET", f"/stream?n={200 * mib}")
            assert c.head().status == 200
            left = 200 * mib - len(c.buffer)
            while left > 0:
                left -= len(c.sock.recv(mib))
                peak = max(peak, server.anonymous_bytes())
        assert peak - idle < 8 * mib, f"{(peak - idle) / mib} MiB for one transfer"
        conns = [server.connect() for _ in range(500)]
        for c in conns:
            c.request("GET", "/tiny")
        for c in conns:
            assert c.response().status == 200
        held = server.anonymous_bytes() - idle
        assert held < 12 * mib, f"{held / mib} MiB for 500 idle connections"
        for c in conns:
            c.close()
        server.until(lambda s: s["connections"] == 1, "connections linger")
        idle = server.anonymous_bytes()
        conns = [server.connect(rcvbuf=4096) for _ in range(60)]
        for c in conns:
            c.request("GET", f"/stream?n={200 * mib}")
            assert c.head().status == 200
        server.until(lambda s: s["idle_workers"] == s["workers"], "still reading")
        held = server.anonymous_bytes() - idle
        assert held < 60 * mib, f"{held / mib} MiB for 60 silent readers"
        for c in conns:
            c.close()
        server.idle()


@case
def a_port_in_use_is_not_shared():
    with Gate() as server:
        try:
            Gate(port=server.port)
            raise RuntimeError("two servers on one port")
        except RuntimeError as error:
            assert "did not start: 3" in str(error), error


@case
def ipv6_and_lists_of_addresses_are_listened_on():
    for _ in range(5):  # one port for both, which may be taken on the second
        try:
            server = Gate("-a", "127.0.0.1:0,[::1]:0")
            break
        except RuntimeError as error:
            print(error)
    with server:
        for host in "127.0.0.1", "::1":
            with server.connect(host=host) as c:
                assert host.encode().hex().encode() in c.request("GET", "/echo").response().body


@case
def every_request_is_logged_once():
    with tempfile.NamedTemporaryFile(prefix="gate-") as log:
        with Gate("-L", log.name) as server, server.connect() as c:
            ids = [c.request("GET", path).response().headers["x-amz-request-id"]
                   for path in ("/tiny", "/hop", "/nothing", "/deny", "/stream?n=5")]
            c.send(b"bad\r\n\r\n")
            ids.append(c.response().headers["x-amz-request-id"])
            assert c.ends()
        text = open(log.name).read()
        for request_id in ids:
            assert text.count(request_id) == 1, (request_id, text)


main()
