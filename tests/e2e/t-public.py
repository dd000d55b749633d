#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Who gets in without credentials, and who does not get in at all: public
prefixes and admission blocks."""
from lib import *

KEYS = ["a/", "a/b/1.zip", "a/b/2.zip", "a/b/sub/3.zip", "a/private", "q/hidden", "x-private/secret",
        "x.zip", "x/1.zip", "x/2/deep.zip", "x/2/more.zip", "x/3.zip", "y/hidden", "z/last"]
PUBLIC = [key for key in KEYS if key.startswith(("a/b/", "x/", "z/"))]
server = Server(config={
    "storage": {"buckets": {"some": {"public_prefixes": ["x/", "z/", "a/b/", "x/2/", "none/"]},
                            "whole": {"public": True}}},
    "admission": {"blocks": [
        {"name": "never", "match": {"bucket": "logs", "path_glob": "secret/*"}, "action": "deny"},
        {"name": "teapot", "match": {"bucket": "logs", "path_glob": "tea*"},
         "action": {"type": "reject", "status": 418, "message": "No coffee here."}},
        {"name": "elsewhere", "match": {"source_ip": "192.0.2.0/24"}, "action": "deny"},
        {"name": "open-logs", "match": {"bucket": "logs", "path_glob": "open/*"},
         "action": "allow-anonymous"},
        {"name": "no-puts", "match": {"bucket": "logs", "method": ["PUT"], "path_glob": "ro/*"},
         "action": "deny"}]}}, autostart=False)
server.env["DGP_DATA_DIR"] = server.data
server.start()
s3 = server.client()
for bucket in ("some", "whole", "logs"):
    server.make_bucket(bucket)
for key in KEYS:
    for bucket in ("some", "whole"):
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode() * 100)
for key in ("open/1", "ro/1", "secre"):
    if key != "ro/1":
        s3.put_object(Bucket="logs", Key=key, Body=b"log")


def stranger():
    """A boto3 client that signs nothing."""
    import boto3
    from botocore import UNSIGNED
    from botocore.config import Config
    return boto3.client("s3", endpoint_url=server.url, region_name=REGION,
                        config=Config(signature_version=UNSIGNED, retries={"max_attempts": 0},
                                      s3={"addressing_style": "path"}))


anyone = stranger()


def listed(client, bucket, **params):
    """Every row of every page, in order, and the pages' sizes."""
    rows, sizes, token = [], [], {}
    while True:
        page = client.list_objects_v2(Bucket=bucket, **params, **token)
        found = [row["Key"] for row in page.get("Contents", [])] + \
                [row["Prefix"] for row in page.get("CommonPrefixes", [])]
        same(page["KeyCount"], len(found))
        rows += sorted(found)
        sizes.append(len(found))
        if not page["IsTruncated"]:
            return rows, sizes
        token = {"ContinuationToken": page["NextContinuationToken"]}


@case
def what_strangers_read_is_audited_and_what_others_do_is_not():
    def lines(name):
        return [line[line.index("AUDIT | "):] for line in server.log().splitlines()
                if "AUDIT | " in line and name in line]
    s3.put_object(Bucket="whole", Key="audit|ed", Body=b"x")
    same(server.request("GET", "/whole/audit%7Ced", sign=False,
                        headers={"User-Agent": "curious"}).status, 200)
    same(server.request("HEAD", "/whole/audit%7Ced", sign=False).status, 200)
    same(server.request("GET", "/whole/audit-absent", sign=False).status, 404)
    same(s3.get_object(Bucket="whole", Key="audit|ed")["Body"].read(), b"x")
    deadline = time.monotonic() + 30
    while len(lines("path=audit")) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    s3.delete_object(Bucket="whole", Key="audit|ed")
    same(len(lines("path=audit")), 2)
    same(lines("curious"), ["AUDIT | action=public_read | user=$anonymous | target=GetObject | "
                            "ip=127.0.0.1 | ua=curious | bucket=whole | path=audit\\|ed"])


@case
def everyone_reads_below_a_public_prefix_and_nowhere_else():
    for key in KEYS:
        path = "/some/" + key
        for method in ("GET", "HEAD"):
            same(server.request(method, path, sign=False).status, 200 if key in PUBLIC else 403, key)
        same(server.request("GET", "/whole/" + key, sign=False).body, key.encode() * 100)
    same(anyone.get_object(Bucket="some", Key="x/1.zip", Range="bytes=0-3")["Body"].read(), b"x/1.")
    same(error_of(anyone.get_object, Bucket="some", Key="x/absent"), (404, "NoSuchKey"))
    same(error_of(anyone.get_object, Bucket="some", Key="absent"), (403, "AccessDenied"))
    same(error_of(anyone.get_object, Bucket="other", Key="x/1.zip"), (403, "AccessDenied"))


@case
def curl_downloads_without_credentials():
    requires("curl")
    url = server.url + "/some/x/1.zip"
    same(run("curl", "-sf", url), "x/1.zip" * 100)
    same(run("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}",
             server.url + "/some/x-private/secret"), "403")
    same(run("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-T", __file__, url), "403")
    # Two dots are part of a name and lead nowhere.
    answer = run("curl", "-s", "--path-as-is", server.url + "/some/x/../x-private/secret")
    assert "<Error>" in answer, answer


@case
def a_listing_shows_what_is_public_and_no_sibling():
    same(listed(anyone, "some")[0], PUBLIC)
    same(listed(anyone, "whole")[0], KEYS)
    for prefix in ("x", "x/", "x/2", "x/2/", "a", "a/b/s", "z/last"):
        same(listed(anyone, "some", Prefix=prefix)[0],
             [key for key in PUBLIC if key.startswith(prefix)], prefix)
    for prefix in ("x-", "x-private/", "y/", "a/p", "q"):
        same(error_of(anyone.list_objects_v2, Bucket="some", Prefix=prefix),
             (403, "AccessDenied"), prefix)
    same(listed(anyone, "some", Delimiter="/")[0], ["a/", "x/", "z/"])
    same(listed(anyone, "some", Delimiter="/", Prefix="x/")[0],
         ["x/1.zip", "x/2/", "x/3.zip"])
    same(listed(anyone, "some", Delimiter="/", Prefix="a/")[0], ["a/b/"])
    same(listed(anyone, "some", Delimiter=".")[0],
         ["a/b/1.", "a/b/2.", "a/b/sub/3.", "x/1.", "x/2/deep.", "x/2/more.", "x/3.", "z/last"])


@case
def pages_of_a_filtered_listing_are_full():
    for size in (1, 2, 3, 7, 8, 9):
        rows, sizes = listed(anyone, "some", MaxKeys=size)
        same(rows, PUBLIC, size)
        same(set(sizes[:-1]) | {size}, {size}, sizes)
        same(sizes[-1] > 0, True, sizes)
    same(listed(anyone, "some", Delimiter="/", MaxKeys=1), (["a/", "x/", "z/"], [1, 1, 1]))
    for after in ("a/b/1.zip", "a/b/sub/", "b", "x-private/secret", "x/", "x/3.zip", "y/", "z/last"):
        same(listed(anyone, "some", StartAfter=after)[0], [k for k in PUBLIC if k > after], after)
    marked = anyone.list_objects(Bucket="some", Marker="x/2/deep.zip", MaxKeys=2)
    same([row["Key"] for row in marked["Contents"]], ["x/2/more.zip", "x/3.zip"])
    same((marked["IsTruncated"]), True)
    same(anyone.list_objects_v2(Bucket="some", MaxKeys=0)["KeyCount"], 0)


@case
def a_stranger_never_writes():
    for bucket, key in (("some", "x/1.zip"), ("whole", "x/1.zip"), ("logs", "open/1")):
        before = s3.head_object(Bucket=bucket, Key=key)["LastModified"]
        where = dict(Bucket=bucket, Key=key)
        for call, params in (
                (anyone.put_object, dict(Body=b"new", **where)),
                (anyone.delete_object, where),
                (anyone.copy_object, dict(CopySource="some/x/3.zip", **where)),
                (anyone.create_multipart_upload, where),
                (anyone.delete_objects, dict(Bucket=bucket, Delete={"Objects": [{"Key": key}]})),
                (anyone.list_multipart_uploads, dict(Bucket=bucket)),
                (anyone.get_object_tagging, where), (anyone.get_object_acl, where),
                (anyone.get_bucket_location, dict(Bucket=bucket)),
                (anyone.delete_bucket, dict(Bucket=bucket))):
            same(error_of(call, **params), (403, "AccessDenied"), (bucket, call.__name__))
        same(s3.head_object(Bucket=bucket, Key=key)["LastModified"], before)
    same(error_of(anyone.list_buckets), (403, "AccessDenied"))


@case
def credentials_are_looked_at_wherever_they_are_shown():
    answer = server.request("GET", "/some/x/1.zip", sign=False, headers={
        "Authorization": "AWS4-HMAC-SHA256 Credential=nobody/20200101/us-east-1/s3/aws4_request, "
                         "SignedHeaders=host, Signature=" + "0" * 64})
    assert answer.status in (400, 403), answer
    same(server.request("GET", "/some/x/1.zip?X-Amz-Signature=0", sign=False).status, 400)
    same(listed(s3, "some")[0], KEYS)


@case
def a_stranger_does_not_choose_how_a_download_is_shown():
    answer = server.request("GET", "/some/x/1.zip?response-content-type=text/html", sign=False)
    same((answer.status, answer.code), (400, "InvalidRequest"))


@case
def the_log_names_the_stranger():
    server.request("GET", "/some/x/3.zip?logged", sign=False)
    assert any("/some/x/3.zip" in line and "$anonymous" in line
               for line in server.log().splitlines()), server.log()[-2000:]


@case
def a_denied_request_is_told_by_which_block():
    for sign in (False, True):
        answer = server.request("GET", "/logs/secret/1", sign=sign)
        same((answer.status, answer.code), (403, "AccessDenied"))
        assert b"block &#39;never&#39;." in answer.body, answer
    same(error_of(s3.put_object, Bucket="logs", Key="ro/1", Body=b"x"), (403, "AccessDenied"))
    same(error_of(s3.get_object, Bucket="logs", Key="ro/1"), (404, "NoSuchKey"))
    assert "admission.deny" in server.log()


@case
def a_rejected_request_gets_the_status_and_text_of_its_block():
    answer = server.request("GET", "/logs/tea", sign=False)
    same((answer.status, answer.body), (418, b"No coffee here."))
    same(answer.headers["Content-Type"], "text/plain; charset=utf-8")
    answer = server.request("PUT", "/logs/tea", body=b"x" * 100000)
    same((answer.status, answer.body), (418, b"No coffee here."))
    same(server.request("HEAD", "/logs/tea", sign=False).status, 418)


@case
def a_block_lets_strangers_read_a_key_and_nothing_else():
    same(server.request("GET", "/logs/open/1", sign=False).body, b"log")
    same(server.request("HEAD", "/logs/open/1", sign=False).status, 200)
    same(server.request("GET", "/logs/secre", sign=False).status, 403)
    same(server.request("GET", "/logs?list-type=2&prefix=open/", sign=False).status, 403)


@case
def endpoints_are_not_asked_for():
    same(server.request("GET", "/_/health", sign=False).status, 200)


@case
def an_open_server_shows_everything_but_what_a_block_denies():
    config = json.loads(json.dumps(server.config))
    config["access"] = {"authentication": "none"}
    free = Server(config=config, data=server.data, env={
        "DGP_DATA_DIR": server.data, "DGP_ACCESS_KEY_ID": None, "DGP_SECRET_ACCESS_KEY": None},
        autostart=False)
    server.stop()
    try:
        free.start()
        same(free.request("GET", "/some/y/hidden", sign=False).status, 200)
        same(free.request("GET", "/some", sign=False).body.count(b"<Contents>"), len(KEYS))
        same(free.request("GET", "/logs/secret/1", sign=False).status, 403)
    finally:
        free.drop()
        server.start()


main()
