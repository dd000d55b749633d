#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A configuration read anew on SIGHUP: what changes, what stays, and that no request
notices."""
import threading

from lib import *

v1, v2, v3 = versions(4 << 20, 3)
FORMER = "former-secret-of-the-same-server"


class Reloaded(Server):
    """A server whose configuration changes while it serves."""

    def __init__(self, config, **more):
        env = {"DGP_ACCESS_KEY_ID": None, "DGP_SECRET_ACCESS_KEY": None, "DGP_LOG_LEVEL": None,
               "DGP_DATA_DIR": None}
        super().__init__(env=env, config=config, **more)

    def write(self, config):
        path = os.path.join(self.root, "config.yaml")
        with open(path + ".new", "w") as file:
            file.write(config if isinstance(config, str) else json.dumps(config, indent=1))
        os.rename(path + ".new", path)

    def signal_and_wait(self, word="reload.done"):
        """SIGHUP, and then the log's line about it, which is returned."""
        seen = len(self.log())
        self.process.send_signal(signal.SIGHUP)
        until(lambda: " reload.done " in self.log()[seen:] or
              " reload.refused " in self.log()[seen:])
        log = self.log()[seen:]
        assert " %s " % word in log, log
        return log

    def reload(self, config, word="reload.done"):
        self.write(config)
        return self.signal_and_wait(word)


def until(condition, timeout_s=60):
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("it did not come to pass")
        time.sleep(0.02)


def directory(name):
    return {"type": "filesystem", "name": name, "path": os.path.join(WORK, "disk-" + name)}


def configuration(backends=("one",), buckets=None, advanced=None, secret=SECRET_KEY, admission=None):
    result = {"access": {"access_key_id": ACCESS_KEY, "secret_access_key": secret},
              "storage": {"backends": [b if isinstance(b, dict) else directory(b)
                                       for b in backends],
                          "buckets": buckets or {}},
              "advanced": dict({"metadata_cache_mb": 50}, **(advanced or {}))}
    if admission:
        result["admission"] = {"blocks": admission}
    return result


server = Reloaded(configuration())
s3 = server.client()
s3.create_bucket(Bucket="main")


def get(key, bucket="main"):
    return s3.get_object(Bucket=bucket, Key=key)["Body"].read()


def refusal(function, **arguments):
    from botocore.exceptions import ClientError
    try:
        function(**arguments)
    except ClientError as error:
        return error.response["Error"]["Code"]
    return None


@case
def a_backend_and_its_bucket_come_and_go():
    server.reload(configuration(("one", "two"), {"moved": {"backend": "two"}}))
    server.make_bucket("moved")
    s3.put_object(Bucket="moved", Key="x", Body=b"on two")
    assert os.path.isdir(os.path.join(WORK, "disk-two", "moved"))
    assert get("x", "moved") == b"on two"
    s3.put_object(Bucket="main", Key="x", Body=b"on one")
    server.reload(configuration())
    assert refusal(s3.get_object, Bucket="moved", Key="x") == "NoSuchBucket"
    assert get("x") == b"on one"
    until(lambda: server.log().count("reload.drained") >= 2)
    # Its directory is free again: another server may have it.
    with open(os.path.join(WORK, "disk-two", ".dg-lock")) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


@case
def a_bucket_that_moves_is_not_answered_from_what_was_cached():
    server.reload(configuration(("one", "two"), {"twin": {"backend": "one"}}))
    server.make_bucket("twin")
    s3.put_object(Bucket="twin", Key="k", Body=b"first")
    server.reload(configuration(("one", "two"), {"twin": {"backend": "two"}}))
    server.make_bucket("twin")
    s3.put_object(Bucket="twin", Key="k", Body=b"second")
    for backend, want in (("one", b"first"), ("two", b"second")) * 3:
        server.reload(configuration(("one", "two"), {"twin": {"backend": backend}}))
        assert get("k", "twin") == want
        assert s3.head_object(Bucket="twin", Key="k")["ContentLength"] == len(want)


@case
def policies_hold_from_the_next_request():
    server.reload(configuration(buckets={"main": {"frozen": True}}))
    assert refusal(s3.put_object, Bucket="main", Key="n", Body=b"") == "QuotaExceeded"
    server.reload(configuration(buckets={"main": {"public": True}}))
    assert server.request("GET", "/main/x", sign=False).body == b"on one"
    server.reload(configuration(admission=[
        {"name": "no", "match": {"method": ["PUT"]}, "action": "deny"}]))
    assert refusal(s3.put_object, Bucket="main", Key="n", Body=b"") == "AccessDenied"
    server.reload(configuration())
    assert server.request("GET", "/main/x", sign=False).status == 403
    s3.put_object(Bucket="main", Key="n", Body=b"")


@case
def deltas_follow_the_ratio_and_the_codec_that_hold():
    s3.put_object(Bucket="main", Key="d/1.zip", Body=v1)
    s3.put_object(Bucket="main", Key="d/2.zip", Body=v2)
    assert os.path.exists(server_file("d/2.zip.delta"))
    server.reload(configuration(advanced={"max_delta_ratio": 0}))
    s3.put_object(Bucket="main", Key="d/3.zip", Body=v3)
    assert not os.path.exists(server_file("d/3.zip.delta"))
    server.reload(configuration(advanced={"codec_concurrency": 1, "metadata_cache_mb": 0}))
    s3.put_object(Bucket="main", Key="d/4.zip", Body=v3)
    assert os.path.exists(server_file("d/4.zip.delta"))
    for key, want in (("1", v1), ("2", v2), ("3", v3), ("4", v3)):
        assert get("d/%s.zip" % key) == want
    server.reload(configuration())


def server_file(name):
    return os.path.join(WORK, "disk-one", "main", "deltaspaces", name)


@case
def other_credentials_replace_the_former_at_once():
    server.reload(configuration(secret=FORMER))
    assert refusal(s3.head_bucket, Bucket="main") == "403"
    server.secret_key = FORMER
    try:
        assert server.request("GET", "/main/x").body == b"on one"
    finally:
        server.secret_key = SECRET_KEY
    server.reload(configuration())
    assert get("x") == b"on one"


@case
def policy_and_keys_change_in_one_step():
    closed = [{"name": "no", "match": {"method": ["GET"]}, "action": "deny"}]
    before, after = configuration(("step",), secret=FORMER, admission=closed), configuration(("step",))
    other = Reloaded(before, autostart=False)
    # Between the step and what follows it there is time to look.
    other.env.update(DGP_FAULT="app.reload.replaced:delay_1500", DGP_RATE_LIMIT_MAX_ATTEMPTS="0")
    other.start()
    def ask(secret):
        other.secret_key = secret
        answer = other.request("GET", "/")
        return answer.code or answer.status
    for config, last in ((after, 200), (before, "AccessDenied")):
        other.write(config)
        seen = len(other.log())
        other.process.send_signal(signal.SIGHUP)
        answers = []
        # The former pair never meets the open door: only with the new pair is it open.
        while " reload.done " not in other.log()[seen:]:
            assert ask(FORMER) in ("AccessDenied", "SignatureDoesNotMatch")
            answers.append(ask(SECRET_KEY))
        assert set(answers) <= {200, "AccessDenied"} and answers[-1] == last, answers
    same(other.log().count(" reload.done "), 2)
    other.drop()


@case
def sealing_begins_and_ends_with_a_reload():
    sealed = dict(directory("one"), encryption={"mode": "aes256-gcm-proxy", "key": "5a" * 32})
    reading = dict(directory("one"), encryption={"mode": "none", "legacy_key": "5a" * 32})
    server.reload(configuration((sealed,)))
    s3.put_object(Bucket="main", Key="sealed", Body=b"secret words" * 100)
    with open(server_file("sealed"), "rb") as file:
        assert b"secret words" not in file.read()
    assert get("sealed") == b"secret words" * 100
    server.reload(configuration((reading,)))
    assert get("sealed") == b"secret words" * 100
    s3.put_object(Bucket="main", Key="plain", Body=b"plain words")
    with open(server_file("plain"), "rb") as file:
        assert file.read() == b"plain words"
    server.reload(configuration())


def memory_of(process):
    """All that the server could write to, but for the stack, which holds the environment."""
    with open("/proc/%d/maps" % process.pid) as maps, \
            open("/proc/%d/mem" % process.pid, "rb") as memory:
        for line in maps:
            place, rights, rest = line.split(None, 2)
            if not rights.startswith("rw") or "[stack]" in rest:
                continue
            begin, end = (int(number, 16) for number in place.split("-"))
            if end - begin > 1 << 29:
                continue  # a sanitizer's own
            memory.seek(begin)
            try:
                yield memory.read(end - begin)
            except OSError:
                pass  # it went away meanwhile


@case
def keys_do_not_stay_in_memory_as_text():
    keys = [random.Random(seed).randbytes(32).hex() for seed in (101, 102, 103, 104)]
    with open(os.path.join(WORK, "key"), "w") as file:
        file.write(keys[2] + "\n")
    def sealed(**encryption):
        return configuration((dict(directory("sealed"), encryption=dict(
            {"mode": "aes256-gcm-proxy"}, **encryption)),))
    other = Reloaded(sealed(key=keys[0], legacy_key="${env:OTHER_KEY}"), autostart=False)
    mark = random.Random(105).randbytes(32).hex()
    other.env.update(OTHER_KEY=keys[1], A_MARK=mark)
    other.start()
    def found():
        seen = set()
        for piece in memory_of(other.process):
            seen |= {number for number, key in enumerate(keys + [mark]) if key.encode() in piece}
        # A sanitizer has the whole environment once more.
        return sorted(seen - {1, 4} if 4 in seen else seen)
    other.client().create_bucket(Bucket="sealed")
    other.client().put_object(Bucket="sealed", Key="k", Body=b"word")
    same(found(), [])
    other.reload(sealed(key_file=os.path.join(WORK, "key"), legacy_key=keys[0]))
    same(other.client().get_object(Bucket="sealed", Key="k")["Body"].read(), b"word")
    same(found(), [])
    # Taken over as it is: a third time the same.
    other.signal_and_wait()
    same(found(), [])
    other.drop()


@case
def a_bad_file_keeps_what_runs_and_says_why():
    for text, why in (("storage: [", "config.yaml:2"), ("advanced:\n  max_delta_ration: 1\n", "config.yaml:2"),
                      (json.dumps(configuration((directory("one"), directory("one")))), "one"),
                      (json.dumps(configuration(("one", {"type": "s3", "name": "up"}))), "up")):
        log = server.reload(text, "reload.refused")
        line = [line for line in log.splitlines() if " reload.refused " in line][0]
        assert why in line, line
        assert get("x") == b"on one"
    os.unlink(os.path.join(server.root, "config.yaml"))
    server.signal_and_wait("reload.refused")
    assert get("x") == b"on one"
    assert server.process.poll() is None
    server.reload(configuration())


@case
def a_backend_that_does_not_work_is_refused():
    blocked = dict(directory("blocked"))
    os.makedirs(blocked["path"])
    with open(os.path.join(blocked["path"], ".dg-lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        log = server.reload(configuration(("one", blocked)), "reload.refused")
    assert "in use by another server" in log, log
    assert get("x") == b"on one"
    server.reload(configuration(("one", blocked)))
    server.reload(configuration())


@case
def a_route_to_an_unknown_backend_is_a_warning_at_the_start_and_refused_at_a_reload():
    astray = {"main": {"backend": "nowhere"}, "astray": {"backend": "nowhere"}}
    log = server.reload(configuration(buckets=astray), "reload.refused")
    assert "routes to unknown backend 'nowhere'" in log, log
    assert get("x") == b"on one"
    same(error_of(s3.head_bucket, Bucket="astray"), (404, "404"))
    other = Reloaded(configuration(("three",), buckets=astray))
    assert "routes to unknown backend 'nowhere'" in other.log(), other.log()
    same(sorted(row["Name"] for row in other.client().list_buckets()["Buckets"]),
         ["astray", "main"])
    other.drop()
    server.reload(configuration())


@case
def what_needs_a_restart_is_told():
    log = server.reload(configuration(advanced={"worker_threads": 7}))
    told = [line for line in log.splitlines() if " reload.restart " in line]
    assert len(told) == 1 and "advanced.worker_threads" in told[0], log
    log = server.reload(configuration(advanced={"worker_threads": 7, "max_delta_ratio": 0.5}))
    assert " reload.restart " not in log, log
    server.reload(configuration())
    assert get("x") == b"on one"


@case
def tls_and_authentication_wait_for_a_restart_whole():
    for change in ({"advanced": {"tls": {"enabled": True}}},
                   {"access": {"authentication": "none"}}):
        changed = configuration(buckets={"main": {"public": True}})
        for section, options in change.items():
            if section == "access":
                changed["access"] = options
            else:
                changed[section].update(options)
        log = server.reload(changed)
        assert " reload.restart " in log, log
        for _ in range(2):  # the second finds what the first has left
            assert get("x") == b"on one"
            assert server.request("GET", "/main/x", sign=False).body == b"on one"
            assert server.request("PUT", "/main/x", body=b"", sign=False).status == 403
            server.reload(changed)
    server.reload(configuration())
    assert get("x") == b"on one"


@case
def the_level_of_the_log_changes():
    def requests_are_logged():
        before = server.log().count("http.request")
        get("x")
        time.sleep(0.05)  # the line is written after the answer
        return server.log().count("http.request") > before
    assert requests_are_logged()
    server.write(configuration(advanced={"log_level": "error"}))
    server.process.send_signal(signal.SIGHUP)
    until(lambda: not requests_are_logged())
    server.write(configuration())
    server.process.send_signal(signal.SIGHUP)
    until(requests_are_logged)


@case
def a_transfer_under_way_ends_with_what_it_began():
    big = body(48 << 20, seed=9)
    server.reload(configuration(("one", "two"), {"far": {"backend": "two"}}))
    server.make_bucket("far")
    s3.put_object(Bucket="far", Key="big", Body=big)
    stream = s3.get_object(Bucket="far", Key="big")["Body"]
    head = stream.read(1 << 20)
    upload = Trickle("/far/slow", big[:8 << 20])
    drained = server.log().count("reload.drained")
    server.reload(configuration())
    assert refusal(s3.get_object, Bucket="far", Key="big") == "NoSuchBucket"
    # Taken over while it is still in use: its directory is locked.
    server.reload(configuration(("one", "two"), {"far": {"backend": "two"}}))
    server.reload(configuration())
    assert head + stream.read() == big
    assert upload.finish() == 200
    until(lambda: server.log().count("reload.drained") > drained)
    server.reload(configuration(("one", "two"), {"far": {"backend": "two"}}))
    assert get("slow", "far") == big[:8 << 20]
    server.reload(configuration())


class Trickle:
    """An upload of which one half is sent when it is made, the other by finish()."""

    def __init__(self, path, data):
        headers = {"Content-Length": str(len(data)), "x-amz-content-sha256": "UNSIGNED-PAYLOAD"}
        sign_headers(server, "PUT", path, {}, headers, data, access_key=ACCESS_KEY,
                     secret=SECRET_KEY)
        self.wire = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        self.wire.putrequest("PUT", path, skip_accept_encoding=True, skip_host="Host" in headers)
        for name, value in headers.items():
            self.wire.putheader(name, value)
        self.wire.endheaders()
        self.wire.send(data[:len(data) // 2])
        self.rest = data[len(data) // 2:]

    def finish(self):
        self.wire.send(self.rest)
        return self.wire.getresponse().status


class Load(threading.Thread):
    """Puts, reads and deletes objects of its own until it is told to end."""

    def __init__(self, number):
        super().__init__(daemon=True)
        self.number, self.ended, self.count, self.error = number, False, 0, None

    def run(self):
        try:
            client = Endpoint.client(server, connect_timeout=30 + self.number)
            mine = "load/%d/" % self.number
            while not self.ended:
                data = (v1, v2, v3)[self.count % 3] if self.count % 5 == 0 else \
                    body(5000 + self.count, seed=self.count)
                key = mine + ("%d.zip" if self.count % 5 == 0 else "%d") % (self.count % 7)
                client.put_object(Bucket="main", Key=key, Body=data)
                assert client.get_object(Bucket="main", Key=key)["Body"].read() == data, key
                listing = client.list_objects_v2(Bucket="main", Prefix=mine)
                assert key in [row["Key"] for row in listing["Contents"]]
                if self.count % 3 == 0:
                    client.delete_object(Bucket="main", Key=key)
                self.count += 1
        except Exception as error:
            self.error = error


@case
def no_request_fails_because_of_reloads_under_load():
    ways = [configuration(), configuration(("one", "two"), {"far": {"backend": "two"}}),
            configuration(advanced={"max_delta_ratio": 0.5, "codec_concurrency": 2}),
            configuration((dict(directory("one"), encryption={"mode": "none",
                                                              "legacy_key": "5a" * 32}),)),
            configuration(advanced={"metadata_cache_mb": 1}, buckets={"other": {"frozen": True}})]
    loads = [Load(number) for number in range(4)]
    for load in loads:
        load.start()
    reloads, deadline = 0, time.monotonic() + 120
    while reloads < 150 or any(load.count < 10 for load in loads):
        server.reload(ways[reloads % len(ways)])
        reloads += 1
        assert all(load.is_alive() for load in loads), [load.error for load in loads]
        assert time.monotonic() < deadline, (reloads, [load.count for load in loads])
    for load in loads:
        load.ended = True
    for load in loads:
        load.join()
    assert not any(load.error for load in loads), [load.error for load in loads]
    server.reload(configuration())
    until(lambda: server.log().count(" reload.drained ") == server.log().count(" reload.done "))


@case
def it_ends_as_ever():
    assert server.stop() == 0


main()
