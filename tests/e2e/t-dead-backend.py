#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Two backends, one of which is refused, stalled, denied or broken: the other one is
served as if nothing were, and the first one again as soon as it works.

`here` is a directory. `far` is a server of ours behind faulty.py."""
import html
import re
from standins import *

FAR_DOWN = "bucket 'far-b' is on backend 'far', which is currently unavailable: "
SOON_S = 60   # until something that must happen has happened, on a busy machine
QUICK_S = 20  # far below every deadline that a request to a dead backend would run into
STALL = {"fault": "delay", "ms": 600000}

store = Server()
faulty = Faulty(store.port)


def configuration(default="here", **far):
    """A server for a case, not started; and faulty.py as it should be."""
    if not faulty.process:
        faulty.start()
    faulty.heal()
    server = Server(autostart=False)
    options = dict(connect_timeout="60s", read_timeout="60s", **far)
    server.config = {
        "storage": {
            "backends": [s3_backend(store, name="far", port=faulty.port, **options),
                         {"name": "here", "type": "filesystem", "path": server.data}],
            "default_backend": default,
            "buckets": {"far-b": {"backend": "far"}, "here-b": {"backend": "here"}}},
        "advanced": {"backend_probe_interval_secs": 1, "backend_list_fresh_secs": 0}}
    return server


def until(what, condition):
    """Waits for it; returns what it returned."""
    deadline = time.monotonic() + SOON_S
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.05)  # asks again: the server tells nobody
    raise AssertionError("not in %d s: %s" % (SOON_S, what))


def quick(server, method, path, **named):
    started = time.monotonic()
    answer = server.request(method, path, **named)
    took = time.monotonic() - started
    assert took < QUICK_S, "%s %s took %.1f s: %r" % (method, path, took, answer)
    return answer


def is_down(server, cause):
    answer = quick(server, "GET", "/far-b/key")
    return (answer.status, answer.code) == (503, "ServiceUnavailable") \
        and "<Message>%s%s</Message>" % (FAR_DOWN, cause) in html.unescape(answer.body.decode())


def works(server):
    return quick(server, "PUT", "/far-b/key", body=b"far").status == 200 \
        and quick(server, "GET", "/far-b/key").body == b"far"


def here_works(server):
    same(quick(server, "PUT", "/here-b/key", body=b"here").status, 200)
    same(quick(server, "GET", "/here-b/key").body, b"here")


def buckets(server, timeout_s=QUICK_S):
    started = time.monotonic()
    answer = server.request("GET", "/")
    took = time.monotonic() - started
    assert took < timeout_s, "ListBuckets took %.1f s" % took
    same(answer.status, 200, "ListBuckets: %r" % answer)
    return [part.split("</Name>")[0] for part in answer.body.decode().split("<Name>")[1:]]


def ready(server):
    answer = quick(server, "GET", "/_/ready", sign=False)
    return answer.status, json.loads(answer.body)["backend"]


def gauge(server):
    text = server.request("GET", "/_/metrics", sign=False).body.decode()
    return {name: [int(float(line.rsplit(" ", 1)[1])) for line in text.splitlines()
                   if line.startswith('deltaglider_backend_up{backend="%s"}' % name)]
            for name in ("here", "far")}


def make_buckets(server):
    for name in ("here-b", "far-b"):
        assert server.request("PUT", "/" + name).status in (200, 409)


@case
def a_server_starts_without_a_backend_that_refuses_and_serves_it_once_it_is_there():
    server = configuration()
    faulty.stop()
    server.start(timeout_s=SOON_S)
    assert "backend health: 'far' — unreachable" in server.log(), server.log()
    assert "backend health: 'here' — connection healthy" in server.log(), server.log()
    assert re.search(r"backend=far buckets=\W*far-b", server.log()), server.log()
    server.make_bucket("here-b")
    here_works(server)
    assert is_down(server, "unreachable"), quick(server, "GET", "/far-b/key")
    same(quick(server, "PUT", "/far-b/other", body=b"x").status, 503)
    same(quick(server, "DELETE", "/far-b/key").status, 503)
    same(buckets(server), ["here-b"])
    same(ready(server), (200, "degraded"))
    same(gauge(server), {"here": [1], "far": [0]})
    faulty.start()
    until("the bucket is served", lambda: server.request("PUT", "/far-b").status in (200, 409))
    assert works(server)
    same(buckets(server), ["far-b", "here-b"])
    same(ready(server), (200, "ready"))
    same(gauge(server), {"here": [1], "far": [1]})
    assert "backend health: 'far' — connection healthy" in server.log(), server.log()
    server.drop()


@case
def a_server_starts_without_a_backend_that_stalls():
    server = configuration()
    faulty.break_it(STALL)
    started = time.monotonic()
    server.start(timeout_s=SOON_S)
    assert time.monotonic() - started < 30
    server.make_bucket("here-b")
    here_works(server)
    assert is_down(server, "unreachable"), quick(server, "GET", "/far-b/key")
    same(ready(server), (200, "degraded"))
    same(buckets(server), ["here-b"])
    faulty.heal()
    until("the bucket is served", lambda: server.request("PUT", "/far-b").status in (200, 409))
    assert works(server)
    server.drop()


@case
def refused_credentials_close_the_gate_and_a_refused_listing_does_not():
    server = configuration(secret_access_key="wrong")
    server.start(timeout_s=SOON_S)
    assert "backend health: 'far' — credentials rejected" in server.log(), server.log()
    assert is_down(server, "credentials rejected"), quick(server, "GET", "/far-b/key")
    server.drop()
    server = configuration()
    faulty.break_it({"op": "ListBuckets", "fault": "status", "status": 403,
                     "code": "AccessDenied"})
    server.start(timeout_s=SOON_S)
    assert "backend health: 'far' — connection healthy" in server.log(), server.log()
    make_buckets(server)
    assert works(server)
    same(buckets(server), ["here-b"])
    faulty.heal()
    server.drop()


@case
def a_backend_that_errs_is_served_as_far_as_it_goes():
    server = configuration()
    faulty.break_it({"op": "ListBuckets", "fault": "status", "status": 500})
    server.start(timeout_s=SOON_S)
    assert "backend health: 'far' — answers with errors" in server.log(), server.log()
    make_buckets(server)
    assert works(server)
    faulty.heal()
    until("a probe finds that it is well",
          lambda: "backend health: 'far' — connection healthy" in server.log())
    server.drop()


@case
def a_backend_that_dies_is_noticed_and_its_return_too():
    server = configuration().start()
    make_buckets(server)
    assert works(server)
    same(buckets(server), ["far-b", "here-b"])
    faulty.stop()
    until("its bucket is answered for", lambda: is_down(server, "unreachable"))
    until("it is told", lambda: "backend health: 'far' — unreachable" in server.log())
    here_works(server)
    # what it had is still shown
    same(buckets(server), ["far-b", "here-b"])
    same(ready(server), (200, "degraded"))
    faulty.start()
    until("its bucket is served", lambda: works(server))
    same(gauge(server), {"here": [1], "far": [1]})
    server.drop()


@case
def a_listing_takes_no_longer_than_its_limit_and_leaves_the_stalled_alone():
    server = configuration()
    server.config["advanced"].update(boot_backend_probe="off", backend_list_timeout_secs=1,
                                     backend_list_cooldown_secs=600)
    server.start()
    make_buckets(server)
    same(buckets(server), ["far-b", "here-b"])
    faulty.break_it(STALL)
    faulty.forget()
    same(buckets(server), ["far-b", "here-b"])
    for _ in range(5):
        same(buckets(server), ["far-b", "here-b"])
    faulty.heal()
    server.restart()
    same(buckets(server), ["far-b", "here-b"])
    server.drop()


@case
def buckets_without_a_route_stay_where_they_were_and_are_not_slowed():
    server = configuration(default="far").start()
    for name in ("far-b", "here-b"):
        assert server.request("PUT", "/" + name).status in (200, 409)
    del server.config["storage"]["buckets"]["here-b"]
    server.restart()
    here_works(server)
    same(quick(server, "GET", "/none/key").status, 404)
    faulty.break_it(STALL)
    until("it is noticed", lambda: noticed(server))
    assert is_down(server, "unreachable"), quick(server, "GET", "/far-b/key")
    here_works(server)
    # it may be on the one or the other: nobody can say
    same(quick(server, "GET", "/none-either/key").status, 503)
    faulty.heal()
    until("all is as before", lambda: works(server))
    here_works(server)
    same(quick(server, "GET", "/none-either/key").status, 404)
    server.drop()


def noticed(server):
    """Asks until then: a request that waits in vain makes the server look."""
    answer = server.request("GET", "/unknown-%d/key" % time.monotonic_ns())
    return answer.status == 503 and "backend health: 'far' — unreachable" in server.log()


@case
def without_any_backend_the_policy_decides():
    server = configuration()
    server.config["storage"]["backends"].pop()
    del server.config["storage"]["buckets"]["here-b"]
    server.config["storage"]["default_backend"] = "far"
    faulty.stop()
    server.spawn()
    same(server.process.wait(SOON_S), 1)
    server.process = None
    assert "far" in server.log() and "boot_backend_probe" in server.log(), server.log()
    server.config["advanced"]["boot_backend_probe"] = "warn"
    server.start(timeout_s=SOON_S)
    assert is_down(server, "unreachable"), quick(server, "GET", "/far-b/key")
    same(ready(server), (503, "unreachable"))
    same(quick(server, "GET", "/").status, 503)
    faulty.start()
    until("it serves", lambda: server.request("PUT", "/far-b").status in (200, 409))
    assert works(server)
    same(ready(server), (200, "ready"))
    faulty.stop()
    server.config["advanced"]["boot_backend_probe"] = "off"
    server.restart()
    assert "backend health" not in server.log().rsplit("Starting DeltaGlider", 1)[1], server.log()
    same(server.request("GET", "/far-b/key").status, 503)
    assert not is_down(server, "unreachable"), quick(server, "GET", "/far-b/key")
    faulty.start()
    until("it serves", lambda: works(server))
    server.drop()


@case
def a_wrong_configuration_of_one_backend_stops_the_start():
    first = Server()
    server = configuration()
    server.config["storage"]["backends"][1]["path"] = first.data
    server.spawn()
    same(server.process.wait(SOON_S), 1)
    server.process = None
    assert "is in use by another server" in server.log(), server.log()
    file = os.path.join(WORK, "a-file")
    open(file, "w").close()
    server.config["storage"]["backends"][1]["path"] = os.path.join(file, "below")
    server.spawn()
    same(server.process.wait(SOON_S), 1)
    server.process = None
    assert "data directory" in server.log().rsplit("Starting", 1)[1], server.log()
    first.drop()
    server.drop()


main()
