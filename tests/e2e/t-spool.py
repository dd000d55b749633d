#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The disk that bodies in flight may take together: requests wait for their share
of it, for a time, and none of them ends the others."""
import threading
from lib import *

BUCKET = "spool"
SIZE = 24 << 20
v = versions(SIZE, 2)


def start(timeout_s):
    """A server with an object that has to be decoded whole, and room for one of them."""
    requires("xdelta3")
    server = Server(env={"DGP_SPOOL_MAX_BYTES": str(40 << 20),
                         "DGP_SPOOL_ACQUIRE_TIMEOUT_SECS": str(timeout_s)})
    server.request("PUT", "/" + BUCKET)
    for number, data in enumerate(v):
        same(server.request("PUT", "/%s/app-%d.zip" % (BUCKET, number), body=data).status, 200)
    path = server.path(BUCKET, "app-1.zip.delta")
    text = os.getxattr(path, "user.dg.metadata")
    source = os.path.join(WORK, "target")
    open(source, "wb").write(v[1])
    run("xdelta3", "-e", "-f", "-D", "-S", "none", "-s", server.path(BUCKET, "reference.bin"),
        source, path + ".new")
    os.replace(path + ".new", path)
    row = {name: value for name, value in json.loads(text).items() if not name.startswith("dg_")}
    row["delta_size"] = os.path.getsize(path)
    os.setxattr(path, "user.dg.metadata", json.dumps(row).encode())
    return server


def begin(server, key="app-1.zip"):
    """A GET of which nobody has read the body yet."""
    path, headers = "/%s/%s" % (BUCKET, key), {}
    sign_headers(server, "GET", path, {}, headers, b"")
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("GET", path, headers=headers)
    return connection.getresponse()


@case
def without_room_in_time_a_request_is_asked_to_come_back():
    server = start(timeout_s=1)
    first = begin(server)
    same(first.status, 200)
    started = time.monotonic()
    answer = server.request("GET", "/%s/app-1.zip" % BUCKET)
    same(answer.status, 503)
    assert b"<Code>SlowDown</Code>" in answer.body, answer.body
    assert time.monotonic() - started >= 0.9
    # What needs no room is served meanwhile.
    same(server.request("GET", "/%s/app-0.zip" % BUCKET).body, v[0])
    same(server.request("PUT", "/%s/app-2.zip" % BUCKET, body=v[1]).status, 200)
    same(first.read(), v[1])
    same(server.request("GET", "/%s/app-1.zip" % BUCKET).body, v[1])
    same(server.stop(), 0)


@case
def requests_wait_for_room_and_come_through_one_by_one():
    server = start(timeout_s=100)
    first, answers = begin(server), []
    threads = [threading.Thread(target=lambda: answers.append(
        server.request("GET", "/%s/app-1.zip" % BUCKET))) for _ in range(2)]
    for thread in threads:
        thread.start()
    same(first.read(), v[1])
    for thread in threads:
        thread.join()
    same([answer.code or answer.body == v[1] for answer in answers], [True, True])
    same(server.stop(), 0)


@case
def a_client_that_leaves_gives_its_room_back():
    server = start(timeout_s=100)
    begin(server).close()
    same(server.request("GET", "/%s/app-1.zip" % BUCKET).body, v[1])
    same(server.stop(), 0)


@case
def a_copy_that_alone_needs_more_room_than_there_is_goes_alone():
    server = start(timeout_s=100)
    same(server.stop(), 0)
    # What is to be sealed waits in the spool, and its source was decoded there.
    server.env["DGP_CONFIG"] = path = os.path.join(server.root, "sealed.yaml")
    with open(path, "w") as out:
        out.write("storage:\n  backend_encryption:\n    mode: aes256-gcm-proxy\n")
    server.env["DGP_ENCRYPTION_KEY"] = "6b" * 32
    server.start()
    answer = server.request("PUT", "/%s/app-9.zip" % BUCKET,
                            headers={"x-amz-copy-source": "/%s/app-1.zip" % BUCKET})
    same((answer.status, answer.code), (200, None))
    same(server.request("GET", "/%s/app-9.zip" % BUCKET).body, v[1])
    same(server.stop(), 0)


main()
