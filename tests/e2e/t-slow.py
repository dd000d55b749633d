#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Copies and completes that outlast the client's patience."""
from lib import *

# Every store takes longer than the client's read timeout; what is said meanwhile
# must keep it waiting.
SLOW = "engine.put.passthrough:delay_4500"
server = Server(env={"DGP_ANSWER_KEEPALIVE_SECS": "1"})
data = body(300000)
parts = []


def impatient():
    return server.client(read_timeout=3)


@case
def the_bucket_is_filled():
    s3 = server.client()
    s3.create_bucket(Bucket="slow")
    s3.put_object(Bucket="slow", Key="source", Body=data, Metadata={"m": "1"})
    for key in ("whole", "broken"):
        upload = s3.create_multipart_upload(Bucket="slow", Key=key)["UploadId"]
        tag = s3.upload_part(Bucket="slow", Key=key, UploadId=upload, PartNumber=1,
                             Body=data)["ETag"]
        parts.append(dict(Bucket="slow", Key=key, UploadId=upload, MultipartUpload={
            "Parts": [{"PartNumber": 1, "ETag": tag}]}))
    same(server.restart({"DGP_FAULT": SLOW}).process.poll(), None)


@case
def a_plain_slow_answer_would_be_too_late():
    from botocore.exceptions import ReadTimeoutError
    try:
        impatient().put_object(Bucket="slow", Key="put", Body=b"x")
        raise RuntimeError("the client waited")
    except ReadTimeoutError:
        pass


@case
def a_long_copy_arrives_at_an_impatient_client():
    answer = impatient().copy_object(Bucket="slow", Key="copy", CopySource="slow/source")
    same(answer["CopyObjectResult"]["ETag"], etag_of(data))
    answer = server.client().get_object(Bucket="slow", Key="copy")
    same((answer["Body"].read(), answer["Metadata"]), (data, {"m": "1"}))


@case
def a_long_complete_arrives_at_an_impatient_client():
    answer = impatient().complete_multipart_upload(**parts[0])
    assert answer["ETag"].endswith('-1"'), answer
    same(answer["Key"], "whole")
    same(server.client().get_object(Bucket="slow", Key="whole")["Body"].read(), data)


@case
def a_long_copy_by_aws_cli_succeeds():
    requires("aws")
    out = run("aws", "--endpoint-url", server.url, "--cli-read-timeout", "3", "s3api",
              "copy-object", "--bucket", "slow", "--key", "cli", "--copy-source", "slow/source",
              env=dict(os.environ, AWS_MAX_ATTEMPTS="1"))
    assert etag_of(data).strip('"') in out, out
    same(server.client().head_object(Bucket="slow", Key="cli")["ContentLength"], len(data))


def failed_requests(operation):
    text = server.request("GET", "/_/metrics", sign=False).body.decode()
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines()
               if line.startswith("deltaglider_http_requests_total{")
               and 'status="500"' in line and 'operation="%s"' % operation in line)


@case
def a_failure_after_the_blanks_is_one_for_client_log_and_metrics():
    from botocore.exceptions import ClientError
    server.restart({"DGP_FAULT": SLOW + ",engine.put.passthrough:EIO"})
    for call, arguments, operation in (
            ("copy_object", dict(Bucket="slow", Key="none", CopySource="slow/source"),
             "put_object"),
            ("complete_multipart_upload", parts[1], "post_object")):
        before = failed_requests(operation)
        try:
            answer = getattr(impatient(), call)(**arguments)
            raise RuntimeError("%s succeeded: %r" % (call, answer))
        except ClientError:
            pass
        deadline = time.monotonic() + 10
        while failed_requests(operation) == before and time.monotonic() < deadline:
            time.sleep(0.01)  # it is counted once the answer is out
        same(failed_requests(operation), before + 1, call)
    answer = server.request("PUT", "/slow/none", headers={"x-amz-copy-source": "/slow/source"})
    same((answer.status, answer.code), (200, "InternalError"))
    assert answer.body.startswith(b"<?xml") and answer.body.count(b"<?xml") == 1, answer
    from xml.etree import ElementTree
    same(ElementTree.fromstring(answer.body).tag, "Error")
    deadline = time.monotonic() + 10
    while not (lines := [line for line in server.log().splitlines()
                         if answer.headers["x-amz-request-id"] in line and "http.request" in line]):
        assert time.monotonic() < deadline, server.log()[-2000:]
        time.sleep(0.01)  # the line follows the answer
    line, = lines
    assert " status=500 " in line and "error=" in line and line.split()[1] == "error", line
    same(error_of(server.client().head_object, Bucket="slow", Key="none")[0], 404)


@case
def the_failed_upload_can_be_completed_later():
    server.restart({"DGP_FAULT": ""})
    server.client().complete_multipart_upload(**parts[1])
    same(server.client().get_object(Bucket="slow", Key="broken")["Body"].read(), data)


main()
