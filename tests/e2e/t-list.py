#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Listings: every parameter of both versions, in byte order, page by page."""
from target import *

server = target()
s3 = server.client()
KEYS = sorted(["a", "a.zip", "a/1", "a/2.tar", "a/b/3", "a/b/4.zip", "a0", "a\u00e9", "a b", "b/",
               "b/x", "c#d", "c&d", "c+d", "c/d/e/f", "c<d", "x.zip", "x.zip/y", "x/y", "\U0001f600",
               "\ufb00", "z%20z"], key=lambda key: key.encode())


@case
def the_bucket_is_filled():
    s3.create_bucket(Bucket="listed")
    for key in KEYS:
        s3.put_object(Bucket="listed", Key=key, Body=key.encode() * 3)


def expected(prefix="", delimiter="", after="", keys=KEYS):
    """What S3 answers: objects and prefixes in one order."""
    rows, seen = [], set()
    for key in keys:
        if not key.startswith(prefix):
            continue
        if delimiter and delimiter in key[len(prefix):]:
            end = key.index(delimiter, len(prefix)) + len(delimiter)
            if key[:end] not in seen and key[:end].encode() > after.encode():
                seen.add(key[:end])
                rows.append((key[:end], True))
        elif key.encode() > after.encode():
            rows.append((key, False))
    return sorted(set(rows), key=lambda row: row[0].encode())


def rows_of(page):
    rows = [(row["Key"], False) for row in page.get("Contents", [])]
    rows += [(row["Prefix"], True) for row in page.get("CommonPrefixes", [])]
    return sorted(rows, key=lambda row: row[0].encode())


def pages_v2(**arguments):
    pages = []
    while True:
        page = s3.list_objects_v2(Bucket="listed", **arguments)
        pages.append(page)
        if not page["IsTruncated"]:
            return pages
        arguments["ContinuationToken"] = page["NextContinuationToken"]


@case
def version_2_pages_agree_whatever_their_size():
    for prefix in ("", "a", "a/", "a/b/", "x.zip", "c", "none"):
        for delimiter in ("", "/", ".", "b/", "d"):
            want = expected(prefix, delimiter)
            for size in (1, 2, 3, 7, 1000):
                got = []
                for page in pages_v2(Prefix=prefix, Delimiter=delimiter, MaxKeys=size):
                    rows = rows_of(page)
                    assert len(rows) <= size
                    same(page["KeyCount"], len(rows))
                    got += rows
                same(got, want, "prefix %r delimiter %r size %d" % (prefix, delimiter, size))


@case
def version_1_pages_agree_whatever_their_size():
    for prefix in ("", "a", "a/", "c"):
        for delimiter in ("", "/", "."):
            want = expected(prefix, delimiter)
            for size in (1, 2, 1000):
                got, marker = [], ""
                while True:
                    page = s3.list_objects(Bucket="listed", Prefix=prefix, Delimiter=delimiter,
                                           MaxKeys=size, Marker=marker)
                    got += rows_of(page)
                    if not page["IsTruncated"]:
                        break
                    marker = page.get("NextMarker") or page["Contents"][-1]["Key"]
                same(got, want, "prefix %r delimiter %r size %d" % (prefix, delimiter, size))


@case
def start_after_and_marker_are_obeyed():
    for after in ("", "a", "a/", "a/1", "a0", "b/", "nothing", "zzzz"):
        page = s3.list_objects_v2(Bucket="listed", StartAfter=after)
        same(rows_of(page), expected(after=after), after)
        if after:
            same(page["StartAfter"], after)
        page = s3.list_objects(Bucket="listed", Marker=after)
        same(rows_of(page), expected(after=after), after)


@case
def rows_tell_what_head_tells():
    for row in s3.list_objects_v2(Bucket="listed")["Contents"]:
        head = s3.head_object(Bucket="listed", Key=row["Key"])
        same((row["Size"], row["ETag"]), (head["ContentLength"], head["ETag"]), row["Key"])
        same(row["LastModified"].replace(microsecond=0), head["LastModified"])
        same(row["StorageClass"], "STANDARD")


@case
def max_keys_zero_is_an_empty_page():
    page = s3.list_objects_v2(Bucket="listed", MaxKeys=0)
    same((page.get("Contents", []), page["IsTruncated"], page["KeyCount"], page["MaxKeys"]),
         ([], False, 0, 0))


@case
def wrong_parameters_are_refused():
    for query in ({"list-type": "2", "max-keys": "-1"}, {"list-type": "2", "max-keys": "x"},
                  {"list-type": "2", "encoding-type": "base64"},
                  {"list-type": "2", "continuation-token": "made-up"}):
        answer = server.request("GET", "/listed", query=query)
        same((answer.status, answer.code), (400, "InvalidArgument"), query)
    answer = server.request("GET", "/listed", query={"list-type": "2", "max-keys": "5000"})
    assert b"<MaxKeys>1000</MaxKeys>" in answer.body


@case
def keys_are_encoded_when_asked_for():
    answer = server.request("GET", "/listed", query={"list-type": "2", "encoding-type": "url",
                                                     "prefix": "c", "delimiter": "+"})
    assert b"<EncodingType>url</EncodingType>" in answer.body
    assert b"<Prefix>c%2B</Prefix>" in answer.body, answer
    assert b"<Key>c%26d</Key>" in answer.body, answer
    assert b"<Delimiter>%2B</Delimiter>" in answer.body
    answer = server.request("GET", "/listed", query={"list-type": "2", "prefix": "c&"})
    assert b"<Key>c&amp;d</Key>" in answer.body


@case
def owners_are_told_on_demand():
    assert "Owner" not in s3.list_objects_v2(Bucket="listed", MaxKeys=1)["Contents"][0]
    row = s3.list_objects_v2(Bucket="listed", MaxKeys=1, FetchOwner=True)["Contents"][0]
    same(row["Owner"]["ID"], "deltaglider_proxy")
    assert "Owner" in s3.list_objects(Bucket="listed", MaxKeys=1)["Contents"][0]


@case
def tokens_are_opaque():
    token = s3.list_objects_v2(Bucket="listed", MaxKeys=1)["NextContinuationToken"]
    assert token not in KEYS
    page = s3.list_objects_v2(Bucket="listed", MaxKeys=2, ContinuationToken=token)
    same(page["ContinuationToken"], token)


@case
def control_characters_do_not_break_the_document():
    s3.create_bucket(Bucket="control")
    s3.put_object(Bucket="control", Key="a\x01b", Body=b"")
    s3.put_object(Bucket="control", Key="a\nb", Body=b"")
    page = s3.list_objects_v2(Bucket="control", EncodingType="url")
    same(sorted(urllib.parse.unquote(row["Key"]) for row in page["Contents"]), ["a\x01b", "a\nb"])
    # And without encoding it still parses.
    from xml.etree import ElementTree
    ElementTree.fromstring(server.request("GET", "/control", query={"list-type": "2"}).body)


@case
def deep_and_wide_prefixes_are_rolled_up():
    s3.create_bucket(Bucket="wide")
    for folder in range(30):
        for leaf in range(4):
            s3.put_object(Bucket="wide", Key="f%02d/%d.zip" % (folder, leaf), Body=b"x")
    page = s3.list_objects_v2(Bucket="wide", Delimiter="/")
    same(len(page["CommonPrefixes"]), 30)
    got, token = [], {}
    while True:
        page = s3.list_objects_v2(Bucket="wide", Delimiter="/", MaxKeys=7, **token)
        got += [row["Prefix"] for row in page.get("CommonPrefixes", [])]
        if not page["IsTruncated"]:
            break
        token = {"ContinuationToken": page["NextContinuationToken"]}
    same(got, ["f%02d/" % n for n in range(30)])


def listed_metadata(server, bucket, **query):
    """key -> [(name, value)] of a page with metadata=true; None: no UserMetadata."""
    from xml.etree import ElementTree
    query = dict({"list-type": "2", "metadata": "true"}, **query)
    root = ElementTree.fromstring(server.request("GET", "/" + bucket, query=query).body)
    space = {"s": "http://s3.amazonaws.com/doc/2006-03-01/"}
    rows = {}
    for row in root.findall("s:Contents", space):
        found = row.find("s:UserMetadata", space)
        rows[row.find("s:Key", space).text] = None if found is None else [
            (item.find("s:Key", space).text, item.find("s:Value", space).text)
            for item in found.findall("s:Items", space)]
    return rows


@case
def metadata_is_listed_when_asked_for():
    server.request("PUT", "/described")
    server.request("PUT", "/described/bare", body=b"x")
    for key in ("d/some.bin", "d/some.zip"):
        s3.put_object(Bucket="described", Key=key, Body=b"data", ContentType="text/x; a=\"b\"",
                      Metadata={"color": "<deep> & blue", "dg-tool": "forged",
                                "n" * 300: "long"})
    want = [("content-type", "text/x; a=\"b\""), ("x-amz-meta-user-color", "<deep> & blue"),
            ("x-amz-meta-user-" + "n" * 300, "long")]
    same(listed_metadata(server, "described"),
         {"bare": [], "d/some.bin": want, "d/some.zip": want})
    same(listed_metadata(server, "described", metadata="false"),
         {"bare": None, "d/some.bin": None, "d/some.zip": None})
    # Clients that do not know it read the page as any other.
    answer = s3.list_objects_v2(Bucket="described")
    same(len(answer["Contents"]), 3)
    # Version 1 has no such parameter.
    assert b"UserMetadata" not in server.request("GET", "/described",
                                                 query={"metadata": "true"}).body
    s3.delete_objects(Bucket="described", Delete={"Objects": [
        {"Key": key} for key in ("bare", "d/some.bin", "d/some.zip")]})
    s3.delete_bucket(Bucket="described")


@case
def listed_metadata_shows_the_systems_own_only_in_debug_mode():
    other = Server(env={"DGP_DEBUG_HEADERS": "true"})
    other.request("PUT", "/described")
    data = body(5000)
    other.request("PUT", "/described/d/some.zip", body=data, headers={"x-amz-meta-a": "1"})
    items = dict(listed_metadata(other, "described")["d/some.zip"])
    same((items["x-amz-meta-user-a"], items["x-amz-meta-dg-file-size"],
          items["x-amz-meta-dg-file-sha256"], items["x-amz-meta-dg-original-name"]),
         ("1", "5000", sha256(data), "some.zip"))
    headers = other.request("HEAD", "/described/d/some.zip").headers
    for name, value in items.items():
        if name.startswith("x-amz-meta-dg-"):
            same(headers[name], value, name)
    other.stop()


@case
def what_was_deleted_is_not_listed():
    s3.delete_object(Bucket="listed", Key="a/1")
    keys = [row["Key"] for row in s3.list_objects_v2(Bucket="listed")["Contents"]]
    same(keys, [key for key in KEYS if key != "a/1"])


@case
def buckets_are_listed_by_page_and_prefix():
    names = [row["Name"] for row in s3.list_buckets()["Buckets"]]
    same(names, ["control", "listed", "wide"])
    answer = server.request("GET", "/", query={"max-buckets": "2"})
    assert b"<ContinuationToken>listed</ContinuationToken>" in answer.body, answer
    answer = server.request("GET", "/", query={"continuation-token": "listed"})
    assert b"<Name>wide</Name>" in answer.body and b"<Name>listed<" not in answer.body
    answer = server.request("GET", "/", query={"prefix": "w"})
    assert b"<Name>wide</Name>" in answer.body and b"<Name>listed<" not in answer.body


main()
