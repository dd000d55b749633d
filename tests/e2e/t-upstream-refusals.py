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


KEY_TROUBLE = (
    (400, "KMS.DisabledException", "", "KMS.DisabledException", b"disabled"),
    (400, "KMS.NotFoundException", "", "KMS.NotFoundException", b"does not exist"),
    (400, "KMS.AccessDeniedException", "", "KMS.AccessDeniedException", b"denies this server"),
    (403, "AccessDenied", "User: arn:aws:iam::1:user/u is not authorized to perform: "
     "kms:GenerateDataKey", "KMS.AccessDeniedException", b"denies this server"),
    (400, "KMS.KMSInvalidStateException", "", "KMS.KMSInvalidStateException", b"cannot be used"))


@case
def trouble_with_the_key_is_told_by_its_name():
    name = bucket("key-trouble")
    server = sealed()
    put(server, "/%s/before.bin" % name, v[2])
    put(server, "/%s/d/1.zip" % name, v[0])
    for status, code, message, told, said in KEY_TROUBLE:
        faulty.forget()
        faulty.break_it(*[{"fault": "status", "op": op, "status": status, "code": code,
                           "message": message} for op in STORES])
        for path, data in (("plain.bin", v[0]), ("d/2.zip", v[1]), ("large.bin", body(7 * MIB, 1))):
            answer = server.request("PUT", "/%s/%s" % (name, path), body=data)
            same((answer.status, answer.code), (400, told), path)
            assert said in answer.body and b"testkey-1" not in answer.body, answer
        same(error_of(server.client().copy_object, Bucket=name, Key="c.bin",
                      CopySource={"Bucket": name, "Key": "before.bin"}), (400, told))
        same(sum(row["fault"] is not None for row in faulty.log()), 4, "asked once each")
        log = server.log()
        assert "backend 'store': key 'testkey-1': " in log and code in log, log[-3000:]
        assert get(server, "/%s/before.bin" % name) == v[2]
        assert get(server, "/%s/d/1.zip" % name) == v[0]
    faulty.heal()
    put(server, "/%s/plain.bin" % name, v[0])
    server.stop()


def side_by_side(count, work):
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@case
def refused_writes_do_not_stop_the_reads_of_others():
    name = bucket("go-on")
    server = sealed()
    put(server, "/%s/read.bin" % name, v[0])
    for code in ("KMS.DisabledException", "Unheard"):
        faulty.break_it({"fault": "status", "op": "PutObject", "status": 400, "code": code})
        answers, reads = [], []
        over = threading.Event()

        def read_on():
            while not over.is_set():
                reads.append(server.request("GET", "/%s/read.bin" % name).status)
        reader = threading.Thread(target=read_on)
        reader.start()
        side_by_side(6, lambda number: answers.append(
            server.request("PUT", "/%s/w%d.bin" % (name, number), body=v[1]).status))
        reads.append(server.request("GET", "/%s/read.bin" % name).status)
        over.set()
        reader.join()
        faulty.heal()
        same(set(answers), {400} if code != "Unheard" else {500}, code)
        same(set(reads), {200}, code)
    assert "s3.breaker.open" not in server.log()
    server.stop()


@case
def an_unexplained_400_is_tried_again():
    name = bucket("passing")
    server = start()
    faulty.break_it({"fault": "status", "op": "PutObject", "status": 400, "code": "", "times": 2})
    put(server, "/%s/k" % name, v[0])
    same(faulty.fired(), 2)
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
def a_denied_probe_says_nothing_about_conditions():
    bucket("read-only")
    name = bucket("writable")
    server = start()
    for status, code in ((403, "AccessDenied"), (400, "InvalidRequest"), (400, "Odd")):
        faulty.break_it({"fault": "status", "op": "PutObject", "status": status, "code": code})
        assert server.request("PUT", "/read-only/1.zip", body=v[0]).status >= 400
    faulty.heal()
    faulty.forget()
    put(server, "/%s/1.zip" % name, v[0])
    assert "s3.conditions.missing" not in server.log()
    same([row["status"] for row in faulty.log() if "_cwprobe" in row["key"]], [200, 412, 204])
    assert get(server, "/%s/1.zip" % name) == v[0]
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


# ---- Access ----------------------------------------------------------------------------------

def denied(op, **more):
    return dict({"fault": "status", "op": op, "status": 403, "code": "AccessDenied"}, **more)


def check_denied(answer):
    """Trouble of ours, not of the client's key."""
    same((answer.status, answer.code), (503, "ServiceUnavailable"))
    assert b"refuses this server access" in answer.body, answer


@case
def an_object_that_is_denied_to_us_stands_alone():
    name = bucket("one-denied")
    server = start(advanced={"backend_probe_interval_secs": 1})
    put(server, "/%s/open.bin" % name, v[0])
    put(server, "/%s/shut.bin" % name, v[1])
    server.restart()
    faulty.break_it(denied("*Object", key="^shut"))
    faulty.forget()
    for _ in range(200):
        check_denied(server.request("GET", "/%s/shut.bin" % name))
        check_denied(server.request("PUT", "/%s/shut.bin" % name, body=v[2]))
        assert get(server, "/%s/open.bin" % name) == v[0]
        # It is looked into, and nothing is found.
        if "ListBuckets" in [row["operation"] for row in faulty.log()]:
            break
        time.sleep(0.1)  # the server waits a while between two probes
    else:
        raise AssertionError("no probe")
    faulty.break_it(denied("PutObject", key="^shut"))
    check_denied(server.request("PUT", "/%s/shut.bin" % name, body=v[2]))
    faulty.heal()
    log = server.log()
    assert "backend 'store': upstream HEAD answered 403 request-id" in log, log[-3000:]
    assert "backend 'store': upstream PUT answered 403 AccessDenied" in log, log[-3000:]
    assert "credentials rejected" not in log, log[-3000:]
    assert get(server, "/%s/shut.bin" % name) == v[1]
    server.stop()


@case
def credentials_that_no_longer_hold_are_found_out():
    name = bucket("all-denied")
    server = start(advanced={"backend_probe_interval_secs": 1})
    put(server, "/%s/k.bin" % name, v[0])
    server.restart()
    faulty.break_it(denied("*", code="InvalidAccessKeyId"))
    check_denied(server.request("PUT", "/%s/k.bin" % name, body=v[1]))
    deadline = time.monotonic() + 60
    while True:
        answer = server.request("GET", "/%s/k.bin" % name)
        same((answer.status, answer.code), (503, "ServiceUnavailable"))
        if b"credentials rejected" in answer.body:
            break
        assert time.monotonic() < deadline, answer
        time.sleep(0.1)  # probes have their own time
    faulty.heal()
    while server.request("GET", "/%s/k.bin" % name).status != 200:
        assert time.monotonic() < deadline + 60
        time.sleep(0.1)
    assert get(server, "/%s/k.bin" % name) == v[0]
    server.stop()


NOT_OURS = (denied("HeadBucket"), denied("GetBucketLocation"))


@case
def a_bucket_that_somebody_else_has_is_taken():
    server = start()
    faulty.break_it(*NOT_OURS, {"fault": "status", "op": "CreateBucket", "status": 409,
                                "code": "BucketAlreadyExists"})
    same(error_of(server.client().create_bucket, Bucket="somebodys"), (409, "BucketAlreadyExists"))
    check_denied(server.request("PUT", "/somebodys/k", body=b"x"))
    faulty.heal()
    same(server.request("PUT", "/mine").status, 200)
    same(error_of(server.client().create_bucket, Bucket="mine"), (409, "BucketAlreadyOwnedByYou"))
    server.stop()


@case
def a_bucket_of_somebody_else_does_not_hide_ours_on_another_backend():
    disk = {"name": "disk", "type": "filesystem", "path": tempfile.mkdtemp(dir=WORK)}
    cloud = s3_backend(upstream, port=faulty.port)
    first = Server(config={"storage": {"backends": [disk]}})
    same(first.request("PUT", "/both").status, 200)
    put(first, "/both/k", b"on the disk")
    first.stop()
    both = Server(config={"storage": {"backends": [cloud, disk], "default_backend": "store"}})
    faulty.break_it(*NOT_OURS)
    # Until the list of ours is there, which the first look asks for, nobody can say.
    deadline = time.monotonic() + 60
    while True:
        answer = both.request("GET", "/both/k")
        if answer.status == 200:
            break
        same(answer.status, 503)
        assert time.monotonic() < deadline, answer
        time.sleep(0.1)  # polls for the list
    same(answer.body, b"on the disk")
    # While nobody can say whose it is, it stays where it may be.
    both.restart()
    faulty.break_it(denied("*", code="InvalidAccessKeyId"))
    same(both.request("GET", "/both/k").status, 503)
    faulty.heal()
    both.stop()


@case
def a_bucket_that_a_policy_keeps_from_us_is_not_made_on_another_backend():
    name = bucket("kept-from-us")
    disk = {"name": "disk", "type": "filesystem", "path": tempfile.mkdtemp(dir=WORK)}
    server = Server(config={"storage": {"backends": [disk, s3_backend(upstream, port=faulty.port)],
                                        "default_backend": "disk"}})
    put(server, "/%s/k" % name, v[0])
    server.restart()
    faulty.break_it(*NOT_OURS)
    for _ in range(2):
        same(get(server, "/%s/k" % name), v[0])  # objects are not denied
        answer = server.request("PUT", "/%s" % name)
        assert answer.status in (409, 503), answer
        same(server.request("GET", "/").status, 200)
    faulty.heal()
    same(get(server, "/%s/k" % name), v[0])
    server.stop()


main()
