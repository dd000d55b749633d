#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""backend-s3 over a real S3 server of other people: the layout it leaves there, the
stores of others it finds there, listings that tell what HEAD tells, and what all that
costs in requests."""
import threading
from standins import *

KIB, MIB = 1 << 10, 1 << 20
upstream = Upstream()
faulty = Faulty(upstream.port)
v = versions(400000, 4)


def config(**options):
    return {"storage": {"backends": [s3_backend(upstream, port=faulty.port, **options)]}}


server = Server(config=config(), env={"DGP_DEBUG_HEADERS": "true"})
up = upstream.client()


def bucket(name):
    same(server.request("PUT", "/" + name).status, 200)
    return name


def put(bucket, key, data, **headers):
    answer = server.request("PUT", "/%s/%s" % (bucket, urllib.parse.quote(key)), body=data,
                            headers=headers)
    same(answer.status, 200, "PUT %s: %r" % (key, answer))
    return answer


def get(bucket, key, **headers):
    return server.request("GET", "/%s/%s" % (bucket, urllib.parse.quote(key)), headers=headers)


def rows(bucket, **options):
    """Every row of a paginated listing: (key, size, etag), prefixes as (key,)."""
    result = []
    pages = server.client().get_paginator("list_objects_v2").paginate(Bucket=bucket, **options)
    for page in pages:
        found = [(row["Key"], row["Size"], row["ETag"], row["LastModified"])
                 for row in page.get("Contents", ())]
        found += [(row["Prefix"],) for row in page.get("CommonPrefixes", ())]
        result += sorted(found, key=lambda row: row[0].encode())
    return result


def upstream_keys(bucket):
    return [row["Key"] for row in up.list_objects_v2(Bucket=bucket).get("Contents", ())]


def upstream_size(bucket, key):
    return up.head_object(Bucket=bucket, Key=key)["ContentLength"]


def passed(*operations):
    """How many requests of these kinds the upstream got since forget()."""
    return sum(1 for row in faulty.log() if row["operation"] in operations)


@case
def the_conformance_suite_passes():
    output = run(os.path.join(BUILD, "tools", "dg-plugin-check"), "--scratch", WORK,
                 "-o", "endpoint=" + upstream.url, "-o", "allow_local=true",
                 "-o", "access_key_id=" + upstream.access_key,
                 "-o", "secret_access_key=" + upstream.secret_key,
                 os.path.join(BUILD, "plugins", "backend-s3", "backend-s3.la"), check=False)
    bad = [line for line in output.splitlines() if line.startswith(("not ok", "# ", "Bail"))]
    assert "not ok" not in output and "Bail out" not in output, "\n".join(bad)
    assert ", 0 failed" in output, output


@case
def the_layout_is_that_of_deltaglider_proxy():
    b = bucket("layout")
    put(b, "a/app-1.zip", v[0])
    put(b, "a/app-2.zip", v[1], **{"Content-Type": "application/zip", "x-amz-meta-Team": "core"})
    put(b, "a/notes.txt", b"hello")
    put(b, "x.delta", b"not a delta")
    put(b, "reference.bin", b"not a reference")
    same(upstream_keys(b), ["a/app-1.zip.delta", "a/app-2.zip.delta", "a/notes.txt",
                            "a/reference.bin", "reference.bin~dg", "x.delta~dg"])
    head = up.head_object(Bucket=b, Key="a/app-2.zip.delta")
    meta = head["Metadata"]
    same(head["ContentType"], "application/octet-stream")
    created = meta.pop("dg-created-at")
    assert len(created) == 27 and created.endswith("Z"), created
    header = meta.pop("dg-ext-dgx1-sha256")
    assert len(header) == 64, header
    assert meta.pop("dg-tool").startswith("deltaglider_proxy/")
    same(meta, {
        "dg-original-name": "app-2.zip", "dg-file-sha256": sha256(v[1]),
        "dg-file-size": "400000", "dg-md5": hashlib.md5(v[1]).hexdigest(),
        "content-type": "application/zip", "dg-note": "delta", "dg-ref-path": "reference.bin",
        "dg-ref-sha256": sha256(v[0]), "dg-delta-size": str(head["ContentLength"]),
        "dg-delta-cmd": "xdelta3 -e -9 -s reference.bin app-2.zip app-2.zip.delta",
        "user-team": "core"})
    meta = up.head_object(Bucket=b, Key="a/reference.bin")["Metadata"]
    same((meta["dg-note"], meta["dg-original-name"], meta["dg-source-name"]),
         ("reference", "__reference__", "a/app-1.zip"))
    same(up.get_object(Bucket=b, Key="a/reference.bin")["Body"].read(), v[0])
    for key, data in (("a/app-1.zip", v[0]), ("a/app-2.zip", v[1]), ("a/notes.txt", b"hello"),
                      ("x.delta", b"not a delta"), ("reference.bin", b"not a reference")):
        assert get(b, key).body == data, key
    same([row[0] for row in rows(b)],
         ["a/app-1.zip", "a/app-2.zip", "a/notes.txt", "reference.bin", "x.delta"])


@case
def stock_xdelta3_decodes_what_lies_upstream():
    requires("xdelta3")
    b = bucket("stock")
    for number in range(3):
        put(b, "app-%d.tar" % number, v[number])
    folder = tempfile.mkdtemp(dir=WORK)
    for key in ("reference.bin", "app-2.tar.delta"):
        up.download_file(b, key, os.path.join(folder, key))
    run("xdelta3", "-d", "-s", os.path.join(folder, "reference.bin"),
        os.path.join(folder, "app-2.tar.delta"), os.path.join(folder, "out"))
    assert open(os.path.join(folder, "out"), "rb").read() == v[2]


def encode(reference, data):
    folder = tempfile.mkdtemp(dir=WORK)
    paths = [os.path.join(folder, name) for name in ("r", "t", "d")]
    for path, content in zip(paths, (reference, data)):
        with open(path, "wb") as file:
            file.write(content)
    run("xdelta3", "-e", "-9", "-s", *paths)
    return open(paths[2], "rb").read()


@case
def stores_of_the_proxy_and_of_the_python_tool_are_served():
    requires("xdelta3")
    b = bucket("foreign")
    delta = encode(v[0], v[1])
    proxy = {"dg-tool": "deltaglider_proxy/1.19.0", "dg-original-name": "app-2.zip",
             "dg-file-sha256": sha256(v[1]), "dg-file-size": "400000",
             "dg-md5": hashlib.md5(v[1]).hexdigest(), "dg-created-at": "2026-04-01T12:30:05.123456Z",
             "dg-note": "delta", "dg-ref-path": "reference.bin", "dg-ref-sha256": sha256(v[0]),
             "dg-delta-size": str(len(delta)), "content-type": "application/zip",
             "user-team": "core", "dg-multipart-etag": '"0123456789abcdef0123456789abcdef-3"'}
    reference = {"dg-tool": "deltaglider_proxy/1.19.0", "dg-original-name": "__reference__",
                 "dg-file-sha256": sha256(v[0]), "dg-file-size": "400000",
                 "dg-md5": hashlib.md5(v[0]).hexdigest(),
                 "dg-created-at": "2026-04-01T12:30:04.123456Z", "dg-note": "reference",
                 "dg-source-name": "p/app-1.zip"}
    up.put_object(Bucket=b, Key="p/reference.bin", Body=v[0], Metadata=reference)
    up.put_object(Bucket=b, Key="p/app-2.zip.delta", Body=delta, Metadata=proxy)
    up.put_object(Bucket=b, Key="c/reference.bin", Body=v[0], Metadata={
        "tool": "deltaglider/0.1.0", "source-name": "app-1.zip", "file-sha256": sha256(v[0]),
        "file-size": "400000", "created-at": "2025-01-02T03:04:05.678901", "note": "reference"})
    up.put_object(Bucket=b, Key="c/app-2.zip.delta", Body=delta, Metadata={
        "tool": "deltaglider/0.1.0", "original-name": "app-2.zip", "file-sha256": sha256(v[1]),
        "file-size": "400000", "created-at": "2025-01-02T03:04:05.678901", "note": "delta",
        "ref-key": "c/reference.bin", "ref-sha256": sha256(v[0]), "delta-size": str(len(delta))})
    up.put_object(Bucket=b, Key="plain.txt", Body=b"somebody's", ContentType="text/plain",
                  Metadata={"colour": "green", "dg-encrypted": "forged"})
    up.put_object(Bucket=b, Key="bare.zip.delta", Body=delta)
    up.put_object(Bucket=b, Key="text.delta", Body=b"only called so")

    answer = get(b, "p/app-2.zip")
    same((answer.status, answer.headers["ETag"], answer.headers["Content-Type"]),
         (200, '"0123456789abcdef0123456789abcdef-3"', "application/zip"))
    same(answer.headers["Last-Modified"], "Wed, 01 Apr 2026 12:30:05 GMT")
    same(answer.headers["x-amz-meta-team"], "core")
    assert answer.body == v[1]
    answer = get(b, "c/app-2.zip")
    same((answer.status, answer.headers["Last-Modified"]), (200, "Thu, 02 Jan 2025 03:04:05 GMT"))
    assert answer.body == v[1]
    answer = get(b, "plain.txt")
    same((answer.body, answer.headers["ETag"], answer.headers["Content-Type"]),
         (b"somebody's", etag_of(b"somebody's"), "text/plain"))
    same(answer.headers["x-amz-meta-colour"], "green")
    assert "x-amz-meta-dg-encrypted" not in answer.headers
    same(get(b, "bare.zip").status, 500, "a raw delta")
    same(get(b, "text").body, b"only called so")
    same([row[0] for row in rows(b)], ["c/app-2.zip", "p/app-2.zip", "plain.txt", "text"])
    put(b, "p/app-3.zip", v[2])
    same(json.loads(json.dumps(up.head_object(Bucket=b, Key="p/app-3.zip.delta")["Metadata"]))
         ["dg-ref-sha256"], sha256(v[0]))
    assert get(b, "p/app-3.zip").body == v[2]


@case
def values_that_no_header_holds_come_back():
    b = bucket("values")
    values = {"plain": "x", "german": "grün", "spaces": "a  b", "word": "=?UTF-8?B?Z3LDvG4=?="}
    headers = {"x-amz-meta-" + name: value.encode().decode("latin-1")
               for name, value in values.items()}
    put(b, "k", b"x", **headers)
    same(up.head_object(Bucket=b, Key="k")["Metadata"]["user-plain"], "x")
    import email.header
    answer = server.request("HEAD", "/values/k")
    for name, value in values.items():
        text = str(email.header.make_header(email.header.decode_header(
            answer.headers["x-amz-meta-" + name])))
        expected = "grün" if name == "word" else value
        same(" ".join(text.split()), " ".join(expected.split()), name)
    big = {"x-amz-meta-a": "x" * 1950}
    same(server.request("PUT", "/values/big", body=b"x", headers=big).code, "MetadataTooLarge")


@case
def listings_tell_what_head_tells():
    b = bucket("told")
    put(b, "d/app-1.zip", v[0])
    put(b, "d/app-2.zip", v[1])
    put(b, "d/plain.txt", b"hello")
    s3 = server.client()
    upload = s3.create_multipart_upload(Bucket=b, Key="d/parts.bin")["UploadId"]
    parts = [s3.upload_part(Bucket=b, Key="d/parts.bin", UploadId=upload, PartNumber=n,
                            Body=body(5 * MIB, n))["ETag"] for n in (1, 2)]
    s3.complete_multipart_upload(Bucket=b, Key="d/parts.bin", UploadId=upload, MultipartUpload={
        "Parts": [{"PartNumber": n + 1, "ETag": tag} for n, tag in enumerate(parts)]})
    up.put_object(Bucket=b, Key="d/others.txt", Body=b"others")

    def compare():
        found = rows(b)
        same([row[0] for row in found],
             ["d/app-1.zip", "d/app-2.zip", "d/others.txt", "d/parts.bin", "d/plain.txt"])
        for key, size, etag, modified in found:
            head = s3.head_object(Bucket=b, Key=key)
            same((size, etag, modified),
                 (head["ContentLength"], head["ETag"], head["LastModified"]), key)
    compare()
    server.restart()  # with nothing remembered
    compare()
    s3.copy_object(Bucket=b, Key="d/app-2.zip", CopySource={"Bucket": b, "Key": "d/app-2.zip"},
                   MetadataDirective="REPLACE", Metadata={"x": "y"}, ContentType="a/b")
    compare()
    same(s3.head_object(Bucket=b, Key="d/app-2.zip")["Metadata"]["x"], "y")
    assert get(b, "d/app-2.zip").body == v[1]


@case
def a_listing_asks_only_for_what_it_does_not_know():
    b = bucket("cheap")
    for number in range(60):
        put(b, "k/%03d.zip" % number, v[0][:1000] + bytes([number]))
    faulty.forget()
    same(len(rows(b)), 60)
    same((passed("HeadObject"), passed("ListObjectsV2", "ListObjects")), (0, 1), "after the PUTs")
    server.restart()
    faulty.forget()
    same(len(rows(b)), 60)
    same(passed("HeadObject"), 0, "after a restart")
    server.kill()
    shutil.rmtree(os.path.join(server.root, "cache"))
    server.start()
    time.sleep(1.1)  # what was seen in the second of a change is not believed: it has to pass
    faulty.forget()
    same(len(rows(b)), 60)
    same(passed("HeadObject"), 60, "with nothing remembered")
    faulty.forget()
    same(len(rows(b)), 60)
    same(passed("HeadObject"), 0, "once more")
    up.put_object(Bucket=b, Key="k/007.zip", Body=b"changed behind our back")
    faulty.forget()
    found = {row[0]: row for row in rows(b)}
    same(found["k/007.zip"][1], len(b"changed behind our back"))
    same(passed("HeadObject"), 1, "one object changed")
    server.kill()
    shutil.rmtree(os.path.join(server.root, "cache"))
    server.start()
    faulty.forget()
    page = server.client().list_objects_v2(Bucket=b, MaxKeys=5)
    same((len(page["Contents"]), page["IsTruncated"]), (5, True))
    assert passed("HeadObject") <= 8, "a page of 5 rows asked for %d" % passed("HeadObject")


@case
def what_is_known_is_opened_without_a_look():
    """Opening it tells whether it is still the same."""
    b = bucket("known")
    old, new = body(400 * KIB, 1), body(500 * KIB, 2)
    versions = [body(600 * KIB, 3)]
    versions.append(versions[0][:300 * KIB] + b"!" + versions[0][300 * KIB:])
    put(b, "big.bin", old)
    put(b, "d/app-1.zip", versions[0])
    put(b, "d/app-2.zip", versions[1])
    for key, data in (("big.bin", old), ("d/app-2.zip", versions[1])):
        assert get(b, key).body == data
        time.sleep(1.2)  # so long it is believed without any question
        faulty.forget()
        assert get(b, key).body == data
        same((passed("HeadObject"), passed("GetObject")), (0, 1), key)
        time.sleep(1.2)
        faulty.forget()
        tag = get(b, key, **{"Range": "bytes=5-9"}).headers["ETag"]
        same(passed("HeadObject"), 0, "a range of " + key)
        time.sleep(1.2)
        same(get(b, key, **{"If-None-Match": tag}).status, 304)
    up.put_object(Bucket=b, Key="big.bin", Body=new)
    time.sleep(1.2)
    answer = get(b, "big.bin", **{"If-None-Match": '"%s"' % hashlib.md5(old).hexdigest()})
    same((answer.status, answer.body == new), (200, True))
    up.put_object(Bucket=b, Key="big.bin", Body=old)
    time.sleep(1.2)
    assert get(b, "big.bin").body == old
    up.delete_object(Bucket=b, Key="big.bin")
    time.sleep(1.2)
    same(get(b, "big.bin").status, 404)


@case
def keys_come_in_order_whatever_they_are_stored_as():
    b = bucket("order")
    rng = random.Random(5)
    tails = ["", "-1", ".", ".a", ".delta", ".zip", ".zip-2", ".zip.delta", "/x.zip", "/", "~dg",
             "0", " b", "+", "/reference.bin", ".zip/y", "-.zip", "ü.zip"]
    keys = sorted({stem + tail for stem in ("app", "app-1", "a", "r.zip", ".deltaglider/c", "_dgp/d")
                   for tail in tails}, key=lambda key: key.encode())
    for key in rng.sample(keys, len(keys)):
        server.client().put_object(Bucket=b, Key=key, Body=v[0][:3000] + key.encode())
    kinds = {key.endswith(".delta") for key in upstream_keys(b)}
    same(kinds, {True, False}, "some are deltas, some are not")
    same([row[0] for row in rows(b)], keys)
    for size in (1, 2, 3, 7, 50):
        same([row[0] for row in rows(b, PaginationConfig={"PageSize": size})], keys,
             "pages of %d" % size)
    for prefix in ("", "app", "app-1", "app-1.", "a", "r.zip", "r.zip/", ".deltaglider/", "_dgp"):
        below = [key for key in keys if key.startswith(prefix)]
        same([row[0] for row in rows(b, Prefix=prefix)], below, "prefix " + prefix)
        for delimiter in ("/", ".", "delta", "p-"):
            expected = []
            for key in below:
                at = key.find(delimiter, len(prefix))
                row = key if at < 0 else key[:at + len(delimiter)]
                if row not in expected:
                    expected.append(row)
            for size in (2, 1000):
                got = rows(b, Prefix=prefix, Delimiter=delimiter, PaginationConfig={"PageSize": size})
                same([row[0] for row in got], sorted(expected, key=lambda key: key.encode()),
                     "prefix %r delimiter %r pages of %d" % (prefix, delimiter, size))
    for after in keys[::5] + ["app-", "app.", "app.d", "app.delta~"]:
        same([row[0] for row in rows(b, StartAfter=after)],
             [key for key in keys if key.encode() > after.encode()], "after " + after)
    for key in keys:
        assert server.client().get_object(Bucket=b, Key=key)["Body"].read() == \
            v[0][:3000] + key.encode(), key


@case
def files_of_the_proxy_itself_are_nobodys_objects():
    b = bucket("own")
    up.put_object(Bucket=b, Key=".deltaglider/config.db", Body=b"state")
    up.put_object(Bucket=b, Key="_dgp/locks/x", Body=b"lock")
    same(rows(b), [])
    same(rows(b, Delimiter="/"), [])
    same(get(b, ".deltaglider/config.db").status, 404)
    put(b, ".deltaglider/config.db", b"a client's")
    same(up.get_object(Bucket=b, Key=".deltaglider/config.db")["Body"].read(), b"state")
    same([row[0] for row in rows(b, Delimiter="/")], [".deltaglider/"])
    same(server.request("DELETE", "/own/.deltaglider/config.db").status, 204)
    same(upstream_keys(b), [".deltaglider/config.db", "_dgp/locks/x"])


@case
def large_bodies_go_up_in_parts_and_come_down_by_range():
    b = bucket("large")
    other = Server(config=config(multipart_threshold="6MiB", part_size="5MiB"))
    data = body(23 * MIB + 7, 9)
    faulty.forget()
    answer = other.request("PUT", "/large/big.bin", body=data)
    same((answer.status, answer.headers["ETag"]), (200, etag_of(data)))
    same(passed("UploadPart"), 5)
    assert up.head_object(Bucket=b, Key="big.bin")["ETag"].endswith('-5"')
    head = other.request("HEAD", "/large/big.bin")
    same((head.headers["ETag"], head.headers["Content-Length"]), (etag_of(data), str(len(data))))
    assert other.request("GET", "/large/big.bin").body == data
    for first, last in ((0, 0), (5 * MIB - 3, 5 * MIB + 3), (len(data) - 9, len(data) + 99)):
        answer = other.request("GET", "/large/big.bin",
                               headers={"Range": "bytes=%d-%d" % (first, last)})
        same(answer.status, 206)
        assert answer.body == data[first:last + 1]
    same(other.request("GET", "/large/big.bin", headers={"Range": "bytes=99999999-"}).status, 416)
    same(up.list_multipart_uploads(Bucket=b).get("Uploads", []), [])
    faulty.break_it({"fault": "status", "op": "UploadPart", "skip": 2, "status": 403,
                     "code": "AccessDenied"})
    answer = other.request("PUT", "/large/refused.bin", body=data)
    faulty.heal()
    same((answer.status, answer.code), (503, "ServiceUnavailable"))
    same(up.list_multipart_uploads(Bucket=b).get("Uploads", []), [], "it was aborted")
    other.stop()


@case
def a_connection_that_breaks_is_taken_up_where_it_broke():
    b = bucket("broken")
    data = body(9 * MIB, 4)
    put(b, "k.bin", data)
    server.restart()
    faulty.forget()
    faulty.break_it({"fault": "reset_answer", "op": "GetObject", "bytes": 3 * MIB, "times": 2})
    answer = get(b, "k.bin")
    fired = faulty.fired()
    faulty.heal()
    assert answer.body == data
    same(fired, 2)
    assert passed("GetObject") >= 3
    faulty.break_it({"fault": "cut", "op": "GetObject", "bytes": 1000})
    try:
        answer = get(b, "k.bin")
        assert answer.status >= 500, answer.status
    except http.client.IncompleteRead:
        pass
    faulty.heal()
    assert get(b, "k.bin").body == data


@case
def a_busy_upstream_is_asked_again_then_the_client_is():
    b = bucket("busy")
    faulty.break_it({"fault": "status", "op": "PutObject", "status": 503, "code": "SlowDown",
                     "times": 2})
    put(b, "k", b"x")
    faulty.break_it({"fault": "status", "op": "PutObject", "status": 503, "code": "SlowDown"})
    answer = server.request("PUT", "/busy/k", body=b"y")
    faulty.heal()
    same((answer.status, answer.code), (503, "SlowDown"))
    same(get(b, "k").body, b"x")
    faulty.break_it({"fault": "status", "op": "PutObject", "status": 403, "code": "AccessDenied"})
    answer = server.request("PUT", "/busy/k", body=b"y")
    faulty.heal()
    same((answer.status, answer.code), (503, "ServiceUnavailable"))
    assert "AccessDenied" in server.log()
    faulty.break_it({"fault": "etag", "op": "PutObject"})
    answer = server.request("PUT", "/busy/liar", body=b"y")
    faulty.heal()
    same((answer.status, answer.code), (500, "InternalError"))


@case
def an_upstream_that_is_gone_fails_fast_and_comes_back():
    b = bucket("gone")
    put(b, "k", b"x" * 300000)
    faulty.stop()
    for _ in range(6):
        answer = get(b, "k")
        assert answer.status in (503, 500, 504), answer
    started = time.monotonic()
    same(get(b, "k").status, 503)
    assert time.monotonic() - started < 0.5, "the breaker is not open"
    assert "s3.breaker.open" in server.log()
    faulty.start()
    deadline = time.monotonic() + 30
    while get(b, "k").status != 200:
        assert time.monotonic() < deadline, "the breaker does not close"
        time.sleep(0.1)  # it closes in its own time
    assert "s3.breaker.closed" in server.log()


@case
def private_endpoints_must_be_meant():
    refused = Server(config={"storage": {"backends": [
        dict(s3_backend(upstream), allow_local=False)]}}, autostart=False)
    refused.spawn()
    assert refused.process.wait(20) != 0
    assert "allow_local" in refused.log(), refused.log()
    assert upstream.secret_key not in refused.log()
    refused.process = None


@case
def two_servers_never_make_two_references():
    b = bucket("two")
    others = [Server(config=config()) for _ in range(2)]
    stored = {}

    def work(server, number):
        for turn in range(12):
            path = "/two/s%d/%d.zip" % (turn, number)
            data = v[(turn + number) % 4][:60000] + bytes([number, turn])
            for _ in range(20):
                answer = server.request("PUT", path, body=data)
                if answer.status == 200:
                    stored[path] = data
                    break
                if (answer.status, answer.code) != (503, "SlowDown"):
                    stored[path] = answer
                    break
    threads = [threading.Thread(target=work, args=(others[n % 2], n)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    same(len(stored), 72)
    for server in others:
        server.restart()
        for path, data in stored.items():
            answer = server.request("GET", path)
            assert answer.status == 200 and answer.body == data, (path, answer)
        assert server.stop() == 0
    same([key for key in upstream_keys(b) if "_cwprobe" in key], [])


@case
def the_longest_keys_are_stored():
    b = bucket("long")
    keys = ["k" * 1020 + ".zip", "k" * 1012 + "-1.zip", "d/" * 507 + ".delta"]
    for number, key in enumerate(keys):
        put(b, key, v[number])
    for number, key in enumerate(keys):
        assert get(b, key).body == v[number], key
    same([row[0] for row in rows(b)], sorted(keys))


@case
def a_read_costs_few_requests():
    b = bucket("few")
    put(b, "a.zip", v[0])
    put(b, "b.zip", v[1])
    put(b, "plain.bin", v[2])
    server.restart()
    get(b, "a.zip")  # brings the reference into the cache
    faulty.forget()
    answer = get(b, "plain.bin", Range="bytes=100-199")
    assert answer.body == v[2][100:200]
    same((passed("HeadObject"), passed("GetObject")), (2, 1), "a range")
    faulty.forget()
    assert get(b, "b.zip").body == v[1]
    same((passed("HeadObject"), passed("GetObject")), (2, 1), "a delta")
    faulty.forget()
    assert get(b, "b.zip").body == v[1]
    assert passed("HeadObject", "GetObject") <= 2, faulty.log()


@case
def many_clients_at_once_lose_nothing():
    b = bucket("many")
    failures = []

    def work(number):
        try:
            for turn in range(10):
                key = "w%d/%d.zip" % (number, turn % 3)
                data = v[turn % 4][:50000] + bytes([number, turn])
                put(b, key, data)
                if get(b, key).body != data:
                    failures.append(key)
        except BaseException as error:
            failures.append(repr(error))
    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    same(failures, [])
    same(len(rows(b)), 24)


@case
def a_large_delta_is_read_in_one_request():
    name = bucket("stretched")
    first = body(24 * MIB, 31)
    second = first[:8 * MIB] + body(8 * MIB, 32) + first[16 * MIB:]
    put(name, "d/1.tar", first)
    put(name, "d/2.tar", second)
    assert upstream_size(name, "d/2.tar.delta") > 8 * MIB
    assert get(name, "d/2.tar").body == second  # the reference is in the cache from here on
    faulty.forget()
    assert get(name, "d/2.tar").body == second
    same(passed("GetObject"), 1, "the whole object")
    faulty.forget()
    answer = get(name, "d/2.tar", Range="bytes=%d-%d" % (12 * MIB, 12 * MIB + 999))
    assert answer.body == second[12 * MIB:12 * MIB + 1000]
    assert passed("GetObject") <= 4, "a range asked %d times" % passed("GetObject")


@case
def a_deleted_bucket_takes_only_references_with_it():
    b = bucket("ending")
    put(b, "a/1.zip", v[0])
    same(server.request("DELETE", "/" + b).code, "BucketNotEmpty")
    same(server.request("DELETE", "/ending/a/1.zip").status, 204)
    same(upstream_keys(b), [])
    up.put_object(Bucket=b, Key="a/reference.bin", Body=b"left by a crash")
    same(server.request("DELETE", "/" + b).status, 204)
    same(error_of(up.head_bucket, Bucket=b)[0], 404)
    same(server.request("PUT", "/ending/k", body=b"x").code, "NoSuchBucket")
    same(server.request("GET", "/ending/k").code, "NoSuchBucket")


@case
def a_removed_prefix_takes_deltas_and_references_with_it():
    b = bucket("prefix")
    other = Server(config=dict(config(), advanced={"recursive_delete": True,
                                                   "recursive_delete_page_size": 5}))
    keys = ["a/%s%d%s" % (folder, n, end) for folder in ("", "x/", "y-z/") for n in range(4)
            for end in (".zip", "-1.zip", "")]
    for key in keys + ["a.zip", "a-1", "b/1.zip"]:
        put(b, key, v[0][:50000])
    answer = other.request("DELETE", "/prefix/a/")
    same((answer.status, answer.body), (200, b'{"deleted":%d,"denied":0}\n' % len(keys)))
    same(sorted(upstream_keys(b)), ["a-1", "a.zip.delta", "b/1.zip.delta", "b/reference.bin",
                                    "reference.bin"])
    other.stop()


main()
