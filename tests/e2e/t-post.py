#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Browser form uploads with a policy."""
import base64
from target import *

server = target()
s3 = server.client()
s3.create_bucket(Bucket="form")


def form(fields, data, name="photo.jpg", boundary="----e2e", path="/form", **headers):
    """fields in order; the file comes last."""
    out = b""
    for field, value in fields:
        out += ('--%s\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
                % (boundary, field, value)).encode()
    if data is not None:
        out += ('--%s\r\nContent-Disposition: form-data; name="file"; filename="%s"\r\n'
                'Content-Type: image/jpeg\r\n\r\n' % (boundary, name)).encode() + data + b"\r\n"
    out += ("--%s--\r\n" % boundary).encode()
    return server.request("POST", path, body=out, sign=False, headers={
        "Content-Type": "multipart/form-data; boundary=" + boundary, **headers})


def signed(key="up/${filename}", conditions=(), extra=(), expires_s=60, secret=SECRET_KEY,
           access_key=ACCESS_KEY):
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    credential = "%s/%s/%s/s3/aws4_request" % (access_key, stamp[:8], REGION)
    policy = {"expiration": time.strftime("%Y-%m-%dT%H:%M:%SZ",
                                          time.gmtime(time.time() + expires_s)),
              "conditions": [{"bucket": "form"}, ["starts-with", "$key", ""],
                             {"x-amz-credential": credential}, {"x-amz-date": stamp},
                             {"x-amz-algorithm": "AWS4-HMAC-SHA256"}, *conditions]}
    text = base64.b64encode(json.dumps(policy).encode()).decode()
    import hmac
    signature = hmac.new(signing_key(stamp[:8], secret), text.encode(), hashlib.sha256).hexdigest()
    return [("key", key), *extra, ("policy", text), ("x-amz-credential", credential),
            ("x-amz-date", stamp), ("x-amz-algorithm", "AWS4-HMAC-SHA256"),
            ("x-amz-signature", signature)]


def stored(key):
    return s3.get_object(Bucket="form", Key=key)


@case
def a_signed_form_stores_its_file():
    for name, size in (("a.jpg", 0), ("b.jpg", 1), ("c.jpg", 100000), ("d.zip", 2000001)):
        data = body(size)
        answer = form(signed(), data, name=name)
        same((answer.status, answer.body), (204, b""), answer)
        same(answer.headers["ETag"], etag_of(data))
        assert stored("up/" + name)["Body"].read() == data


@case
def fields_become_metadata():
    conditions = [["starts-with", "$content-type", "image/"], {"x-amz-meta-tag": "holiday"},
                  {"acl": "private"}, ["eq", "$cache-control", "no-cache"]]
    answer = form(signed(conditions=conditions, extra=[
        ("content-type", "image/png"), ("x-amz-meta-tag", "holiday"), ("acl", "private"),
        ("cache-control", "no-cache")]), b"x")
    same(answer.status, 204, answer)
    got = stored("up/photo.jpg")
    same((got["ContentType"], got["Metadata"], got["CacheControl"]),
         ("image/png", {"tag": "holiday"}, "no-cache"))


@case
def a_field_that_is_no_header_name_is_refused():
    for field in ("x-amz-meta-a\rSet-Cookie: b", "x-amz-meta-a b", "x-amz-meta-a:b"):
        answer = form(signed(key="odd", conditions=[["starts-with", "$" + field, ""]],
                             extra=[(field, "1")]), b"x")
        same((answer.status, answer.code), (400, "InvalidArgument"), answer)
    answer = form(signed(key="odd", conditions=[["starts-with", "$x-amz-meta-a", ""]],
                         extra=[("x-amz-meta-a", "1\r\nSet-Cookie: b")]), b"x")
    same((answer.status, answer.code), (400, "InvalidArgument"), answer)
    same(server.request("HEAD", "/form/odd").status, 404)


@case
def the_status_can_be_chosen():
    for status in ("200", "201", "204", "999"):
        answer = form(signed(conditions=[{"success_action_status": status}],
                             extra=[("success_action_status", status)]), b"x")
        same(answer.status, int(status) if status != "999" else 204)
        if status == "201":
            assert b"<PostResponse>" in answer.body or b"<PostResponse " in answer.body, answer
            assert b"<Key>up/photo.jpg</Key>" in answer.body


@case
def conditions_must_hold():
    for why, fields, data in (
            ("expired", signed(expires_s=-60), b"x"),
            ("value", signed(conditions=[{"x-amz-meta-a": "1"}], extra=[("x-amz-meta-a", "2")]),
             b"x"),
            ("uncovered", signed(extra=[("x-amz-meta-b", "1")]), b"x"),
            ("prefix", signed(conditions=[["starts-with", "$content-type", "image/"]],
                              extra=[("content-type", "text/html")]), b"x")):
        answer = form(fields, data, name="refused")
        same((answer.status, answer.code), (403, "AccessDenied"), why)
    limits = [["content-length-range", 10, 20]]
    same(form(signed(conditions=limits), b"x" * 10).status, 204)
    same(form(signed(conditions=limits), b"x" * 20).status, 204)
    answer = form(signed(conditions=limits), b"x" * 21, name="refused")
    same((answer.status, answer.code), (400, "EntityTooLarge"))
    answer = form(signed(conditions=limits), b"x" * 9, name="refused")
    same((answer.status, answer.code), (400, "EntityTooSmall"))
    same(error_of(stored, "up/refused"), (404, "NoSuchKey"))


@case
def wrong_signatures_are_refused():
    for fields in (signed(secret="wrong"), signed(access_key="nobody"),
                   [("key", "k")], [("key", "k"), ("policy", "e30=")]):
        answer = form(fields, b"x", name="refused")
        same(answer.status, 403, answer)
    fields = [(name, base64.b64encode(b"{}").decode() if name == "policy" else value)
              for name, value in signed()]
    same(form(fields, b"x").status, 403)


@case
def malformed_forms_have_their_codes():
    answer = server.request("POST", "/form", body=b"x", sign=False,
                            headers={"Content-Type": "text/plain"})
    assert answer.status in (400, 403, 412), answer
    answer = form(signed(), None)
    same(answer.status, 400, answer)
    answer = server.request("POST", "/form", body=b"------e2e\r\nbroken", sign=False,
                            headers={"Content-Type": "multipart/form-data; boundary=----e2e"})
    same((answer.status, answer.code), (400, "MalformedPOSTRequest"))
    answer = form([pair for pair in signed() if pair[0] != "key"], b"x")
    assert answer.status in (400, 403), answer
    answer = form(signed(conditions=[["starts-with", "$success_action_redirect", ""]],
                         extra=[("success_action_redirect", "http://127.0.0.1/")]), b"x")
    same((answer.status, answer.code), (501, "NotImplemented"))


main()
