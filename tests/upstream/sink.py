#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""An S3 server that checks what it gets and forgets it: for objects and numbers of
uploads that no server in memory could hold.

    tests/upstream/sink.py PORT [--md5]

Bodies up to 64 KiB are kept. Of larger ones every byte is compared with the
pattern below, wherever in it they begin, and only length and place are noted; so
a GET, also of a range, gives the same bytes again. A large body that does not
begin as the pattern (a delta, a sealed object) is counted as unverified: its GET is
501. One that begins so and then differs is refused with 400 BadDigest and counted
as wrong. A body's x-amz-content-sha256 and Content-MD5 are checked if given.

Byte i of the pattern is PATTERN[i % PERIOD]; PERIOD is prime, so no part, window or
chunk that lands in a wrong place looks right. `from sink import pattern` gives it to
clients.

ETags are opaque (`...-1`) unless --md5 is given, which costs more than all the rest.
GET /_sink answers with counters in JSON. Signatures are not checked.
"""
import base64
import hashlib
import itertools
import json
import os
import random
import signal
import sys
import threading
import time
import urllib.parse
from bisect import bisect_right
from xml.sax.saxutils import escape
import re

from s3wire import BLOCK, Request, serve

PERIOD = 1048583
_PATTERN = random.Random(20).randbytes(PERIOD)
_PATTERN = memoryview(_PATTERN + _PATTERN[:PERIOD] + _PATTERN[:64])
KEEP_BYTES = 65536
KEPT_HEADERS = ("content-type", "cache-control", "content-encoding", "content-disposition",
                "content-language", "expires")


def pattern(offset, length):
    """Up to 1 MiB of it, without a copy."""
    start = offset % PERIOD
    return _PATTERN[start:start + min(length, BLOCK)]


class Refused(Exception):
    def __init__(self, status, code, message="no"):
        super().__init__(message)
        self.status, self.code = status, code


class Segment:
    """A run of bytes: kept, known by its place in the pattern, or forgotten."""

    def __init__(self, length, kept=None, phase=None):
        self.length, self.kept, self.phase = length, kept, phase

    def blocks(self, start, end):
        if self.kept is not None:
            yield self.kept[start:end]
            return
        while start < end:
            piece = pattern(self.phase + start, end - start)
            yield piece
            start += len(piece)


class Entry:
    """An object."""

    def __init__(self, segments, etag, headers):
        self.segments, self.etag, self.headers = segments, etag, headers
        self.size, self.time = sum(segment.length for segment in segments), time.time()

    def is_forgotten(self):
        return any(s.kept is None and s.phase is None for s in self.segments)

    def blocks(self, start, end):
        for segment in self.segments:
            if start < segment.length and end > 0:
                yield from segment.blocks(max(start, 0), min(end, segment.length))
            start, end = start - segment.length, end - segment.length


class Store:
    """All state; under its mutex but for what one body does."""

    def __init__(self, with_md5):
        self.with_md5, self.mutex = with_md5, threading.RLock()
        self.buckets, self.uploads, self.numbers = {}, {}, itertools.count(1)
        self.counters = {"requests": 0, "bytes_in": 0, "bytes_out": 0, "verified_bytes": 0,
                         "unverified_bytes": 0, "wrong": 0, "connections": 0,
                         "connections_most": 0}

    def count(self, name, by=1):
        with self.mutex:
            self.counters[name] += by

    def bucket(self, request):
        objects = self.buckets.get(request.bucket)
        if objects is None:
            raise Refused(404, "NoSuchBucket")
        return objects

    def entry(self, request):
        entry = self.bucket(request).get(request.key)
        if entry is None:
            raise Refused(404, "NoSuchKey")
        return entry

    def upload(self, request):
        upload = self.uploads.get(request.query["uploadId"])
        if upload is None or upload["key"] != (request.bucket, request.key):
            raise Refused(404, "NoSuchUpload")
        return upload

    def etag(self, digest):
        return '"%s"' % digest.hexdigest() if digest else '"%032x-1"' % random.getrandbits(128)


class Body:
    """Takes a request's body in."""

    def __init__(self, store, wire, head):
        self.store, self.wire, self.head = store, wire, head
        if head.get("x-amz-content-sha256", "").startswith("STREAMING-"):
            raise Refused(501, "NotImplemented", "aws-chunked bodies are not taken")
        claim = head.get("x-amz-content-sha256", "")
        self.sha256 = hashlib.sha256() if re.fullmatch("[0-9a-f]{64}", claim) else None
        self.md5 = hashlib.md5() if store.with_md5 or head.get("content-md5") else None

    def take(self):
        """The Segment; raises Refused with the body read to its end."""
        length, phase, kept, wrong = 0, None, b"", False
        for view in self.wire.body(self.head):
            for digest in (self.sha256, self.md5):
                if digest:
                    digest.update(view)
            if length == 0 and len(view) > KEEP_BYTES:
                at = _PATTERN.obj.find(bytes(view[:64]))
                phase = at if at >= 0 else None
            if phase is not None:
                wrong = wrong or not self._is_pattern(view, phase + length)
            elif length + len(view) <= KEEP_BYTES:
                kept += bytes(view)
            length += len(view)
        self.store.count("bytes_in", length)
        self._check(wrong)
        if phase is not None:
            self.store.count("verified_bytes", length)
            return Segment(length, phase=phase)
        if length <= KEEP_BYTES:
            return Segment(length, kept=kept)
        self.store.count("unverified_bytes", length)
        return Segment(length)

    @staticmethod
    def _is_pattern(view, offset):
        expected = pattern(offset, len(view))
        # bytearray compares buffers with memcmp; a memoryview goes byte by byte.
        return view.obj == expected if len(view) == len(view.obj) else \
            bytes(view) == bytes(expected)

    def _check(self, wrong):
        if self.sha256 and self.sha256.hexdigest() != self.head.get("x-amz-content-sha256"):
            wrong = True
        claim = self.head.get("content-md5")
        if claim and base64.b64encode(self.md5.digest()).decode() != claim:
            wrong = True
        if wrong:
            self.store.count("wrong")
            raise Refused(400, "BadDigest", "these are not the bytes that were announced")


def check_conditions(request, current):
    if request.head.get("if-none-match") == "*" and current:
        raise Refused(412, "PreconditionFailed")
    wanted = request.head.get("if-match")
    if wanted and (not current or wanted.strip('"') != current.etag.strip('"')):
        raise Refused(412, "PreconditionFailed")


def kept_headers(request):
    return [(name, value) for name, value in request.head.lines
            if name.lower() in KEPT_HEADERS or name.lower().startswith("x-amz-meta-")]


def stamp(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(seconds))


def element(name, *values):
    return "<%s>%s</%s>" % (name, "".join(v if v.startswith("<") else escape(v) for v in values), name)


class Server:
    """One connection. Operations return (status, headers, document)."""

    def __init__(self, store, wire):
        self.store, self.wire = store, wire

    def run(self):
        store = self.store
        with store.mutex:
            store.counters["connections"] += 1
            store.counters["connections_most"] = max(store.counters["connections_most"],
                                                     store.counters["connections"])
        try:
            while self.one_request():
                pass
        finally:
            store.count("connections", -1)

    def one_request(self):
        head = self.wire.read_head()
        if head is None:
            return False
        request, keeps = Request(head), head.get("connection", "").lower() != "close"
        self.store.count("requests")
        if "100-continue" in head.get("expect", "").lower():
            self.wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        try:
            if request.bucket == "_sink":
                answer = 200, [], json.dumps(self.store.counters)
            else:
                answer = self.operate(request)
        except Refused as why:
            if request.method in ("PUT", "POST") and why.code != "BadDigest":
                keeps = False  # its body may still lie before us
            answer = why.status, [], element("Error", element("Code", why.code),
                                             element("Message", str(why)))
        if answer:
            self.send(request, *answer)
        return keeps

    def send(self, request, status, headers, document=""):
        body = document.encode()
        lines = [("Server", "sink"), ("x-amz-request-id", "%d" % next(self.store.numbers))] + headers
        if status != 204:
            lines.append(("Content-Length", str(len(body))))
            if body:
                lines.append(("Content-Type", "application/xml"))
        self.wire.send_head("HTTP/1.1 %d Status" % status, lines)
        if request.method != "HEAD":
            self.wire.send(body)

    def operate(self, request):
        operation = getattr(self, request.operation, None)
        if not operation:
            raise Refused(501, "NotImplemented", request.operation)
        if request.operation in ("PutObject", "UploadPart", "GetObject", "HeadObject"):
            return operation(request)
        data = b"".join(bytes(view) for view in self.wire.body(request.head))
        with self.store.mutex:
            return operation(request, data)

    # ---- Buckets --------------------------------------------------------------------

    def ListBuckets(self, request, data):
        rows = "".join(element("Bucket", element("Name", name), element("CreationDate", stamp(0)))
                       for name in sorted(self.store.buckets))
        return 200, [], element("ListAllMyBucketsResult", element("Buckets", rows))

    def CreateBucket(self, request, data):
        self.store.buckets.setdefault(request.bucket, {})
        return 200, []

    def HeadBucket(self, request, data):
        self.store.bucket(request)
        return 200, []

    def GetBucketLocation(self, request, data):
        self.store.bucket(request)
        return 200, [], "<LocationConstraint></LocationConstraint>"

    def DeleteBucket(self, request, data):
        if self.store.bucket(request):
            raise Refused(409, "BucketNotEmpty")
        del self.store.buckets[request.bucket]
        return 204, []

    def ListObjects(self, request, data):
        query, objects = request.query, self.store.bucket(request)
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        after = query.get("continuation-token") or query.get("start-after") or query.get("marker", "")
        most, quote = int(query.get("max-keys", 1000)), str
        if query.get("encoding-type") == "url":
            quote = lambda text: urllib.parse.quote(text, safe="/")
        keys = sorted(objects, key=str.encode)
        rows, prefixes, last, truncated = [], [], after, False
        for key in keys[bisect_right([k.encode() for k in keys], after.encode()):]:
            if not key.startswith(prefix) or (prefixes and key.startswith(prefixes[-1])) \
                    or (delimiter and after.endswith(delimiter) and key.startswith(after)):
                continue
            if len(rows) + len(prefixes) >= most:
                truncated = True
                break
            end = key.find(delimiter, len(prefix)) if delimiter else -1
            if end >= 0:
                prefixes.append(key[:end + len(delimiter)])
                last = prefixes[-1]
                continue
            entry, last = objects[key], key
            rows.append(element("Contents", element("Key", quote(key)),
                                element("LastModified", stamp(entry.time)),
                                element("ETag", entry.etag), element("Size", str(entry.size)),
                                element("StorageClass", "STANDARD")))
        return 200, [], element(
            "ListBucketResult", element("Name", request.bucket), element("Prefix", quote(prefix)),
            element("KeyCount", str(len(rows) + len(prefixes))), element("MaxKeys", str(most)),
            element("IsTruncated", "true" if truncated else "false"),
            element("NextContinuationToken", quote(last)) + element("NextMarker", quote(last))
            if truncated else "", "".join(rows),
            "".join(element("CommonPrefixes", element("Prefix", quote(p))) for p in prefixes))

    def ListMultipartUploads(self, request, data):
        rows = "".join(element("Upload", element("Key", upload["key"][1]), element("UploadId", name),
                               element("Initiated", stamp(upload["time"])))
                       for name, upload in self.store.uploads.items()
                       if upload["key"][0] == request.bucket)
        return 200, [], element("ListMultipartUploadsResult", element("IsTruncated", "false"), rows)

    # ---- Objects --------------------------------------------------------------------

    def PutObject(self, request):
        store = self.store
        with store.mutex:
            check_conditions(request, store.bucket(request).get(request.key))
        body = Body(store, self.wire, request.head)
        segment = body.take()
        with store.mutex:
            objects = store.bucket(request)
            try:
                check_conditions(request, objects.get(request.key))
            except Refused as why:  # lost a race: the body is read, the connection is good
                return why.status, [], element("Error", element("Code", why.code))
            entry = Entry([segment], store.etag(body.md5), kept_headers(request))
            objects[request.key] = entry
        return 200, [("ETag", entry.etag)]

    def _head(self, request):
        with self.store.mutex:
            entry = self.store.entry(request)
        lines = [("ETag", entry.etag), ("Accept-Ranges", "bytes"), ("Last-Modified", time.strftime(
            "%a, %d %b %Y %H:%M:%S GMT", time.gmtime(entry.time)))] + entry.headers
        return entry, lines

    def HeadObject(self, request):
        entry, lines = self._head(request)
        self.wire.send_head("HTTP/1.1 200 OK", lines + [("Content-Length", str(entry.size))])

    def GetObject(self, request):
        entry, lines = self._head(request)
        if entry.is_forgotten():
            raise Refused(501, "NotImplemented", "these bytes were not kept")
        start, end, status = 0, entry.size, 200
        match = re.fullmatch(r"bytes=(\d*)-(\d*)", request.head.get("range", ""))
        if match and match.group() != "bytes=-":
            first, last = match.groups()
            start = int(first) if first else max(0, entry.size - int(last))
            end = min(entry.size, int(last) + 1) if first and last else entry.size
            if start >= entry.size:
                raise Refused(416, "InvalidRange")
            lines.append(("Content-Range", "bytes %d-%d/%d" % (start, end - 1, entry.size)))
            status = 206
        self.wire.send_head("HTTP/1.1 %d OK" % status, lines + [("Content-Length", str(end - start))])
        for block in entry.blocks(start, end):
            self.wire.send(block)
        self.store.count("bytes_out", end - start)

    def DeleteObject(self, request, data):
        self.store.bucket(request).pop(request.key, None)
        return 204, []

    def DeleteObjects(self, request, data):
        import xml.etree.ElementTree as tree
        objects, rows = self.store.bucket(request), ""
        for node in tree.fromstring(data).iter():
            if node.tag.rpartition("}")[2] == "Key":
                objects.pop(node.text, None)
                rows += element("Deleted", element("Key", node.text))
        return 200, [], element("DeleteResult", rows)

    def CopyObject(self, request, data):
        source = urllib.parse.unquote(request.head.get("x-amz-copy-source")).lstrip("/")
        bucket, _, key = source.partition("/")
        old = self.store.buckets.get(bucket, {}).get(key)
        if old is None:
            raise Refused(404, "NoSuchKey")
        replaces = request.head.get("x-amz-metadata-directive", "").upper() == "REPLACE"
        entry = Entry(old.segments, old.etag, kept_headers(request) if replaces else old.headers)
        self.store.bucket(request)[request.key] = entry
        return 200, [], element("CopyObjectResult", element("ETag", entry.etag),
                                element("LastModified", stamp(entry.time)))

    # ---- Uploads in parts -----------------------------------------------------------

    def CreateMultipartUpload(self, request, data):
        self.store.bucket(request)
        name = "upload-%d" % next(self.store.numbers)
        self.store.uploads[name] = {"key": (request.bucket, request.key), "parts": {},
                                    "headers": kept_headers(request), "time": time.time()}
        return 200, [], element("InitiateMultipartUploadResult", element("Bucket", request.bucket),
                                element("Key", request.key), element("UploadId", name))

    def UploadPart(self, request):
        with self.store.mutex:
            upload = self.store.upload(request)
        body = Body(self.store, self.wire, request.head)
        segment = body.take()
        etag = self.store.etag(body.md5)
        with self.store.mutex:
            upload["parts"][int(request.query["partNumber"])] = segment, etag
        return 200, [("ETag", etag)]

    def ListParts(self, request, data):
        rows = "".join(element("Part", element("PartNumber", str(number)), element("ETag", etag),
                               element("Size", str(segment.length)), element("LastModified", stamp(0)))
                       for number, (segment, etag) in sorted(self.store.upload(request)["parts"].items()))
        return 200, [], element("ListPartsResult", element("IsTruncated", "false"), rows)

    def CompleteMultipartUpload(self, request, data):
        upload, segments = self.store.upload(request), []
        for number, etag in re.findall(
                rb"<PartNumber>(\d+)</PartNumber>\s*<ETag>(?:&quot;|\")?([^<&\"]*)", data):
            segment, known = upload["parts"].get(int(number), (None, ""))
            if known.strip('"') != etag.decode():
                raise Refused(400, "InvalidPart")
            segments.append(segment)
        if not segments:
            raise Refused(400, "MalformedXML", "ETag follows PartNumber here")
        check_conditions(request, self.store.bucket(request).get(request.key))
        for before, after in zip(segments, segments[1:]):
            if before.phase is not None and after.phase is not None \
                    and (before.phase + before.length - after.phase) % PERIOD:
                self.store.count("wrong")
                raise Refused(400, "BadDigest", "two parts do not join")
        entry = Entry(segments, '"%032x-%d"' % (random.getrandbits(128), len(segments)),
                      upload["headers"])
        self.store.bucket(request)[request.key] = entry
        del self.store.uploads[request.query["uploadId"]]
        return 200, [], element("CompleteMultipartUploadResult", element("Bucket", request.bucket),
                                element("Key", request.key), element("ETag", entry.etag))

    def AbortMultipartUpload(self, request, data):
        self.store.upload(request)
        del self.store.uploads[request.query["uploadId"]]
        return 204, []


def main():
    store = Store("--md5" in sys.argv[2:])
    serve(("127.0.0.1", int(sys.argv[1])), lambda wire: Server(store, wire).run())
    signal.pause()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        os._exit(130)
