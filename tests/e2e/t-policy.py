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


main()
