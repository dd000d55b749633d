#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""libevhtp's defects, one by one. Each row is provoked from outside, twice:
against plain libevhtp, where the check must fail, and against the gate, where
it must hold. A row that plain libevhtp passes proves nothing, and is an error."""
import tempfile
import time

from gatelib import HOST, WAIT, Gate, NoAnswer, Plain, case, main

SHORT = 0.6  # a plain server that has not answered by then never will

big = tempfile.NamedTemporaryFile(prefix="gate-rows-")
big.truncate(48 * 1024 * 1024)


def target_of(response):
    """What the server took for path and query."""
    text = response.body.decode("latin-1")
    if text.startswith("path="):
        words = text.split()
        return words[0][5:], words[1][6:]
    fields = dict(line.split("=", 1) for line in text.splitlines() if line[:4] in ("path", "quer"))
    return tuple(bytes.fromhex(fields.get(name, "")).decode("latin-1") for name in ("path", "query"))


def holds_only_with_the_gate(check, gate=(), plain=()):
    for _ in range(5):  # some defects show only when two things meet
        with Plain(*plain) as server:
            try:
                check(server, lambda **more: server.connect(SHORT, **more))
            except (AssertionError, ConnectionError):
                break
    else:
        raise AssertionError("plain libevhtp passes this check: it proves nothing")
    with Gate(*gate) as server:
        check(server, server.connect)


@case
def s1_a_target_that_spans_two_reads_keeps_its_bytes():
    def check(server, connect):
        with connect() as c:
            c.send(b"GET /ech").taken()  # the two halves must be two reads
            c.send(b"o?wxyz HTTP/1.1\r\n" + HOST + b"\r\n")
            assert target_of(c.response()) == ("/echo", "wxyz")
    holds_only_with_the_gate(check)


@case
def s2_a_refused_body_is_never_parsed_as_a_request():
    def check(server, connect):
        inner = b"GET /tiny HTTP/1.1\r\n" + HOST + b"\r\n"
        with connect() as c:
            c.send(b"PUT /deny HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % len(inner))
            assert c.response().status == 403
            c.send(inner)
            c.request("GET", "/nope")
            assert c.response().status == 404, "the body was answered"
    holds_only_with_the_gate(check)


@case
def s3_an_early_refusal_arrives_whole_and_no_100_follows_it():
    def dropped(server, connect):
        path = b"/deny-error" if isinstance(server, Plain) else b"/deny"
        with connect() as c:
            c.send(b"PUT " + path + b" HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\nhello")
            assert c.response().status == 403

    def stray(server, connect):
        with connect() as c:
            c.send(b"PUT /deny HTTP/1.1\r\n" + HOST +
                   b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n")
            assert c.response().status == 403
            assert c.ends()
    holds_only_with_the_gate(dropped)
    holds_only_with_the_gate(stray)


@case
def s4_backpressure_on_the_last_bytes_does_not_hang_an_upload():
    def check(server, connect):
        with connect() as c:
            assert c.request("PUT", "/sink?delay=50", b"x" * 5).response().status == 200
    holds_only_with_the_gate(check)


@case
def s5_pipelined_requests_are_all_answered_in_order():
    def burst(server, connect):
        with connect() as c:
            c.send(b"".join(b"GET /echo?%d HTTP/1.1\r\n" % i + HOST + b"\r\n" for i in range(5)))
            for i in range(5):
                assert target_of(c.response())[1] == str(i)

    def while_busy(server, connect):
        path = b"/slow" if isinstance(server, Plain) else b"/sleep?ms=60000"
        with connect() as c:
            c.send(b"GET " + path + b" HTTP/1.1\r\n" + HOST + b"\r\n").taken()
            c.send(b"GET /echo?second HTTP/1.1\r\n" + HOST + b"\r\n")
            try:
                c.taken(0.5)
            except NoAnswer:
                pass  # a server may well leave it in the kernel
            server.go_on()
            assert c.response().status == 200
            assert target_of(c.response())[1] == "second"

    def blank_line(server, connect):
        with connect() as c:
            c.send(b"\r\nGET /echo HTTP/1.1\r\n" + HOST + b"\r\n")
            assert c.response().status == 200
    holds_only_with_the_gate(burst)
    holds_only_with_the_gate(while_busy)
    holds_only_with_the_gate(blank_line)


def refused(request, *statuses):
    """The whole request gets one of these statuses, then the end; in no case a
    second answer, which would be to smuggled bytes."""
    def check(server, connect):
        with connect() as c:
            c.send(request)
            response = c.response()
            assert response.status in statuses, response
            if isinstance(server, Gate):
                assert b"<Error>" in response.body, "an error must say so in XML"
            assert c.ends()
    return check


@case
def s6_a_nul_truncates_nothing():
    holds_only_with_the_gate(refused(b"DELETE /bucket/a\0bcd HTTP/1.1\r\n" + HOST + b"\r\n", 400))
    holds_only_with_the_gate(refused(b"GET /a HTTP/1.1\r\n" + HOST + b"X-A: b\0c\r\n\r\n", 400))


INNER = b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"


@case
def s7_framing_that_two_parsers_read_differently_is_refused():
    def with_lines(lines, body=INNER):
        return refused(b"PUT /collect HTTP/1.1\r\n" + HOST + lines + b"\r\n" + body, 400)
    size = b"%d" % len(INNER)
    chunk = b"%x\r\n" % len(INNER) + INNER + b"\r\n0\r\n\r\n"
    for lines, body in [
            (b"Transfer-Encoding: gzip, chunked\r\n", chunk),
            (b"Transfer-Encoding: chunked, identity\r\n", chunk),
            (b"Content-Length : " + size + b"\r\n", INNER),
            (b"Content-Length: " + size + b"\r\nTransfer-Encoding: chunked\r\n", chunk),
            (b"Content-Length: 0\r\nContent-Length: " + size + b"\r\n", INNER),
            (b"Content-Length: 30000000000000000005\r\n", INNER),
            (b"Transfer-Encoding: chunked\r\n", b"10000000000000005\r\nhello\r\n0\r\n\r\n"),
            (b"Transfer-Encoding: chunked\r\n", b"\xb5\r\nhello\r\n0\r\n\r\n"),
    ]:
        holds_only_with_the_gate(with_lines(lines, body))


@case
def s7_chunked_is_understood_however_it_is_spelled():
    def spelled(value):
        def check(server, connect):
            with connect() as c:
                c.send(b"PUT /collect HTTP/1.1\r\n" + HOST + b"Transfer-Encoding:" + value +
                       b"\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
                response = c.response()
                assert response.status == 200
                assert response.body == b"hello" or b"body=5" in response.body
                assert c.request("GET", "/echo").response().status == 200
        return check
    for value in b" CHUNKED", b" chunked ", b"\tchunked":
        holds_only_with_the_gate(spelled(value))


@case
def s7_chunk_extensions_and_trailers_are_consumed():
    def ending(extension, trailer):
        def check(server, connect):
            with connect() as c:
                c.send(b"PUT /collect HTTP/1.1\r\n" + HOST +
                       b"Transfer-Encoding: chunked\r\n\r\n5" + extension + b"\r\nhello\r\n0\r\n" +
                       trailer + b"\r\n")
                assert c.response().status == 200
                assert target_of(c.request("GET", "/echo?z").response())[1] == "z"
        return check
    holds_only_with_the_gate(ending(b";name=value", b""))
    holds_only_with_the_gate(ending(b"", b"X-One: 1\r\nX-Two: 2\r\n"))


@case
def s8_slow_arrivals_spread_over_all_loops():
    def check(server, connect):
        seen = {}
        for _ in range(40):
            with connect() as c:
                thread = c.request("GET", "/thread").response().body
                seen[thread] = seen.get(thread, 0) + 1
        assert len(seen) == 4 and max(seen.values()) <= 30, seen
    holds_only_with_the_gate(check, gate=["-l", 4], plain=["-t", 4])


@case
def s9_a_download_may_take_longer_than_a_client_may_be_silent():
    def check(server, connect):
        with connect(rcvbuf=65536) as c:
            c.request("GET", "/file")
            head = c.head()
            left = int(head.headers["content-length"]) - len(c.buffer)
            # Three times what the server waits for bytes.
            end = time.monotonic() + (0.9 if isinstance(server, Plain) else 4.5)
            while left > 0:
                data = c.sock.recv(65536)
                assert data, f"cut with {left} bytes missing"
                left -= len(data)
                if time.monotonic() < end:
                    time.sleep(0.02)
    holds_only_with_the_gate(check, gate=["-f", big.name, "-h", 1500, "-i", 1500, "-b", 1500],
                             plain=["-f", big.name, "-r", 300])


@case
def s9_a_head_that_drips_is_refused_in_time():
    def check(server, connect):
        with connect() as c:
            begun = time.monotonic()
            patience_s = 2 if isinstance(server, Plain) else 20
            for byte in b"GET /echo HTTP/1.1\r\nHost: h\r\nX: " + b"a" * 1000:
                if time.monotonic() - begun > patience_s:
                    raise AssertionError(f"still accepted after {patience_s} s")
                c.send(bytes([byte]))
                c.sock.settimeout(0.05)
                try:
                    if c.more():
                        break
                    raise AssertionError("closed without an answer")
                except NoAnswer:
                    pass
            c.sock.settimeout(WAIT)
            assert c.response().status == 408
            assert c.ends()
    holds_only_with_the_gate(check, gate=["-h", 300], plain=["-r", 300])


@case
def s10_what_cannot_be_parsed_or_is_too_long_gets_an_answer():
    long = b"a" * 9000
    for request, status in [
            (b"GET /%s HTTP/1.1\r\n" % long + HOST + b"\r\n", 414),
            (b"GET / HTTP/1.1\r\n" + HOST + b"X: %s\r\n\r\n" % long, 431),
            (b"G\x01T / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
            (b"GET / HTTP/3.7\r\n" + HOST + b"\r\n", 505),
            (b"get / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
            (b"M-SEARCH / HTTP/1.1\r\n" + HOST + b"\r\n", 501),
    ]:
        holds_only_with_the_gate(refused(request, status))


@case
def s11_the_number_and_the_size_of_headers_are_bounded():
    many = b"".join(b"X-%d: v\r\n" % i for i in range(4000))
    huge = b"".join(b"X-%d: %s\r\n" % (i, b"v" * 8000) for i in range(100))
    holds_only_with_the_gate(refused(b"GET /echo HTTP/1.1\r\n" + HOST + many + b"\r\n", 431))
    holds_only_with_the_gate(refused(b"GET /echo HTTP/1.1\r\n" + HOST + huge + b"\r\n", 431))


@case
def s12_running_out_of_descriptors_does_not_spin():
    def check(server, connect):
        flood = [connect() for _ in range(60)]
        before, begun = server.cpu_seconds(), time.monotonic()
        # A spin shows even where many others want the CPU: then it takes longer.
        while time.monotonic() - begun < (30 if isinstance(server, Plain) else 3):
            time.sleep(0.1)
            used = server.cpu_seconds() - before
            assert used < 0.3, f"{used} CPU seconds in {time.monotonic() - begun} s"
        for c in flood:
            c.close()
        with connect() as c:
            assert c.request("GET", "/echo").response().status == 200
    prefix = ["prlimit", "--nofile=40:40"]
    with Plain(prefix=prefix) as server:
        try:
            check(server, server.connect)
        except (AssertionError, ConnectionError):
            pass
        else:
            raise AssertionError("plain libevhtp passes this check")
    with Gate("-n", 1000, "-w", 2, prefix=prefix) as server:
        check(server, server.connect)


@case
def s13_a_request_line_without_a_version_gets_an_answer():
    holds_only_with_the_gate(refused(b"GET /x\r\n" + HOST + b"\r\n", 400))


@case
def s14_a_response_that_was_flushed_before_its_end_still_ends():
    def check(server, connect):
        path = "/trickle" if isinstance(server, Plain) else "/stream?n=600000&delay=30"
        with connect() as c:
            c.request("GET", path, headers=b"Connection: close\r\n")
            while c.more():
                pass
            assert b"200 OK" in c.buffer
    holds_only_with_the_gate(check)


main()
