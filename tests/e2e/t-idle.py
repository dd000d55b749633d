#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What a connection costs on which nothing happens."""
import resource
from lib import *

COUNT = 1000
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
want = 4 * COUNT  # both ends here, and in the server that inherits it
if soft != resource.RLIM_INFINITY and soft < want:
    if hard != resource.RLIM_INFINITY and hard < want:
        raise SystemExit("no more than %d open files are allowed" % hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (want, hard))

server = Server()
server.request("PUT", "/idle")
server.request("PUT", "/idle/key", body=body(1000))


def resident_bytes():
    with open("/proc/%d/status" % server.process.pid) as status:
        return sum(int(line.split()[1]) << 10 for line in status
                   if line.startswith(("RssAnon:", "RssShmem:")))


def fetch(connection):
    headers = {}
    sign_headers(server, "GET", "/idle/key", {}, headers, None)
    connection.request("GET", "/idle/key", headers=headers)
    answer = connection.getresponse()
    same((answer.status, answer.read()), (200, body(1000)))


@case
def a_thousand_idle_connections_stay_under_16_mib():
    warm = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    fetch(warm)
    before = resident_bytes()
    held = [http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
            for _ in range(COUNT)]
    for connection in held:
        fetch(connection)
    above = resident_bytes() - before
    print("# %.1f MiB for %d connections" % (above / (1 << 20), COUNT))
    for connection in held[::100]:
        fetch(connection)  # still open, and of use
    for connection in held:
        connection.close()
    assert above < 16 << 20, above


main()
