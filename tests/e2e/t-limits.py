#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The client's deadlines and the cap on connections, as the configuration sets
them."""
from lib import *

CONFIG = """
access:
  access_key_id: %s
  secret_access_key: %s
advanced:
  max_connections: 3
  idle_timeout_secs: 1
  head_timeout_secs: 1
  body_timeout_secs: 1
  body_min_bytes: 1000
  response_timeout_secs: 1
""" % (ACCESS_KEY, SECRET_KEY)

config_path = os.path.join(WORK, "limits.yaml")
with open(config_path, "w") as file:
    file.write(CONFIG)
server = Server(env={"DGP_CONFIG": config_path})


def connect():
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def until_closed(connection):
    """All that comes until the server closes, and the seconds that took."""
    started, data = time.monotonic(), b""
    while True:
        try:
            piece = connection.recv(65536)
        except ConnectionResetError:
            piece = b""
        if not piece:
            connection.close()
            return data, time.monotonic() - started
        data += piece


@case
def an_idle_connection_is_closed_when_the_file_says():
    data, seconds = until_closed(connect())
    same(data, b"")
    assert 0.9 <= seconds < 5, seconds


@case
def a_head_that_drips_is_refused_when_the_file_says():
    connection = connect()
    connection.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n")
    data, seconds = until_closed(connection)
    assert data.startswith(b"HTTP/1.1 408 "), data
    assert 0.9 <= seconds < 8, seconds


@case
def a_body_below_the_rate_is_refused_when_the_file_says():
    server.request("PUT", "/limits")
    headers = {"x-amz-content-sha256": "UNSIGNED-PAYLOAD", "Content-Length": "100000"}
    sign_headers(server, "PUT", "/limits/key", {}, headers, None)
    connection = connect()
    connection.sendall(b"PUT /limits/key HTTP/1.1\r\n" + "".join(
        "%s: %s\r\n" % pair for pair in headers.items()).encode() + b"\r\n" + b"x" * 900)
    data, _ = until_closed(connection)
    assert data.startswith(b"HTTP/1.1 408 "), data


@case
def connections_beyond_the_cap_of_the_file_are_closed_at_once():
    held = []
    try:
        deadline = time.monotonic() + 10
        while True:  # those of the cases before may still be on their way out
            held = [connect() for _ in range(3)]
            answers = []
            for connection in held:
                connection.sendall(b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n")
                try:
                    answers.append(connection.recv(65536)[:13])
                except ConnectionResetError:
                    answers.append(b"")
            if answers == [b"HTTP/1.1 200 "] * 3:
                break
            assert time.monotonic() < deadline, answers
            for connection in held:
                connection.close()
        data, seconds = until_closed(connect())
        same(data, b"")
        assert seconds < 0.9, seconds
    finally:
        for connection in held:
            connection.close()


@case
def parts_that_wait_on_disk_are_bounded_over_all_uploads():
    other = Server(env={"DGP_MAX_TOTAL_MULTIPART_BYTES": str(10 << 20)})
    s3 = other.client()
    s3.create_bucket(Bucket="parts")
    ids = [s3.create_multipart_upload(Bucket="parts", Key=key)["UploadId"] for key in "ab"]
    def send(key, number, size):
        return s3.upload_part(Bucket="parts", Key=key, UploadId=ids["ab".index(key)],
                              PartNumber=number, Body=b"x" * size)
    def waiting():
        text = other.request("GET", "/_/metrics", sign=False).body.decode()
        line, = [line for line in text.splitlines()
                 if line.startswith("deltaglider_multipart_part_bytes ")]
        return float(line.split()[1])
    part = send("a", 1, 6 << 20)
    same(error_of(send, "b", 1, 6 << 20), (503, "SlowDown"))
    send("b", 1, 4 << 20)
    other.kill()
    other.start()
    same(waiting(), 10 << 20)
    same(error_of(send, "b", 2, 1), (503, "SlowDown"))
    s3.complete_multipart_upload(Bucket="parts", Key="a", UploadId=ids[0], MultipartUpload={
        "Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]})
    send("b", 2, 6 << 20)
    s3.abort_multipart_upload(Bucket="parts", Key="b", UploadId=ids[1])
    same(waiting(), 0)
    other.drop()


main()
