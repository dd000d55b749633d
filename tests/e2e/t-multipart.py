#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Multipart uploads, from creation to completion, across restarts."""
import base64
import threading
import zlib
from target import *

server = target()
s3 = server.client()
s3.create_bucket(Bucket="parts")
MIB = 1 << 20


def create(key, **extra):
    return s3.create_multipart_upload(Bucket="parts", Key=key, **extra)["UploadId"]


def part(key, upload, number, data, **extra):
    answer = s3.upload_part(Bucket="parts", Key=key, UploadId=upload, PartNumber=number,
                            Body=data, **extra)
    return {"PartNumber": number, "ETag": answer["ETag"]}


def complete(key, upload, parts, **extra):
    return s3.complete_multipart_upload(Bucket="parts", Key=key, UploadId=upload,
                                        MultipartUpload={"Parts": parts}, **extra)


def tag_of(pieces):
    joined = b"".join(hashlib.md5(piece).digest() for piece in pieces)
    return '"%s-%d"' % (hashlib.md5(joined).hexdigest(), len(pieces))


@case
def parts_become_one_object():
    for key in ("whole.bin", "whole.zip"):
        pieces = [body(5 * MIB, 1), body(6 * MIB + 7, 2), body(1, 3)]
        upload = create(key, Metadata={"m": "1"}, ContentType="text/m", CacheControl="private")
        same(len(upload), 32)
        parts = [part(key, upload, n + 1, piece) for n, piece in enumerate(pieces)]
        same([row["ETag"] for row in parts], [etag_of(piece) for piece in pieces])
        answer = complete(key, upload, parts)
        same(answer["ETag"], tag_of(pieces))
        assert answer["Location"].endswith("/parts/" + key)
        answer = s3.get_object(Bucket="parts", Key=key)
        assert answer["Body"].read() == b"".join(pieces)
        same((answer["ETag"], answer["Metadata"], answer["ContentType"], answer["CacheControl"]),
             (tag_of(pieces), {"m": "1"}, "text/m", "private"))
        rows = s3.list_objects_v2(Bucket="parts", Prefix=key)["Contents"]
        same((rows[0]["Size"], rows[0]["ETag"]), (11 * MIB + 8, tag_of(pieces)))


@case
def single_parts_can_be_read():
    for key in ("whole.bin", "whole.zip"):
        sizes = [5 * MIB, 6 * MIB + 7, 1]
        whole = s3.get_object(Bucket="parts", Key=key)["Body"].read()
        at = 0
        for number, size in enumerate(sizes, 1):
            answer = s3.get_object(Bucket="parts", Key=key, PartNumber=number)
            same((answer["PartsCount"], answer["ContentLength"]), (3, size))
            same(answer["ContentRange"], "bytes %d-%d/%d" % (at, at + size - 1, len(whole)))
            assert answer["Body"].read() == whole[at:at + size]
            head = s3.head_object(Bucket="parts", Key=key, PartNumber=number)
            same((head["PartsCount"], head["ContentLength"]), (3, size))
            at += size
        same(error_of(s3.get_object, Bucket="parts", Key=key, PartNumber=4)[0], 416)
    s3.put_object(Bucket="parts", Key="single", Body=b"abc")
    answer = s3.get_object(Bucket="parts", Key="single", PartNumber=1)
    same((answer["Body"].read(), answer["ContentLength"]), (b"abc", 3))
    assert "PartsCount" not in answer
    answer = server.request("GET", "/parts/single", query={"partNumber": "1"},
                            headers={"Range": "bytes=0-1"})
    same((answer.status, answer.code), (400, "InvalidRequest"))


@case
def any_of_many_unequal_parts_can_be_read():
    pieces = [body(1 + n * 7 % 300, n) for n in range(300)]
    upload = create("many")
    complete("many", upload, [part("many", upload, n, piece) for n, piece in enumerate(pieces, 1)])
    for number in (1, 2, 150, 299, 300):
        answer = s3.get_object(Bucket="parts", Key="many", PartNumber=number)
        same((answer["PartsCount"], answer["Body"].read()), (300, pieces[number - 1]))
        head = s3.head_object(Bucket="parts", Key="many", PartNumber=number)
        same((head["PartsCount"], head["ContentLength"]), (300, len(pieces[number - 1])))
    same(error_of(s3.get_object, Bucket="parts", Key="many", PartNumber=301)[0], 416)


class Line(threading.Thread):
    """Sends its share of an upload's parts over one connection: a client that is fast."""

    def __init__(self, key, upload, pieces, tags, first, step):
        super().__init__()
        self.work = (key, upload, pieces, tags, first, step)
        self.start()

    def run(self):
        key, upload, pieces, tags, first, step = self.work
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        for number in range(first, len(pieces) + 1, step):
            path, query = "/parts/" + key, {"uploadId": upload, "partNumber": str(number)}
            headers = {}
            sign_headers(server, "PUT", path, query, headers, pieces[number - 1],
                         access_key=server.access_key, secret=server.secret_key)
            connection.request("PUT", path + "?" + canonical_query(query), pieces[number - 1],
                               headers)
            answer = connection.getresponse()
            answer.read()
            tags[number - 1] = answer.headers["ETag"]
        connection.close()


@case
def any_of_very_many_unequal_parts_can_be_read():
    count, metadata = 2000, {"m": "x" * 1200}
    pieces = [body(n * 7919 % 1009, n) for n in range(count)]
    upload, tags = create("most", Metadata=metadata), count * [None]
    for line in [Line("most", upload, pieces, tags, n + 1, 8) for n in range(8)]:
        line.join()
    rows = [{"PartNumber": n, "ETag": tag} for n, tag in enumerate(tags, 1)]
    same(complete("most", upload, rows)["ETag"], tag_of(pieces))
    whole = b"".join(pieces)

    def check(*numbers):
        for number in numbers:
            answer = s3.get_object(Bucket="parts", Key="most", PartNumber=number)
            same((answer["PartsCount"], answer["Body"].read()), (count, pieces[number - 1]))
            head = s3.head_object(Bucket="parts", Key="most", PartNumber=number)
            same(head["ContentLength"], len(pieces[number - 1]))
        at = sum(map(len, pieces[:999]))
        same(answer["ContentRange"], "bytes %d-%d/%d" % (at, at + len(pieces[999]) - 1, len(whole)))
    check(2, 777, 1999, 1000)
    same(error_of(s3.get_object, Bucket="parts", Key="most", PartNumber=2001)[0], 416)
    server.restart()
    check(1000)
    same(s3.get_object(Bucket="parts", Key="most")["Metadata"], metadata)
    same([row["Key"] for row in s3.list_objects_v2(Bucket="parts", Delimiter="/")["Contents"]
          if row["Key"].startswith(".") or row["Key"] == "most"], ["most"])
    s3.delete_object(Bucket="parts", Key="most")


@case
def a_bucket_goes_with_what_lies_beside_its_objects():
    s3.create_bucket(Bucket="noted")
    pieces = [body(100 + n * n % 61, n) for n in range(30)]
    for key in ("a.bin", "a.zip"):
        upload = s3.create_multipart_upload(Bucket="noted", Key=key,
                                            Metadata={"m": "x" * 800})["UploadId"]
        tags = [s3.upload_part(Bucket="noted", Key=key, UploadId=upload, PartNumber=n,
                               Body=piece)["ETag"] for n, piece in enumerate(pieces, 1)]
        s3.complete_multipart_upload(
            Bucket="noted", Key=key, UploadId=upload,
            MultipartUpload={"Parts": [{"PartNumber": n, "ETag": tag}
                                       for n, tag in enumerate(tags, 1)]})
        answer = s3.get_object(Bucket="noted", Key=key, PartNumber=30)
        same((answer["PartsCount"], answer["Body"].read()), (30, pieces[29]))
    same(error_of(s3.delete_bucket, Bucket="noted")[0], 409)
    s3.delete_object(Bucket="noted", Key="a.bin")
    answer = s3.get_object(Bucket="noted", Key="a.zip", PartNumber=3)
    same(answer["Body"].read(), pieces[2])
    s3.delete_object(Bucket="noted", Key="a.zip")
    s3.delete_bucket(Bucket="noted")


@case
def uploads_survive_a_restart():
    pieces = [body(5 * MIB, 4), body(100, 5)]
    upload = create("restart.zip", Metadata={"kept": "yes"})
    first = part("restart.zip", upload, 1, pieces[0])
    server.restart()
    second = part("restart.zip", upload, 2, pieces[1])
    server.kill()
    server.start()
    rows = s3.list_parts(Bucket="parts", Key="restart.zip", UploadId=upload)["Parts"]
    same([(row["PartNumber"], row["Size"], row["ETag"]) for row in rows],
         [(1, 5 * MIB, etag_of(pieces[0])), (2, 100, etag_of(pieces[1]))])
    complete("restart.zip", upload, [first, second])
    answer = s3.get_object(Bucket="parts", Key="restart.zip")
    assert answer["Body"].read() == b"".join(pieces)
    same(answer["Metadata"], {"kept": "yes"})


@case
def an_identical_complete_is_answered_again():
    upload = create("again")
    parts = [part("again", upload, 1, b"x")]
    first = complete("again", upload, parts)
    second = complete("again", upload, parts)
    same(second["ETag"], first["ETag"])


@case
def parts_can_be_replaced_and_left_out():
    upload = create("replaced")
    part("replaced", upload, 1, body(5 * MIB, 1))
    used = part("replaced", upload, 1, body(5 * MIB, 2))
    part("replaced", upload, 2, b"unused")
    # Swift takes no more than a thousand parts.
    last = part("replaced", upload, 1000 if has_store("swift") else 10000, b"last")
    if storage_joins("replaced") and has_store("rgw"):  # which leaves no part out
        same(error_of(complete, "replaced", upload, [used, last]), (400, "InvalidPart"))
        s3.abort_multipart_upload(Bucket="parts", Key="replaced", UploadId=upload)
        return
    complete("replaced", upload, [used, last])
    assert s3.get_object(Bucket="parts", Key="replaced")["Body"].read() == body(5 * MIB, 2) + b"last"


@case
def wrong_completes_have_their_codes():
    upload = create("wrong")
    one, two = part("wrong", upload, 1, body(5 * MIB)), part("wrong", upload, 2, b"2")
    same(error_of(complete, "wrong", upload, [two, one]), (400, "InvalidPartOrder"))
    same(error_of(complete, "wrong", upload, [dict(one, ETag='"%s"' % ("0" * 32)), two]),
         (400, "InvalidPart"))
    same(error_of(complete, "wrong", upload, [one, dict(two, PartNumber=3)]),
         (400, "InvalidPart"))
    same(error_of(complete, "wrong", "0" * 32, [one]), (404, "NoSuchUpload"))
    same(error_of(complete, "otherkey", upload, [one]), (404, "NoSuchUpload"))
    for document in (b"", b"<x/>", b"<CompleteMultipartUpload/>",
                     b"<CompleteMultipartUpload><Part><ETag>x</ETag></Part>"
                     b"</CompleteMultipartUpload>"):
        answer = server.request("POST", "/parts/wrong", body=document,
                                query={"uploadId": upload})
        same((answer.status, answer.code), (400, "MalformedXML"), document)
    for number in ("0", "10001", "-1", "x"):
        answer = server.request("PUT", "/parts/wrong", body=b"x",
                                query={"uploadId": upload, "partNumber": number})
        same((answer.status, answer.code), (400, "InvalidArgument"), number)
    complete("wrong", upload, [one, two])


@case
def small_parts_are_refused_only_where_that_is_configured():
    upload = create("small.bin")
    rows = [part("small.bin", upload, n, b"x" * 10) for n in (1, 2)]
    complete("small.bin", upload, rows)
    strict = Server(env={"DGP_ENFORCE_MIN_PART_SIZE": "true"})
    client = strict.client()
    client.create_bucket(Bucket="strict")

    def finish(key, sizes):
        upload = client.create_multipart_upload(Bucket="strict", Key=key)["UploadId"]
        rows = [{"PartNumber": number, "ETag": client.upload_part(
            Bucket="strict", Key=key, UploadId=upload, PartNumber=number,
            Body=bytes(size))["ETag"]} for number, size in enumerate(sizes, 1)]
        return lambda: client.complete_multipart_upload(
            Bucket="strict", Key=key, UploadId=upload, MultipartUpload={"Parts": rows})

    finish("one", [1])()
    finish("last", [5 * MIB, 5 * MIB, 0])()
    for sizes in ([5 * MIB - 1, 5 * MIB], [5 * MIB, 1, 5 * MIB], [0, 1]):
        same(error_of(finish("bad", sizes)), (400, "EntityTooSmall"), sizes)
    same(error_of(client.head_object, Bucket="strict", Key="bad")[0], 404)
    strict.stop()


@case
def an_aborted_upload_is_gone():
    upload = create("aborted")
    row = part("aborted", upload, 1, b"x" * 100000)
    s3.abort_multipart_upload(Bucket="parts", Key="aborted", UploadId=upload)
    same(error_of(part, "aborted", upload, 2, b"x"), (404, "NoSuchUpload"))
    same(error_of(complete, "aborted", upload, [row]), (404, "NoSuchUpload"))
    same(error_of(s3.list_parts, Bucket="parts", Key="aborted", UploadId=upload),
         (404, "NoSuchUpload"))
    same(error_of(s3.abort_multipart_upload, Bucket="parts", Key="aborted", UploadId=upload),
         (404, "NoSuchUpload"))
    same(error_of(s3.head_object, Bucket="parts", Key="aborted"), (404, "404"))


@case
def a_part_with_a_wrong_digest_is_not_kept():
    upload = create("digest")
    path, query = "/parts/digest", {"uploadId": upload, "partNumber": "1"}
    answer = server.request("PUT", path, body=b"abc", query=query,
                            headers={"Content-MD5": base64.b64encode(bytes(16)).decode()})
    same((answer.status, answer.code), (400, "BadDigest"))
    answer = server.request("PUT", path, body=b"abc", query=query,
                            headers={"x-amz-content-sha256": "0" * 64})
    same((answer.status, answer.code), (400, "XAmzContentSHA256Mismatch"))
    assert "Parts" not in s3.list_parts(Bucket="parts", Key="digest", UploadId=upload)
    s3.abort_multipart_upload(Bucket="parts", Key="digest", UploadId=upload)


@case
def parts_are_copied_with_and_without_a_range():
    for source in ("whole.bin", "whole.zip"):
        whole = s3.get_object(Bucket="parts", Key=source)["Body"].read()
        upload = create("assembled.zip")
        rows = []
        for number, span in enumerate((None, (0, 5 * MIB - 1), (len(whole) - 10, len(whole) - 1)), 1):
            extra = {"CopySourceRange": "bytes=%d-%d" % span} if span else {}
            answer = s3.upload_part_copy(Bucket="parts", Key="assembled.zip", UploadId=upload,
                                         PartNumber=number,
                                         CopySource={"Bucket": "parts", "Key": source}, **extra)
            rows.append({"PartNumber": number, "ETag": answer["CopyPartResult"]["ETag"]})
        complete("assembled.zip", upload, rows)
        got = s3.get_object(Bucket="parts", Key="assembled.zip")["Body"].read()
        assert got == whole + whole[:5 * MIB] + whole[-10:]
    upload = create("assembled.zip")
    copy = lambda span, key="whole.bin": error_of(
        s3.upload_part_copy, Bucket="parts", Key="assembled.zip", UploadId=upload, PartNumber=1,
        CopySource={"Bucket": "parts", "Key": key}, CopySourceRange=span)
    for span in ("bytes=5-", "bytes=-5", "5-6", "bytes=6-5"):
        same(copy(span), (400, "InvalidArgument"), span)
    same(copy("bytes=0-99999999")[0], 416)
    same(copy("bytes=0-1", "absent"), (404, "NoSuchKey"))
    s3.abort_multipart_upload(Bucket="parts", Key="assembled.zip", UploadId=upload)


@case
def parts_and_uploads_are_listed_by_page():
    upload = create("paged")
    for number in (1, 2, 5, 9, 70):
        part("paged", upload, number, b"x" * number)
    got, marker = [], 0
    while True:
        page = s3.list_parts(Bucket="parts", Key="paged", UploadId=upload, MaxParts=2,
                             PartNumberMarker=marker)
        got += [row["PartNumber"] for row in page["Parts"]]
        if not page["IsTruncated"]:
            break
        marker = page["NextPartNumberMarker"]
    same(got, [1, 2, 5, 9, 70])
    ids = {"paged": [upload]}
    for key in ("u/a", "u/a", "u/b", "u/c/d", "v"):
        ids.setdefault(key, []).append(create(key))
    got, markers = [], {}
    while True:
        page = s3.list_multipart_uploads(Bucket="parts", MaxUploads=2, **markers)
        got += [(row["Key"], row["UploadId"]) for row in page.get("Uploads", [])]
        if not page["IsTruncated"]:
            break
        markers = {"KeyMarker": page["NextKeyMarker"],
                   "UploadIdMarker": page["NextUploadIdMarker"]}
    same(sorted(got), sorted((key, id_) for key, many in ids.items() for id_ in many))
    same([key for key, _ in got], sorted(key for key, _ in got))
    page = s3.list_multipart_uploads(Bucket="parts", Prefix="u/", Delimiter="/")
    same([row["Key"] for row in page["Uploads"]], ["u/a", "u/a", "u/b"])
    same([row["Prefix"] for row in page["CommonPrefixes"]], ["u/c/"])
    for key, many in ids.items():
        for id_ in many:
            s3.abort_multipart_upload(Bucket="parts", Key=key, UploadId=id_)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket="parts")


@case
def completes_obey_conditions():
    s3.put_object(Bucket="parts", Key="cond", Body=b"there")
    upload = create("cond")
    rows = [part("cond", upload, 1, b"new")]
    document = ("<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>%s</ETag></Part>"
                "</CompleteMultipartUpload>" % rows[0]["ETag"]).encode()
    answer = server.request("POST", "/parts/cond", body=document, query={"uploadId": upload},
                            headers={"If-None-Match": "*"})
    same((answer.status, answer.code), (412, "PreconditionFailed"))
    assert s3.get_object(Bucket="parts", Key="cond")["Body"].read() == b"there"
    answer = server.request("POST", "/parts/cond", body=document, query={"uploadId": upload},
                            headers={"If-Match": etag_of(b"there")})
    same(answer.status, 200, answer)
    assert s3.get_object(Bucket="parts", Key="cond")["Body"].read() == b"new"


@case
def checksums_of_parts_make_the_objects():
    pieces = [body(5 * MIB, 6), body(77, 7)]
    sums = [base64.b64encode(zlib.crc32(piece).to_bytes(4, "big")).decode() for piece in pieces]
    upload = create("summed", ChecksumAlgorithm="CRC32")
    rows = []
    for number, piece in enumerate(pieces, 1):
        answer = s3.upload_part(Bucket="parts", Key="summed", UploadId=upload, PartNumber=number,
                                Body=piece, ChecksumCRC32=sums[number - 1])
        same(answer["ChecksumCRC32"], sums[number - 1])
        rows.append({"PartNumber": number, "ETag": answer["ETag"],
                     "ChecksumCRC32": sums[number - 1]})
    answer = complete("summed", upload, rows)
    joined = b"".join(zlib.crc32(piece).to_bytes(4, "big") for piece in pieces)
    want = base64.b64encode(zlib.crc32(joined).to_bytes(4, "big")).decode() + "-2"
    same(answer["ChecksumCRC32"], want)
    head = s3.head_object(Bucket="parts", Key="summed", ChecksumMode="ENABLED")
    same(head.get("ChecksumCRC32"), None if storage_joins("summed") else want)
    upload = create("summed", ChecksumAlgorithm="CRC32")
    same(error_of(s3.upload_part, Bucket="parts", Key="summed", UploadId=upload, PartNumber=1,
                  Body=b"x", ChecksumCRC32="AAAAAA=="), (400, "BadDigest"))
    s3.abort_multipart_upload(Bucket="parts", Key="summed", UploadId=upload)


@case
def parts_may_arrive_at_once():
    pieces = [body(5 * MIB + n, n) for n in range(6)]
    upload = create("parallel.zip")
    rows = [None] * 6

    def send(n):
        rows[n] = part("parallel.zip", upload, n + 1, pieces[n])
    threads = [threading.Thread(target=send, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    complete("parallel.zip", upload, rows)
    assert s3.get_object(Bucket="parts", Key="parallel.zip")["Body"].read() == b"".join(pieces)


@case
def nothing_is_left_of_finished_uploads():
    left = [os.path.join(folder, name) for folder, _, names in
            os.walk(os.path.join(server.root, "state")) for name in names
            if "part" in name]
    same(left, [])


main()
