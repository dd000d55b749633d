#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Conditions, digests, checksums, copies, deletes."""
import base64
import threading
import zlib
from target import *

server = target()
s3 = server.client()
s3.create_bucket(Bucket="writes")
KINDS = ("plain.bin", "delta.zip")


def put(key, data, **extra):
    return s3.put_object(Bucket="writes", Key=key, Body=data, **extra)


def get(key, **extra):
    return s3.get_object(Bucket="writes", Key=key, **extra)


def raw(method, key, data=None, query=None, **headers):
    return server.request(method, "/writes/" + key, body=data, query=query,
                          headers={name.replace("_", "-"): value
                                   for name, value in headers.items()})


# ---- Conditions ----------------------------------------------------------------

@case
def reads_obey_conditions():
    for key in KINDS:
        data = body(2000)
        put(key, data)
        tag = etag_of(data)
        modified = s3.head_object(Bucket="writes", Key=key)["LastModified"]
        date = lambda shift: time.strftime("%a, %d %b %Y %H:%M:%S GMT",
                                           time.gmtime(modified.timestamp() + shift))
        for method in ("GET", "HEAD"):
            for status, headers in (
                    (200, {"If_Match": tag}), (200, {"If_Match": '"x", ' + tag}),
                    (200, {"If_Match": "*"}), (412, {"If_Match": '"x"'}),
                    (304, {"If_None_Match": tag}), (304, {"If_None_Match": "*"}),
                    (304, {"If_None_Match": "W/" + tag}), (200, {"If_None_Match": '"x"'}),
                    (304, {"If_Modified_Since": date(0)}),
                    (200, {"If_Modified_Since": date(-10)}),
                    (200, {"If_Unmodified_Since": date(0)}),
                    (412, {"If_Unmodified_Since": date(-10)}),
                    (200, {"If_Match": tag, "If_Unmodified_Since": date(-10)}),
                    (200, {"If_None_Match": '"x"', "If_Modified_Since": date(0)}),
                    (304, {"If_Match": tag, "If_None_Match": tag}),
                    (200, {"If_Modified_Since": "no date"})):
                answer = raw(method, key, **headers)
                same(answer.status, status, (method, key, headers))
                if status == 304:
                    same(answer.headers["ETag"], tag)
                    same(answer.body, b"")
                if status == 412 and method == "GET":
                    same(answer.code, "PreconditionFailed")


@case
def writes_obey_conditions():
    for key in KINDS:
        put(key, b"old" * 900)
        tag = etag_of(b"old" * 900)
        answer = raw("PUT", key, b"new", If_None_Match="*")
        same((answer.status, answer.code), (412, "PreconditionFailed"))
        answer = raw("PUT", key, b"new", If_Match='"other"')
        same((answer.status, answer.code), (412, "PreconditionFailed"))
        assert get(key)["Body"].read() == b"old" * 900
        same(raw("PUT", key, b"new" * 800, If_Match=tag).status, 200)
        assert get(key)["Body"].read() == b"new" * 800
        s3.delete_object(Bucket="writes", Key=key)
        answer = raw("PUT", key, b"new", If_Match=tag)
        same((answer.status, answer.code), (404, "NoSuchKey"))
        same(raw("PUT", key, b"first", If_None_Match="*").status, 200)
        answer = raw("PUT", key, b"x", If_None_Match=tag)
        same((answer.status, answer.code), (501, "NotImplemented"))


@case
def only_one_of_many_racing_creators_wins():
    for key in ("race.bin", "race.zip"):
        for round_ in range(3):
            results = []
            threads = [threading.Thread(target=lambda n=n: results.append(
                (raw("PUT", key, b"%d" % n * 3000, If_None_Match="*").status, n)))
                for n in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            winners = [n for status, n in results if status == 200]
            same(len(winners), 1, results)
            same(sorted({status for status, _ in results}), [200, 412])
            assert get(key)["Body"].read() == b"%d" % winners[0] * 3000
            s3.delete_object(Bucket="writes", Key=key)


@case
def deletes_obey_if_match():
    put("cond", b"x")
    answer = raw("DELETE", "cond", If_Match='"other"')
    same((answer.status, answer.code), (412, "PreconditionFailed"))
    same(raw("DELETE", "cond", If_Match=etag_of(b"x")).status, 204)
    same(error_of(get, "cond"), (404, "NoSuchKey"))


# ---- Digests and checksums ---------------------------------------------------------

@case
def a_wrong_digest_stores_nothing():
    data = body(70000)
    md5 = base64.b64encode(hashlib.md5(data).digest()).decode()
    for key in KINDS:
        put(key, b"before")
        answer = raw("PUT", key, data, Content_MD5=base64.b64encode(b"0" * 16).decode())
        same((answer.status, answer.code), (400, "BadDigest"))
        answer = raw("PUT", key, data, Content_MD5="not base64")
        same((answer.status, answer.code), (400, "InvalidDigest"))
        answer = raw("PUT", key, data, Content_MD5=base64.b64encode(b"0" * 15).decode())
        same((answer.status, answer.code), (400, "InvalidDigest"))
        answer = raw("PUT", key, data, x_amz_content_sha256="0" * 64)
        same((answer.status, answer.code), (400, "XAmzContentSHA256Mismatch"))
        assert get(key)["Body"].read() == b"before"
        same(raw("PUT", key, data, Content_MD5=md5).status, 200)
        assert get(key)["Body"].read() == data


def crc_table(polynomial, bits):
    table = []
    for n in range(256):
        for _ in range(8):
            n = n >> 1 ^ (polynomial if n & 1 else 0)
        table.append(n)
    return table


def crc(data, polynomial, bits):
    table, value = crc_table(polynomial, bits), (1 << bits) - 1
    for byte in data:
        value = table[(value ^ byte) & 255] ^ value >> 8
    return (value ^ (1 << bits) - 1).to_bytes(bits // 8, "big")


def checksums(data):
    """An implementation of its own, to compare with the server's."""
    return {"crc32": zlib.crc32(data).to_bytes(4, "big"), "crc32c": crc(data, 0x82f63b78, 32),
            "crc64nvme": crc(data, 0x9a6c9329ac4bc9b5, 64), "sha1": hashlib.sha1(data).digest(),
            "sha256": hashlib.sha256(data).digest()}


@case
def all_five_checksums_are_verified_and_returned():
    assert crc(b"123456789", 0x82f63b78, 32).hex() == "e3069283"
    assert crc(b"123456789", 0x9a6c9329ac4bc9b5, 64).hex() == "ae8b14860a799888"
    data = body(50001)
    for key in KINDS:
        for name, digest in checksums(data).items():
            header = "x-amz-checksum-" + name
            value = base64.b64encode(digest).decode()
            wrong = base64.b64encode(bytes(len(digest))).decode()
            answer = raw("PUT", key, data, **{header: wrong})
            same((answer.status, answer.code), (400, "BadDigest"), name)
            answer = raw("PUT", key, data, **{header: "bogus"})
            same((answer.status, answer.code), (400, "InvalidRequest"), name)
            answer = raw("PUT", key, data, **{header: value})
            same((answer.status, answer.headers[header]), (200, value))
            for method in ("GET", "HEAD"):
                answer = raw(method, key, x_amz_checksum_mode="ENABLED")
                same(answer.headers[header], value)
                same(answer.headers["x-amz-checksum-type"], "FULL_OBJECT")
                assert header not in raw(method, key).headers
            answer = raw("GET", key, x_amz_checksum_mode="ENABLED", Range="bytes=0-9")
            assert header not in answer.headers
    answer = raw("PUT", "two", data, **{"x-amz-checksum-crc32": "AAAAAA==",
                                        "x-amz-checksum-sha1": "A" * 27 + "="})
    same((answer.status, answer.code), (400, "InvalidRequest"))


# ---- Copies ------------------------------------------------------------------------

@case
def copies_carry_bytes_and_metadata():
    for source in KINDS:
        for target in ("copied.bin", "copied.zip", "deep/er/copied.zip"):
            data = body(90000, 4)
            put(source, data, Metadata={"a": "1"}, ContentType="text/x", CacheControl="private")
            answer = s3.copy_object(Bucket="writes", Key=target,
                                    CopySource={"Bucket": "writes", "Key": source})
            same(answer["CopyObjectResult"]["ETag"], etag_of(data))
            answer = get(target)
            assert answer["Body"].read() == data
            same((answer["Metadata"], answer["ContentType"], answer["CacheControl"]),
                 ({"a": "1"}, "text/x", "private"))
            s3.copy_object(Bucket="writes", Key=target, MetadataDirective="REPLACE",
                           Metadata={"b": "2"}, ContentType="text/y",
                           CopySource={"Bucket": "writes", "Key": source})
            answer = get(target)
            assert answer["Body"].read() == data
            same((answer["Metadata"], answer["ContentType"]), ({"b": "2"}, "text/y"))
            assert "CacheControl" not in answer


@case
def a_copy_onto_itself_must_change_something():
    for key in KINDS:
        data = body(3000)
        put(key, data, Metadata={"a": "1"})
        source = {"Bucket": "writes", "Key": key}
        same(error_of(s3.copy_object, Bucket="writes", Key=key, CopySource=source),
             (400, "InvalidRequest"))
        s3.copy_object(Bucket="writes", Key=key, CopySource=source, MetadataDirective="REPLACE",
                       Metadata={"a": "2"})
        answer = get(key)
        assert answer["Body"].read() == data
        same(answer["Metadata"], {"a": "2"})


@case
def copies_obey_conditions():
    data = body(10)
    put("source", data)
    source = {"Bucket": "writes", "Key": "source"}
    for extra, status in ((dict(CopySourceIfMatch=etag_of(data)), 200),
                          (dict(CopySourceIfMatch='"x"'), 412),
                          (dict(CopySourceIfNoneMatch=etag_of(data)), 412),
                          (dict(CopySourceIfNoneMatch='"x"'), 200),
                          (dict(CopySourceIfModifiedSince="Thu, 01 Dec 1994 16:00:00 GMT"), 200),
                          (dict(CopySourceIfUnmodifiedSince="Thu, 01 Dec 1994 16:00:00 GMT"),
                           412)):
        if status == 200:
            s3.copy_object(Bucket="writes", Key="target", CopySource=source, **extra)
        else:
            same(error_of(s3.copy_object, Bucket="writes", Key="target", CopySource=source,
                          **extra), (412, "PreconditionFailed"), extra)


@case
def wrong_copies_have_their_codes():
    same(error_of(s3.copy_object, Bucket="writes", Key="t",
                  CopySource={"Bucket": "writes", "Key": "absent"}), (404, "NoSuchKey"))
    same(error_of(s3.copy_object, Bucket="writes", Key="t",
                  CopySource={"Bucket": "absent-bucket", "Key": "x"}), (404, "NoSuchBucket"))
    same(error_of(s3.copy_object, Bucket="absent-bucket", Key="t",
                  CopySource={"Bucket": "writes", "Key": "source"}), (404, "NoSuchBucket"))
    for headers in ({"x-amz-copy-source": "nothing"}, {"x-amz-copy-source": "/"},
                    {"x-amz-copy-source": "/writes/source?versionId=abc"},
                    {"x-amz-copy-source": "/writes/source", "x-amz-metadata-directive": "MERGE"}):
        answer = server.request("PUT", "/writes/t", headers=headers)
        same((answer.status, answer.code), (400, "InvalidArgument"), headers)


@case
def odd_source_names_are_decoded_once():
    for key in ("100%25", "a b+c", "ü/ä", "x?y=z"):
        put(key, key.encode())
        s3.copy_object(Bucket="writes", Key="odd", CopySource={"Bucket": "writes", "Key": key})
        same(get("odd")["Body"].read(), key.encode())


# ---- Deletes ---------------------------------------------------------------------------

@case
def many_keys_go_in_one_request():
    keys = ["many/%d.%s" % (n, "zip" if n % 2 else "txt") for n in range(40)]
    for key in keys:
        put(key, b"x")
    answer = s3.delete_objects(Bucket="writes", Delete={
        "Objects": [{"Key": key} for key in keys[:20] + ["many/absent"]]})
    same(sorted(row["Key"] for row in answer["Deleted"]), sorted(keys[:20] + ["many/absent"]))
    answer = s3.delete_objects(Bucket="writes", Delete={
        "Objects": [{"Key": key} for key in keys[20:]], "Quiet": True})
    assert "Deleted" not in answer and "Errors" not in answer
    assert "Contents" not in s3.list_objects_v2(Bucket="writes", Prefix="many/")


@case
def the_limits_of_a_mass_delete_hold():
    s3.delete_objects(Bucket="writes", Delete={
        "Objects": [{"Key": "n%d" % n} for n in range(1000)]})
    same(error_of(s3.delete_objects, Bucket="writes", Delete={
        "Objects": [{"Key": "n%d" % n} for n in range(1001)]}), (400, "MalformedXML"))
    for document in (b"", b"<Delete>", b"<Delete></Delete>", b"<Other/>",
                     b"<!DOCTYPE x><Delete><Object><Key>a</Key></Object></Delete>",
                     b"<Delete><Object></Object></Delete>"):
        answer = server.request("POST", "/writes", body=document, query={"delete": ""})
        same((answer.status, answer.code), (400, "MalformedXML"), document)
    document = b"<Delete><Object><Key>a</Key></Object></Delete>"
    answer = server.request("POST", "/writes", body=document, query={"delete": ""},
                            headers={"Content-MD5": base64.b64encode(bytes(16)).decode()})
    same((answer.status, answer.code), (400, "BadDigest"))


@case
def a_bucket_with_objects_stays():
    s3.create_bucket(Bucket="full-bucket")
    s3.put_object(Bucket="full-bucket", Key="a.zip", Body=body(1000))
    s3.put_object(Bucket="full-bucket", Key="b.zip", Body=body(1000))
    same(error_of(s3.delete_bucket, Bucket="full-bucket"), (409, "BucketNotEmpty"))
    s3.delete_object(Bucket="full-bucket", Key="a.zip")
    same(s3.get_object(Bucket="full-bucket", Key="b.zip")["Body"].read(), body(1000))
    s3.delete_object(Bucket="full-bucket", Key="b.zip")
    s3.delete_bucket(Bucket="full-bucket")
    same(error_of(s3.create_bucket, Bucket="writes"), (409, "BucketAlreadyOwnedByYou"))


@case
def fixed_answers_stand():
    put("fixed", b"x")
    grants = s3.get_bucket_acl(Bucket="writes")
    same(grants["Grants"][0]["Permission"], "FULL_CONTROL")
    same(s3.get_object_acl(Bucket="writes", Key="fixed")["Owner"]["ID"], "deltaglider_proxy")
    same(s3.get_object_tagging(Bucket="writes", Key="fixed")["TagSet"], [])
    assert "Status" not in s3.get_bucket_versioning(Bucket="writes")
    same(s3.get_bucket_location(Bucket="writes")["LocationConstraint"], None)
    for query in ("policy", "lifecycle", "cors", "website", "logging", "notification",
                  "replication", "object-lock", "versions", "encryption", "tagging",
                  "requestPayment", "accelerate", "publicAccessBlock", "ownershipControls"):
        for method in ("GET", "PUT") if query != "versions" else ("GET",):
            answer = server.request(method, "/writes", query={query: ""},
                                    body=b"<x/>" if method == "PUT" else None)
            same((answer.status, answer.code), (501, "NotImplemented"), (method, query))
    answer = server.request("GET", "/absent-bucket", query={"policy": ""})
    same((answer.status, answer.code), (404, "NoSuchBucket"))
    for method, query in (("PUT", "acl"), ("PUT", "tagging"), ("DELETE", "tagging"),
                          ("GET", "torrent"), ("PUT", "retention"), ("POST", "restore"),
                          ("POST", "select")):
        answer = server.request(method, "/writes/fixed", query={query: ""})
        same((answer.status, answer.code), (501, "NotImplemented"), (method, query))
        answer = server.request(method, "/writes/none", query={query: ""})
        same((answer.status, answer.code), (404, "NoSuchKey"), (method, query))
    for method, path, query in (("DELETE", "/writes", "metadataTable"),
                                ("DELETE", "/writes", "metadataConfiguration"),
                                ("PUT", "/writes", "abac"), ("PUT", "/writes/fixed", "encryption"),
                                ("DELETE", "/writes/fixed", "legal-hold"),
                                ("GET", "/writes/fixed", "policy"), ("POST", "/writes", "uploads")):
        answer = server.request(method, path, query={query: ""}, body=b"y")
        same((answer.status, answer.code), (501, "NotImplemented"), (method, path, query))
    same(s3.get_object(Bucket="writes", Key="fixed")["Body"].read(), b"x")
    same(server.request("GET", "/writes/fixed", query={"x-id": "GetObject", "mine": ""}).body, b"x")
    same(server.request("HEAD", "/", sign=False).status, 200)
    same(server.request("OPTIONS", "/writes/fixed", sign=False).status, 200)


main()
