#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What the storage does by itself, over a real S3 server of other people. Multipart
uploads: the parts of an object that can be no delta go there as they come, once, and are
an object of that server's own making in the end. Copies: bytes that need not change do
not come through the server."""
import base64
import threading
import zlib
from standins import *

MIB = 1 << 20
upstream = Upstream()
faulty = Faulty(upstream.port)
up = upstream.client()


def config(backend=None, **advanced):
    return {"storage": {"backends": [s3_backend(upstream, port=faulty.port, **(backend or {}))]},
            "advanced": advanced}


server = Server(config=config())
s3 = server.client()
B = "native"
s3.create_bucket(Bucket=B)
PIECES = [body(6 * MIB, 1), body(6 * MIB, 2), body(1000, 3)]
UNEQUAL = [body(5 * MIB, 1), body(6 * MIB + 7, 2), body(1000, 3)]
WHOLE = b"".join(PIECES)


def create(key, bucket=B, **extra):
    return s3.create_multipart_upload(Bucket=bucket, Key=key, **extra)["UploadId"]


def part(key, upload, number, data, bucket=B, **extra):
    answer = s3.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=number, Body=data,
                            **extra)
    return {"PartNumber": number, "ETag": answer["ETag"]}


def complete(key, upload, parts, bucket=B, **extra):
    return s3.complete_multipart_upload(Bucket=bucket, Key=key, UploadId=upload,
                                        MultipartUpload={"Parts": parts}, **extra)


def tag_of(pieces):
    joined = b"".join(hashlib.md5(piece).digest() for piece in pieces)
    return '"%s-%d"' % (hashlib.md5(joined).hexdigest(), len(pieces))


def asked(*operations):
    """What the upstream was asked for since forget(), looks at objects left out."""
    return [row["operation"] for row in faulty.log()
            if row["operation"] not in ("HeadObject", "HeadBucket")]


def state_files(server=server):
    """Sizes of the parts' files in the server's own state."""
    top = os.path.join(server.root, "state")
    return sorted(os.path.getsize(os.path.join(folder, name))
                  for folder, _, names in os.walk(top) for name in names
                  if name.startswith(("part-", "tmp-")))


def spool_bytes(server=server):
    """Bytes of nameless files that the server has open."""
    total = 0
    for name in os.listdir("/proc/%d/fd" % server.process.pid):
        try:
            link = os.readlink("/proc/%d/fd/%s" % (server.process.pid, name))
            if link.endswith(" (deleted)"):
                total += os.stat("/proc/%d/fd/%s" % (server.process.pid, name)).st_size
        except OSError:
            pass
    return total


def uploads_there(bucket=B):
    return [row["Key"] for row in up.list_multipart_uploads(Bucket=bucket).get("Uploads", ())]


def read(key, bucket=B):
    return s3.get_object(Bucket=bucket, Key=key)["Body"].read()


@case
def parts_go_to_the_storage_once_and_become_one_object_there():
    faulty.forget()
    upload = create("whole.bin", Metadata={"colour": "green"}, ContentType="text/m",
                    CacheControl="private", ContentDisposition='attachment; filename="m"',
                    ContentLanguage="de")
    same(asked(), [], "before the first part")
    parts = [part("whole.bin", upload, number + 1, data) for number, data in enumerate(PIECES)]
    same([row["ETag"] for row in parts], [etag_of(piece) for piece in PIECES])
    same(state_files(), [256, 256, 256], "no part lies in the server's state")
    same(spool_bytes(), 0)
    answer = complete("whole.bin", upload, parts)
    same(asked(), ["CreateMultipartUpload"] + 3 * ["UploadPart"] + ["CompleteMultipartUpload"])
    same(state_files(), [])
    same(answer["ETag"], tag_of(PIECES))
    for look in (s3.head_object, s3.get_object):
        got = look(Bucket=B, Key="whole.bin")
        same((got["ETag"], got["ContentLength"], got["Metadata"], got["ContentType"],
              got["CacheControl"], got["ContentDisposition"], got["ContentLanguage"]),
             (tag_of(PIECES), len(WHOLE), {"colour": "green"}, "text/m", "private",
              'attachment; filename="m"', "de"))
    assert got["Body"].read() == WHOLE
    there = up.get_object(Bucket=B, Key="whole.bin")
    assert there["Body"].read() == WHOLE
    meta = there["Metadata"]
    same(len(meta.pop("dg-upload")), 32)
    assert meta.pop("dg-ext-part-sizes").startswith("6291456?")
    same((meta, there["ETag"], there["ContentType"], there["CacheControl"]),
         ({"colour": "green"}, tag_of(PIECES), "text/m", "private"), "whoever reads it directly")


@case
def listings_and_ranges_tell_what_head_tells():
    def compare():
        head = s3.head_object(Bucket=B, Key="whole.bin")
        row = s3.list_objects_v2(Bucket=B, Prefix="whole.bin")["Contents"][0]
        same((row["Size"], row["ETag"], row["LastModified"]),
             (head["ContentLength"], head["ETag"], head["LastModified"]))
    compare()
    server.restart()
    compare()
    server.stop()
    shutil.rmtree(os.path.join(server.root, "cache"))
    server.start()
    compare()
    faulty.forget()
    got = s3.get_object(Bucket=B, Key="whole.bin", Range="bytes=5242870-5242889")
    same((got["Body"].read(), got["ETag"]), (WHOLE[5242870:5242890], tag_of(PIECES)))
    same(sum(row["operation"] == "GetObject" for row in faulty.log()), 1, "GETs of one range")


def notes_there(bucket=B):
    return [row["Key"] for row in up.list_objects_v2(
        Bucket=bucket, Prefix=".deltaglider/notes/").get("Contents", ())]


def check_parts(key, pieces, client=s3, bucket=B):
    at = 0
    for number, piece in enumerate(pieces, 1):
        got = client.get_object(Bucket=bucket, Key=key, PartNumber=number)
        same((got["PartsCount"], got["ContentLength"], got["ContentRange"]),
             (len(pieces), len(piece),
              "bytes %d-%d/%d" % (at, at + len(piece) - 1, sum(map(len, pieces)))))
        assert got["Body"].read() == piece
        head = client.head_object(Bucket=bucket, Key=key, PartNumber=number)
        same((head["PartsCount"], head["ContentLength"]), (len(pieces), len(piece)))
        at += len(piece)
    same(error_of(client.get_object, Bucket=bucket, Key=key, PartNumber=len(pieces) + 1)[0], 416)


@case
def the_parts_of_what_the_storage_joined_can_be_read():
    check_parts("whole.bin", PIECES)
    same(notes_there(), [], "equal parts need none")
    upload = create("unequal.bin")
    complete("unequal.bin", upload, [part("unequal.bin", upload, number + 1, data)
                                     for number, data in enumerate(UNEQUAL)])
    check_parts("unequal.bin", UNEQUAL)
    same(len(notes_there()), 1)
    same([row["Key"] for row in s3.list_objects_v2(Bucket=B, Delimiter="/")["Contents"]],
         ["unequal.bin", "whole.bin"])
    assert "CommonPrefixes" not in s3.list_objects_v2(Bucket=B, Delimiter="/")
    server.restart()
    check_parts("whole.bin", PIECES)
    check_parts("unequal.bin", UNEQUAL)
    s3.delete_object(Bucket=B, Key="unequal.bin")
    same(notes_there(), [])


def without_notes():
    faulty.break_it({"fault": "status", "status": 403, "code": "AccessDenied",
                     "op": "PutObject", "key": "notes/"})


@case
def an_upstream_that_knows_no_parts_is_found_out():
    pieces = [UNEQUAL[0], UNEQUAL[1], UNEQUAL[1]]
    upload = create("unknown.bin")
    parts = [part("unknown.bin", upload, number + 1, data) for number, data in enumerate(pieces)]
    without_notes()
    complete("unknown.bin", upload, parts)
    faulty.heal()
    same(notes_there(), [], "no note was stored")
    same(error_of(s3.get_object, Bucket=B, Key="unknown.bin", PartNumber=2),
         (501, "NotImplemented"))
    same(error_of(s3.head_object, Bucket=B, Key="unknown.bin", PartNumber=2)[0], 501)
    assert read("unknown.bin") == b"".join(pieces)
    s3.delete_object(Bucket=B, Key="unknown.bin")


@case
def parts_that_look_like_equal_ones_are_not_joined_without_their_note():
    upload = create("alike.bin")
    parts = [part("alike.bin", upload, number + 1, data) for number, data in enumerate(UNEQUAL)]
    without_notes()
    same(error_of(complete, "alike.bin", upload, parts)[0], 503)
    same(error_of(s3.head_object, Bucket=B, Key="alike.bin")[0], 404)
    faulty.heal()
    complete("alike.bin", upload, parts)
    check_parts("alike.bin", UNEQUAL)
    s3.delete_object(Bucket=B, Key="alike.bin")
    same(notes_there(), [])


@case
def a_note_goes_with_its_object_and_with_its_bucket():
    s3.create_bucket(Bucket="noted")
    for pieces in (UNEQUAL, UNEQUAL[:2]):
        upload = create("n.bin", "noted")
        complete("n.bin", upload, [part("n.bin", upload, number + 1, data, "noted")
                                   for number, data in enumerate(pieces)], "noted")
        check_parts("n.bin", pieces, bucket="noted")
        same(len(notes_there("noted")), 1)
    s3.delete_object(Bucket="noted", Key="n.bin")
    same(notes_there("noted"), [])
    up.put_object(Bucket="noted", Key=".deltaglider/notes/0-left-over", Body=b"x")
    s3.delete_bucket(Bucket="noted")
    same(error_of(up.head_bucket, Bucket="noted")[0], 404)


@case
def an_upstream_that_knows_parts_is_asked_for_them():
    other = Server()
    other.client().create_bucket(Bucket="theirs")
    front = Server(config={"storage": {"backends": [s3_backend(other)]}})
    there = other.client()
    upload = there.create_multipart_upload(Bucket="theirs", Key="k.bin")["UploadId"]
    tags = [there.upload_part(Bucket="theirs", Key="k.bin", UploadId=upload, PartNumber=number,
                              Body=piece)["ETag"] for number, piece in enumerate(UNEQUAL, 1)]
    there.complete_multipart_upload(
        Bucket="theirs", Key="k.bin", UploadId=upload,
        MultipartUpload={"Parts": [{"PartNumber": number, "ETag": tag}
                                   for number, tag in enumerate(tags, 1)]})
    check_parts("k.bin", UNEQUAL, front.client(), "theirs")
    # What our own server has cut for the way is no part of the client's.
    front.client().put_object(Bucket="theirs", Key="one.bin", Body=PIECES[0])
    got = front.client().get_object(Bucket="theirs", Key="one.bin", PartNumber=1)
    same(got["ContentLength"], len(PIECES[0]))
    same(error_of(front.client().get_object, Bucket="theirs", Key="one.bin", PartNumber=2)[0], 416)
    front.stop()
    other.stop()


@case
def a_crash_between_parts_loses_none_of_them():
    upload = create("crash.bin")
    parts = [part("crash.bin", upload, 1, PIECES[0])]
    server.kill()
    server.start()
    parts.append(part("crash.bin", upload, 2, PIECES[1]))
    server.kill()
    server.start()
    rows = s3.list_parts(Bucket=B, Key="crash.bin", UploadId=upload)["Parts"]
    same([(row["PartNumber"], row["Size"], row["ETag"]) for row in rows],
         [(n + 1, len(PIECES[n]), etag_of(PIECES[n])) for n in range(2)])
    same([row["UploadId"] for row in s3.list_multipart_uploads(Bucket=B)["Uploads"]], [upload])
    parts.append(part("crash.bin", upload, 3, PIECES[2]))
    faulty.forget()
    same(complete("crash.bin", upload, parts)["ETag"], tag_of(PIECES))
    same(asked(), ["CompleteMultipartUpload"])
    assert read("crash.bin") == WHOLE


@case
def a_crash_around_the_completion_is_mended_by_asking_again():
    for fault in ("engine.native.complete:kill:1", "engine.complete.done:kill:1"):
        upload = create("late.bin", Metadata={"fault": fault})
        parts = [part("late.bin", upload, n + 1, data) for n, data in enumerate(PIECES)]
        server.restart({"DGP_FAULT": fault})
        try:
            complete("late.bin", upload, parts)
            raise AssertionError("it was killed")
        except Exception as error:
            assert "Connection" in type(error).__name__, error
        server.kill()
        server.start()
        same(complete("late.bin", upload, parts)["ETag"], tag_of(PIECES), fault)
        same(complete("late.bin", upload, parts)["ETag"], tag_of(PIECES), "and again")
        same(s3.head_object(Bucket=B, Key="late.bin")["Metadata"], {"fault": fault})
        assert read("late.bin") == WHOLE
        same(uploads_there(), [])


@case
def a_crash_while_it_is_begun_leaves_an_upload_that_works():
    upload = create("begun.bin")
    server.restart({"DGP_FAULT": "engine.native.begin:kill:1"})
    try:
        part("begun.bin", upload, 1, PIECES[0])
        raise AssertionError("it was killed")
    except Exception as error:
        assert "Connection" in type(error).__name__, error
    server.kill()
    server.start()
    parts = [part("begun.bin", upload, n + 1, data) for n, data in enumerate(PIECES)]
    complete("begun.bin", upload, parts)
    assert read("begun.bin") == WHOLE
    for row in up.list_multipart_uploads(Bucket=B).get("Uploads", ()):  # nobody knows of it
        up.abort_multipart_upload(Bucket=B, Key=row["Key"], UploadId=row["UploadId"])


@case
def an_abort_reaches_the_storage():
    upload = create("gone.bin")
    row = part("gone.bin", upload, 1, PIECES[0])
    same(uploads_there(), ["gone.bin"])
    faulty.break_it({"fault": "status", "op": "AbortMultipartUpload"})
    same(error_of(s3.abort_multipart_upload, Bucket=B, Key="gone.bin", UploadId=upload)[0], 503)
    faulty.heal()
    same([r["PartNumber"] for r in s3.list_parts(Bucket=B, Key="gone.bin", UploadId=upload)["Parts"]],
         [1], "an abort that failed")
    s3.abort_multipart_upload(Bucket=B, Key="gone.bin", UploadId=upload)
    same(uploads_there(), [])
    same(state_files(), [])
    same(error_of(part, "gone.bin", upload, 2, PIECES[0]), (404, "NoSuchUpload"))
    same(error_of(complete, "gone.bin", upload, [row]), (404, "NoSuchUpload"))
    same(error_of(s3.head_object, Bucket=B, Key="gone.bin")[0], 404)


@case
def an_abort_drops_what_is_still_being_sent():
    upload = create("sending.bin")
    part("sending.bin", upload, 1, PIECES[0])
    connection = socket.create_connection(("127.0.0.1", server.port))
    headers = {"Content-Length": str(6 * MIB), "x-amz-content-sha256": "UNSIGNED-PAYLOAD"}
    query = {"uploadId": upload, "partNumber": "2"}
    sign_headers(server, "PUT", "/native/sending.bin", query, headers, None)
    connection.sendall(("PUT /native/sending.bin?%s HTTP/1.1\r\n%s\r\n" % (
        canonical_query(query), "".join("%s: %s\r\n" % row for row in headers.items()))).encode())
    connection.sendall(PIECES[1][:3 * MIB])
    deadline = time.monotonic() + 30
    while not any(size == 0 for size in state_files()) and time.monotonic() < deadline:
        time.sleep(0.02)  # until the part has arrived
    s3.abort_multipart_upload(Bucket=B, Key="sending.bin", UploadId=upload)
    connection.sendall(PIECES[1][3 * MIB:6 * MIB])
    assert b"NoSuchUpload" in connection.recv(100000)
    connection.close()
    same(uploads_there(), [])
    same(state_files(), [])


@case
def what_idles_too_long_is_dropped_there_too():
    upload = create("idle.bin")
    part("idle.bin", upload, 1, PIECES[0])
    server.stop()
    folder = os.path.join(server.root, "state", "uploads", upload)
    long_ago = time.time() - 25 * 3600
    os.utime(folder, (long_ago, long_ago))
    server.start({"DGP_MULTIPART_SWEEP_INTERVAL_SECS": "1"})
    deadline = time.monotonic() + 60
    while (uploads_there() or os.path.exists(folder)) and time.monotonic() < deadline:
        time.sleep(0.1)  # the sweep comes by itself
    same((uploads_there(), os.path.exists(folder)), ([], False))
    same(error_of(s3.list_parts, Bucket=B, Key="idle.bin", UploadId=upload), (404, "NoSuchUpload"))
    server.restart()


@case
def small_parts_are_joined_by_the_server():
    pieces = [body(MIB, n) for n in range(4)]
    faulty.forget()
    upload = create("small.bin")
    parts = [part("small.bin", upload, n + 1, data) for n, data in enumerate(pieces)]
    same(asked(), [])
    same(complete("small.bin", upload, parts)["ETag"], tag_of(pieces))
    same(asked(), ["PutObject"])
    assert read("small.bin") == b"".join(pieces)
    got = s3.get_object(Bucket=B, Key="small.bin", PartNumber=3)
    same((got["Body"].read(), got["PartsCount"]), (pieces[2], 4))


@case
def a_small_part_may_come_first_and_stand_last():
    upload = create("order.bin")
    last = part("order.bin", upload, 3, PIECES[2])
    faulty.forget()
    parts = [part("order.bin", upload, n, PIECES[n - 1]) for n in (2, 1)]
    same(asked(), ["CreateMultipartUpload", "UploadPart", "UploadPart"])
    rows = s3.list_parts(Bucket=B, Key="order.bin", UploadId=upload)["Parts"]
    same([row["Size"] for row in rows], [len(piece) for piece in PIECES])
    faulty.forget()
    same(complete("order.bin", upload, [parts[1], parts[0], last])["ETag"], tag_of(PIECES))
    same(asked(), ["UploadPart", "CompleteMultipartUpload"])
    assert read("order.bin") == WHOLE


@case
def a_small_part_in_the_middle_of_large_ones_is_refused():
    upload = create("middle.bin")
    pieces = [PIECES[0], PIECES[2], PIECES[1]]
    parts = [part("middle.bin", upload, n + 1, data) for n, data in enumerate(pieces)]
    same(error_of(complete, "middle.bin", upload, parts), (400, "EntityTooSmall"))
    parts[1] = part("middle.bin", upload, 2, PIECES[0])
    pieces[1] = PIECES[0]
    same(complete("middle.bin", upload, parts)["ETag"], tag_of(pieces))
    assert read("middle.bin") == b"".join(pieces)


@case
def wrong_lists_of_parts_are_refused():
    upload = create("wrong.bin")
    parts = [part("wrong.bin", upload, n + 1, data) for n, data in enumerate(PIECES)]
    wrong = dict(parts[0], ETag=etag_of(b"other"))
    same(error_of(complete, "wrong.bin", upload, [wrong]), (400, "InvalidPart"))
    same(error_of(complete, "wrong.bin", upload, [dict(parts[0], PartNumber=9)]),
         (400, "InvalidPart"))
    same(error_of(complete, "wrong.bin", upload, parts[::-1]), (400, "InvalidPartOrder"))
    # This upstream leaves no part out, as S3 does: it is for it to say.
    same(error_of(complete, "wrong.bin", upload, [parts[0], parts[2]]), (400, "InvalidPart"))
    same(complete("wrong.bin", upload, parts)["ETag"], tag_of(PIECES))
    assert read("wrong.bin") == WHOLE
    same(uploads_there(), [])


@case
def a_damaged_part_does_not_replace_a_good_one():
    upload = create("damaged.bin")
    parts = [part("damaged.bin", upload, 1, PIECES[0])]
    other = body(5 * MIB, 9)
    path, query = "/native/damaged.bin", {"uploadId": upload, "partNumber": "1"}
    answer = server.request("PUT", path, body=other, query=query, headers={
        "Content-MD5": base64.b64encode(hashlib.md5(b"x").digest()).decode()})
    same((answer.status, answer.code), (400, "BadDigest"))
    answer = server.request("PUT", path, body=other, query=query, headers={
        "x-amz-content-sha256": hashlib.sha256(b"x").hexdigest()})
    same((answer.status, answer.code), (400, "XAmzContentSHA256Mismatch"))
    answer = server.request("PUT", path, body=other, query=query,
                            headers={"x-amz-checksum-crc32": "AAAAAA=="})
    same((answer.status, answer.code), (400, "BadDigest"))
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    headers = {"Content-Length": str(len(other)), "x-amz-content-sha256": "UNSIGNED-PAYLOAD"}
    sign_headers(server, "PUT", path, query, headers, None)
    connection.putrequest("PUT", path + "?" + canonical_query(query), skip_host=True)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    connection.send(other[:3 * MIB])
    connection.close()  # the client leaves
    same(complete("damaged.bin", upload, parts)["ETag"], tag_of(PIECES[:1]))
    assert read("damaged.bin") == PIECES[0]


@case
def checksums_of_parts_make_that_of_the_object():
    crcs = [zlib.crc32(piece).to_bytes(4, "big") for piece in PIECES]
    text = [base64.b64encode(crc).decode() for crc in crcs]
    composite = base64.b64encode(zlib.crc32(b"".join(crcs)).to_bytes(4, "big")).decode() + "-3"
    full = base64.b64encode(zlib.crc32(WHOLE).to_bytes(4, "big")).decode()
    for kind, expected in (("COMPOSITE", composite), ("FULL_OBJECT", full)):
        answer = server.request("POST", "/native/sum.bin", query={"uploads": ""}, headers={
            "x-amz-checksum-algorithm": "CRC32", "x-amz-checksum-type": kind})
        upload = answer.body.split(b"<UploadId>")[1].split(b"<")[0].decode()
        rows = ""
        for number, piece in enumerate(PIECES):
            answer = server.request("PUT", "/native/sum.bin", body=piece, query={
                "uploadId": upload, "partNumber": str(number + 1)},
                headers={"x-amz-checksum-crc32": text[number]})
            same((answer.status, answer.headers["x-amz-checksum-crc32"]), (200, text[number]))
            rows += "<Part><PartNumber>%d</PartNumber><ETag>%s</ETag><ChecksumCRC32>%s" \
                "</ChecksumCRC32></Part>" % (number + 1, etag_of(piece), text[number])
        document = ("<CompleteMultipartUpload>%s</CompleteMultipartUpload>" % rows).encode()
        send = lambda value: server.request(
            "POST", "/native/sum.bin", body=document, query={"uploadId": upload},
            headers={"x-amz-checksum-crc32": value, "x-amz-checksum-type": kind})
        same(send("AAAAAA==").code, "BadDigest", kind)
        answer = send(expected.partition("-")[0])
        same(answer.status, 200, "%s: %r" % (kind, answer))
        assert b"<ChecksumCRC32>%s</ChecksumCRC32>" % expected.encode() in answer.body, answer
        assert read("sum.bin") == WHOLE


@case
def conditions_are_judged_at_the_completion():
    def completion(key, **headers):
        upload = create(key)
        rows = "".join("<Part><PartNumber>%d</PartNumber><ETag>%s</ETag></Part>" % (
            n + 1, part(key, upload, n + 1, data)["ETag"]) for n, data in enumerate(PIECES))
        answer = server.request("POST", "/native/" + key, query={"uploadId": upload}, headers=headers,
                                body=("<CompleteMultipartUpload>%s</CompleteMultipartUpload>"
                                      % rows).encode())
        if answer.status != 200:
            s3.abort_multipart_upload(Bucket=B, Key=key, UploadId=upload)
        return answer.status
    same(completion("if.bin", **{"If-None-Match": "*"}), 200)
    same(completion("if.bin", **{"If-None-Match": "*"}), 412)
    same(completion("if.bin", **{"If-Match": etag_of(b"other")}), 412)
    same(completion("if.bin", **{"If-Match": tag_of(PIECES)}), 200)
    same(uploads_there(), [])


@case
def parts_are_copied_into_an_upload():
    s3.put_object(Bucket=B, Key="source.zip", Body=WHOLE)
    upload = create("copied.bin")
    faulty.forget()
    rows = []
    for number, span in enumerate(((0, 6 * MIB - 1), (6 * MIB, len(WHOLE) - 1)), 1):
        answer = s3.upload_part_copy(Bucket=B, Key="copied.bin", UploadId=upload, PartNumber=number,
                                     CopySource={"Bucket": B, "Key": "source.zip"},
                                     CopySourceRange="bytes=%d-%d" % span)
        rows.append({"PartNumber": number, "ETag": answer["CopyPartResult"]["ETag"]})
    same([name for name in asked() if name != "GetObject"],
         ["CreateMultipartUpload", "UploadPart", "UploadPart"])
    complete("copied.bin", upload, rows)
    assert read("copied.bin") == WHOLE
    answer = s3.copy_object(Bucket=B, Key="again.bin", CopySource={"Bucket": B, "Key": "copied.bin"})
    same(s3.head_object(Bucket=B, Key="again.bin")["ETag"], answer["CopyObjectResult"]["ETag"])
    assert read("again.bin") == WHOLE
    s3.copy_object(Bucket=B, Key="copied.bin", CopySource={"Bucket": B, "Key": "copied.bin"},
                   MetadataDirective="REPLACE", Metadata={"x": "y"})
    same(s3.head_object(Bucket=B, Key="copied.bin")["Metadata"], {"x": "y"})
    assert read("copied.bin") == WHOLE


@case
def names_of_versions_and_names_that_mean_something_stay_with_the_server():
    for key, extra in (("app-1.zip", {}), ("legacy.bin", {"Metadata": {"file-sha256": "0" * 64}})):
        faulty.forget()
        upload = create(key, **extra)
        parts = [part(key, upload, n + 1, data) for n, data in enumerate(PIECES)]
        same(asked(), [], key)
        same(complete(key, upload, parts)["ETag"], tag_of(PIECES))
        assert read(key) == WHOLE
        same(s3.head_object(Bucket=B, Key=key)["Metadata"], extra.get("Metadata", {}))


@case
def bytes_that_begin_like_a_sealed_body_are_served():
    data = b"DGE1" + body(6 * MIB, 4)
    upload = create("dge1.bin")
    complete("dge1.bin", upload, [part("dge1.bin", upload, 1, data)])
    assert read("dge1.bin") == data
    same(s3.get_object(Bucket=B, Key="dge1.bin", Range="bytes=4-9")["Body"].read(), data[4:10])


@case
def an_object_takes_the_place_of_a_version_and_of_another():
    b = "places"
    s3.create_bucket(Bucket=b)
    one, two = versions(6 * MIB, 2)
    for key, data in (("a.zip", one), ("b.zip", two), ("c.bin", two)):
        s3.put_object(Bucket=b, Key=key, Body=data)
    same([row["Key"] for row in up.list_objects_v2(Bucket=b)["Contents"]],
         ["a.zip.delta", "b.zip.delta", "c.bin", "reference.bin"])
    server.stop()
    server.config = config(max_delta_ratio=0)
    server.start()
    try:
        for key in ("b.zip", "c.bin"):
            upload = create(key, b)
            parts = [part(key, upload, n + 1, data, b) for n, data in enumerate(PIECES)]
            assert read(key, b) == two, "until it is completed"
            complete(key, upload, parts, b)
            assert read(key, b) == WHOLE
        assert read("a.zip", b) == one
        same([row["Key"] for row in up.list_objects_v2(Bucket=b)["Contents"]],
             ["a.zip.delta", "b.zip", "c.bin", "reference.bin"])
        s3.delete_object(Bucket=b, Key="b.zip")
        same(error_of(s3.head_object, Bucket=b, Key="b.zip")[0], 404)
    finally:
        server.stop()
        server.config = config()
        server.start()


@case
def sealed_storage_gets_no_parts_in_plain():
    needle = b"a needle that must not be seen" * 3
    data = needle + body(6 * MIB, 5)
    other = Server(config=config(encryption("aesgcm")))
    faulty.forget()
    t3 = other.client()
    t3.create_bucket(Bucket="sealed")
    upload = t3.create_multipart_upload(Bucket="sealed", Key="k.bin")["UploadId"]
    tag = t3.upload_part(Bucket="sealed", Key="k.bin", UploadId=upload, PartNumber=1,
                         Body=data)["ETag"]
    t3.complete_multipart_upload(Bucket="sealed", Key="k.bin", UploadId=upload, MultipartUpload={
        "Parts": [{"PartNumber": 1, "ETag": tag}]})
    assert t3.get_object(Bucket="sealed", Key="k.bin")["Body"].read() == data
    assert needle not in up.get_object(Bucket="sealed", Key="k.bin")["Body"].read()
    assert "CreateMultipartUpload" not in asked(), asked()
    other.drop()


@case
def an_upload_begun_before_sealing_is_over():
    other = Server(config=config())
    t3 = other.client()
    t3.create_bucket(Bucket="sealing")
    upload = t3.create_multipart_upload(Bucket="sealing", Key="k.bin")["UploadId"]
    send = lambda number: t3.upload_part(Bucket="sealing", Key="k.bin", UploadId=upload,
                                         PartNumber=number, Body=PIECES[0])
    row = {"PartNumber": 1, "ETag": send(1)["ETag"]}
    other.stop()
    other.config = config(encryption("aesgcm"))
    other.start()
    same(error_of(send, 2), (404, "NoSuchUpload"))
    same(error_of(t3.complete_multipart_upload, Bucket="sealing", Key="k.bin", UploadId=upload,
                  MultipartUpload={"Parts": [row]}), (404, "NoSuchUpload"))
    t3.abort_multipart_upload(Bucket="sealing", Key="k.bin", UploadId=upload)
    same(uploads_there("sealing"), [])
    other.drop()


@case
def storage_that_encrypts_by_itself_does_so():
    other = Server(config=config(encryption("kms")))
    t3 = other.client()
    t3.create_bucket(Bucket="kms")
    upload = t3.create_multipart_upload(Bucket="kms", Key="k.bin")["UploadId"]
    rows = [{"PartNumber": n + 1, "ETag": t3.upload_part(
        Bucket="kms", Key="k.bin", UploadId=upload, PartNumber=n + 1, Body=data)["ETag"]}
        for n, data in enumerate(PIECES)]
    faulty.forget()
    tag = t3.complete_multipart_upload(Bucket="kms", Key="k.bin", UploadId=upload,
                                       MultipartUpload={"Parts": rows})["ETag"]
    same(asked(), ["CompleteMultipartUpload"])
    got = t3.get_object(Bucket="kms", Key="k.bin")
    assert got["Body"].read() == WHOLE
    same(got["ETag"], tag)
    there = up.head_object(Bucket="kms", Key="k.bin")
    same((there["ServerSideEncryption"], there["SSEKMSKeyId"]), ("aws:kms", "testkey-1"))
    other.drop()


@case
def a_bucket_is_deleted_with_its_uploads():
    b = "deleted"
    s3.create_bucket(Bucket=b)
    upload = create("k.bin", b)
    row = part("k.bin", upload, 1, PIECES[0], b)
    s3.delete_bucket(Bucket=b)
    same(error_of(complete, "k.bin", upload, [row], b)[1], "NoSuchUpload")
    s3.create_bucket(Bucket=b)
    same(error_of(part, "k.bin", upload, 2, PIECES[0], b), (404, "NoSuchUpload"))
    same(uploads_there(b), [])
    same(s3.list_objects_v2(Bucket=b)["KeyCount"], 0)
    s3.delete_bucket(Bucket=b)


@case
def many_send_the_same_parts_at_once():
    candidates = [body(5 * MIB, 20 + n) for n in range(4)]
    for round in range(3):
        upload = create("race.bin")
        threads = [threading.Thread(target=part, args=("race.bin", upload, number, data))
                   for number in (1, 2) for data in candidates]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        rows = s3.list_parts(Bucket=B, Key="race.bin", UploadId=upload)["Parts"]
        parts = [{"PartNumber": row["PartNumber"], "ETag": row["ETag"]} for row in rows]
        complete("race.bin", upload, parts)
        known = {etag_of(data): data for data in candidates}
        assert read("race.bin") == b"".join(known[row["ETag"]] for row in rows)
    same(uploads_there(), [])


def copied(key, source, bucket=B, source_bucket=B, **extra):
    faulty.forget()
    return s3.copy_object(Bucket=bucket, Key=key, CopySource={"Bucket": source_bucket,
                                                             "Key": source}, **extra)


@case
def objects_are_copied_without_their_bytes():
    data = body(3 * MIB, 40)
    source = "c/fr\u00f6m +%41&.bin"
    s3.put_object(Bucket=B, Key=source, Body=data, Metadata={"a": "1"}, ContentType="text/c",
                  CacheControl="private")
    s3.create_bucket(Bucket="other")
    for bucket in (B, "other"):
        answer = copied("c/to.bin", source, bucket)["CopyObjectResult"]
        same(asked(), ["CopyObject"], bucket)
        same(answer["ETag"], etag_of(data))
        head = s3.get_object(Bucket=bucket, Key="c/to.bin")
        assert head["Body"].read() == data
        same((head["ETag"], head["Metadata"], head["ContentType"], head["CacheControl"],
              head["LastModified"].replace(microsecond=0)),
             (etag_of(data), {"a": "1"}, "text/c", "private",
              answer["LastModified"].replace(microsecond=0)))
        row = s3.list_objects_v2(Bucket=bucket, Prefix="c/to.bin")["Contents"][0]
        same((row["Size"], row["ETag"], row["LastModified"]),
             (len(data), etag_of(data), head["LastModified"]))
        meta = up.head_object(Bucket=bucket, Key="c/to.bin")["Metadata"]
        same((meta["dg-file-sha256"], meta["dg-original-name"], meta["user-a"]),
             (sha256(data), "to.bin", "1"))
    copied("c/new.bin", source, MetadataDirective="REPLACE", Metadata={"b": "2"})
    same(asked(), ["CopyObject"])
    head = s3.head_object(Bucket=B, Key="c/new.bin")
    same((head["Metadata"], head["ContentType"]), ({"b": "2"}, "application/octet-stream"))
    copied("c/new.bin", "whole.bin")
    same(asked(), ["CopyObject"], "of an object that was joined")
    head = s3.get_object(Bucket=B, Key="c/new.bin")
    assert head["Body"].read() == WHOLE
    same((head["Metadata"], head["ContentType"], head["CacheControl"]),
         ({"colour": "green"}, "text/m", "private"))
    row = s3.list_objects_v2(Bucket=B, Prefix="c/new.bin")["Contents"][0]
    same((row["Size"], row["ETag"]), (len(WHOLE), head["ETag"]))


@case
def what_a_copy_stores_otherwise_is_carried():
    one, two = versions(300000, 2)
    for key, data in (("v/a.zip", one), ("v/b.zip", two), ("v/p.bin", one)):
        s3.put_object(Bucket=B, Key=key, Body=data)
    for source, target, data in (("v/b.zip", "v/b.bin", two), ("v/p.bin", "v/p.zip", one),
                                 ("v/b.zip", "w/b.zip", two)):
        copied(target, source)
        assert "CopyObject" not in asked(), (source, target)
        assert read(target) == data
    other = Server(config=config(encryption("aesgcm")))
    t3 = other.client()
    t3.create_bucket(Bucket="sealcopy")
    t3.put_object(Bucket="sealcopy", Key="a.bin", Body=one)
    faulty.forget()
    t3.copy_object(Bucket="sealcopy", Key="b.bin", CopySource="sealcopy/a.bin")
    assert "CopyObject" not in asked(), asked()
    assert t3.get_object(Bucket="sealcopy", Key="b.bin")["Body"].read() == one
    # Sealed objects, read and written by a server that seals no more.
    other.stop()
    other.config = config({"encryption": {"mode": "none", "legacy_key": CRYPT_KEY,
                                          "legacy_key_id": "e2e"}})
    other.start()
    faulty.forget()
    t3.copy_object(Bucket="sealcopy", Key="c.bin", CopySource="sealcopy/a.bin")
    assert t3.get_object(Bucket="sealcopy", Key="c.bin")["Body"].read() == one
    assert up.get_object(Bucket="sealcopy", Key="c.bin")["Body"].read() == one, "in plain now"
    other.drop()


@case
def a_copy_keeps_its_conditions_and_its_storages_encryption():
    same(error_of(copied, "c/to.bin", "whole.bin", CopySourceIfMatch=etag_of(b"x")),
         (412, "PreconditionFailed"))
    same(error_of(copied, "c/to.bin", "none.bin"), (404, "NoSuchKey"))
    same(error_of(copied, "c/to.bin", "whole.bin", bucket="no-such-bucket"), (404, "NoSuchBucket"))
    other = Server(config=config(encryption("kms")))
    t3 = other.client()
    t3.create_bucket(Bucket="kmscopy")
    t3.put_object(Bucket="kmscopy", Key="a.bin", Body=WHOLE)
    faulty.forget()
    answer = t3.copy_object(Bucket="kmscopy", Key="b.bin", CopySource="kmscopy/a.bin")
    same(answer["CopyObjectResult"]["ETag"], etag_of(WHOLE))
    assert t3.get_object(Bucket="kmscopy", Key="b.bin")["Body"].read() == WHOLE
    same(up.head_object(Bucket="kmscopy", Key="b.bin")["ServerSideEncryption"], "aws:kms")
    print("# encrypted by the storage: " + " ".join(asked()))
    other.drop()


@case
def a_copy_whose_answer_is_lost_or_wrong_is_looked_for():
    data = body(100000, 41)
    s3.put_object(Bucket=B, Key="l/from.bin", Body=data)
    for number, (rule, status) in enumerate((
            ({"fault": "lost", "times": 1}, 200), ({"fault": "lost"}, 200),
            ({"fault": "error_200", "times": 1}, 200), ({"fault": "error_200"}, 200),
            ({"fault": "garbage"}, 200), ({"fault": "empty_200"}, 200),
            ({"fault": "garbage", "done": False}, 500),
            ({"fault": "error_200", "done": False}, 503), ({"fault": "etag"}, 500),
            ({"fault": "status", "status": 501, "code": "NotImplemented"}, 200),
            ({"fault": "status", "status": 400, "code": "InvalidRequest"}, 200))):
        key = "l/%d.bin" % number
        server.restart()  # no breaker is open
        faulty.break_it(dict(rule, op="CopyObject"))
        answer = server.request("PUT", "/native/" + key, headers={
            "x-amz-copy-source": "/native/l/from.bin"})
        assert faulty.fired(), rule
        faulty.heal()
        code = answer.code and {"InternalError": 500}.get(answer.code, 503)
        same(code or answer.status, status, "%r: %r" % (rule, answer))
        if status == 200:
            assert read(key) == data, rule


@case
def clients_upload_large_files():
    requires("aws", "rclone")
    folder = tempfile.mkdtemp(dir=WORK)
    data = body(41 * MIB + 17, 30)
    with open(os.path.join(folder, "big.bin"), "wb") as file:
        file.write(data)
    faulty.forget()
    run("aws", "--endpoint-url", server.url, "s3", "cp", "--no-progress",
        os.path.join(folder, "big.bin"), "s3://native/aws.bin")
    assert "CreateMultipartUpload" in asked() and "PutObject" not in asked(), asked()
    assert read("aws.bin") == data
    run("aws", "--endpoint-url", server.url, "s3", "cp", "--no-progress", "s3://native/aws.bin",
        os.path.join(folder, "back.bin"))
    assert open(os.path.join(folder, "back.bin"), "rb").read() == data
    remote = ":s3,provider=Other,endpoint='%s',access_key_id=%s,secret_access_key=%s:" % (
        server.url, ACCESS_KEY, SECRET_KEY)
    faulty.forget()
    run("rclone", "copyto", "--config", "/dev/null", "--s3-upload-cutoff", "10Mi",
        "--s3-chunk-size", "8Mi", os.path.join(folder, "big.bin"), remote + "native/rclone.bin")
    assert "CreateMultipartUpload" in asked() and "PutObject" not in asked(), asked()
    assert read("rclone.bin") == data


@case
def an_upload_at_a_storage_that_fails_goes_on_when_it_is_back():
    upload = create("away.bin")
    faulty.break_it({"fault": "status", "op": "CreateMultipartUpload"})
    same(error_of(part, "away.bin", upload, 1, PIECES[0])[0], 503)
    faulty.heal()
    parts = []
    for number, piece in enumerate(PIECES, 1):
        faulty.break_it({"fault": "reset_request", "bytes": 300, "op": "UploadPart", "times": 1})
        deadline = time.monotonic() + 60
        while len(parts) < number and time.monotonic() < deadline:
            try:
                parts.append(part("away.bin", upload, number, piece))
            except Exception as error:
                assert getattr(error, "response", {}).get("ResponseMetadata", {}).get(
                    "HTTPStatusCode") in (500, 503), error
    faulty.break_it({"fault": "lost", "op": "CompleteMultipartUpload", "times": 1})
    same(complete("away.bin", upload, parts)["ETag"], tag_of(PIECES))
    faulty.heal()
    assert read("away.bin") == WHOLE
    same(uploads_there(), [])


@case
def memory_does_not_grow_with_the_parts():
    sink = Sink()
    sys.path.insert(0, UPSTREAM_SCRIPTS)
    from sink import pattern
    other = Server(config={"storage": {"backends": [{
        "name": "store", "type": "s3", "region": REGION, "endpoint": "http://127.0.0.1:%d" % sink.port,
        "allow_local": True, "access_key_id": sink.access_key, "secret_access_key": sink.secret_key}]}})
    t3 = other.client(max_pool_connections=20)
    t3.create_bucket(Bucket="sink")

    def anonymous():
        with open("/proc/%d/status" % other.process.pid) as file:
            return sum(int(line.split()[1]) for line in file
                       if line.startswith(("RssAnon", "RssShmem"))) << 10

    idle, peak, done = anonymous(), [0], threading.Event()

    def watch():
        while not done.wait(0.02):
            peak[0] = max(peak[0], anonymous())

    def send(key):
        upload = t3.create_multipart_upload(Bucket="sink", Key=key)["UploadId"]
        rows = []
        for number in range(2):
            data = b"".join(bytes(pattern(at, MIB)) for at in
                            range(number * 32 * MIB, (number + 1) * 32 * MIB, MIB))
            rows.append({"PartNumber": number + 1, "ETag": t3.upload_part(
                Bucket="sink", Key=key, UploadId=upload, PartNumber=number + 1,
                Body=data)["ETag"]})
        t3.complete_multipart_upload(Bucket="sink", Key=key, UploadId=upload,
                                     MultipartUpload={"Parts": rows})
    watcher = threading.Thread(target=watch)
    watcher.start()
    senders = [threading.Thread(target=send, args=("k%d.bin" % n,)) for n in range(8)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    done.set()
    watcher.join()
    grown = (peak[0] - idle) / MIB
    print("# %.0f MiB above idle with 8 parts of 32 MiB at a time" % grown)
    same(sink.stats()["wrong"], 0)
    same(sorted(row["Key"] for row in t3.list_objects_v2(Bucket="sink")["Contents"]),
         ["k%d.bin" % n for n in range(8)])
    assert grown < 64, grown
    other.drop()


main()
