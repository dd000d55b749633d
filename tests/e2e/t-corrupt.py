#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Bit flips on disk: never wrong bytes, always an error, a metric and a log
line that names the object."""
import re
from lib import *

BUCKET = "rot"
v = versions(700001, 3)
plain = body(500000, 9)


def fresh(**env):
    server = Server(env=env)
    server.request("PUT", "/" + BUCKET)
    for key, data in (("d/a.zip", v[0]), ("d/b.zip", v[1]), ("d/c.zip", v[2]), ("d/p.bin", plain)):
        same(server.request("PUT", "/%s/%s" % (BUCKET, key), body=data).status, 200)
    return server


def restart_cold(server):
    """Nothing may come from memory or from kept indexes."""
    same(server.stop(), 0)
    shutil.rmtree(os.path.join(server.root, "cache"), ignore_errors=True)
    server.start()


def flip(path, at, bit=0):
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1 << bit]))


def fetch(server, key, headers=None):
    """(status, bytes, complete): a cut answer is an answer that is not complete."""
    try:
        answer = server.request("GET", "/%s/%s" % (BUCKET, key), headers=headers)
        return answer.status, answer.body, True
    except http.client.IncompleteRead as cut:
        return 0, cut.partial, False
    except (ConnectionError, http.client.HTTPException):
        return 0, b"", False


def metric(server):
    text = server.request("GET", "/_/metrics", sign=False).body.decode()
    return sum(float(number) for number in
               re.findall(r"^deltaglider_corruption_detected_total\S* (\S+)", text, re.M))


def never_wrong(server, key, want, what):
    """Reads whole and in ranges: right bytes or an error. True if an error was seen."""
    status, got, complete = fetch(server, key)
    if status == 200 and complete:
        assert got == want, what + ": wrong bytes came back"
        failed = False
    else:
        assert status in (0, 500), (what, status)
        assert want.startswith(got) or status == 500, what + ": wrong bytes before the cut"
        failed = True
    for first in range(0, len(want), max(1, len(want) // 5)):
        last = min(first + 999, len(want) - 1)
        status, got, complete = fetch(server, key, {"Range": "bytes=%d-%d" % (first, last)})
        if status == 206 and complete:
            assert got == want[first:last + 1], what + ": a range of wrong bytes came back"
        else:
            assert status in (0, 500), (what, status)
    return failed


@case
def a_rotten_delta_never_gives_wrong_bytes():
    server = fresh()
    path = server.path(BUCKET, "d/b.zip.delta")
    size = os.path.getsize(path)
    rng = random.Random(5)
    errors = 0
    spots = sorted({0, 1, 4, 5, size - 1, size // 2} | {rng.randrange(size) for _ in range(24)})
    for at in spots:
        bit = rng.randrange(8)
        flip(path, at, bit)
        restart_cold(server)
        errors += never_wrong(server, "d/b.zip", v[1], "delta byte %d of %d" % (at, size))
        assert fetch(server, "d/c.zip")[1] == v[2], "a sibling suffers"
        flip(path, at, bit)
    assert errors >= len(spots) * 3 // 4, "%d of %d flips were noticed" % (errors, len(spots))
    server.stop()


@case
def a_rotten_reference_never_gives_wrong_bytes():
    server = fresh()
    path = server.path(BUCKET, "d/reference.bin")
    rng = random.Random(6)
    errors = 0
    for _ in range(8):
        at, bit = rng.randrange(len(v[0])), rng.randrange(8)
        flip(path, at, bit)
        restart_cold(server)
        for key, want in (("d/a.zip", v[0]), ("d/b.zip", v[1]), ("d/c.zip", v[2])):
            errors += never_wrong(server, key, want, "reference byte %d for %s" % (at, key))
        assert metric(server) > 0, "no metric counted it"
        assert "d/a.zip" in server.log() and "corrupt" in server.log().lower()
        flip(path, at, bit)
        restart_cold(server)
        assert fetch(server, "d/b.zip")[1] == v[1], "healed bytes are served again"
    assert errors >= 8, errors
    server.stop()


@case
def a_flip_while_running_is_noticed_too():
    server = fresh()
    path = server.path(BUCKET, "d/b.zip.delta")
    assert fetch(server, "d/b.zip")[1] == v[1]
    size = os.path.getsize(path)
    flip(path, size - 3)
    never_wrong(server, "d/b.zip", v[1], "delta flipped under a running server")
    reference = server.path(BUCKET, "d/reference.bin")
    flip(reference, 1000)
    for key, want in (("d/a.zip", v[0]), ("d/c.zip", v[2])):
        never_wrong(server, key, want, "reference flipped under a running server")
    server.stop()


@case
def a_reference_cut_short_under_a_running_server_ends_requests_not_the_server():
    for length, left in ((0, "nothing"), (4096, "a page")):
        server = fresh()
        other = versions(300001, 2, seed=77)
        for name, data in (("e/a.zip", other[0]), ("e/b.zip", other[1])):
            same(server.request("PUT", "/%s/%s" % (BUCKET, name), body=data).status, 200)
        path = server.path(BUCKET, "d/reference.bin")
        same(fetch(server, "d/b.zip"), (200, v[1], True))
        os.truncate(path, length)
        assert never_wrong(server, "d/b.zip", v[1], left + " of the reference is left")
        # A put does not need it, and what it stores can be read.
        same(server.request("PUT", "/%s/d/new.zip" % BUCKET, body=v[2]).status, 200)
        same(fetch(server, "d/new.zip"), (200, v[2], True))
        same(fetch(server, "d/p.bin"), (200, plain, True))
        same(fetch(server, "e/b.zip"), (200, other[1], True))
        assert server.process.poll() is None, "the server died"
        assert metric(server) > 0, "no metric counted it"
        assert any("engine.corrupt" in line and "d/b.zip" in line
                   for line in server.log().splitlines())
        # The bytes come back from a backup.
        with open(path, "r+b") as file:
            file.write(v[0])
        same(fetch(server, "d/c.zip"), (200, v[2], True))
        same(server.stop(), 0)


@case
def a_put_that_meets_a_lost_reference_is_stored_without_it():
    server = fresh()
    path = server.path(BUCKET, "d/reference.bin")
    # Encoding maps it.
    same(server.request("PUT", "/%s/d/warm.zip" % BUCKET, body=v[1]).status, 200)
    os.truncate(path, 0)
    same(server.request("PUT", "/%s/d/new.zip" % BUCKET, body=v[2]).status, 200)
    same(fetch(server, "d/new.zip"), (200, v[2], True))
    assert server.process.poll() is None, "the server died"
    assert metric(server) > 0, "no metric counted it"
    same(server.stop(), 0)


@case
def rotten_metadata_is_an_error_not_another_object():
    server = fresh()
    for key, variant in (("d/b.zip", "d/b.zip.delta"), ("d/p.bin", "d/p.bin")):
        path = server.path(BUCKET, variant)
        text = os.getxattr(path, "user.dg.metadata")
        for spoilt in (b"", b"{", text[:-1], text.replace(b'"file_size"', b'"file_size'),
                       b"[]", b"\xff" * 40):
            os.setxattr(path, "user.dg.metadata", spoilt)
            restart_cold(server)
            status, got, complete = fetch(server, key)
            assert not (status == 200 and complete) or (key == "d/p.bin" and got == plain), \
                (key, spoilt[:20], status)
            head = server.request("HEAD", "/%s/%s" % (BUCKET, key))
            assert head.status in (500, 404) or key == "d/p.bin", (key, spoilt[:20], head)
            assert fetch(server, "d/c.zip")[1] == v[2]
            same(server.request("GET", "/" + BUCKET, query={"list-type": "2"}).status, 200)
        os.setxattr(path, "user.dg.metadata", text)
        restart_cold(server)
    assert fetch(server, "d/b.zip")[1] == v[1]
    # A digest that is well-formed but wrong.
    path = server.path(BUCKET, "d/b.zip.delta")
    text = os.getxattr(path, "user.dg.metadata")
    digest = re.search(rb'"file_sha256":\s*"(\w{64})"', text).group(1)
    os.setxattr(path, "user.dg.metadata", text.replace(digest, bytes(reversed(digest))))
    restart_cold(server)
    status, got, complete = fetch(server, "d/b.zip")
    assert not (status == 200 and complete), "a digest that does not fit was ignored"
    server.stop()


@case
def metadata_that_a_flipped_bit_leaves_readable_is_an_error_too():
    server = fresh()
    headers = {"Content-Type": "text/plain", "x-amz-meta-team": "core"}
    key = "d/told.txt"
    same(server.request("PUT", "/%s/%s" % (BUCKET, key), body=plain, headers=headers).status, 200)
    parts = "d/parts.bin"
    upload = re.search(r"<UploadId>([^<]+)", server.request(
        "POST", "/%s/%s" % (BUCKET, parts), query={"uploads": ""}).body.decode()).group(1)
    tag = server.request("PUT", "/%s/%s" % (BUCKET, parts), body=plain,
                         query={"partNumber": "1", "uploadId": upload}).headers["ETag"]
    same(server.request("POST", "/%s/%s" % (BUCKET, parts), query={"uploadId": upload}, body=(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>%s</ETag></Part>"
        "</CompleteMultipartUpload>" % tag).encode()).status, 200)
    where = {"user_metadata": (key, rb'"team":"(c)'), "content_type": (key, rb'"text/(p)'),
             "md5": (key, rb'"md5":"(\w)'), "created_at": (key, rb'"created_at":"202(\d)'),
             "file_sha256": (key, rb'"file_sha256":"(\w)'), "file_size": (key, rb'"file_size":(\d)'),
             "multipart_etag": (parts, rb'"multipart_etag":"\\"(\w)'),
             "the checksum": (key, rb'"dg_sum":"(\w)')}
    for number, (field, (name, pattern)) in enumerate(where.items()):
        path = server.path(BUCKET, name)
        text = os.getxattr(path, "user.dg.metadata")
        at = re.search(pattern, text).start(1)
        spoilt = text[:at] + bytes([text[at] ^ 1]) + text[at + 1:]
        json.loads(spoilt)
        same(fetch(server, name), (200, plain, True))
        os.setxattr(path, "user.dg.metadata", spoilt)
        if number % 2:
            restart_cold(server)
        before = metric(server)
        for method in ("GET", "HEAD"):
            same(server.request(method, "/%s/%s" % (BUCKET, name)).status, 500, field)
        assert metric(server) > before, field + ": no metric counted it"
        assert any("engine.corrupt" in line and name in line
                   for line in server.log().splitlines()), field
        assert any("fs.metadata.corrupt" in line and "checksum" in line
                   for line in server.log().splitlines()), field
        os.setxattr(path, "user.dg.metadata", text)
        same(fetch(server, name), (200, plain, True))
    server.stop()


@case
def truncated_and_swapped_files_are_noticed():
    for variant in ("d/b.zip.delta", "d/reference.bin", "d/p.bin"):
        server = fresh()
        path = server.path(BUCKET, variant)
        os.truncate(path, os.path.getsize(path) - 1)
        restart_cold(server)
        key, want = ("d/p.bin", plain) if variant == "d/p.bin" else ("d/b.zip", v[1])
        assert never_wrong(server, key, want, variant + " cut by a byte"), variant
        server.stop()
    server = fresh()
    one, two = server.path(BUCKET, "d/b.zip.delta"), server.path(BUCKET, "d/c.zip.delta")
    a, b = open(one, "rb").read(), open(two, "rb").read()
    open(one, "r+b").write(b)
    os.truncate(one, len(b))
    restart_cold(server)
    never_wrong(server, "d/b.zip", v[1], "another object's delta")
    server.stop()


@case
def passthrough_bodies_are_verified_where_asked_for():
    folder = tempfile.mkdtemp(dir=WORK)
    config = os.path.join(folder, "config.yaml")
    with open(config, "w") as file:
        file.write("storage:\n  buckets:\n    %s:\n      verify_passthrough_reads: true\n" % BUCKET)
    server = fresh(DGP_CONFIG=config)
    path = server.path(BUCKET, "d/p.bin")
    assert fetch(server, "d/p.bin")[1] == plain
    for at in (0, 1000, 250000, len(plain) - 1):
        flip(path, at)
        restart_cold(server)
        before = metric(server)
        status, got, complete = fetch(server, "d/p.bin")
        assert not (status == 200 and complete and got == plain)
        assert not (status == 200 and complete), "byte %d: wrong bytes came back" % at
        assert metric(server) > before
        before = metric(server)
        answer = server.request("GET", "/%s/d/p.bin" % BUCKET, headers={"Range": "bytes=5-9"})
        same(answer.status, 500)
        assert metric(server) > before
        assert "engine.corrupt" in server.log() and "d/p.bin" in server.log()
        flip(path, at)
    restart_cold(server)
    answer = server.request("GET", "/%s/d/p.bin" % BUCKET, headers={"Range": "bytes=5-9"})
    same((answer.status, answer.body), (206, plain[5:10]))
    assert fetch(server, "d/p.bin")[1] == plain
    server.stop()


@case
def by_default_what_passes_through_the_server_is_verified():
    # Without memory for bodies, small ones go through a worker and large ones
    # from their file.
    server = fresh(DGP_CACHE_MB="0")
    small = body(50000, 7)
    same(server.request("PUT", "/%s/d/s.bin" % BUCKET, body=small).status, 200)
    for key, data in (("d/s.bin", small), ("d/p.bin", plain)):
        same(fetch(server, key), (200, data, True))
        flip(server.path(BUCKET, key), len(data) - 1)
    restart_cold(server)
    before = metric(server)
    status, got, complete = fetch(server, "d/s.bin")
    assert not (status == 200 and complete), "wrong bytes came back"
    assert metric(server) > before
    assert "engine.corrupt" in server.log() and "d/s.bin" in server.log()
    before = metric(server)
    same(fetch(server, "d/p.bin"), (200, plain[:-1] + bytes([plain[-1] ^ 1]), True))
    same(metric(server), before)
    # A copy reads it, and so finds out.
    answer = server.request("PUT", "/%s/d/copy.bin" % BUCKET,
                            headers={"x-amz-copy-source": "/%s/d/p.bin" % BUCKET})
    same(answer.status, 500)
    assert metric(server) > before
    same(server.request("HEAD", "/%s/d/copy.bin" % BUCKET).status, 404)
    server.stop()


@case
def a_missing_reference_is_an_error():
    server = fresh()
    os.unlink(server.path(BUCKET, "d/reference.bin"))
    restart_cold(server)
    status, _, complete = fetch(server, "d/b.zip")
    assert not (status == 200 and complete)
    assert fetch(server, "d/p.bin")[1] == plain
    server.stop()


main()
