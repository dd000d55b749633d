#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The main job: versions go in, one copy and small deltas come to rest, stock
xdelta3 reads them, and everything comes back byte-identical."""
from lib import *

BUCKET = "rel"
server = Server(env={"DGP_DEBUG_HEADERS": "true"})
server.request("PUT", "/" + BUCKET)
v = versions(3000000, 5)


def put(key, data, **headers):
    return server.request("PUT", "/%s/%s" % (BUCKET, key), body=data, headers=headers)


def get(key, **headers):
    return server.request("GET", "/%s/%s" % (BUCKET, key), headers=headers)


def meta(path):
    return json.loads(os.getxattr(server.path(BUCKET, path), "user.dg.metadata"))


@case
def versions_come_to_rest_as_one_reference_and_small_deltas():
    for number, data in enumerate(v):
        answer = put("app/app-%d.tar" % number, data)
        same((answer.status, answer.headers["ETag"]), (200, etag_of(data)))
        same(answer.headers["x-amz-storage-type"], "delta")
    same(server.files(BUCKET), sorted(
        ["rel/deltaspaces/app/reference.bin"] +
        ["rel/deltaspaces/app/app-%d.tar.delta" % number for number in range(5)]))
    sizes = {path: os.path.getsize(os.path.join(server.data, path)) for path in server.files(BUCKET)}
    same(sizes["rel/deltaspaces/app/reference.bin"], 3000000)
    assert sum(sizes.values()) < 3000000 + 5 * 30000, sizes
    assert sizes["rel/deltaspaces/app/app-0.tar.delta"] < 1000, "the first is a self-delta"
    for number, data in enumerate(v):
        answer = get("app/app-%d.tar" % number)
        assert answer.body == data
        same(answer.headers["x-amz-storage-type"], "delta")
        assert answer.headers["x-deltaglider-cache"] in ("hit", "miss")


@case
def metadata_at_rest_is_deltagliders():
    row = meta("app/app-3.tar.delta")
    same(row["note"], "delta")
    same(row["original_name"], "app-3.tar")
    same(row["file_sha256"], sha256(v[3]))
    same(row["md5"], hashlib.md5(v[3]).hexdigest())
    same((row["file_size"], row["ref_sha256"]), (3000000, sha256(v[0])))
    same(row["ref_path"], "reference.bin")
    same(row["delta_size"], os.path.getsize(server.path(BUCKET, "app/app-3.tar.delta")))
    row = meta("app/reference.bin")
    same((row["note"], row["original_name"], row["file_sha256"]),
         ("reference", "__reference__", sha256(v[0])))
    same(row["source_name"], "app/app-0.tar")


@case
def stock_xdelta3_reads_every_delta():
    requires("xdelta3")
    for number, data in enumerate(v):
        out = os.path.join(WORK, "decoded")
        run("xdelta3", "-d", "-f", "-s", server.path(BUCKET, "app/reference.bin"),
            server.path(BUCKET, "app/app-%d.tar.delta" % number), out)
        assert open(out, "rb").read() == data, number


@case
def what_stock_xdelta3_wrote_is_served():
    requires("xdelta3")
    for flags in (["-9"], ["-1", "-S", "djw"], ["-S", "none", "-n"], ["-S", "lzma"], ["-A", "-W", "65536"]):
        path = server.path(BUCKET, "app/app-2.tar.delta")
        text = os.getxattr(path, "user.dg.metadata")
        source = os.path.join(WORK, "target")
        open(source, "wb").write(v[2])
        new = path + ".new"
        run("xdelta3", "-e", "-f", "-D", *flags, "-s", server.path(BUCKET, "app/reference.bin"), source, new)
        os.replace(new, path)
        row = json.loads(text)
        row = {name: value for name, value in row.items() if not name.startswith("dg_")}
        row["delta_size"] = os.path.getsize(path)
        os.setxattr(path, "user.dg.metadata", json.dumps(row, separators=(",", ":")).encode())
        server.restart()
        assert get("app/app-2.tar").body == v[2], flags
        answer = get("app/app-2.tar", Range="bytes=1500000-1500099")
        same((answer.status, answer.body), (206, v[2][1500000:1500100]), flags)


@case
def ranges_of_deltas_are_exact():
    rng = random.Random(3)
    for _ in range(30):
        first = rng.randrange(3000000)
        last = min(2999999, first + rng.randrange(1, 400000))
        answer = get("app/app-4.tar", Range="bytes=%d-%d" % (first, last))
        assert answer.status == 206 and answer.body == v[4][first:last + 1], (first, last)


@case
def hopeless_and_ineligible_bodies_pass_through():
    data = body(1000000, 5)
    same(put("app/random.zip", data).headers["x-amz-storage-type"], "passthrough")
    same(put("app/notes.txt", v[1]).headers["x-amz-storage-type"], "passthrough")
    same(put("app/empty.zip", b"").headers["x-amz-storage-type"], "passthrough")
    assert get("app/random.zip").body == data
    assert get("app/empty.zip").body == b""
    same(meta("app/random.zip")["note"], "passthrough")


@case
def a_failed_first_object_leaves_no_reference():
    put("single/notes.txt", b"x")
    assert "rel/deltaspaces/single/reference.bin" not in server.files()


@case
def overwrites_change_the_variant():
    put("app/app-1.tar", body(3000000, 8))
    assert "rel/deltaspaces/app/app-1.tar" in server.files()
    assert "rel/deltaspaces/app/app-1.tar.delta" not in server.files()
    put("app/app-1.tar", v[1])
    assert "rel/deltaspaces/app/app-1.tar" not in server.files()
    assert get("app/app-1.tar").body == v[1]


@case
def the_reference_goes_with_the_last_object():
    for number in range(5):
        server.request("PUT", "/%s/gone/v%d.zip" % (BUCKET, number), body=v[number])
    server.request("DELETE", "/%s/gone/v0.zip" % BUCKET)  # the one that seeded the reference
    for number in range(1, 5):
        assert get("gone/v%d.zip" % number).body == v[number]
    for number in range(1, 5):
        server.request("DELETE", "/%s/gone/v%d.zip" % (BUCKET, number))
    same([path for path in server.files() if "/gone" in path], [])


@case
def nothing_depends_on_memory():
    server.stop()
    shutil.rmtree(os.path.join(server.root, "cache"))
    server.start()
    for number, data in enumerate(v):
        assert get("app/app-%d.tar" % number).body == data


@case
def statistics_add_up():
    other = Server()
    other.request("PUT", "/" + BUCKET)
    for number, data in enumerate(v):
        other.request("PUT", "/%s/%d.zip" % (BUCKET, number), body=data)
    answer = json.loads(other.request("GET", "/_/stats", sign=False).body)
    same((answer["total_objects"], answer["total_original_size"]), (5, 15000000))
    stored = sum(os.path.getsize(os.path.join(other.data, path)) for path in other.files(BUCKET))
    same(answer["total_stored_size"], stored)
    assert abs(answer["savings_percentage"] - 100 * (1 - stored / 15000000)) < 0.02, answer
    assert 0 <= answer.pop("age_seconds") < 600, answer
    of_bucket = json.loads(other.request("GET", "/_/stats", query={"bucket": BUCKET},
                                         sign=False).body)
    del of_bucket["age_seconds"]
    same(of_bucket, answer)
    same(other.stop(), 0)


@case
def debug_headers_are_silent_by_default():
    other = Server()
    other.request("PUT", "/" + BUCKET)
    answer = other.request("PUT", "/%s/a.zip" % BUCKET, body=v[0])
    assert "x-amz-storage-type" not in answer.headers
    answer = other.request("GET", "/%s/a.zip" % BUCKET)
    assert not [name for name in answer.headers if "dg-" in name or "deltaglider" in name.lower()
                and name != "Server"], answer.headers
    other.stop()


def upload(server, key, pieces):
    """Completes an upload of these parts: how it came to rest."""
    s3 = server.client()
    upload_id = s3.create_multipart_upload(Bucket=BUCKET, Key=key)["UploadId"]
    parts = [{"PartNumber": number, "ETag": s3.upload_part(
        Bucket=BUCKET, Key=key, UploadId=upload_id, PartNumber=number, Body=piece)["ETag"]}
        for number, piece in enumerate(pieces, 1)]
    s3.complete_multipart_upload(Bucket=BUCKET, Key=key, UploadId=upload_id,
                                 MultipartUpload={"Parts": parts})
    answer = server.request("GET", "/%s/%s" % (BUCKET, key))
    assert answer.body == b"".join(pieces)
    return answer.headers["x-amz-storage-type"]


@case
def uploads_above_their_limit_are_stored_as_they_are():
    other = Server(env={"DGP_DEBUG_HEADERS": "true",
                        "DGP_MPU_DELTA_RECONSTRUCT_MAX_BYTES": "3000000"})
    other.request("PUT", "/" + BUCKET)
    same(upload(other, "m/1.tar", [v[0][:1000], v[0][1000:]]), "delta")
    same(upload(other, "m/2.tar", [v[1], b"x"]), "passthrough")
    answer = other.request("PUT", "/%s/m/3.tar" % BUCKET, body=v[1] + b"x")
    same(answer.headers["x-amz-storage-type"], "delta")
    other.restart({"DGP_MPU_DELTA_RECONSTRUCT_MAX_BYTES": None})
    same(upload(other, "m/4.tar", [v[1], b"x"]), "delta")
    other.stop()


@case
def first_bytes_decide_where_the_bucket_says_so():
    other = Server(env={"DGP_DEBUG_HEADERS": "true", "DGP_DATA_DIR": None})
    other.stop()
    other.config = {"storage": {"filesystem": other.data,
                                "buckets": {BUCKET: {"delta_sniffing": True}}}}
    other.start()
    for name in (BUCKET, "names"):
        other.make_bucket(name)
    program = [b"\x7fELF" + data[4:] for data in v[:4]]
    packed = b"\x1f\x8b\x08" + v[0][3:]
    how = lambda path, **more: other.request("PUT", path, **more).headers["x-amz-storage-type"]
    same(how("/%s/s/1" % BUCKET, body=program[0]), "delta")
    same(how("/%s/s/2.gz" % BUCKET, body=packed), "passthrough")
    same(how("/names/s/1", body=program[0]), "passthrough")
    pieces = [program[1][at:at + 100000] for at in range(0, len(program[1]), 100000)]
    pieces[:1] = [program[1][:2], program[1][2:700], program[1][700:100000]]
    framed = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    same(how("/%s/s/3" % BUCKET, body=framed, headers={
        "Transfer-Encoding": "chunked", "x-amz-content-sha256": "UNSIGNED-PAYLOAD"}), "delta")
    same(upload(other, "s/4", [program[2][:3], program[2][3:]]), "delta")
    same(upload(other, "s/5.gz", [packed[:3], packed[3:]]), "passthrough")
    other.client().copy_object(Bucket=BUCKET, Key="s/6", CopySource="names/s/1")
    for key, data in (("1", program[0]), ("2.gz", packed), ("3", program[1]), ("6", program[0])):
        answer = other.request("GET", "/%s/s/%s" % (BUCKET, key))
        assert answer.body == data, key
        same(answer.headers["x-amz-storage-type"], "passthrough" if "gz" in key else "delta", key)
    assert sum(os.path.getsize(os.path.join(other.data, name))
               for name in other.files(BUCKET) if name.endswith(".delta")) < 200000
    other.stop()


main()
