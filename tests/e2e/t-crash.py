#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""kill -9 at every step of everything that changes the store.

Each scenario is an operation on a prepared store. It runs once with its fault
points printed, then once per fault point, killed there. After each kill the
server starts again on what is left, and:

  - what was acknowledged reads back exactly; what was not is old or new, whole;
  - the listing, HEAD and GET agree;
  - no temporary is left anywhere after the start-up sweep;
  - the same operation then goes through, and everything can be deleted, after
    which no file of the bucket is left.

DG_CRASH_ROUNDS (default 1) repeats all of it with other data and sizes."""
import re
from lib import *

ROUNDS = int(os.environ.get("DG_CRASH_ROUNDS", "1"))
BUCKET = "crash"
kills = {"done": 0}


def call(server, method, key="", data=None, query=None, headers=None):
    path = "/" + BUCKET + ("/" + urllib.parse.quote(key) if key else "")
    return server.request(method, path, body=data, query=query, headers=headers)


def put(key, data):
    def operation(server, notes):
        return call(server, "PUT", key, data).status == 200
    return operation


def delete(key):
    def operation(server, notes):
        return call(server, "DELETE", key).status == 204
    return operation


def copy(source, key):
    def operation(server, notes):
        answer = call(server, "PUT", key, headers={"x-amz-copy-source": "/%s/%s" % (BUCKET, source)})
        return answer.status == 200
    return operation


def mass_delete(keys):
    document = "<Delete>%s</Delete>" % "".join(
        "<Object><Key>%s</Key></Object>" % key for key in keys)

    def operation(server, notes):
        answer = call(server, "POST", data=document.encode(), query={"delete": ""})
        return answer.status == 200 and b"<Error>" not in answer.body
    return operation


def upload(server, key, pieces, headers=None):
    answer = call(server, "POST", key, query={"uploads": ""}, headers=headers)
    id_ = re.search(rb"<UploadId>(\w+)<", answer.body).group(1).decode()
    tags = [call(server, "PUT", key, piece,
                 query={"uploadId": id_, "partNumber": str(number)}).headers["ETag"]
            for number, piece in enumerate(pieces, 1)]
    return id_, tags


def complete(key):
    """Completes the upload that `prepare` left open, as often as it takes."""
    def operation(server, notes):
        id_, tags = notes["upload"]
        document = "<CompleteMultipartUpload>%s</CompleteMultipartUpload>" % "".join(
            "<Part><PartNumber>%d</PartNumber><ETag>%s</ETag></Part>" % pair
            for pair in enumerate(tags, 1))
        answer = call(server, "POST", key, document.encode(), query={"uploadId": id_})
        return answer.status == 200
    return operation


def multipart(key, pieces):
    """The whole of it, from create to complete."""
    def operation(server, notes):
        notes["upload"] = upload(server, key, pieces)
        return complete(key)(server, notes)
    return operation


class Scenario:
    """before: objects of the store, in order. operation: what is killed.
    after: the objects it changes, None for gone. open_upload: key and pieces of
    an upload that stands open when the operation begins. notes: objects of before that
    come in parts whose sizes need a note beside them. varies: what happens side by side,
    so how often each fault point is passed is not always the same."""

    def __init__(self, name, before, operation, after, open_upload=None, notes=(),
                 varies=False):
        self.name, self.before, self.operation = name, before, operation
        self.after, self.open_upload, self.notes = after, open_upload, notes
        self.varies = varies


LONG_METADATA = {"x-amz-meta-long": "x" * 700}  # beside it only few sizes have room


def uneven(data, count=24):
    """The data in parts of different sizes."""
    cuts = [len(data) * n * n // (count * count) for n in range(count + 1)]
    return [data[a:b] for a, b in zip(cuts, cuts[1:])]


def scenarios(seed):
    size = [300001, 70000, 1500000, 262144][seed % 4] + seed
    v = versions(size, 4, seed=seed + 1)
    hopeless, small = body(size, seed + 77), body(1000 + seed, seed)
    siblings = [("d/a.zip", v[0]), ("d/b.zip", v[1]), ("d/p.bin", small)]
    yield Scenario("a new plain object", siblings, put("d/new.bin", v[2]), {"d/new.bin": v[2]})
    yield Scenario("the first object of a deltaspace", [], put("d/first.zip", v[0]),
                   {"d/first.zip": v[0]})
    yield Scenario("another version", siblings, put("d/c.zip", v[2]), {"d/c.zip": v[2]})
    yield Scenario("a plain overwrite", siblings, put("d/p.bin", v[3]), {"d/p.bin": v[3]})
    yield Scenario("a delta over a delta", siblings, put("d/b.zip", v[3]), {"d/b.zip": v[3]})
    yield Scenario("a hopeless body over a delta", siblings, put("d/b.zip", hopeless),
                   {"d/b.zip": hopeless})
    yield Scenario("a delta over a hopeless body", siblings[:1] + [("d/b.zip", hopeless)],
                   put("d/b.zip", v[1]), {"d/b.zip": v[1]})
    yield Scenario("the seed of the reference again", siblings, put("d/a.zip", v[3]),
                   {"d/a.zip": v[3]})
    yield Scenario("deleting a plain object", siblings, delete("d/p.bin"), {"d/p.bin": None})
    yield Scenario("deleting the seed of the reference", siblings, delete("d/a.zip"),
                   {"d/a.zip": None})
    yield Scenario("deleting the last version", siblings[:1], delete("d/a.zip"),
                   {"d/a.zip": None})
    yield Scenario("deleting many", siblings, mass_delete(["d/a.zip", "d/b.zip", "d/p.bin"]),
                   {"d/a.zip": None, "d/b.zip": None, "d/p.bin": None}, varies=True)
    yield Scenario("copying a delta", siblings, copy("d/b.zip", "e/copy.zip"),
                   {"e/copy.zip": v[1]})
    yield Scenario("copying over an object", siblings, copy("d/b.zip", "d/p.bin"),
                   {"d/p.bin": v[1]})
    yield Scenario("completing an upload as a delta", siblings, complete("d/m.zip"),
                   {"d/m.zip": v[2] + v[3]}, ("d/m.zip", [v[2], v[3]]))
    yield Scenario("completing an upload over an object", siblings, complete("d/p.bin"),
                   {"d/p.bin": v[2] + small}, ("d/p.bin", [v[2], small]))
    yield Scenario("a whole upload", siblings, multipart("d/whole.bin", [v[2], small]),
                   {"d/whole.bin": v[2] + small})
    yield Scenario("completing an upload with a note over another", [("n.bin", v[1])],
                   complete("n.bin"), {"n.bin": v[2]},
                   ("n.bin", uneven(v[2]), LONG_METADATA), ["n.bin"])
    yield Scenario("a plain overwrite of an object with a note", [("n.bin", v[1])],
                   put("n.bin", small), {"n.bin": small}, notes=["n.bin"])
    yield Scenario("deleting an object with a note", [("n.zip", v[1])], delete("n.zip"),
                   {"n.zip": None}, notes=["n.zip"])
    yield Scenario("a key beside a folder of its name", siblings + [("x/y.zip", v[1])],
                   put("x", small), {"x": small})
    yield Scenario("a folder beside a key of its name", siblings + [("x", small)],
                   put("x/y.zip", v[1]), {"x/y.zip": v[1]})
    yield Scenario("a key that must be escaped", siblings, put("d/../.hidden//reference.bin", v[1]),
                   {"d/../.hidden//reference.bin": v[1]})


def prepare(scenario):
    """A store on disk, to be copied for each kill."""
    server = Server()
    notes = {}
    same(call(server, "PUT").status, 200)
    for key, data in scenario.before:
        if key in scenario.notes:
            notes["upload"] = upload(server, key, uneven(data), LONG_METADATA)
            assert complete(key)(server, notes)
            assert [path for path in server.files() if "/.dg-notes/" in path], "no note"
        else:
            same(call(server, "PUT", key, data).status, 200)
    if scenario.open_upload:
        notes["upload"] = upload(server, *scenario.open_upload)
    same(server.stop(), 0)
    return server, notes


def clone(template):
    server = Server(autostart=False)
    for name in ("data", "state"):
        source = os.path.join(template.root, name)
        if os.path.exists(source):
            run("cp", "-a", source, os.path.join(server.root, name))
    return server


def try_operation(server, scenario, notes):
    try:
        return scenario.operation(server, notes)
    except (OSError, http.client.HTTPException):
        return False


def steps_of(template, scenario, notes):
    """Every fault point the operation passes: (step, its hit since the start)."""
    server = clone(template)
    server.start({"DGP_FAULT": "*:print"})
    known = server.log().count("fault: ")
    assert scenario.operation(server, dict(notes)), "%s fails without a kill" % scenario.name
    steps = re.findall(r"^fault: (\S+)", server.log(), re.M)
    server.drop()
    seen, result = {}, []
    for number, step in enumerate(steps):
        seen[step] = seen.get(step, 0) + 1
        if number >= known:
            result.append((step, seen[step]))
    return result


def open_uploads(server):
    body_ = call(server, "GET", query={"uploads": ""}).body.decode()
    return list(zip(re.findall(r"<Upload><Key>(.*?)</Key>", body_),
                    re.findall(r"<UploadId>(\w+)</UploadId>", body_)))


def temporaries(server):
    """Files that no acknowledged object and no open upload needs."""
    found, ids = [], [id_ for _, id_ in open_uploads(server)]
    for top in ("data", "spool", "state"):
        for folder, _, names in os.walk(os.path.join(server.root, top)):
            for name in names:
                path = os.path.relpath(os.path.join(folder, name), server.root)
                if "/.dg-staging/" in path or (top == "spool" and not name.endswith(".lock")):
                    found.append(path)
                elif top == "state" and "part" in name and path.split("/")[2] not in ids:
                    found.append(path)
                elif name.endswith((".tmp", "~")):
                    found.append(path)
    return found


def verify(server, scenario, acknowledged, what):
    before = dict(scenario.before)
    states = {}
    for key in {**before, **scenario.after}:
        got = call(server, "GET", key)
        assert got.status in (200, 404), "%s: GET %s: %r" % (what, key, got)
        data = got.body if got.status == 200 else None
        if key not in scenario.after:
            allowed = [before[key]]
        elif acknowledged:
            allowed = [scenario.after[key]]
        else:
            allowed = [before.get(key), scenario.after[key]]
        assert any(data == one for one in allowed), "%s: %s is neither old nor new (%s)" % (
            what, key, "absent" if data is None else "%d bytes" % len(data))
        head = call(server, "HEAD", key)
        same(head.status, got.status, what)
        if data is not None:
            same(int(head.headers["Content-Length"]), len(data), what)
            states[key] = len(data)
    listing = call(server, "GET", query={"list-type": "2"})
    same(listing.status, 200, what)
    listed = dict(zip(re.findall(r"<Key>(.*?)</Key>", listing.body.decode()),
                      map(int, re.findall(r"<Size>(\d+)</Size>", listing.body.decode()))))
    same(listed, states, what + ": the listing")
    return states


def notes_left(server):
    """Notes, and what is still to be done about them."""
    pending = os.path.join(server.root, "state", "notes")
    return [path for path in server.files() if "/.dg-notes/" in path] + \
        (os.listdir(pending) if os.path.isdir(pending) else [])


def check_notes(server, states, what):
    """Whatever has parts tells them all, and once it is gone a sweep leaves no note."""
    for key in states:
        head = call(server, "HEAD", key, query={"partNumber": "1"})
        same(head.status, 206, what)
        count = int(head.headers.get("x-amz-mp-parts-count", "1"))
        size = sum(int(call(server, "HEAD", key, query={"partNumber": str(number)})
                       .headers["Content-Length"]) for number in range(1, count + 1))
        same(size, states[key], what + ": the parts of " + key)
        same(call(server, "DELETE", key).status, 204, what)
    until = time.monotonic() + 60
    while notes_left(server):
        assert time.monotonic() < until, "%s: notes are left: %r" % (what, notes_left(server))
        time.sleep(0.05)


def clean_up(server, states, what):
    for key in states:
        same(call(server, "DELETE", key).status, 204, what)
    answer = call(server, "DELETE")
    same(answer.status, 204, "%s: DeleteBucket: %r" % (what, answer))
    left = [path for path in server.files() if path != ".dg-lock"]
    same(left, [], what + ": files after everything was deleted")


def kill_at(template, scenario, notes, step, hit):
    what = "%s, killed at %s:%d" % (scenario.name, step, hit)
    server = clone(template)
    notes = dict(notes)
    server.start({"DGP_FAULT": "%s:kill:%d" % (step, hit)})
    acknowledged = try_operation(server, scenario, notes)
    # The kill may come after the answer: wait for the end, whichever was first.
    reached = True
    try:
        same(server.process.wait(3 if scenario.varies else 10), -signal.SIGKILL, what)
    except subprocess.TimeoutExpired:
        assert scenario.varies, what + ": the fault point was not reached"
        assert acknowledged, what + ": fails without a kill"
        reached = False
        server.process.kill()
        server.process.wait()
    server.process = None
    server.start({"DGP_MULTIPART_SWEEP_INTERVAL_SECS": "1"} if scenario.notes else None)
    same(temporaries(server), [], what + ": temporaries")
    try:
        verify(server, scenario, acknowledged, what)
        assert scenario.operation(server, notes), what + ": the retry fails"
        states = verify(server, scenario, True, what + ", retried")
        for key, id_ in open_uploads(server):
            same(call(server, "DELETE", key, query={"uploadId": id_}).status, 204, what)
        same(temporaries(server), [], what + ": temporaries at the end")
        if scenario.notes:
            check_notes(server, states, what)
        clean_up(server, states, what)
        same(server.stop(), 0, what)
    except AssertionError:
        sys.stderr.write(server.log()[-3000:])
        raise
    server.drop()
    return reached


def crash(scenario):
    template, notes = prepare(scenario)
    steps = steps_of(template, scenario, notes)
    if scenario.notes and ROUNDS == 1:  # others kill at each step of the storage
        steps = [row for row in steps if row[0].startswith("engine.")]
    assert steps, "no fault point was passed: was the server built without them?"
    done = sum(kill_at(template, scenario, notes, step, hit) for step, hit in steps)
    assert done > len(steps) // 2, "%d of %d fault points were reached" % (done, len(steps))
    kills["done"] += done
    template.drop()


for round_ in range(ROUNDS):
    for one in scenarios(round_):
        def run_one(one=one):
            crash(one)
        run_one.__name__ = "kill -9 while " + one.name.replace("_", " ") + \
            (" (round %d)" % round_ if ROUNDS > 1 else "")
        case(run_one)


@case
def a_few_hundred_kills_were_survived():
    print("# %d kills" % kills["done"])
    if not sys.argv[1:] and ROUNDS == 1:
        assert kills["done"] >= 200, "%d kills only" % kills["done"]


main()
