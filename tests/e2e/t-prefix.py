#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""DELETE of a prefix: off unless configured, and then everything below it goes, but for
what is denied; pages, quotas, clients that leave, storage that fails."""
import re
import threading
from lib import *

ON = {"recursive_delete": True, "recursive_delete_page_size": 7}
KEEP = {"name": "keep", "match": {"method": ["DELETE"], "path_glob": "*/keep-*"}, "action": "deny"}
server = Server(autostart=False, config={
    "storage": {"buckets": {"replica": {"replication_target_only": True},
                            "frozen": {"quota_bytes": 0}, "counted": {"quota_objects": 1000}}},
    "admission": {"blocks": [KEEP]}, "advanced": {}})
server.env["DGP_DATA_DIR"] = server.data
server.start()
s3 = server.client()


def wait_for(condition, what, timeout_s=60):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, what + "\n" + server.log()[-3000:]
        time.sleep(0.02)  # polls what the server shows: there is no event to wait for


def fill(bucket, keys):
    for number, key in enumerate(keys):
        s3.put_object(Bucket=bucket, Key=key, Body=b"" if key.endswith("/") else body(200, number))


def drop_files(bucket, folder, count):
    """Objects that lie there as files of others, as quickly as a filesystem makes them."""
    place = server.path(bucket, folder)
    os.makedirs(place)
    for number in range(count):
        with open(os.path.join(place, "n%06d" % number), "wb") as file:
            file.write(b"x")


def keys(bucket, prefix=""):
    return [row["Key"] for page in s3.get_paginator("list_objects_v2").paginate(
        Bucket=bucket, Prefix=prefix) for row in page.get("Contents", [])]


def remove(bucket, prefix, **more):
    return server.request("DELETE", "/%s/%s" % (bucket, prefix), **more)


def removed(bucket, prefix, deleted, denied=0):
    answer = remove(bucket, prefix)
    same((answer.status, answer.body), (200, b'{"deleted":%d,"denied":%d}\n' % (deleted, denied)))
    same(answer.headers["Content-Type"], "application/json")


def switched(on, **env):
    server.config["advanced"] = dict(ON) if on else {}
    return server.restart({"DGP_FAULT": None, **env})


MIXED = ["a", "a-b", "a/", "a/1.zip", "a/2.zip", "a/deep/", "a/deep/er/3.zip", "a/deep/x", "a0", "b/1"]


@case
def without_the_option_a_slash_at_the_end_is_part_of_a_name():
    s3.create_bucket(Bucket="off")
    fill("off", MIXED)
    same(remove("off", "a/").status, 204)
    same(keys("off"), [key for key in MIXED if key != "a/"])
    same(remove("off", "a/deep/er/").status, 204)  # no such object
    same(keys("off"), [key for key in MIXED if key != "a/"])


@case
def everything_below_the_prefix_goes_and_nothing_else():
    switched(on=True)
    s3.create_bucket(Bucket="some")
    fill("some", MIXED)
    removed("some", "a/", 6)
    same(keys("some"), ["a", "a-b", "a0", "b/1"])
    # Its references went with the last objects.
    same([name for name in server.files("some") if "/a/" in name], [])
    removed("some", "a/", 0)
    removed("some", "none/such/", 0)
    same(remove("some", "a").status, 204)  # one object
    same(keys("some"), ["a-b", "a0", "b/1"])


@case
def nothing_but_slashes_is_no_prefix():
    switched(on=True)
    s3.create_bucket(Bucket="whole")
    fill("whole", MIXED)
    answer = remove("whole", "")
    same((answer.status, answer.code), (409, "BucketNotEmpty"))
    for path in ("/", "//", "%2F", "%2F/", "/?x-id=DeleteObject"):
        path, _, query = path.partition("?")
        same(remove("whole", path, query={"x-id": "DeleteObject"} if query else None).status, 204,
             path)
    same(keys("whole"), MIXED)


@case
def pages_end_where_they_may_and_denied_keys_are_passed():
    switched(on=True)
    s3.create_bucket(Bucket="pages")
    names = ["p/%s%03d" % ("keep-" if number % 10 < 3 else "", number) for number in range(61)]
    fill("pages", names)
    kept = sorted(name for name in names if "keep-" in name)
    removed("pages", "p/", 61 - len(kept), len(kept))
    same(keys("pages"), kept)
    removed("pages", "p/", 0, len(kept))


@case
def a_batch_removes_no_key_that_a_block_protects():
    switched(on=True)
    s3.create_bucket(Bucket="batch")
    fill("batch", ["d/1", "d/keep-1", "d/2"])
    done = s3.delete_objects(Bucket="batch", Delete={
        "Objects": [{"Key": key} for key in ("d/1", "d/keep-1", "d/2")]})
    same(sorted(row["Key"] for row in done["Deleted"]), ["d/1", "d/2"])
    same([(row["Key"], row["Code"]) for row in done["Errors"]], [("d/keep-1", "AccessDenied")])
    same(keys("batch"), ["d/keep-1"])


@case
def it_is_a_delete_for_policies():
    switched(on=True)
    s3.create_bucket(Bucket="rules")
    fill("rules", ["b/1"])
    same((remove("replica", "a/").status, remove("replica", "a/").code), (403, "AccessDenied"))
    removed("frozen", "a/", 0)
    answer = remove("rules", "b/", sign=False)
    same((answer.status, answer.code), (403, "AccessDenied"))
    answer = remove("nowhere", "b/")
    same((answer.status, answer.code), (404, "NoSuchBucket"))
    for more in ({"headers": {"If-Match": '"x"'}}, {"query": {"versionId": "7"}}):
        same(remove("rules", "b/", **more).status, 400, more)
    same(remove("rules", "b/", query={"tagging": ""}).status, 404)  # those of an object "b/"
    same(keys("rules", "b/"), ["b/1"])


def gauge(name):
    text = server.request("GET", "/_/metrics", sign=False).body.decode()
    return [float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name)]


@case
def quotas_stay_exact():
    switched(on=True)
    fill("counted", ["q/%02d.zip" % number for number in range(20)] + ["r"])
    wait_for(lambda: gauge('deltaglider_bucket_objects{bucket="counted"}') == [21], "counted")
    removed("counted", "q/", 20)
    same(gauge('deltaglider_bucket_objects{bucket="counted"}'), [1])
    same(gauge('deltaglider_bucket_logical_bytes{bucket="counted"}'), [200])


def resident_kib():
    with open("/proc/%d/status" % server.process.pid) as status:
        return int(re.search(r"VmRSS:\s+(\d+)", status.read()).group(1))


@case
def a_directory_with_a_listing_index_is_emptied_in_bounded_memory():
    count = 6000
    s3.create_bucket(Bucket="big")
    switched(on=True, DGP_RECURSIVE_DELETE_PAGE_SIZE="500")
    drop_files("big", "n", count)
    fill("big", ["m/1", "o/1"])
    same(len(keys("big", "n/")), count)  # the index is there
    before = resident_kib()
    removed("big", "n/", count)
    after = resident_kib()
    assert after - before < 32 << 10, (before, after)
    same(keys("big"), ["m/1", "o/1"])
    same(os.path.exists(server.path("big", "n")), False)


@case
def what_comes_meanwhile_harms_nothing():
    switched(on=True)
    s3.create_bucket(Bucket="busy")
    fill("busy", ["d/%03d.zip" % number for number in range(40)])
    stop, own = threading.Event(), server.client(max_pool_connections=2)

    def write():
        for number in range(100000):
            if stop.is_set():
                return
            own.put_object(Bucket="busy", Key="d/%03d.zip" % (number % 40), Body=body(300, number))
            own.put_object(Bucket="busy", Key="e/%03d.zip" % (number % 40), Body=body(300, number))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(5):
            same(remove("busy", "d/").status, 200)
    finally:
        stop.set()
        writer.join()
    for key in keys("busy"):
        s3.get_object(Bucket="busy", Key=key)["Body"].read()
    removed("busy", "d/", len(keys("busy", "d/")))
    same(keys("busy", "d/"), [])


@case
def it_stops_when_the_client_leaves():
    switched(on=True, DGP_FAULT="engine.delete.variant:delay_500")
    s3.create_bucket(Bucket="left")
    fill("left", ["d/%03d" % number for number in range(120)])
    headers = {}
    sign_headers(server, "DELETE", "/left/d/", {}, headers, None)
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.request("DELETE", "/left/d/", headers=headers)
    wait_for(lambda: len(keys("left")) < 120, "nothing is removed")
    connection.close()
    wait_for(lambda: [line for line in server.log().splitlines() if "operation=DeletePrefix" in line
                      and "path=/left/d/" in line.replace('"', "")], "the request ends")
    left = keys("left")
    assert 0 < len(left) < 120, len(left)
    assert "delete_prefix.stopped" in server.log()
    switched(on=True)
    same(keys("left"), left)
    removed("left", "d/", len(left))


@case
def a_failure_is_an_error_and_the_rest_goes_with_the_next_request():
    for fault, status, code in (("EIO", 500, "InternalError"),
                                ("EROFS", 503, "ServiceUnavailable")):
        switched(on=True, DGP_FAULT="engine.delete.variant:%s:10" % fault)
        server.make_bucket("fails")
        fill("fails", ["d/%03d" % number for number in range(30)])
        answer = remove("fails", "d/")
        same((answer.status, answer.code), (status, code))
        left = keys("fails")
        assert 10 < len(left) < 30, len(left)
        removed("fails", "d/", len(left))


@case
def a_long_one_keeps_the_client_waiting_with_blanks():
    late, slow = "engine.delete.variant:EIO:40", "engine.delete.variant:delay_400"
    for rules, ending in ((slow, b'{"deleted":49,"denied":0}\n'), (late + "," + slow, None)):
        switched(on=True, DGP_FAULT=rules, DGP_ANSWER_KEEPALIVE_SECS="1")
        server.make_bucket("long")
        fill("long", ["d/%03d" % number for number in range(49)])
        answer = remove("long", "d/", timeout_s=300)
        same((answer.status, answer.headers["Content-Type"]), (200, "application/json"))
        assert answer.body.startswith(b"\n"), answer
        if ending:
            same(answer.body.lstrip(), ending)
        else:
            same(json.loads(answer.body), {"error": "InternalError",
                                           "request_id": answer.headers["x-amz-request-id"]})


@case
def a_reload_switches_it():
    switched(on=False)
    s3.create_bucket(Bucket="reload")
    fill("reload", ["a/1"])
    same(remove("reload", "a/").status, 204)
    same(keys("reload"), ["a/1"])
    server.config["advanced"] = dict(ON)
    with open(os.path.join(server.root, "config.yaml"), "w") as file:
        json.dump(server.config, file)
    done = server.log().count("reload.done")
    server.process.send_signal(signal.SIGHUP)
    wait_for(lambda: server.log().count("reload.done") > done, "the reload")
    removed("reload", "a/", 1)


main()
