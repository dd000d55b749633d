#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Quotas: how much a bucket takes, from clients side by side, through kill -9,
and with others who write behind the server's back."""
import concurrent.futures
import html
import re
from lib import *
from target import CRYPT_KEY, Upstream, s3_backend

LIMITS = {"bytes": {"quota_bytes": 1000}, "objects": {"quota_objects": 3},
          "edge-bytes": {"quota_bytes": 2050}, "edge-objects": {"quota_objects": 17},
          "parts": {"quota_bytes": 12 << 20}, "killed": {"quota_bytes": 1 << 20},
          "theirs": {"quota_bytes": 1000}, "again": {"quota_objects": 1},
          "shown": {"quota_bytes": 1000, "quota_objects": 5}}
server = Server(autostart=False, config={"storage": {"buckets": LIMITS},
                                         "advanced": {"usage_cache_ttl_secs": 3600}})
server.env["DGP_DATA_DIR"] = server.data
server.start()
s3 = server.client()
for name in [*LIMITS, "free"]:
    server.make_bucket(name)

REFUSED = (403, "QuotaExceeded")


def put(bucket, key, size, client=s3):
    client.put_object(Bucket=bucket, Key=key, Body=body(size, seed=len(key)))


def refused(bucket, key, size):
    same(error_of(put, bucket, key, size), REFUSED, (bucket, key, size))


def delete(bucket, key):
    s3.delete_object(Bucket=bucket, Key=key)


def metrics():
    text = server.request("GET", "/_/metrics", sign=False).body.decode()
    return {name: float(number) for name, number in
            (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))}


def use(bucket):
    """(objects, bytes) as the server counts them; None while it does not know."""
    row = metrics()
    return tuple(row.get('deltaglider_bucket_%s{bucket="%s"}' % (what, bucket))
                 for what in ("objects", "logical_bytes"))


def listed(bucket):
    rows = [row for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
            for row in page.get("Contents", [])]
    return (float(len(rows)), float(sum(row["Size"] for row in rows)))


def wait_for(what, timeout_s=60):
    deadline = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < deadline, server.log()[-3000:]
        time.sleep(0.02)  # polls a figure of the server: there is no event to wait for


def counts(result):
    return metrics().get('deltaglider_quota_counts_total{result="%s"}' % result, 0)


@case
def bytes_are_limited_to_the_byte():
    put("bytes", "a", 999)
    refused("bytes", "b", 2)
    put("bytes", "b", 1)
    put("bytes", "empty", 0)
    refused("bytes", "c", 1)
    put("bytes", "a", 999)
    refused("bytes", "a", 1000)
    put("bytes", "a", 500)
    put("bytes", "d", 499)
    same(listed("bytes"), (4, 1000))
    same(use("bytes"), (4, 1000))


@case
def the_refusal_names_bucket_limit_and_use():
    answer = server.request("PUT", "/bytes/more", body=b"x" * 30)
    same((answer.status, answer.code), REFUSED)
    text = html.unescape(answer.body.decode())
    assert "'bytes'" in text and "1000 of 1000 bytes" in text, text
    line = [row for row in server.log().splitlines() if "quota.refused" in row][-1]
    assert 'bucket="bytes"' in line and 'key="more"' in line and "1000 of 1000" in line, line
    assert metrics()['deltaglider_quota_refused_total{bucket="bytes"}'] >= 4


@case
def a_body_that_will_not_fit_is_not_waited_for():
    answer = server.request("PUT", "/bytes/big", headers={
        "Content-Length": str(1 << 30), "x-amz-content-sha256": "UNSIGNED-PAYLOAD",
        "Expect": "100-continue"}, timeout_s=20)
    same((answer.status, answer.code), REFUSED)


@case
def objects_are_limited_and_deletes_make_room():
    for key in ("d/a.zip", "d/b.zip", "d/c.zip"):
        put("objects", key, 5000)
    refused("objects", "d", 0)
    put("objects", "d/a.zip", 9000)
    delete("objects", "d/a.zip")
    delete("objects", "d/a.zip")
    put("objects", "d", 0)
    refused("objects", "e", 0)
    done = s3.delete_objects(Bucket="objects", Delete={"Objects": [
        {"Key": "d/b.zip"}, {"Key": "d/c.zip"}, {"Key": "none"}]})
    same(len(done["Deleted"]), 3)
    put("objects", "e", 0)
    put("objects", "f", 0)
    refused("objects", "g", 0)
    same(use("objects"), (3, 0))


@case
def of_many_puts_at_once_exactly_those_that_fit_succeed():
    clients = [server.client(max_pool_connections=20 + i) for i in range(4)]

    def attempt(bucket, number):
        try:
            put(bucket, "k%03d" % number, 100, clients[number % 4])
            return True
        except clients[0].exceptions.ClientError as error:
            same(error.response["Error"]["Code"], "QuotaExceeded")
            return False

    for bucket, fit in (("edge-bytes", 20), ("edge-objects", 17)):
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            done = list(pool.map(lambda number: attempt(bucket, number), range(60)))
        same(sum(done), fit, bucket)
        same(listed(bucket), (fit, 100.0 * fit))
        same(use(bucket), (fit, 100 * fit))


@case
def copies_count_as_what_they_copy():
    put("free", "small", 400)
    put("free", "large", 700)
    same(use("free"), (None, None))
    delete("bytes", "d")
    copy = lambda source, key: s3.copy_object(Bucket="bytes", Key=key,
                                              CopySource={"Bucket": "free", "Key": source})
    copy("small", "copied")
    same(error_of(copy, "large", "copied-too"), REFUSED)
    same(use("bytes"), (4, 901))
    s3.copy_object(Bucket="bytes", Key="copied", CopySource={"Bucket": "bytes", "Key": "copied"},
                   MetadataDirective="REPLACE", Metadata={"new": "text"})
    same(use("bytes"), (4, 901))
    same(listed("bytes"), (4, 901))


@case
def an_upload_counts_once_it_is_complete():
    size = 5 << 20
    ids, tags = [], []
    for key in ("u1", "u2", "u3"):
        id_ = s3.create_multipart_upload(Bucket="parts", Key=key)["UploadId"]
        tags.append(s3.upload_part(Bucket="parts", Key=key, UploadId=id_, PartNumber=1,
                                   Body=body(size))["ETag"])
        ids.append(id_)
    same(use("parts"), (0, 0))

    def complete(number):
        s3.complete_multipart_upload(
            Bucket="parts", Key="u%d" % (number + 1), UploadId=ids[number],
            MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": tags[number]}]})

    complete(0)
    complete(1)
    same(error_of(complete, 2), REFUSED)
    same(use("parts"), (2, 2 * size))
    delete("parts", "u1")
    complete(2)
    same(use("parts"), (2, 2 * size))
    same(listed("parts"), (2, 2 * size))


@case
def figures_are_shown_for_buckets_with_a_quota_alone():
    put("shown", "a", 10)
    row = metrics()
    get = lambda name: row['deltaglider_bucket_%s{bucket="shown"}' % name]
    same((get("objects"), get("logical_bytes"), get("quota_objects"), get("quota_bytes")),
         (1, 10, 5, 1000))
    assert 'deltaglider_bucket_quota_objects{bucket="bytes"}' not in row
    same([name for name in row if '"free"' in name], [])


def kill_while_writing(client, seconds):
    stop = time.monotonic() + seconds

    def write(number):
        rng = random.Random(number)
        while time.monotonic() < stop:
            key = "d%d/%d.zip" % (rng.randrange(3), rng.randrange(8))
            try:
                if rng.random() < 0.3:
                    client.delete_object(Bucket="killed", Key=key)
                else:
                    client.put_object(Bucket="killed", Key=key, Body=body(rng.randrange(90000)))
            except Exception:
                if server.process is None or server.process.poll() is not None:
                    return

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        writers = [pool.submit(write, number) for number in range(6)]
        time.sleep(seconds / 2)  # the load runs; when it is cut does not matter
        server.process.kill()
        for writer in writers:
            writer.result()
    server.kill()


@case
def after_kill_9_the_figures_are_those_of_the_listing():
    for round_ in range(4):
        kill_while_writing(server.client(connect_timeout=2, retries={"max_attempts": 0}), 1.0)
        server.start()
        # The first count after the start is compared with what the files say.
        wait_for(lambda: counts("same") + counts("corrected") + counts("first") >= len(LIMITS))
        same(counts("corrected"), 0, (round_, server.log()[-2000:]))
        same(counts("first"), 0, round_)
        same(use("killed"), listed("killed"), round_)


@case
def a_kill_in_the_middle_of_a_put_is_settled_before_anything_is_decided():
    # What the case before left may fill the bucket.
    for row in s3.list_objects_v2(Bucket="killed").get("Contents", [])[:16]:
        delete("killed", row["Key"])
    for step in ("engine.quota.noted", "engine.quota.settle", "engine.quota.settled"):
        server.restart({"DGP_FAULT": step + ":kill:1"})
        try:
            put("killed", "dying", 70000)
            raise AssertionError("the server lives")
        except Exception as error:
            assert not isinstance(error, AssertionError), error
        server.process.wait(60)
        server.kill()
        server.start()
        wait_for(lambda: counts("same") >= len(LIMITS))
        same(counts("corrected"), 0, step)
        same(use("killed"), listed("killed"), step)
        delete("killed", "dying")


@case
def what_others_wrote_is_found_by_the_next_count():
    put("theirs", "mine", 300)
    with open(server.path("theirs", "put-by-hand"), "wb") as file:
        file.write(b"x" * 500)
    same(use("theirs"), (1, 300))
    server.config["advanced"]["usage_cache_ttl_secs"] = 1
    reload(server, server.config)
    wait_for(lambda: use("theirs") == (2, 800))
    refused("theirs", "more", 201)
    put("theirs", "more", 200)
    os.remove(server.path("theirs", "put-by-hand"))
    wait_for(lambda: use("theirs") == (2, 500))
    server.config["advanced"]["usage_cache_ttl_secs"] = 3600
    reload(server, server.config)


@case
def a_quota_that_comes_later_counts_what_is_there():
    for number in range(5):
        put("free", "d/%d.zip" % number, 5000)
    server.stop()
    LIMITS["free"] = {"quota_objects": 8}
    server.start()
    same(error_of(lambda: [put("free", "over%d" % n, 1) for n in range(3)]), REFUSED)
    same(use("free"), (8, listed("free")[1]))
    # Taken away and given back: what was written meanwhile is not missed.
    server.stop()
    del LIMITS["free"]
    server.start()
    delete("free", "d/0.zip")
    server.stop()
    LIMITS["free"] = {"quota_objects": 8}
    server.start()
    put("free", "fits", 1)
    refused("free", "fits-not", 1)


@case
def a_bucket_made_anew_begins_at_nothing():
    put("again", "a", 1)
    refused("again", "b", 1)
    delete("again", "a")
    s3.delete_bucket(Bucket="again")
    same(error_of(put, "again", "a", 1), (404, "NoSuchBucket"))
    s3.create_bucket(Bucket="again")
    put("again", "a", 1)
    refused("again", "b", 1)
    same(use("again"), (1, 1))


@case
def deltas_over_s3_and_sealed_bodies_count_as_their_plaintext():
    store = Upstream()
    v = versions(300000, 3)
    backend = s3_backend(store, encryption={"mode": "aes256-gcm-proxy", "key": CRYPT_KEY})
    other = Server(config={"storage": {"backends": [backend], "buckets": {
        "remote": {"quota_bytes": 1000000}}}})
    client = other.client()
    client.create_bucket(Bucket="remote")
    for number, data in enumerate(v):
        client.put_object(Bucket="remote", Key="d/%d.zip" % number, Body=data)
    put("remote", "plain", 90000, client)
    same(error_of(put, "remote", "over", 10001, client), REFUSED)
    put("remote", "fits", 10000, client)
    # Parts that the storage may have already.
    id_ = client.create_multipart_upload(Bucket="remote", Key="parts")["UploadId"]
    tag = client.upload_part(Bucket="remote", Key="parts", UploadId=id_, PartNumber=1,
                             Body=body(90000))["ETag"]
    complete = lambda: client.complete_multipart_upload(
        Bucket="remote", Key="parts", UploadId=id_,
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": tag}]})
    same(error_of(complete), REFUSED)
    client.delete_object(Bucket="remote", Key="plain")
    complete()
    gauge = lambda: re.search(r'bucket_logical_bytes{bucket="remote"} (.*)',
                              other.request("GET", "/_/metrics", sign=False).body.decode())
    same(gauge().group(1), "1000000")
    # Counted anew by someone who knows nothing of it.
    other.stop()
    for name in ("state", "cache"):
        shutil.rmtree(os.path.join(other.root, name))
    other.start()
    wait_for(gauge)
    same(gauge().group(1), "1000000")
    same(error_of(put, "remote", "over", 1, client), REFUSED)
    client.delete_object(Bucket="remote", Key="d/1.zip")
    put("remote", "over", 300000, client)
    same(gauge().group(1), "1000000")
    other.drop()


def reload(other, config):
    path = os.path.join(other.root, "config.yaml")
    with open(path + ".new", "w") as file:
        json.dump(config, file)
    os.rename(path + ".new", path)
    seen = len(other.log())
    other.process.send_signal(signal.SIGHUP)
    wait_for(lambda: " reload.done " in other.log()[seen:])


@case
def a_storage_that_hangs_holds_up_the_buckets_of_no_other():
    names = ("one", "two")
    other = Server(autostart=False, config={"storage": {
        "backends": [{"type": "filesystem", "name": name, "path": os.path.join(WORK, "hang-" + name)}
                     for name in names],
        "buckets": {name: {"backend": name} for name in names}}})
    client = other.start().client()
    for name in names:
        other.make_bucket(name)
        put(name, "a", 10, client)
    other.stop()
    for name in names:
        other.config["storage"]["buckets"][name]["quota_objects"] = 2
    other.start({"DGP_FAULT": "engine.quota.row:delay_600000:1"})
    shown = lambda: other.request("GET", "/_/metrics", sign=False).body.decode()
    known = lambda: [name for name in names
                     if 'deltaglider_bucket_objects{bucket="%s"}' % name in shown()]
    wait_for(known)
    ready, = known()
    hanging, = {*names} - {ready}
    put(ready, "b", 10, client)
    same(error_of(put, ready, "c", 10, client), REFUSED)
    same(error_of(put, hanging, "b", 10, client), (503, "SlowDown"))
    put(hanging, "a", 9, client)
    other.drop()


@case
def a_reload_gives_and_takes_quotas():
    def config(directory, quota):
        return {"storage": {"backends": [{"type": "filesystem", "name": "disk",
                                          "path": os.path.join(WORK, directory)}],
                            "buckets": {"moved": {"quota_objects": quota} if quota else {}}}}

    other = Server(config=config("disk-1", None))
    client = other.client()
    other.make_bucket("moved")
    for key in "abc":
        put("moved", key, 10, client)
    gauge = 'deltaglider_bucket_objects{bucket="moved"}'
    shown = lambda: other.request("GET", "/_/metrics", sign=False).body.decode()
    for _ in range(2):
        reload(other, config("disk-1", 4))
        put("moved", "d", 10, client)
        same(error_of(put, "moved", "e", 10, client), REFUSED)
        assert gauge + " 4\n" in shown()
        reload(other, config("disk-1", None))
        put("moved", "e", 10, client)
        wait_for(lambda: gauge not in shown())
        client.delete_objects(Bucket="moved", Delete={"Objects": [{"Key": "d"}, {"Key": "e"}]})
    # Other storage under the same name holds something else.
    reload(other, config("disk-1", 4))
    put("moved", "d", 10, client)
    reload(other, config("disk-2", 4))
    other.make_bucket("moved")
    for key in "abcd":
        put("moved", key, 10, client)
    same(error_of(put, "moved", "e", 10, client), REFUSED)
    for key in "abcd":
        client.delete_object(Bucket="moved", Key=key)
    assert gauge + " 0\n" in shown()
    other.stop()
    other.config = config("disk-1", 4)
    other.start()
    same(error_of(put, "moved", "e", 10, client), REFUSED)
    assert gauge + " 4\n" in shown()
    other.drop()


main()
