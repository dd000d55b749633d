#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What a bucket's configuration forbids its clients: frozen buckets and those
that only replication fills."""
import base64
import hmac
from lib import *

server = Server()
s3 = server.client()
CLOSED = {"frozen": ("QuotaExceeded", {"frozen": True}),
          "empty-quota": ("QuotaExceeded", {"quota_bytes": 0}),
          "replica": ("AccessDenied", {"replication_target_only": True})}
uploads = {}
for name in [*CLOSED, "free"]:
    s3.create_bucket(Bucket=name)
    for key in ("a.zip", "b.zip", "c.zip"):
        s3.put_object(Bucket=name, Key=key, Body=b"old " + key.encode())
    uploads[name] = s3.create_multipart_upload(Bucket=name, Key="begun")["UploadId"]
    s3.upload_part(Bucket=name, Key="begun", UploadId=uploads[name], PartNumber=1, Body=b"part")
server.stop()
server.env["DGP_DATA_DIR"] = server.data
server.config = {"storage": {"buckets": {name: settings for name, (_, settings) in CLOSED.items()}}}
server.start()


def form(bucket, secret=SECRET_KEY):
    """A signed form upload of the key `form`."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    fields = {"key": "form", "x-amz-date": stamp, "x-amz-algorithm": "AWS4-HMAC-SHA256",
              "x-amz-credential": "%s/%s/%s/s3/aws4_request" % (ACCESS_KEY, stamp[:8], REGION)}
    policy = {"expiration": "2099-01-01T00:00:00Z",
              "conditions": [{"bucket": bucket}, *({n: v} for n, v in fields.items())]}
    fields["policy"] = base64.b64encode(json.dumps(policy).encode()).decode()
    fields["x-amz-signature"] = hmac.new(signing_key(stamp[:8], secret),
                                         fields["policy"].encode(), hashlib.sha256).hexdigest()
    text = "".join('--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % pair
                   for pair in fields.items())
    text += ('--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\nnew\r\n'
             '--b--\r\n')
    return server.request("POST", "/" + bucket, body=text.encode(), sign=False,
                          headers={"Content-Type": "multipart/form-data; boundary=b"})


def adding(bucket):
    """Every way to add to a bucket: name -> a call."""
    upload = dict(Bucket=bucket, Key="begun", UploadId=uploads[bucket])
    copy = dict(CopySource={"Bucket": "free", "Key": "a.zip"})
    parts = {"Parts": [{"PartNumber": 1, "ETag": etag_of(b"part")}]}
    return {
        "put": lambda: s3.put_object(Bucket=bucket, Key="new", Body=b"new"),
        "put over": lambda: s3.put_object(Bucket=bucket, Key="a.zip", Body=b"new"),
        "copy": lambda: s3.copy_object(Bucket=bucket, Key="new", **copy),
        "metadata": lambda: s3.copy_object(Bucket=bucket, Key="a.zip", MetadataDirective="REPLACE",
                                           CopySource={"Bucket": bucket, "Key": "a.zip"}),
        "create": lambda: s3.create_multipart_upload(Bucket=bucket, Key="new"),
        "part": lambda: s3.upload_part(PartNumber=2, Body=b"new", **upload),
        "part copy": lambda: s3.upload_part_copy(PartNumber=2, **upload, **copy),
        "complete": lambda: s3.complete_multipart_upload(MultipartUpload=parts, **upload),
    }


@case
def nothing_can_be_added_to_a_closed_bucket():
    for bucket, (code, _) in CLOSED.items():
        for name, call in adding(bucket).items():
            same(error_of(call), (403, code), (bucket, name))
        answer = form(bucket)
        same((answer.status, answer.code), (403, code), bucket)
        same([row["Key"] for row in s3.list_objects_v2(Bucket=bucket)["Contents"]],
             ["a.zip", "b.zip", "c.zip"], bucket)
        same(s3.get_object(Bucket=bucket, Key="a.zip")["Body"].read(), b"old a.zip", bucket)
    same(form("free").status, 204)


@case
def a_body_that_will_not_be_stored_is_not_waited_for():
    answer = server.request("PUT", "/frozen/big", headers={
        "Content-Length": str(1 << 30), "x-amz-content-sha256": "UNSIGNED-PAYLOAD",
        "Expect": "100-continue"}, timeout_s=10)
    same((answer.status, answer.code), (403, "QuotaExceeded"))


@case
def a_stranger_does_not_learn_what_a_bucket_forbids():
    for bucket in CLOSED:
        answer = server.request("PUT", "/%s/key" % bucket, body=b"x", sign=False)
        same((answer.status, answer.code), (403, "AccessDenied"), bucket)
        same(form(bucket, secret="wrong").code, "SignatureDoesNotMatch", bucket)


@case
def closed_buckets_are_read_and_copied_from():
    for bucket in CLOSED:
        s3.head_bucket(Bucket=bucket)
        s3.copy_object(Bucket="free", Key="from-" + bucket,
                       CopySource={"Bucket": bucket, "Key": "a.zip"})
        same(s3.get_object(Bucket="free", Key="from-" + bucket)["Body"].read(), b"old a.zip")


@case
def only_replication_removes_from_its_target():
    many = {"Objects": [{"Key": "b.zip"}, {"Key": "c.zip"}]}
    for call in (lambda: s3.delete_object(Bucket="replica", Key="a.zip"),
                 lambda: s3.delete_objects(Bucket="replica", Delete=many),
                 lambda: s3.delete_bucket(Bucket="replica")):
        same(error_of(call), (403, "AccessDenied"))
    same(len(s3.list_objects_v2(Bucket="replica")["Contents"]), 3)


@case
def deletes_and_aborts_make_room_in_a_frozen_bucket():
    for bucket in ("frozen", "empty-quota"):
        s3.delete_object(Bucket=bucket, Key="a.zip")
        done = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "b.zip"},
                                                                    {"Key": "c.zip"}]})
        same(len(done["Deleted"]), 2)
        s3.abort_multipart_upload(Bucket=bucket, Key="begun", UploadId=uploads[bucket])
        assert "Contents" not in s3.list_objects_v2(Bucket=bucket)
        s3.delete_bucket(Bucket=bucket)


def declaring(folder, buckets, **more):
    """A configuration with two directories, of which `one` is the default."""
    return {"storage": dict({
        "backends": [{"type": "filesystem", "name": name, "path": os.path.join(folder, name)}
                     for name in ("one", "two")],
        "buckets": buckets}, **more)}


@case
def declared_buckets_of_a_filesystem_are_made_at_the_start_and_at_a_reload():
    folder = tempfile.mkdtemp(dir=WORK)
    other = Server(config=declaring(folder, {
        "plain": {}, "routed": {"backend": "two"}, "shown": {"backend": "two", "alias": "real"},
        "closed": {"frozen": True}, "Not_A_Name": {}}))
    there = lambda: sorted(name + "/" + bucket for name in ("one", "two")
                           for bucket in os.listdir(os.path.join(folder, name))
                           if not bucket.startswith("."))
    same(there(), ["one/closed", "one/plain", "two/real", "two/routed"])
    same([row["Name"] for row in other.client().list_buckets()["Buckets"]],
         ["closed", "plain", "routed", "shown"])
    other.client().put_object(Bucket="shown", Key="k", Body=b"word")
    with open(os.path.join(other.root, "config.yaml"), "w") as file:
        json.dump(declaring(folder, {"shown": {"backend": "two", "alias": "real"}, "more": {},
                                     # it is there already, though on the other backend
                                     "routed": {}}), file)
    other.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "bucket=\"more\"" in other.log() or "bucket=more" in other.log())
    same(there(), ["one/closed", "one/more", "one/plain", "two/real", "two/routed"])
    same(other.client().get_object(Bucket="shown", Key="k")["Body"].read(), b"word")
    same(error_of(other.client().create_bucket, Bucket="more"), (409, "BucketAlreadyOwnedByYou"))
    other.drop()


@case
def a_declared_bucket_that_cannot_be_made_is_told_and_stops_nothing():
    folder = tempfile.mkdtemp(dir=WORK)
    other = Server(config=declaring(folder, {"first": {}, "second": {}}),
                   env={"DGP_FAULT": "fs.bucket.mkdir:ENOSPC:1"})
    line, = [line for line in other.log().splitlines() if " bucket.not_made " in line]
    assert "first" in line and "second" not in line, line
    same([row["Name"] for row in other.client().list_buckets()["Buckets"]], ["second"])
    same(other.request("PUT", "/first").status, 200)
    other.drop()


def wait_for(condition, timeout_s=60):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)  # until the log says so: there is no event to wait for


main()
