#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A storage provider that fails in every way it can, at each request that each
operation of a client leads to. The client sees success or a right S3 error, in time,
and never wrong bytes; what was acknowledged is there, also for a server that starts
anew; what was not is there whole or not at all.

Which requests an operation leads to is seen in a run without faults. Each (operation,
fault) meets one of them, in turn; with DG_FAULTS_ALL=1, as scripts/soak sets it, all."""
import itertools
import queue
import threading
from standins import *

ALL = os.environ.get("DG_FAULTS_ALL", "0") not in ("", "0")
WORKERS = 8  # most of their time they wait for deadlines
DEADLINE_S = 40  # what the server's own limits below add up to, with room for a busy machine
MIB = 1 << 20
v = versions(300001, 3)
SMALL, OTHER = body(70001, 1), body(90001, 2)
BIG = body(11 * MIB + 5, 3)
ERRORS = {500: ("InternalError",), 502: ("BadGateway",), 504: ("GatewayTimeout",),
          503: ("SlowDown", "ServiceUnavailable")}

upstream = Upstream()


class Worker:
    """A server of ours behind a proxy of its own, so that workers do not disturb each
    other; all on one upstream. And a thread that lives as long as the test: a server
    ends with the thread that started it."""

    def __init__(self, number):
        self.bucket = "worker-%d" % number
        self.faulty = Faulty(upstream.port)
        backend = s3_backend(upstream, port=self.faulty.port, connect_timeout="2s",
                             read_timeout="1s", attempt_timeout="5s", attempts=2,
                             multipart_threshold="6MiB", part_size="5MiB")
        self.server = Server(config={
            "storage": {"backends": [backend], "default_backend": "store"},
            "advanced": {"verify_passthrough_reads": True}},
            env={"DGP_REQUEST_TIMEOUT_SECS": "20"})
        same(self.server.request("PUT", "/" + self.bucket).status, 200)
        self.numbers = itertools.count()
        self.orders = queue.SimpleQueue()
        threading.Thread(target=self.obey, daemon=True).start()
        self.ledger = {}  # path -> the contents it may have, None for absent

    def obey(self):
        while True:
            self.orders.get()()

    def send(self, method, path, body=None, query=None, headers=None):
        return self.server.request(method, path, body=body, query=query, headers=headers,
                                   timeout_s=DEADLINE_S + 20)

    def patient(self, *arguments, **named):
        """Without a fault; waits while the server still holds back from the upstream."""
        deadline = time.monotonic() + 30
        while True:
            answer = self.send(*arguments, **named)
            if answer.status not in (500, 503, 504) or time.monotonic() > deadline:
                return answer
            time.sleep(0.1)  # the breaker closes in its own time

    def put(self, path, data):
        same(self.patient("PUT", path, body=data).status, 200, "preparing " + path)

    def read(self, path):
        """Its bytes, or None."""
        answer = self.patient("GET", path)
        if answer.status == 404:
            return None
        same(answer.status, 200, "GET %s without a fault: %r" % (path, answer))
        return answer.body


class Plan:
    """One operation, prepared: act() sends it. effects: path -> (before, after);
    good(answer) looks at a success; also: statuses besides 2xx that are right when the
    upstream did a first attempt whose answer was lost."""

    def __init__(self, act, effects=None, good=None, also=()):
        self.act, self.effects, self.good, self.also = act, effects or {}, good, also


def writes(key, new, old=None, **headers):
    def plan(worker, place):
        path = place + key
        if old is not None:
            worker.put(path, old)
        return Plan(lambda: worker.send("PUT", path, body=new, headers=headers),
                    {path: (old, new)},
                    lambda answer: same(answer.headers["ETag"], etag_of(new)))
    return plan


def next_version(worker, place):
    one, two = versions(300001, 2, seed=random.random())  # a reference that nobody has cached
    worker.put(place + "a.zip", one)
    worker.server.restart()
    return writes("b.zip", two)(worker, place)


def version_over_another(worker, place):
    one, two = versions(300001, 2, seed=random.random())
    worker.put(place + "a.zip", one)
    worker.server.restart()
    return Plan(lambda: worker.send("PUT", place + "a.zip", body=two),
                {place + "a.zip": (one, two)})


def reads(key, data, span=None, before=None, method="GET"):
    def plan(worker, place):
        if before is not None:
            worker.put(place + "0.zip", before)
        worker.put(place + key, data)
        worker.server.restart()  # nothing of it is cached
        headers = {"Range": "bytes=%d-%d" % span} if span else {}
        expected = data[span[0]:span[1] + 1] if span else data

        def good(answer):
            same(answer.status, 206 if span else 200)
            same(answer.headers["ETag"], etag_of(data))
            same(int(answer.headers["Content-Length"]), len(expected))
            if method == "GET":
                assert answer.body == expected, "wrong bytes"
        return Plan(lambda: worker.send(method, place + key, headers=headers), good=good)
    return plan


def deletes(*names):
    def plan(worker, place):
        contents = dict(zip(names, v if names[0].endswith(".zip") else (SMALL, OTHER)))
        for name, data in contents.items():
            worker.put(place + name, data)
        path = place + names[-1]
        return Plan(lambda: worker.send("DELETE", path), {path: (contents[names[-1]], None)})
    return plan


def delete_many(worker, place):
    contents = {place + "1.bin": SMALL, place + "2.zip": v[0], place + "3.zip": v[1]}
    for path, data in contents.items():
        worker.put(path, data)
    keys = [path.split("/", 2)[2] for path in contents]
    text = "<Delete>%s</Delete>" % "".join("<Object><Key>%s</Key></Object>" % k for k in keys)

    def act():
        import base64
        digest = base64.b64encode(hashlib.md5(text.encode()).digest()).decode()
        return worker.send("POST", "/" + worker.bucket, body=text.encode(), query={"delete": ""},
                           headers={"Content-MD5": digest})
    return Plan(act, {path: (data, None) for path, data in contents.items()})


def copies(name, data, big=False):
    def plan(worker, place):
        worker.put(place + "from/" + name, data)
        path = place + "to/" + name
        return Plan(lambda: worker.send("PUT", path, headers={
            "x-amz-copy-source": place + "from/" + name}), {path: (None, data)},
            lambda answer: same(answer.body.count(hashlib.md5(data).hexdigest().encode()), 1))
    return plan


def upload_begun(worker, path, pieces):
    answer = worker.patient("POST", path, query={"uploads": ""})
    same(answer.status, 200)
    name = answer.body.split(b"<UploadId>")[1].split(b"<")[0].decode()
    etags = []
    for number, piece in enumerate(pieces, 1):
        answer = worker.patient("PUT", path, body=piece,
                                query={"uploadId": name, "partNumber": str(number)})
        same(answer.status, 200)
        etags.append(answer.headers["ETag"])
    return name, etags


def begins_upload(worker, place):
    return Plan(lambda: worker.send("POST", place + "m.bin", query={"uploads": ""}),
                {place + "m.bin": (None, None)})


def uploads_part(worker, place):
    name, _ = upload_begun(worker, place + "m.bin", [])
    return Plan(lambda: worker.send("PUT", place + "m.bin", body=BIG,
                                    query={"uploadId": name, "partNumber": "1"}),
                {place + "m.bin": (None, None)},
                lambda answer: same(answer.headers["ETag"], etag_of(BIG)))


def completes(key, cut=5 * MIB):
    def plan(worker, place):
        pieces = [BIG[:cut], BIG[cut:2 * cut], BIG[2 * cut:]]
        name, etags = upload_begun(worker, place + key, pieces)
        text = "<CompleteMultipartUpload>%s</CompleteMultipartUpload>" % "".join(
            "<Part><PartNumber>%d</PartNumber><ETag>%s</ETag></Part>" % row
            for row in enumerate(etags, 1))
        return Plan(lambda: worker.send("POST", place + key, body=text.encode(),
                                        query={"uploadId": name}),
                    {place + key: (None, BIG)})
    return plan


def aborts(worker, place):
    name, _ = upload_begun(worker, place + "m.bin", [BIG])
    return Plan(lambda: worker.send("DELETE", place + "m.bin", query={"uploadId": name}),
                {place + "m.bin": (None, None)}, also=(404,))


def lists(worker, place):
    rows = {"1.bin": SMALL, "2.zip": v[0], "3.zip": v[1], "d/4.bin": OTHER}
    for key, data in rows.items():
        worker.put(place + key, data)
    worker.server.restart()
    prefix = place.split("/", 2)[2]

    def good(answer):
        import xml.etree.ElementTree as tree
        got = {}
        for row in tree.fromstring(answer.body).iter():
            if row.tag.endswith("}Contents") or row.tag == "Contents":
                cell = {part.tag.rpartition("}")[2]: part.text for part in row}
                got[cell["Key"]] = (int(cell["Size"]), cell["ETag"])
        same(got, {prefix + key: (len(data), etag_of(data)) for key, data in rows.items()})
    return Plan(lambda: worker.send("GET", "/" + worker.bucket,
                                    query={"list-type": "2", "prefix": prefix}), good=good)


def lists_buckets(worker, place):
    def good(answer):
        assert b"<Name>%s</Name>" % worker.bucket.encode() in answer.body, answer
    worker.server.restart()
    return Plan(lambda: worker.send("GET", "/"), good=good)


def makes_bucket(worker, place):
    name = "/made-%s-%d" % (worker.bucket, next(worker.numbers))
    return Plan(lambda: worker.send("PUT", name), also=(409,))


def removes_bucket(worker, place):
    name = "/made-%s-%d" % (worker.bucket, next(worker.numbers))
    same(worker.patient("PUT", name).status, 200)
    return Plan(lambda: worker.send("DELETE", name), also=(404,))


def heads_bucket(worker, place):
    worker.server.restart()
    return Plan(lambda: worker.send("HEAD", "/" + worker.bucket))


OPERATIONS = {
    "a plain PUT": writes("p.bin", SMALL),
    "a plain PUT over another": writes("p.bin", OTHER, old=SMALL),
    "a large PUT": writes("l.bin", BIG),
    "a large PUT over another": writes("l.bin", BIG, old=SMALL),
    "a PUT with If-None-Match": writes("n.bin", SMALL, **{"If-None-Match": "*"}),
    "a first version": writes("a.zip", v[0]),
    "a next version": next_version,
    "a version over another": version_over_another,
    "a GET": reads("p.bin", SMALL),
    "a large GET": reads("l.bin", BIG),
    "a range of a large object": reads("l.bin", BIG, span=(MIB + 1, 3 * MIB)),
    "a GET of a delta": reads("d.zip", v[1], before=v[0]),
    "a range of a delta": reads("d.zip", v[1], before=v[0], span=(1000, 250000)),
    "a HEAD": reads("p.bin", SMALL, method="HEAD"),
    "a HEAD of a delta": reads("d.zip", v[1], before=v[0], method="HEAD"),
    "a DELETE": deletes("p.bin"),
    "a DELETE of a delta": deletes("a.zip", "b.zip"),
    "a DELETE of the last version": deletes("a.zip"),
    "a DELETE of many": delete_many,
    "a copy": copies("p.bin", SMALL),
    "a copy of a large object": copies("l.bin", BIG),
    "a copy of a version": copies("a.zip", v[0]),
    "a CreateMultipartUpload": begins_upload,
    "an UploadPart": uploads_part,
    "a CompleteMultipartUpload": completes("m.bin"),
    "a CompleteMultipartUpload of small parts": completes("s.bin", cut=4 * MIB),
    "a CompleteMultipartUpload of a version": completes("m.zip"),
    "an AbortMultipartUpload": aborts,
    "a listing": lists,
    "a listing of buckets": lists_buckets,
    "a bucket made": makes_bucket,
    "a bucket removed": removes_bucket,
    "a HEAD of a bucket": heads_bucket,
}
READS_BODY = ("GetObject",)
TELLS_IN_XML = ("CompleteMultipartUpload", "CopyObject", "UploadPartCopy", "ListObjects",
                "CreateMultipartUpload", "ListBuckets", "DeleteObjects")

# name -> (rule, upstream operations it makes sense for; None: all)
FAULTS = {
    "latency": ({"fault": "delay", "ms": 400}, None),
    "500 once": ({"fault": "status", "times": 1}, None),
    "500 for ever": ({"fault": "status"}, None),
    "500 although done": ({"fault": "status_done", "times": 1}, None),
    "500 before the body": ({"fault": "status_early", "times": 1}, None),
    "503 with Retry-After once": ({"fault": "status", "status": 503, "code": "SlowDown",
                                   "retry_after": 1, "times": 1}, None),
    "503 with Retry-After for ever": ({"fault": "status", "status": 503, "code": "SlowDown",
                                       "retry_after": 1}, None),
    "429 for ever": ({"fault": "status", "status": 429, "code": "TooManyRequests"}, None),
    "403 for ever": ({"fault": "status", "status": 403, "code": "AccessDenied"}, None),
    "a reset": ({"fault": "reset", "times": 1}, None),
    "resets for ever": ({"fault": "reset"}, None),
    "a reset in the request": ({"fault": "reset_request", "bytes": 30000},
                               ("PutObject", "UploadPart")),
    "a lost answer": ({"fault": "lost", "times": 1}, None),
    "lost answers for ever": ({"fault": "lost"}, None),
    "a stalled request": ({"fault": "stall_request", "bytes": 30000}, ("PutObject", "UploadPart")),
    "no answer": ({"fault": "stall_request"}, None),
    "a stalled answer": ({"fault": "stall_answer", "bytes": 20000}, READS_BODY),
    "a stalled listing": ({"fault": "stall_answer", "bytes": 100}, TELLS_IN_XML),
    "a reset in the answer": ({"fault": "reset_answer", "bytes": 20000}, READS_BODY),
    "a truncated body once": ({"fault": "cut", "bytes": 20000, "times": 1}, READS_BODY),
    "a truncated body": ({"fault": "cut", "bytes": 20000}, READS_BODY),
    "a truncated document": ({"fault": "cut", "bytes": 100}, TELLS_IN_XML),
    "a Content-Length too small": ({"fault": "short_length", "bytes": 7}, READS_BODY + TELLS_IN_XML),
    "a Content-Length too large": ({"fault": "long_length", "bytes": 7}, READS_BODY + TELLS_IN_XML),
    "a lying ETag": ({"fault": "etag"}, None),
    "another byte": ({"fault": "flip", "bytes": 10000}, READS_BODY),
    "an error in 200": ({"fault": "error_200"}, TELLS_IN_XML),
    "an error in 200, nothing done": ({"fault": "error_200", "done": False}, TELLS_IN_XML),
    "HTML in 200": ({"fault": "garbage"}, TELLS_IN_XML),
    "nothing in 200": ({"fault": "empty_200"}, TELLS_IN_XML),
}


def asked_by(worker, name):
    """The upstream operations that an operation leads to."""
    plan = OPERATIONS[name](worker, "/%s/seen-%d/" % (worker.bucket, next(worker.numbers)))
    worker.faulty.forget()
    answer = plan.act()
    assert 200 <= answer.status < 300, (name, answer)
    if plan.good:
        plan.good(answer)
    return sorted({row["operation"] for row in worker.faulty.log()})


def is_done(answer):
    """A mass delete tells of each key; what takes long may begin with 200 and end with
    an error."""
    return 200 <= answer.status < 300 and (answer.code is None or b"<DeleteResult" in answer.body)


def check_refusal(answer, method_has_body):
    if answer.status == 200 and answer.headers["Transfer-Encoding"] == "chunked":
        assert any(answer.code in codes for codes in ERRORS.values()), answer
        return
    assert answer.status in ERRORS, answer
    if answer.body or method_has_body:
        assert answer.code in ERRORS[answer.status], answer
        text = answer.body.partition(b"<Message>")[2].partition(b"</Message>")[0]
        assert text.strip(), answer


def try_fault(worker, name, fault, operation, rule):
    """One operation under one fault. Raises with what went wrong."""
    place = "/%s/c%d/" % (worker.bucket, next(worker.numbers))
    worker.patient("HEAD", "/" + worker.bucket)  # no breaker is open any more
    plan = OPERATIONS[name](worker, place)
    worker.faulty.break_it(dict(rule, op=operation))
    began, answer = time.monotonic(), None
    try:
        answer = plan.act()
    except (http.client.HTTPException, ConnectionError):
        pass  # the transfer broke: no success, and the client knows
    took, fired = time.monotonic() - began, worker.faulty.fired()
    worker.faulty.heal()
    assert took < DEADLINE_S, "%.1f s" % took
    assert fired, "the fault was never met"
    done = answer is not None and is_done(answer)
    if done and plan.good:
        plan.good(answer)
    if answer is not None and not done and answer.status not in plan.also:
        check_refusal(answer, not name.startswith("a HEAD"))
    if answer is None:
        assert name.startswith(("a GET", "a large GET", "a range")), "the connection broke"
    for path, (before, after) in plan.effects.items():
        allowed = (after,)
        if not done or (b"<Error>" in answer.body
                        and b"<Key>%s</Key>" % path.split("/", 2)[2].encode() in
                        answer.body.partition(b"<Error>")[2]):
            allowed = (before, after)
        assert worker.read(path) in allowed, "%s: %s" % (path, "is not what was acknowledged" if done
                                                         else "is neither old nor new")
        worker.ledger[path] = allowed
    return done


workers, asked = [], {}


@case
def the_operations_pass_without_faults():
    for number in range(WORKERS):
        workers.append(Worker(number))
    for name in OPERATIONS:
        # What it asks each time: the first time may bring a probe, or fill a cache.
        first, second = asked_by(workers[0], name), asked_by(workers[0], name)
        asked[name] = [operation for operation in first if operation in second]
    print("# " + "; ".join("%s: %s" % (name, " ".join(ops)) for name, ops in asked.items()))


def jobs_of(fault):
    """(operation, upstream operation) pairs that a fault is tried on."""
    rule, sensible = FAULTS[fault]
    turn = list(FAULTS).index(fault)
    for name, operations in asked.items():
        fitting = [op for op in operations if not sensible or op in sensible]
        if fault == "another byte" and name == "a range of a large object":
            continue  # nothing tells: it is neither sealed nor read whole
        if fitting:
            for op in fitting if ALL else [fitting[turn % len(fitting)]]:
                yield name, op
            turn += 1


def everyone(work):
    """Calls work(worker) for all of them, side by side, each on its own thread."""
    ended = queue.SimpleQueue()

    def one(worker):
        try:
            work(worker)
            ended.put(None)
        except Exception as error:
            ended.put(error)
    for worker in workers:
        worker.orders.put(lambda worker=worker: one(worker))
    errors = [error for error in [ended.get() for _ in workers] if error]
    if errors:
        raise errors[0]


def run_fault(fault):
    jobs, failures, done = queue.Queue(), [], []
    for job in jobs_of(fault):
        jobs.put(job)

    def work(worker):
        while True:
            try:
                name, operation = jobs.get_nowait()
            except queue.Empty:
                return
            what = "%s at %s" % (name, operation)
            try:
                done.append((what, try_fault(worker, name, fault, operation, FAULTS[fault][0])))
            except Exception as error:
                failures.append("%s: %s" % (what, traceback.format_exc(limit=-2) if ALL else repr(error)[:400]))
                worker.faulty.heal()

    everyone(work)
    print("# %s: %d tried, %d succeeded" % (fault, len(done), sum(ok for _, ok in done)))
    assert not failures, "%d of %d:\n%s" % (len(failures), len(failures) + len(done),
                                            "\n".join(failures))
    assert done, "no operation meets this fault"
    return done


def make_case(fault):
    def one():
        done = run_fault(fault)
        if fault in ("latency",):
            same([what for what, ok in done if not ok], [], "what fails although nothing is wrong")
    one.__name__ = fault.replace(" ", "_")
    case(one)


for fault in FAULTS:
    make_case(fault)


@case
def one_hiccup_is_not_seen_by_those_who_read():
    worker = workers[0]
    for name in ("a GET", "a range of a delta", "a HEAD", "a listing", "a HEAD of a bucket"):
        for rule in ({"fault": "status"}, {"fault": "reset"}, {"fault": "lost"},
                     {"fault": "status", "status": 503, "code": "SlowDown"}):
            for operation in asked[name]:
                worker.patient("GET", "/")
                assert try_fault(worker, name, "once", operation, dict(rule, times=1)), \
                    (name, rule, operation)


@case
def an_upstream_that_is_away_is_told_at_once_and_found_again():
    worker = workers[0]
    worker.put("/%s/away.bin" % worker.bucket, SMALL)
    worker.faulty.stop()
    for method, path, data in (("PUT", "away2.bin", SMALL), ("GET", "away.bin", None),
                               ("DELETE", "away.bin", None)):
        began = time.monotonic()
        answer = worker.send(method, "/%s/%s" % (worker.bucket, path), body=data)
        same((answer.status, answer.code), (503, "ServiceUnavailable"), method)
        assert time.monotonic() - began < DEADLINE_S
    worker.faulty.start()
    assert worker.read("/%s/away.bin" % worker.bucket) == SMALL


@case
def a_listing_that_goes_round_is_given_up():
    worker = workers[0]
    worker.put("/%s/round/1.bin" % worker.bucket, SMALL)
    worker.faulty.forget()
    worker.faulty.break_it({"fault": "round", "op": "ListObjects*"})
    answer = worker.send("GET", "/" + worker.bucket, query={"list-type": "2",
                                                            "prefix": "round/"})
    worker.faulty.heal()
    same((answer.status, answer.code), (500, "InternalError"))
    asked_for = [row for row in worker.faulty.log() if row["operation"].startswith("List")]
    assert len(asked_for) < 20, "%d pages" % len(asked_for)


@case
def a_server_that_starts_anew_finds_all_that_was_acknowledged():
    def look(worker):
        worker.faulty.heal()
        worker.server.restart()
        for path, allowed in worker.ledger.items():
            assert worker.read(path) in allowed, path
    everyone(look)


main()
