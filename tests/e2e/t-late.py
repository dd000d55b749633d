#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Requests to the storage that the server gave up, and that take effect later all the
same: they must not undo what the same server acknowledged since, whether it stands alone
or shares the storage.

Each case is one folder on each server, with rules of its own for what comes late; most of
the time all of them wait, so they wait together."""
import threading
from standins import *

upstream = Upstream()
up = upstream.client()
v, noise = versions(60000, 3), [body(60000, 100 + n) for n in range(3)]
LARGE = body(24 << 20, 103)  # more than fits into the buffers on the way
ATTEMPTS, GIVEN_UP_S, LATE_S = 2, 1, 6


class Late:
    """A server that gives up an attempt after a second."""

    def __init__(self, bucket, **advanced):
        up.create_bucket(Bucket=bucket)
        self.bucket, self.faulty = bucket, Faulty(upstream.port)
        self.server = Server(config={
            "storage": {"backends": [s3_backend(
                upstream, port=self.faulty.port, attempts=ATTEMPTS,
                attempt_timeout="%ds" % GIVEN_UP_S)]},
            "advanced": advanced})


class Folder:
    def __init__(self, late, name):
        self.late, self.name = late, name

    def send(self, method, key, data=None, status=None):
        return self.ask(method, "%s/%s/%s" % (self.late.bucket, self.name, key), data, status)

    def ask(self, method, path, data=None, status=None):
        deadline = time.monotonic() + 60
        while True:
            answer = self.late.server.request(method, "/" + path, body=data, timeout_s=120)
            if answer.status != 503 or not status or time.monotonic() > deadline:
                break
            time.sleep(0.2)  # the breaker closes in its own time
        if status:
            same(answer.status, status, (method, path, answer))
        return answer

    def until_late_ones_came(self, count=1):
        deadline = time.monotonic() + 90
        while len([row for row in self.late.faulty.log()
                   if row["fault"] and row["key"].startswith(self.name + "/")]) < count:
            assert time.monotonic() < deadline, "the late ones do not arrive"
            time.sleep(0.2)  # polls the stand-in: it tells nobody

    def holds(self, key, *allowed):
        answer = self.send("GET", key, status=200)
        assert answer.body in allowed, "%s is not what was acknowledged" % key


def removed(f):
    f.send("PUT", "keep.zip", v[0], 200)
    f.send("PUT", "app.zip", v[1], 200)
    f.send("DELETE", "app.zip", status=204)
    f.send("PUT", "app.zip", v[2], 200)
    f.until_late_ones_came()
    f.holds("app.zip", v[2])


def replaced(f):
    f.send("PUT", "a.bin", noise[0], 200)
    f.send("PUT", "a.bin", noise[1], 200)
    f.until_late_ones_came()
    f.holds("a.bin", noise[1])


def back(f):
    f.send("PUT", "a.bin", noise[0], 200)
    f.send("DELETE", "a.bin", status=204)
    f.until_late_ones_came()
    f.send("GET", "a.bin", status=404)


def variant(f):
    f.send("PUT", "keep.zip", v[0], 200)
    f.send("PUT", "app.zip", v[1], 200)
    f.send("PUT", "app.zip", noise[0], 200)  # as it is: the delta goes
    f.send("PUT", "app.zip", v[2], 200)
    f.until_late_ones_came()
    f.holds("app.zip", v[2])


def reference(f):
    f.send("PUT", "app.zip", v[0], 200)
    f.send("DELETE", "app.zip", status=204)
    f.send("PUT", "app.zip", v[1], 200)
    f.until_late_ones_came(f.count)
    f.holds("app.zip", v[1])


def hidden(f):
    up.put_object(Bucket=f.late.bucket, Key=f.name + "/app.zip", Body=noise[0])  # not ours
    answer = f.send("PUT", "app.zip", v[0])
    assert answer.status >= 500, answer
    f.until_late_ones_came(ATTEMPTS)
    f.holds("app.zip", noise[0], v[0])


def gone(f):
    """As it is, and as a delta."""
    key, data = ("a.bin", noise[0]) if f.name == "gone" else ("app.zip", v[1])
    if f.name != "gone":
        f.send("PUT", "keep.zip", v[0], 200)
    answer = f.send("PUT", key, data)
    assert answer.status >= 500, answer
    f.send("DELETE", key, status=204)
    f.until_late_ones_came(ATTEMPTS)
    f.send("GET", key, status=404)


def emptied(f):
    """A reference is all that is left in a bucket, which goes, and comes back."""
    path = f.name + "/app.zip"
    up.create_bucket(Bucket=f.name)
    up.put_object(Bucket=f.name, Key=f.name + "/reference.bin", Body=v[0])
    f.ask("DELETE", f.name, status=204)
    f.ask("PUT", f.name, status=200)
    f.ask("PUT", f.name + "/" + path, v[1], 200)
    f.until_late_ones_came()
    same([row["Key"] for row in up.list_objects_v2(Bucket=f.name)["Contents"]],
         [path + ".delta", f.name + "/reference.bin"])


def again(f):
    assert f.send("PUT", "a.bin", noise[0]).status >= 500
    f.send("PUT", "a.bin", noise[0], 200)
    done = [row for row in f.late.faulty.log() if row["key"] == f.name + "/a.bin"
            and row["operation"] == "PutObject"]
    same([row["fault"] for row in done], [None], "it waited for what came late")
    f.until_late_ones_came(ATTEMPTS)
    f.holds("a.bin", noise[0])


# folder -> (what happens, its late requests: operation, key, how many, after seconds, servers)
EVERY, LONE = ("lone", "shared"), ("lone",)
CASES = {
    "removed": (removed, "DeleteObject", "app", 1, LATE_S, EVERY),
    "replaced": (replaced, "PutObject", "a.bin", 1, LATE_S, EVERY),
    "back": (back, "PutObject", "a.bin", 1, LATE_S, EVERY),
    "variant": (variant, "DeleteObject", "app.zip.delta", 1, LATE_S, EVERY),
    "reference": (reference, "DeleteObject", "reference.bin", 1, LATE_S, EVERY),
    "failed": (reference, "DeleteObject", "reference.bin", ATTEMPTS, LATE_S, EVERY),
    "hidden": (hidden, "PutObject", "app.zip.delta", ATTEMPTS, LATE_S, EVERY),
    "gone": (gone, "PutObject", "a.bin", ATTEMPTS, LATE_S, EVERY),
    "undone": (gone, "PutObject", "app.zip.delta", ATTEMPTS, LATE_S, EVERY),
    "emptied": (emptied, "DeleteObject", "reference.bin", 1, LATE_S, LONE),
    "again": (again, "PutObject", "a.bin", ATTEMPTS, 15, LONE),
}
results = {}  # (server, folder) -> None or what went wrong


def run_one(late, kind, name, what, count):
    folder = Folder(late, name)
    folder.count = count
    try:
        what(folder)
        results[kind, name] = None
    except Exception as error:  # told by the case it belongs to
        results[kind, name] = "%s: %s: %r" % (kind, name, error)


def came_out(name):
    for kind in CASES[name][5]:
        assert results[kind, name] is None, results[kind, name]


@case
def all_of_them_run():
    lates = {"lone": Late("lone"),
             "shared": Late("shared", instances=2, lease_ttl_secs=30, lease_wait_secs=60)}
    threads = []
    for kind, late in lates.items():
        late.faulty.break_it(*[
            {"fault": "delay", "ms": seconds * 1000, "op": op, "times": times,
             "key": "^%s/%s" % (name, key)}
            for name, (_, op, key, times, seconds, kinds) in CASES.items() if kind in kinds])
        threads += [threading.Thread(target=run_one, args=(late, kind, name, row[0], row[3]))
                    for name, row in CASES.items() if kind in row[5]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for kind, late in lates.items():
        # What was built on a reference that is gone is read as long as a cache has that.
        late.server.stop()
        shutil.rmtree(os.path.join(late.server.root, "cache"))
        late.server.start()
        for name in ("reference", "failed", "hidden"):
            answer = late.server.request("GET", "/%s/%s/app.zip" % (late.bucket, name))
            if answer.status != 200 and results[kind, name] is None:
                results[kind, name] = "%s: %s: %r" % (kind, name, answer)
        late.server.drop()


@case
def a_repeated_delete_does_not_hit_what_was_stored_since():
    came_out("removed")


@case
def a_repeated_put_does_not_replace_what_was_stored_since():
    came_out("replaced")


@case
def a_repeated_put_does_not_bring_back_what_was_removed_since():
    came_out("back")


@case
def a_repeated_removal_of_a_variant_does_not_hit_the_next_one():
    came_out("variant")


@case
def a_repeated_removal_of_a_reference_leaves_the_next_one():
    came_out("reference")


@case
def a_reference_whose_removal_failed_is_not_built_upon():
    came_out("failed")


@case
def a_delta_that_comes_after_all_does_not_hide_what_it_cannot_replace():
    came_out("hidden")


@case
def what_was_removed_before_it_came_does_not_come():
    came_out("gone")
    came_out("undone")


@case
def a_late_removal_of_a_bucket_s_remains_does_not_hit_the_next_one():
    came_out("emptied")


@case
def the_same_again_need_not_wait():
    came_out("again")


@case
def what_was_cut_off_in_its_body_need_not_be_waited_for():
    f = Folder(Late("cut"), "cut")
    f.late.faulty.break_it({"fault": "reset_request", "bytes": 30000, "op": "PutObject",
                            "times": 1})
    f.send("PUT", "a.bin", LARGE, 200)
    same(f.late.faulty.fired(), 1)
    f.send("PUT", "a.bin", noise[1], 200)
    f.holds("a.bin", noise[1])
    assert " s3.doubt " not in f.late.server.log(), "it waited for what cannot come"
    f.late.server.drop()


main()
