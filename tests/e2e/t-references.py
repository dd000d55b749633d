#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Many clients that want one reference which takes long to load."""
import struct
import threading
from lib import *

CLIENTS = 8  # more than there are workers
plain = body(400000, 3)
first, second = versions(400000, 2)
server = Server(env={"DGP_WORKER_THREADS": "4"})
server.request("PUT", "/refs")
for key, data in (("plain.bin", plain), ("d/1.zip", first), ("d/2.zip", second)):
    same(server.request("PUT", "/refs/" + key, body=data).status, 200)


def load_slowly():
    """A restart after which the first load takes 8 seconds, and is told of."""
    server.stop()
    os.truncate(server.log_path, 0)
    server.start({"DGP_FAULT": "engine.reference.load:print,engine.reference.load:delay_8000:1"})


def until_loading():
    deadline = time.monotonic() + 60
    while "fault: engine.reference.load" not in server.log():
        assert time.monotonic() < deadline, "nobody loads the reference"
        time.sleep(0.01)


class Fetch(threading.Thread):
    def __init__(self):
        super().__init__(daemon=True)
        self.answer = None
        self.start()

    def run(self):
        self.answer = server.request("GET", "/refs/d/2.zip")


def others_are_served(fetches):
    for _ in range(10):
        same(server.request("GET", "/refs/plain.bin").body, plain)
        same(server.request("GET", "/_/metrics", sign=False).status, 200)
    assert not any(fetch.answer for fetch in fetches), "that was served only after the wait"


def all_get_it(fetches):
    for fetch in fetches:
        fetch.join(60)
        same((fetch.answer.status, fetch.answer.body == second), (200, True), fetch.answer)


@case
def those_who_wait_for_a_reference_leave_workers_to_others():
    load_slowly()
    fetches = [Fetch()]
    until_loading()
    fetches += [Fetch() for _ in range(CLIENTS - 1)]
    others_are_served(fetches)
    all_get_it(fetches)


@case
def a_client_that_leaves_during_its_load_fails_nobody_else():
    load_slowly()
    leaver = socket.create_connection(("127.0.0.1", server.port), timeout=60)
    headers = {}
    sign_headers(server, "GET", "/refs/d/2.zip", {}, headers, None)
    leaver.sendall(b"GET /refs/d/2.zip HTTP/1.1\r\n" + "".join(
        "%s: %s\r\n" % pair for pair in headers.items()).encode() + b"\r\n")
    until_loading()
    fetches = [Fetch() for _ in range(CLIENTS)]
    others_are_served(fetches)
    leaver.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    leaver.close()
    all_get_it(fetches)
    assert server.log().count("fault: engine.reference.load") >= 2, "nobody loaded it again"


main()
