#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""5 GiB, once plain and once as a delta on a 5 GiB reference, from a generated
stream: nothing is held in memory, here or in the server. DG_SOAK_BYTES changes
the size. Needs three times that on disk."""
from lib import *

SIZE = int(os.environ.get("DG_SOAK_BYTES", str(5 << 30)))
MIB = 1 << 20
server = Server(env={"DGP_DEBUG_HEADERS": "true"})
server.request("PUT", "/large")
GROUND = random.Random(1).randbytes(MIB)


def block(number, version):
    """MiB `number` of a version: it differs from every other MiB, and versions
    differ from each other in every hundredth."""
    mask = hashlib.sha256(b"%d" % (number if number % 100 else number * 7919 + version)).digest()
    key = int.from_bytes(mask * (MIB // 32), "little")
    return (int.from_bytes(GROUND, "little") ^ key).to_bytes(MIB, "little")


def stream(version):
    for number in range(SIZE // MIB):
        yield block(number, version)


def rss_anon_mib():
    with open("/proc/%d/status" % server.process.pid) as status:
        rows = dict(line.split(":", 1) for line in status)
    return (int(rows["RssAnon"].split()[0]) + int(rows["RssShmem"].split()[0])) // 1024


def put(key, version):
    headers = {"Content-Length": str(SIZE), "x-amz-content-sha256": "UNSIGNED-PAYLOAD"}
    sign_headers(server, "PUT", "/large/" + key, {}, headers, None)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=900)
    connection.putrequest("PUT", "/large/" + key, skip_host=True, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    peak, digest = 0, hashlib.md5()
    for number, piece in enumerate(stream(version)):
        connection.send(piece)
        digest.update(piece)
        if number % 64 == 0:
            peak = max(peak, rss_anon_mib())
    answer = connection.getresponse()
    answer.read()
    same(answer.status, 200)
    same(answer.headers["ETag"], '"%s"' % digest.hexdigest())
    return answer.headers, peak


def verify(key, version):
    headers = {}
    sign_headers(server, "GET", "/large/" + key, {}, headers, None)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=900)
    connection.request("GET", "/large/" + key, headers=headers)
    answer = connection.getresponse()
    same(answer.status, 200)
    peak = 0
    for number, piece in enumerate(stream(version)):
        assert answer.read(MIB) == piece, "MiB %d of %s" % (number, key)
        if number % 64 == 0:
            peak = max(peak, rss_anon_mib())
    same(answer.read(), b"")
    for number in (0, 1, 99, 100, SIZE // MIB // 2, SIZE // MIB - 1):
        got = server.request("GET", "/large/" + key, headers={
            "Range": "bytes=%d-%d" % (number * MIB + 7, number * MIB + 1006)}).body
        assert got == block(number, version)[7:1007], "a range of MiB %d of %s" % (number, key)
    return peak


@case
def plain():
    idle = rss_anon_mib()
    headers, peak = put("plain.bin", 0)
    same(headers["x-amz-storage-type"], "passthrough")
    read_peak = max(verify("plain.bin", 0), rss_anon_mib())
    print("# PUT %d, GET %d MiB above idle" % (peak - idle, read_peak - idle))
    assert peak - idle < 32, peak - idle
    assert read_peak - idle < 32, read_peak - idle
    server.request("DELETE", "/large/plain.bin")


@case
def as_a_delta_on_a_reference_of_its_size():
    put("v/one.tar", 1)
    headers, peak = put("v/two.tar", 2)
    same(headers["x-amz-storage-type"], "delta")
    stored = int(headers["x-deltaglider-stored-size"])
    print("# stored as %d bytes, %d MiB of anonymous memory at most" % (stored, peak))
    assert stored < SIZE // 50, stored
    assert peak < 2048, "%d MiB" % peak
    server.restart()
    verify("v/two.tar", 2)
    verify("v/one.tar", 1)


main()
