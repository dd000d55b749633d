#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Stands in front of an S3 server and breaks what it is told to break.

    tests/upstream/faulty.py PORT CONTROL_PORT UPSTREAM_PORT

Signatures survive: the Host header is passed on as it came. Rules are changed
while it runs, over HTTP on CONTROL_PORT:

    PUT /rules      a JSON list of rules; GET shows them with `seen` and `fired`
    GET /log        what passed: [{operation, bucket, key, status, fault}...]; DELETE
                    empties it

A rule is a map:

    fault    a name from below; always
    op       a pattern of S3 operations, as UploadPart or *Multipart*; default *
    key      a regular expression searched for in the key
    has, lacks  a header that the request must have, or must not have
    skip     this many matching requests pass first; default 0
    times    then it fires this often; default for ever
    bytes    body bytes that pass before it happens; default 0
    ms       a time; default 60000
    status, code, message, retry_after    of a made-up answer; default 500 InternalError
    done     false: error_200, garbage and empty_200 answer without asking the upstream

The first rule that matches and is not used up fires. Faults:

    delay           waits `ms`, then passes all on
    delay_answer    the same, with the upstream's answer in hand
    status          takes the body, answers `status`; the upstream sees nothing
    status_early    answers `status` before the body is read, and closes
    status_done     the upstream does it, the client is told `status`
    reset           takes the request, then a reset; the upstream sees nothing
    reset_request   a reset after `bytes` of the request's body
    stall_request   reads no further after `bytes` of the request's body
    lost            the upstream does it, then a reset instead of its answer
    reset_answer    a reset after `bytes` of the answer's body
    stall_answer    the answer's body stops after `bytes`
    cut             the connection ends after `bytes` of the answer's body
    trickle         the answer's body comes with `bytes` per second
    short_length    Content-Length is too small by `bytes`, and so much is sent
    long_length     Content-Length is too large by `bytes`
    etag            ETags in header and body are of other bytes
    flip            the answer's body has another byte at `bytes`
    error_200       200 whose body is an <Error>
    garbage         200 whose body is HTML
    empty_200       200 without a body
    round           a listing goes on, always with the same token
"""
import fnmatch
import http.server
import json
import os
import re
import socket
import sys
import threading
import time

from s3wire import BLOCK, Ended, Request, Wire, serve

BEFORE = ("delay", "status", "status_early", "reset", "reset_request", "stall_request")
ANSWERED = ("delay_answer", "status_done", "lost", "reset_answer", "stall_answer", "cut",
            "trickle", "short_length", "long_length", "etag", "flip", "error_200", "garbage",
            "empty_200", "round")
STATUS_TEXT = {500: "Internal Server Error", 503: "Service Unavailable", 429: "Too Many Requests",
               200: "OK", 400: "Bad Request", 403: "Forbidden", 502: "Bad Gateway",
               504: "Gateway Timeout"}


def fits(rule, request):
    headers = request.head.values
    return fnmatch.fnmatchcase(request.operation, rule.get("op", "*")) \
        and re.search(rule.get("key", ""), request.key) is not None \
        and ("has" not in rule or rule["has"] in headers) \
        and rule.get("lacks") not in headers


class Rules:
    """The rules in force and the log; any thread."""

    def __init__(self):
        self.mutex, self.rules, self.log = threading.Lock(), [], []

    def replace(self, rules):
        for rule in rules:
            if rule["fault"] not in BEFORE + ANSWERED:
                raise ValueError("no fault is named %r" % rule["fault"])
            rule.update(seen=0, fired=0)
        with self.mutex:
            self.rules = rules

    def pick(self, request):
        """The rule that fires for a request, counted as fired; or None."""
        with self.mutex:
            for rule in self.rules:
                if not fits(rule, request):
                    continue
                rule["seen"] += 1
                if rule["seen"] > rule.get("skip", 0) \
                        and rule["fired"] < rule.get("times", 1 << 60):
                    rule["fired"] += 1
                    return rule
        return None

    def note(self, request, status, rule):
        with self.mutex:
            self.log.append({"operation": request.operation, "bucket": request.bucket,
                             "key": request.key, "status": status,
                             "fault": rule and rule["fault"]})


class Answer:
    """An upstream's answer; a body of known, large size still comes from its wire."""

    def __init__(self, status, lines, body=b"", length=None, wire=None):
        self.status, self.lines, self.body, self.wire = status, lines, body, wire
        self.length = len(body) if length is None else length

    def blocks(self):
        return self.wire.blocks(self.length) if self.wire else iter([memoryview(self.body)])

    def whole(self):
        if self.wire:
            self.body, self.wire = b"".join(bytes(block) for block in self.blocks()), None
        return self.body


def made_up(rule, status=None):
    text = "<?xml version=\"1.0\"?><Error><Code>%s</Code><Message>%s</Message></Error>" \
        % (rule.get("code", "InternalError"), rule.get("message", "made up"))
    lines = [("Content-Type", "application/xml")]
    if "retry_after" in rule:
        lines.append(("Retry-After", str(rule["retry_after"])))
    return Answer(status or rule.get("status", 500), lines, text.encode())


def send_answer(client, request, answer, announced=None):
    """The head and, but for HEAD, nothing yet of the body."""
    length = answer.length if announced is None else announced
    first = "HTTP/1.1 %d %s" % (answer.status, STATUS_TEXT.get(answer.status, "Status"))
    lines = [(name, value) for name, value in answer.lines
             if name.lower() not in ("content-length", "transfer-encoding", "connection")]
    if answer.status not in (204, 304):
        lines.append(("Content-Length", str(length)))
    client.send_head(first, lines)


class Client:
    """One client's connection and the one to the upstream that belongs to it."""

    def __init__(self, wire, rules, upstream_port):
        self.wire, self.rules, self.upstream_port = wire, rules, upstream_port
        self.upstream = None

    def run(self):
        try:
            while self.one_request():
                pass
        finally:
            if self.upstream:
                self.upstream.sock.close()

    def one_request(self):
        head = self.wire.read_head()
        if head is None:
            return False
        request = Request(head)
        rule = self.rules.pick(request)
        fault = rule["fault"] if rule else None
        if fault == "status_early":
            answer = made_up(rule)
            self.rules.note(request, answer.status, rule)
            send_answer(self.wire, request, answer)
            self.wire.send(answer.body)
            self.wire.sock.shutdown(socket.SHUT_WR)
            self.wire.wait_for_end(1)
            return False
        if "100-continue" in head.get("expect", "").lower():
            self.wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        if fault in BEFORE and not self.before(request, rule):
            return fault == "status"
        answer = None
        if fault in ("error_200", "garbage", "empty_200") and not rule.get("done", True):
            self.drop_body(request)
        else:
            answer = self.ask(request)
        status = answer.status if answer else None
        self.rules.note(request, status, rule)
        if fault in ANSWERED:
            return self.broken_answer(request, answer, rule)
        return self.relay(request, answer)

    def drop_body(self, request):
        for _ in self.wire.body(request.head):
            pass

    def before(self, request, rule):
        """True: the request goes on to the upstream."""
        fault, left = rule["fault"], rule.get("bytes", 0)
        if fault == "delay":
            time.sleep(rule.get("ms", 60000) / 1000)
            return True
        self.rules.note(request, None, rule)
        if fault in ("status", "reset"):
            self.drop_body(request)
            if fault == "reset":
                self.wire.reset()
                return False
            answer = made_up(rule)
            send_answer(self.wire, request, answer)
            if request.method != "HEAD":
                self.wire.send(answer.body)
            return False
        self.wire.read(min(left, request.head.length or left))
        if fault == "stall_request":
            self.wire.wait_for_end(rule.get("ms", 60000) / 1000)
        self.wire.reset()
        return False

    def connect(self):
        if self.upstream is None:
            self.upstream = Wire(socket.create_connection(("127.0.0.1", self.upstream_port), 10))
            self.upstream.sock.settimeout(600)
        return self.upstream

    def ask(self, request):
        """Passes the request on and reads the answer up to its body. An idle connection
        that the upstream meanwhile closed is replaced once."""
        for fresh in (self.upstream is None, True):
            upstream = self.connect()
            try:
                upstream.send_head(request.head.first, request.head.without("expect", "connection"))
                chunked = request.head.length is None and request.head.get("transfer-encoding")
                sent = False
                for block in self.wire.body(request.head):
                    sent = True
                    if chunked:
                        upstream.send(b"%x\r\n" % len(block))
                    upstream.send(block)
                    if chunked:
                        upstream.send(b"\r\n")
                if chunked:
                    upstream.send(b"0\r\n\r\n")
                return self.read_answer(request)
            except (OSError, Ended):
                upstream.sock.close()
                self.upstream = None
                if fresh or sent:
                    raise
        raise Ended

    def read_answer(self, request):
        while True:
            head = self.upstream.read_head()
            if head is None:
                raise Ended
            status = int(head.first.split(" ")[1])
            if status >= 200:
                break
        lines = head.lines
        if request.method == "HEAD" or status in (204, 304):
            return Answer(status, lines, length=head.length or 0)
        if head.length is not None and head.length > BLOCK:
            return Answer(status, lines, length=head.length, wire=self.upstream)
        if head.length is not None:
            return Answer(status, lines, self.upstream.read(head.length))
        if head.get("transfer-encoding"):
            return Answer(status, lines, b"".join(bytes(b) for b in self.upstream.chunks()))
        body, self.upstream = self.upstream.to_end(), None
        return Answer(status, lines, body)

    def relay(self, request, answer):
        send_answer(self.wire, request, answer)
        if request.method != "HEAD":
            for block in answer.blocks():
                self.wire.send(block)
        return True

    def abandon(self, answer):
        """What the upstream still sends is not wanted: a new connection next time."""
        if answer.wire and self.upstream:
            self.upstream.sock.close()
            self.upstream = None

    def broken_answer(self, request, answer, rule):
        """True: the connection is good for another request."""
        fault, at, ms = rule["fault"], rule.get("bytes", 0), rule.get("ms", 60000)
        if fault == "delay_answer":
            self.wire.wait_for_end(ms / 1000)
            return self.relay(request, answer)
        if fault == "etag":
            return self.relay(request, with_other_etags(answer, request))
        if fault == "flip" and request.method != "HEAD":
            body = bytearray(answer.whole())
            if at < len(body):
                body[at] ^= 0x20
            answer.body = bytes(body)
            return self.relay(request, answer)
        if fault == "round":
            return self.relay(request, without_an_end(answer))
        if fault in ("status_done", "error_200", "garbage", "empty_200"):
            if answer:
                self.abandon(answer)
            return self.relay(request, replaced(rule))
        if fault == "lost":
            self.abandon(answer)
            self.wire.reset()
            return False
        if fault == "short_length":
            answer.whole()
            answer.body = answer.body[:max(0, len(answer.body) - at)]
            answer.length = max(0, answer.length - at)
            return self.relay(request, answer)
        if fault == "trickle":
            return self.trickle(request, answer, at or 1000)
        return self.end_early(request, answer, rule)

    def trickle(self, request, answer, bytes_per_s):
        body, step = answer.whole(), max(1, bytes_per_s // 10)
        send_answer(self.wire, request, answer)
        for start in range(0, len(body) if request.method != "HEAD" else 0, step):
            self.wire.send(body[start:start + step])
            time.sleep(0.1)
        return True

    def end_early(self, request, answer, rule):
        fault, left = rule["fault"], rule.get("bytes", 0)
        longer = fault == "long_length"
        send_answer(self.wire, request, answer, answer.length + left if longer else None)
        if longer:
            left = answer.length
        for block in answer.blocks() if request.method != "HEAD" else ():
            self.wire.send(block[:left])
            left -= min(left, len(block))
            if not left:
                break
        self.abandon(answer)
        if fault == "stall_answer":
            self.wire.wait_for_end(rule.get("ms", 60000) / 1000)
        if fault == "reset_answer":
            # What was sent arrives before the reset, which would else overtake it.
            time.sleep(0.05)
            self.wire.reset()
        return False


def replaced(rule):
    if rule["fault"] == "status_done":
        return made_up(rule)
    if rule["fault"] == "error_200":
        return made_up(rule, 200)
    text = b"<html><body>It works!</body></html>" if rule["fault"] == "garbage" else b""
    return Answer(200, [("Content-Type", "text/html")], text)


def without_an_end(answer):
    answer.body = re.sub(
        rb"<IsTruncated>\w+</IsTruncated>",
        b"<IsTruncated>true</IsTruncated><NextContinuationToken>again</NextContinuationToken>",
        re.sub(rb"<NextContinuationToken>.*?</NextContinuationToken>", b"", answer.whole()))
    answer.length = len(answer.body)
    return answer


def with_other_etags(answer, request):
    other = "0123456789abcdef0123456789abcdef"
    answer.lines = [(name, '"%s"' % other if name.lower() == "etag" else value)
                    for name, value in answer.lines]
    if b"xml" in dict((n.lower(), v) for n, v in answer.lines).get("content-type", "").encode() \
            and request.method != "HEAD":
        answer.body = re.sub(rb"(<ETag>(?:&quot;|\")?)[0-9a-f]{32}", rb"\g<1>" + other.encode(),
                             answer.whole())
        answer.length = len(answer.body)
    return answer


def control(port, rules):
    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self, status, value=None):
            text = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def do_GET(self):
            with rules.mutex:
                self.answer(200, rules.log if self.path == "/log" else rules.rules)

        def do_PUT(self):
            try:
                rules.replace(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            except (ValueError, KeyError, AttributeError) as error:
                return self.answer(400, str(error))
            return self.answer(200)

        def do_DELETE(self):
            with rules.mutex:
                rules.log = []
            self.answer(200)

        def log_message(self, *arguments):
            pass

    http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


def main():
    port, control_port, upstream_port = map(int, sys.argv[1:])
    rules = Rules()
    serve(("127.0.0.1", port), lambda wire: Client(wire, rules, upstream_port).run())
    control(control_port, rules)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        os._exit(130)
