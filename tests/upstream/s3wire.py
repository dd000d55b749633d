# SPDX-License-Identifier: Apache-2.0
"""What faulty.py and sink.py share: HTTP/1.1 on blocking sockets, one thread per
connection, bodies that are never held whole, and the S3 operation of a request."""
import select
import socket
import struct
import threading
import urllib.parse

BLOCK = 1 << 20


class Ended(Exception):
    """The peer closed the connection."""


class Head:
    """First line and header lines; names are looked up in lower case."""

    def __init__(self, text):
        lines = text.decode("latin-1").split("\r\n")
        self.first = lines[0]
        self.lines = [line.split(":", 1) for line in lines[1:] if line]
        self.lines = [(name, value.strip()) for name, value in self.lines]
        self.values = {name.lower(): value for name, value in self.lines}

    def get(self, name, default=None):
        return self.values.get(name, default)

    def without(self, *names):
        return [(name, value) for name, value in self.lines if name.lower() not in names]

    @property
    def length(self):
        """Bytes of the body; None when it is chunked or ends with the connection."""
        if "chunked" in self.get("transfer-encoding", "").lower():
            return None
        text = self.get("content-length")
        return int(text) if text is not None else None


class Wire:
    """A connected socket with what was read too far."""

    def __init__(self, sock):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock, self.rest = sock, b""

    def read_head(self):
        """The next head, or None at a clean end."""
        while b"\r\n\r\n" not in self.rest:
            if len(self.rest) > 1 << 20:
                raise Ended
            more = self.sock.recv(65536)
            if not more:
                if self.rest:
                    raise Ended
                return None
            self.rest += more
        text, self.rest = self.rest.split(b"\r\n\r\n", 1)
        return Head(text)

    def read_into(self, view):
        """Fills the view."""
        done = min(len(view), len(self.rest))
        if done:
            view[:done] = self.rest[:done]
            self.rest = self.rest[done:]
        while done < len(view):
            count = self.sock.recv_into(view[done:], 0, socket.MSG_WAITALL)
            if not count:
                raise Ended
            done += count

    def read(self, count):
        data = bytearray(count)
        self.read_into(memoryview(data))
        return bytes(data)

    def read_line(self):
        while b"\r\n" not in self.rest:
            more = self.sock.recv(65536)
            if not more:
                raise Ended
            self.rest += more
        line, self.rest = self.rest.split(b"\r\n", 1)
        return line

    def blocks(self, length):
        """`length` bytes in views of a buffer that the next one overwrites."""
        buffer = memoryview(bytearray(min(length, BLOCK)))
        while length:
            view = buffer[:min(length, BLOCK)]
            self.read_into(view)
            length -= len(view)
            yield view

    def chunks(self):
        """A chunked body, chunk by chunk; trailers are dropped."""
        while True:
            size = int(self.read_line().split(b";")[0], 16)
            if size == 0:
                while self.read_line():
                    pass
                return
            yield from self.blocks(size)
            self.read_line()

    def body(self, head):
        """A request's body in views."""
        if head.length is None and head.get("transfer-encoding"):
            return self.chunks()
        return self.blocks(head.length or 0)

    def to_end(self):
        data = [self.rest]
        while data[-1] or len(data) == 1:
            data.append(self.sock.recv(65536))
        return b"".join(data)

    def send_head(self, first, lines):
        text = first + "\r\n" + "".join("%s: %s\r\n" % line for line in lines) + "\r\n"
        self.sock.sendall(text.encode("latin-1"))

    def send(self, data):
        self.sock.sendall(data)

    def reset(self):
        """Closes so that the peer sees a reset, not an end."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def wait_for_end(self, seconds):
        """Does nothing until the peer gives up or the time is over."""
        poll = select.poll()
        poll.register(self.sock, select.POLLRDHUP | select.POLLHUP | select.POLLERR)
        poll.poll(seconds * 1000)


def serve(address, handle):
    """Accepts for ever: handle(Wire) for each connection on a thread of its own."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(address)
    listener.listen(1024)

    def one(sock):
        try:
            handle(Wire(sock))
        except (OSError, Ended):
            pass  # the peer went away: its matter
        finally:
            sock.close()

    def accept():
        while True:
            threading.Thread(target=one, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


SUBRESOURCES = {  # (method, parameter) -> operation, of an object and of a bucket
    "object": {("POST", "uploads"): "CreateMultipartUpload",
               ("POST", "uploadId"): "CompleteMultipartUpload",
               ("DELETE", "uploadId"): "AbortMultipartUpload", ("GET", "uploadId"): "ListParts",
               ("PUT", "tagging"): "PutObjectTagging", ("GET", "tagging"): "GetObjectTagging",
               ("GET", "attributes"): "GetObjectAttributes"},
    "bucket": {("POST", "delete"): "DeleteObjects", ("GET", "uploads"): "ListMultipartUploads",
               ("GET", "location"): "GetBucketLocation", ("GET", "versions"): "ListObjectVersions",
               ("GET", "versioning"): "GetBucketVersioning"},
}
PLAIN = {
    "service": {"GET": "ListBuckets", "HEAD": "ListBuckets"},
    "bucket": {"GET": "ListObjects", "HEAD": "HeadBucket", "PUT": "CreateBucket",
               "DELETE": "DeleteBucket", "POST": "PostObject"},
    "object": {"GET": "GetObject", "HEAD": "HeadObject", "PUT": "PutObject",
               "DELETE": "DeleteObject"},
}


class Request:
    """A request's head as S3 sees it, path style."""

    def __init__(self, head):
        self.head = head
        self.method, self.target, self.version = head.first.split(" ")
        path, _, query = self.target.partition("?")
        self.query = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        bucket, _, key = path.lstrip("/").partition("/")
        self.bucket, self.key = urllib.parse.unquote(bucket), urllib.parse.unquote(key)
        self.operation = self._operation()

    def _operation(self):
        kind = "object" if self.key else "bucket" if self.bucket else "service"
        copies = self.head.get("x-amz-copy-source") is not None
        if kind == "object" and self.method == "PUT":
            if "uploadId" in self.query:
                return "UploadPartCopy" if copies else "UploadPart"
            if copies:
                return "CopyObject"
        for (method, name), operation in SUBRESOURCES.get(kind, {}).items():
            if self.method == method and name in self.query:
                return operation
        return PLAIN[kind].get(self.method, self.method)
