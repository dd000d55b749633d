#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A storage provider that works, and says no: to what is not encrypted, to conditions,
to its own encryption keys, to our credentials. What it allows goes on meanwhile, and
whoever asks is told what is wrong."""
import threading
from standins import *

MIB = 1 << 20
SEAL = "x-amz-server-side-encryption"
STORES = ("PutObject", "CreateMultipartUpload", "CopyObject")
upstream = Upstream()
faulty = Faulty(upstream.port)
up = upstream.client()
v = versions(300001, 3)


def start(advanced=(), **options):
    backend = s3_backend(upstream, port=faulty.port, **options)
    return Server(config={"storage": {"backends": [backend], "default_backend": "store"},
                          "advanced": dict(advanced)})


def bucket(name):
    up.create_bucket(Bucket=name)
    return name


def sealed(**more):
    return start(encryption={"mode": "sse-kms", "kms_key_id": "testkey-1"},
                 multipart_threshold="6MiB", part_size="5MiB", **more)


def put(server, path, data, **headers):
    answer = server.request("PUT", path, body=data, headers=headers)
    same(answer.status, 200, "PUT %s: %r" % (path, answer))
    return answer


def get(server, path):
    answer = server.request("GET", path)
    same(answer.status, 200, "GET %s: %r" % (path, answer))
    return answer.body


# ---- Encryption by the storage ---------------------------------------------------------------

def refuse_the_unencrypted():
    faulty.break_it(*[{"fault": "status", "op": op, "lacks": SEAL, "status": 403,
                       "code": "AccessDenied"} for op in STORES])


def write_in_every_way(server, name):
    data = body(11 * MIB, 7)
    put(server, "/%s/d/1.zip" % name, v[0])
    put(server, "/%s/d/2.zip" % name, v[1])
    put(server, "/%s/plain.bin" % name, data[:70000], **{"If-None-Match": "*"})
    put(server, "/%s/large.bin" % name, data)
    s3 = server.client()
    upload = s3.create_multipart_upload(Bucket=name, Key="parts.bin")["UploadId"]
    parts = [s3.upload_part(Bucket=name, Key="parts.bin", UploadId=upload, PartNumber=n,
                            Body=data[:5 * MIB])["ETag"] for n in (1, 2)]
    s3.complete_multipart_upload(Bucket=name, Key="parts.bin", UploadId=upload, MultipartUpload={
        "Parts": [{"PartNumber": n, "ETag": tag} for n, tag in enumerate(parts, 1)]})
    s3.copy_object(Bucket=name, Key="copy.bin", CopySource={"Bucket": name, "Key": "plain.bin"})
    s3.copy_object(Bucket=name, Key="d/2.zip", CopySource={"Bucket": name, "Key": "d/2.zip"},
                   MetadataDirective="REPLACE", Metadata={"x": "y"})
    for key, expected in (("d/1.zip", v[0]), ("d/2.zip", v[1]), ("plain.bin", data[:70000]),
                          ("copy.bin", data[:70000]), ("large.bin", data),
                          ("parts.bin", 2 * data[:5 * MIB])):
        assert get(server, "/%s/%s" % (name, key)) == expected, key
    for key in ("d/reference.bin", "d/1.zip.delta", "d/2.zip.delta", "plain.bin", "large.bin",
                "parts.bin", "copy.bin"):
        same(up.head_object(Bucket=name, Key=key).get("ServerSideEncryption"), "aws:kms", key)


@case
def every_write_asks_for_encryption_where_others_are_refused():
    name = bucket("strict")
    refuse_the_unencrypted()
    server = sealed()
    write_in_every_way(server, name)
    same(faulty.fired(), 0, "writes without the header")
    faulty.heal()
    server.stop()


@case
def leases_of_several_servers_are_encrypted_too():
    name = bucket("strict-shared")
    refuse_the_unencrypted()
    server = sealed(advanced={"instances": 2, "lease_ttl_secs": 10, "lease_wait_secs": 30})
    write_in_every_way(server, name)
    same(faulty.fired(), 0, "writes without the header")
    faulty.heal()
    server.stop()


# ---- Conditions ------------------------------------------------------------------------------

def refuse_conditions(status, code, **more):
    faulty.break_it(dict({"fault": "status", "op": "PutObject", "has": "if-none-match",
                          "status": status, "code": code}, **more))


@case
def one_server_does_without_conditions_that_are_refused():
    name = bucket("unconditional")
    for status, code in ((400, "InvalidRequest"), (400, "Odd"), (403, "AccessDenied"),
                         (405, "MethodNotAllowed"), (501, "NotImplemented")):
        place = "/%s/%d-%s/" % (name, status, code)
        server = start()
        refuse_conditions(status, code)
        put(server, place + "1.zip", v[0])
        put(server, place + "2.zip", v[1])
        faulty.heal()
        assert get(server, place + "1.zip") == v[0] and get(server, place + "2.zip") == v[1]
        assert up.head_object(Bucket=name, Key=place.split("/", 2)[2] + "2.zip.delta")
        same(server.log().count("s3.conditions.missing"), 1, server.log())
        server.stop()
    same([row["Key"] for row in up.list_objects_v2(Bucket=name)["Contents"]
          if "_cwprobe" in row["Key"]], [])


@case
def an_outage_says_nothing_about_conditions():
    name = bucket("outage")
    server = start()
    refuse_conditions(503, "SlowDown")
    answer = server.request("PUT", "/%s/1.zip" % name, body=v[0])
    same((answer.status, answer.code), (503, "SlowDown"))
    faulty.heal()
    faulty.forget()
    put(server, "/%s/1.zip" % name, v[0])
    assert "s3.conditions.missing" not in server.log()
    # It tried again, and knows now: the upstream obeys.
    same([row["status"] for row in faulty.log() if "_cwprobe" in row["key"]], [200, 412, 204])
    server.stop()


@case
def several_servers_are_refused_where_conditions_are():
    bucket("several")
    refuse_conditions(400, "InvalidRequest")
    server = Server(config={"storage": {"backends": [s3_backend(upstream, port=faulty.port)]},
                            "advanced": {"instances": 2}}, autostart=False)
    server.spawn()
    same(server.process.wait(60), 1, server.log())
    assert "cannot be shared by 2 instances: it does not obey If-None-Match" in server.log()
    server.process = None
    faulty.heal()


main()
