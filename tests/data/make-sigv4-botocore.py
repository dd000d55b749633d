#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Writes sigv4-botocore.json: request heads signed by botocore, which is an
implementation of its own. Run by hand when cases are added; the result is kept
in the tree, so that the tests need no Python."""
import datetime
import json
import random
import sys
from unittest import mock
from urllib.parse import quote, urlsplit

import botocore.auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

random.seed(20130524)
CREDENTIALS = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
ODD = ["/", "//", " ", "+", "%", "%2F", "~", "-._", "é", "日本", "𝄞", "&=", "?", "#", "\\", "..", ":@",
       "!*'()", ";,", "$", "\"", "<>", "^`{|}", "a", "B", "0", "\t", "\x7f"]


def odd_text(most):
    return "".join(random.choice(ODD) for _ in range(random.randint(1, most)))


def head_of(method, url, headers):
    parts = urlsplit(url)
    path = parts.path or "/"
    # urlsplit drops an empty query; what was signed keeps it out as well
    line = method + " " + path + ("?" + parts.query if parts.query else "") + " HTTP/1.1\n"
    text = line
    seen_host = False
    for name, value in headers.items():
        seen_host |= name.lower() == "host"
        if isinstance(value, bytes):
            value = value.decode()
        text += f"{name}: {value}\n"
    if not seen_host:
        text += f"Host: {parts.netloc}\n"
    return text


def sign(method, url, headers, moment, presign=None, body=None):
    request = AWSRequest(method=method, url=url, headers=headers, data=body)
    request.context["client_config"] = None
    with mock.patch.object(botocore.auth, "get_current_datetime", lambda: moment):
        if presign:
            botocore.auth.S3SigV4QueryAuth(CREDENTIALS, "s3", "eu-west-7",
                                           expires=presign).add_auth(request)
        else:
            request.context["payload_signing_enabled"] = True
            botocore.auth.S3SigV4Auth(CREDENTIALS, "s3", "us-east-1").add_auth(request)
    now = int(moment.replace(tzinfo=datetime.timezone.utc).timestamp())
    return {"head": head_of(method, request.url, request.headers), "now": now}


def main():
    cases = []
    for number in range(240):
        moment = datetime.datetime(2024, 2, 28, 23, 59, 58) + datetime.timedelta(hours=number)
        method = random.choice(["GET", "PUT", "POST", "DELETE", "HEAD"])
        host = random.choice(["localhost:9000", "127.0.0.1", "b.s3.example.com", "[::1]:9000"])
        key = odd_text(8)
        path = "/bucket/" + quote(key, safe=random.choice(["/~", "/~", "~", "/~!*'()+:@$,;&="]))
        if number % 7 == 0:
            path = path.replace("%2F", "%2f").replace("%C3", "%c3")
        url = f"http://{host}{path}"
        pairs = []
        for _ in range(random.randint(0, 4)):
            name = random.choice(["prefix", "delimiter", "marker", "uploads", "max-keys", "Z", "a"])
            if name == "uploads":
                pairs.append(random.choice(["uploads", "uploads="]))
            else:
                pairs.append(quote(name, safe="~") + "=" + quote(odd_text(4), safe="~"))
        if pairs and number % 3:
            url += "?" + "&".join(pairs)
        headers = {}
        if random.random() < 0.5:
            headers["x-amz-meta-name"] = random.choice(["a  b   c", " lead", "trail ", "plain", ""])
        if random.random() < 0.3:
            headers["x-amz-copy-source"] = "/" + quote("src/" + odd_text(4))
        if random.random() < 0.3:
            headers["Range"] = "bytes=0-9"
        if random.random() < 0.3:
            headers["Content-Type"] = "text/plain; charset=utf-8"
        presign = random.choice([None, None, 1, 3600, 604800])
        cases.append(sign(method, url, headers, moment, presign))
    with open(sys.argv[1] if len(sys.argv) > 1 else "sigv4-botocore.json", "w") as out:
        json.dump(cases, out, indent=0, ensure_ascii=True)
        out.write("\n")


main()
