#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The upstreams that other tests lean on do what they are said to do: the real
server starts, is found running, and goes; each fault is seen by a client; the sink
tells right bytes from wrong ones."""
from standins import *

sys.path.insert(0, UPSTREAM_SCRIPTS)
sys.dont_write_bytecode = True
from sink import pattern  # noqa: E402

upstream = Upstream()
proxy = Faulty(upstream.port)
DATA = body(200003, 1)


class Front(Endpoint):
    """The upstream's keys at another port."""

    def __init__(self, port):
        super().__init__()
        self.port, self.access_key, self.secret_key = port, UPSTREAM_KEY, UPSTREAM_SECRET


front = Front(proxy.port)
sink = Sink()
drain = Front(sink.port)


@case
def the_real_server_is_started_once():
    pid = upstream.pid()
    same(upstream.request("PUT", "/once").status, 200)
    upstream.start()
    same(upstream.pid(), pid)
    same(upstream.request("HEAD", "/once").status, 200)


@case
def its_test_keys_encrypt():
    s3 = upstream.client()
    s3.create_bucket(Bucket="kms")
    s3.put_object(Bucket="kms", Key="k", Body=DATA, ServerSideEncryption="aws:kms",
                  SSEKMSKeyId="testkey-1")
    answer = s3.get_object(Bucket="kms", Key="k")
    same(answer["ServerSideEncryption"], "aws:kms")
    assert answer["Body"].read() == DATA
    same(error_of(s3.put_object, Bucket="kms", Key="k", Body=DATA, ServerSideEncryption="aws:kms",
                  SSEKMSKeyId="no-such-key"),
         (403, "InvalidAccessKeyId"))


@case
def it_goes_and_leaves_nothing():
    other = Upstream()
    pids = [other.pid(name) for name in ("client.admin", "osd.0", "mon.a")]
    other.stop()
    assert not os.path.exists(other.root)
    for pid in pids:
        try:
            state = open("/proc/%d/stat" % pid).read().rpartition(")")[2].split()[0]
        except OSError:
            continue
        same(state, "Z")


@case
def a_port_that_is_taken_is_told():
    folder = tempfile.mkdtemp(dir=WORK)
    text = run(os.path.join(UPSTREAM_SCRIPTS, "rgw-up"), folder, upstream.port, check=False)
    assert "is taken" in text, text


@case
def what_is_not_broken_passes_unchanged():
    s3 = front.client()
    s3.create_bucket(Bucket="passed")
    big = body(9 << 20, 2)
    for key, data in (("empty", b""), ("small", DATA), ("big", big), ("\u00fc %25+", DATA)):
        same(s3.put_object(Bucket="passed", Key=key, Body=data)["ETag"], etag_of(data))
        assert s3.get_object(Bucket="passed", Key=key)["Body"].read() == data
        same(s3.head_object(Bucket="passed", Key=key)["ContentLength"], len(data))
    same(s3.list_objects_v2(Bucket="passed")["KeyCount"], 4)
    s3.delete_object(Bucket="passed", Key="small")
    same([row["operation"] for row in proxy.log()][:2], ["CreateBucket", "PutObject"])


def seen(rule, method="GET", path="/faults/k", data=None, timeout_s=1):
    """What a client sees of one request under a rule: a Response or an exception."""
    proxy.break_it(rule)
    try:
        return front.request(method, path, body=data, timeout_s=timeout_s)
    except (OSError, http.client.HTTPException) as error:
        return error
    finally:
        same(proxy.fired(), 1, "times it fired")
        proxy.heal()


def stored():
    return upstream.request("GET", "/faults/k").body


@case
def each_fault_of_a_request_is_seen():
    upstream.request("PUT", "/faults")
    upstream.request("PUT", "/faults/k", body=DATA)
    new = body(100000, 5)
    answer = seen({"fault": "status", "status": 503, "code": "SlowDown", "retry_after": 7,
                   "op": "PutObject", "key": "^k$"}, "PUT", data=new)
    same((answer.status, answer.code, answer.headers["Retry-After"]), (503, "SlowDown", "7"))
    same(seen({"fault": "status_early"}, "PUT", data=new).status, 500)
    assert isinstance(seen({"fault": "reset"}, "PUT", data=new), ConnectionError)
    assert isinstance(seen({"fault": "reset_request", "bytes": 10}, "PUT", data=new),
                      ConnectionError)
    assert isinstance(seen({"fault": "stall_request", "bytes": 10}, "PUT", data=new), TimeoutError)
    assert stored() == DATA, "the upstream got it"
    began = time.monotonic()
    same(seen({"fault": "delay", "ms": 300}).status, 200)
    assert time.monotonic() - began >= 0.3


@case
def each_fault_of_an_answer_is_seen():
    upstream.request("PUT", "/faults/k", body=DATA)
    for fault, kind in (("cut", http.client.IncompleteRead), ("reset_answer", ConnectionError),
                        ("stall_answer", TimeoutError), ("long_length", http.client.IncompleteRead)):
        answer = seen({"fault": fault, "bytes": 1000})
        assert isinstance(answer, kind), (fault, answer)
    assert isinstance(seen({"fault": "lost"}), ConnectionError)
    assert seen({"fault": "short_length", "bytes": 3}).body == DATA[:-3]
    answer = seen({"fault": "flip", "bytes": 5})
    same([at for at in range(len(DATA)) if answer.body[at] != DATA[at]], [5])
    assert seen({"fault": "etag"}).headers["ETag"] != etag_of(DATA)
    assert seen({"fault": "trickle", "bytes": 1000000}, timeout_s=5).body == DATA
    began = time.monotonic()
    assert seen({"fault": "delay_answer", "ms": 300}).body == DATA
    assert time.monotonic() - began >= 0.3
    same(seen({"fault": "error_200"}).code, "InternalError")
    assert b"<html>" in seen({"fault": "garbage"}).body
    same(seen({"fault": "empty_200"}).body, b"")


@case
def what_an_upstream_did_before_it_failed_is_done():
    for number, fault in enumerate(("lost", "status_done", "error_200")):
        data = body(1000, number)
        seen({"fault": fault}, "PUT", data=data)
        assert stored() == data, fault
    seen({"fault": "error_200", "done": False}, "PUT", data=DATA)
    assert stored() == data


@case
def a_fault_comes_when_it_is_due():
    proxy.break_it({"fault": "status", "skip": 1, "times": 2, "op": "Get*"})
    same([front.request(method, "/faults/k").status for method in
          ("GET", "HEAD", "GET", "GET", "GET")], [200, 200, 500, 500, 200])
    proxy.heal()


@case
def the_sink_gives_the_pattern_back():
    s3 = drain.client()
    s3.create_bucket(Bucket="sink")
    data = b"".join(bytes(pattern(at, 1 << 20)) for at in range(0, 5 << 20, 1 << 20))
    s3.put_object(Bucket="sink", Key="one", Body=data, Metadata={"a": "1"})
    got = s3.get_object(Bucket="sink", Key="one")
    same(got["Metadata"], {"a": "1"})
    assert got["Body"].read() == data
    assert s3.get_object(Bucket="sink", Key="one", Range="bytes=1048570-2097200")["Body"].read() \
        == data[1048570:2097201]
    s3.put_object(Bucket="sink", Key="small", Body=b"kept")
    same(s3.get_object(Bucket="sink", Key="small")["Body"].read(), b"kept")
    s3.copy_object(Bucket="sink", Key="copied", CopySource="sink/small")
    same([row["Key"] for row in s3.list_objects_v2(Bucket="sink")["Contents"]],
         ["copied", "one", "small"])
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket="sink", PaginationConfig={
        "PageSize": 1})
    same([page["Contents"][0]["Key"] for page in pages], ["copied", "one", "small"])


def in_parts(s3, key, parts):
    name = s3.create_multipart_upload(Bucket="sink", Key=key)["UploadId"]
    rows = [{"PartNumber": number, "ETag": s3.upload_part(
        Bucket="sink", Key=key, UploadId=name, PartNumber=number, Body=data)["ETag"]}
        for number, data in enumerate(parts, 1)]
    return s3.complete_multipart_upload(Bucket="sink", Key=key, UploadId=name,
                                        MultipartUpload={"Parts": rows})


@case
def the_sink_refuses_wrong_bytes():
    s3 = drain.client()
    data = b"".join(bytes(pattern(at, 1 << 20)) for at in range(0, 6 << 20, 1 << 20))
    in_parts(s3, "parts", [data[:5 << 20], data[5 << 20:]])
    assert s3.get_object(Bucket="sink", Key="parts")["Body"].read() == data
    same(error_of(in_parts, s3, "joined", [data[:5 << 20], data[(5 << 20) + 1:]]),
         (400, "BadDigest"))
    wrong = bytearray(data)
    wrong[-1] ^= 1
    same(error_of(s3.put_object, Bucket="sink", Key="wrong", Body=bytes(wrong)),
         (400, "BadDigest"))
    shifted = data[:1 << 20] + data[(1 << 20) + 1:]
    same(error_of(s3.put_object, Bucket="sink", Key="wrong", Body=shifted), (400, "BadDigest"))
    same(drain.request("PUT", "/sink/sum", body=DATA,
                       headers={"x-amz-content-sha256": "0" * 64}).code, "BadDigest")
    same(sink.stats()["wrong"], 4)
    s3.put_object(Bucket="sink", Key="sealed", Body=DATA)
    same(error_of(s3.get_object, Bucket="sink", Key="sealed")[0], 501)
    same(sink.stats()["unverified_bytes"], len(DATA))
    same(drain.request("PUT", "/sink/parts", body=b"", headers={"If-None-Match": "*"}).status, 412)


@case
def the_sink_is_no_bottleneck():
    """Its own rate, with a client that costs nothing: one long upload."""
    size = 2 << 30
    with socket.create_connection(("127.0.0.1", sink.port)) as connection:
        began = time.monotonic()
        connection.sendall(b"PUT /sink/long HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size)
        at = 0
        while at < size:
            piece = pattern(at, min(1 << 20, size - at))
            connection.sendall(piece)
            at += len(piece)
        assert b" 200 " in connection.recv(1000)
        rate = size / (time.monotonic() - began) / 1e6
    print("# %.0f MB/s" % rate)
    assert rate > 200, rate


main()
