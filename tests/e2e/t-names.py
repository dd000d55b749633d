#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""One bucket under several names: an alias, two names on one backend, and two
backends that lie on one storage. Who wrote through one name is believed through
every other one at once."""
from standins import *

KEY = "5a" * 32
upstream = Upstream()
sealed = {"mode": "aes256-gcm-proxy", "key": KEY, "key_id": "common"}
server = Server(config={"storage": {
    "backends": [{"name": "disk", "type": "filesystem", "path": os.path.join(WORK, "disk")},
                 {"name": "other", "type": "filesystem", "path": os.path.join(WORK, "other")},
                 s3_backend(upstream, name="near", encryption=sealed),
                 s3_backend(upstream, name="far", encryption=sealed)],
    "default_backend": "disk",
    "buckets": {"shown": {"alias": "hidden"},
                "one": {"backend": "disk", "alias": "both"},
                "two": {"backend": "disk", "alias": "both"},
                "both": {"backend": "disk"},
                "twin-a": {"backend": "disk", "alias": "twin"},
                "twin-b": {"backend": "other", "alias": "twin"},
                "by-near": {"backend": "near", "alias": "vault"},
                "by-far": {"backend": "far", "alias": "vault"}}}})
s3 = server.client()


def get(bucket, key):
    return s3.get_object(Bucket=bucket, Key=key)["Body"].read()


def keys(bucket):
    return [row["Key"] for row in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]


def believed_at_once(write, read):
    """Every change made through one name shows through the other one, which has just
    been read."""
    for number in range(20):
        data = body(100 + number, seed=number)
        s3.put_object(Bucket=write, Key="k", Body=data)
        same(get(read, "k"), data, "after put %d" % number)
        same(get(read, "k"), data)
        same(s3.head_object(Bucket=read, Key="k")["ContentLength"], len(data))
    old, new = versions(300000, 2)
    s3.put_object(Bucket=write, Key="d/app.zip", Body=old)
    same(get(read, "d/app.zip"), old)
    s3.put_object(Bucket=write, Key="d/app.zip", Body=new)
    same(get(read, "d/app.zip"), new)
    s3.copy_object(Bucket=write, Key="k", CopySource={"Bucket": write, "Key": "k"},
                   Metadata={"color": "blue"}, MetadataDirective="REPLACE")
    same(s3.head_object(Bucket=read, Key="k")["Metadata"], {"color": "blue"})
    upload = s3.create_multipart_upload(Bucket=write, Key="k")["UploadId"]
    part = s3.upload_part(Bucket=write, Key="k", UploadId=upload, PartNumber=1, Body=b"joined")
    s3.complete_multipart_upload(Bucket=write, Key="k", UploadId=upload, MultipartUpload={
        "Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]})
    same(get(read, "k"), b"joined")
    s3.delete_object(Bucket=write, Key="k")
    same(error_of(s3.get_object, Bucket=read, Key="k"), (404, "NoSuchKey"))
    s3.delete_object(Bucket=read, Key="d/app.zip")
    same(error_of(s3.head_object, Bucket=write, Key="d/app.zip")[0], 404)
    same(keys(write), [])


@case
def an_alias_stands_for_the_real_bucket():
    server.make_bucket("shown")
    assert os.path.isdir(os.path.join(WORK, "disk", "hidden"))
    assert not os.path.exists(os.path.join(WORK, "disk", "shown"))
    s3.put_object(Bucket="shown", Key="a/b", Body=b"word")
    same(get("shown", "a/b"), b"word")
    same(keys("shown"), ["a/b"])
    same(s3.list_objects_v2(Bucket="shown", Delimiter="/")["Name"], "shown")
    names = [row["Name"] for row in s3.list_buckets()["Buckets"]]
    assert "shown" in names and "hidden" not in names, names
    assert os.path.exists(os.path.join(WORK, "disk", "hidden", "deltaspaces", "a", "b"))


@case
def a_bucket_is_listed_under_each_of_its_names():
    server.make_bucket("both")
    for _ in range(3):
        names = [row["Name"] for row in s3.list_buckets()["Buckets"]]
        assert {"one", "two", "both"} <= set(names), names
        same(len(names), len(set(names)))


@case
def what_one_name_changes_the_other_shows_at_once():
    server.make_bucket("both")
    for write, read in (("one", "two"), ("two", "one"), ("one", "both"), ("both", "two")):
        believed_at_once(write, read)


@case
def equal_names_on_two_backends_are_two_buckets():
    for bucket in ("twin-a", "twin-b"):
        server.make_bucket(bucket)
        s3.put_object(Bucket=bucket, Key="k", Body=bucket.encode())
    for bucket in ("twin-a", "twin-b") * 3:
        same(get(bucket, "k"), bucket.encode())
    s3.delete_object(Bucket="twin-a", Key="k")
    same(get("twin-b", "k"), b"twin-b")


@case
def two_backends_on_one_storage_show_each_others_changes_at_once():
    server.make_bucket("by-near")
    believed_at_once("by-near", "by-far")
    believed_at_once("by-far", "by-near")
    s3.put_object(Bucket="by-near", Key="sealed", Body=b"needle" * 100)
    same(get("by-far", "sealed"), b"needle" * 100)
    stored = upstream.client().get_object(Bucket="vault", Key="sealed")["Body"].read()
    assert b"needle" not in stored


main()
