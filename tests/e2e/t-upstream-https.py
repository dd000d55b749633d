#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""backend-s3 over https with authorities of its own, with buckets as host names, and
with encryption by the storage: a real S3 server on the other side."""
from standins import *

PKI = os.path.join(WORK, "pki")
MIB = 1 << 20
v1, v2 = versions(3 * MIB, 2)
big = body(70 * MIB, seed=4)  # past multipart_threshold


def pki(name):
    return os.path.join(PKI, name)


def openssl(*command):
    run("openssl", *command)


def make_certificate(name, hosts):
    """name.pem and name.key, signed by the authority in ca.pem."""
    with open(pki(name + ".ext"), "w") as file:
        file.write("subjectAltName=%s\n" % hosts)
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
            "/CN=" + name, "-keyout", pki(name + ".key"), "-out", pki(name + ".csr"))
    openssl("x509", "-req", "-in", pki(name + ".csr"), "-CA", pki("ca.pem"), "-CAkey",
            pki("ca.key"), "-CAcreateserial", "-days", "20", "-extfile", pki(name + ".ext"),
            "-out", pki(name + ".pem"))


os.makedirs(PKI)
openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
        "30", "-subj", "/CN=ca", "-keyout", pki("ca.key"), "-out", pki("ca.pem"))
make_certificate("good", "DNS:s3.localhost,DNS:*.s3.localhost")
tls_port, tls_lock = take_port()
upstream = Upstream(env={"UPSTREAM_DNS_NAME": "s3.localhost",
                         "UPSTREAM_TLS": "%d:%s:%s" % (tls_port, pki("good.pem"), pki("good.key"))})
HTTPS = {"endpoint": "https://s3.localhost:%d" % tls_port, "ca_bundle": pki("ca.pem")}
HOSTS = {"endpoint": "http://s3.localhost:%d" % upstream.port, "force_path_style": False}


def serve(**options):
    return Server(config={"storage": {"backends": [s3_backend(upstream, **options)]}})


def every_way(server, bucket):
    """Each kind of request that the backend makes."""
    s3 = server.client()
    s3.create_bucket(Bucket=bucket)
    assert bucket in [row["Name"] for row in s3.list_buckets()["Buckets"]]
    for key, data in (("small", b"x" * 1000), ("d/1.zip", v1), ("d/2.zip", v2), ("big", big),
                      ("\u00fc %25+/ ", b"odd")):
        s3.put_object(Bucket=bucket, Key=key, Body=data)
        assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == data, key
        same(s3.head_object(Bucket=bucket, Key=key)["ContentLength"], len(data))
    part = s3.get_object(Bucket=bucket, Key="big", Range="bytes=69000000-69000099")["Body"].read()
    same(part, big[69000000:69000100])
    s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "small"})
    same([row["Key"] for row in s3.list_objects_v2(Bucket=bucket)["Contents"]],
         ["big", "copy", "d/1.zip", "d/2.zip", "small", "\u00fc %25+/ "])
    upload = s3.create_multipart_upload(Bucket=bucket, Key="parts")["UploadId"]
    parts = [{"PartNumber": n, "ETag": s3.upload_part(Bucket=bucket, Key="parts", UploadId=upload,
                                                      PartNumber=n, Body=data)["ETag"]}
             for n, data in ((1, big[:5 * MIB]), (2, b"end"))]
    s3.complete_multipart_upload(Bucket=bucket, Key="parts", UploadId=upload,
                                 MultipartUpload={"Parts": parts})
    assert s3.get_object(Bucket=bucket, Key="parts")["Body"].read() == big[:5 * MIB] + b"end"
    keys = [{"Key": row["Key"]} for row in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    assert "Errors" not in s3.delete_objects(Bucket=bucket, Delete={"Objects": keys})
    s3.delete_bucket(Bucket=bucket)


@case
def https_with_an_authority_of_its_own():
    server = serve(**HTTPS)
    every_way(server, "over-https")
    server.stop()


@case
def buckets_as_host_names():
    server = serve(**HOSTS)
    every_way(server, "host-name")
    server.stop()


@case
def buckets_as_host_names_over_https():
    server = serve(**dict(HTTPS, force_path_style=False))
    every_way(server, "host-https")
    server.stop()


def start_that_fails(**options):
    server = Server(config={"storage": {"backends": [s3_backend(upstream, **options)]}},
                    autostart=False)
    server.spawn()
    code = server.process.wait(60)
    server.process = None
    assert code == 1, (code, server.log())
    return server.log()


@case
def an_unknown_authority_is_refused_by_name():
    log = start_that_fails(endpoint=HTTPS["endpoint"])
    assert "certificate" in log and "ca_bundle" in log, log


@case
def a_certificate_for_another_host_is_refused():
    log = start_that_fails(endpoint="https://other.localhost:%d" % tls_port,
                           ca_bundle=pki("ca.pem"))
    assert "other.localhost" in log.split("Max delta ratio")[1], log


@case
def what_the_storage_encrypts_comes_back():
    for number, mode in enumerate(({"mode": "sse-kms", "kms_key_id": "testkey-1"},
                                   {"mode": "sse-kms", "kms_key_id": "testkey-2",
                                    "bucket_key_enabled": False})):
        server = serve(**dict(HTTPS, encryption=mode))
        bucket = "kms-%d" % number
        every_way(server, bucket)
        s3 = server.client()
        s3.create_bucket(Bucket=bucket)
        for key, data in (("plain", b"secret"), ("d/1.zip", v1), ("d/2.zip", v2), ("big", big)):
            s3.put_object(Bucket=bucket, Key=key, Body=data)
        up = upstream.client()
        for row in up.list_objects_v2(Bucket=bucket)["Contents"]:
            head = up.head_object(Bucket=bucket, Key=row["Key"])
            same((head["ServerSideEncryption"], head["SSEKMSKeyId"]),
                 ("aws:kms", mode["kms_key_id"]), row["Key"])
        server.stop()


@case
def a_key_the_storage_does_not_have_is_told():
    server = serve(**dict(HTTPS, encryption={"mode": "sse-kms", "kms_key_id": "no-such-key"}))
    s3 = server.client()
    s3.create_bucket(Bucket="keyless")
    status, code = error_of(s3.put_object, Bucket="keyless", Key="k", Body=b"x")
    assert 400 <= status < 600 and code != "InternalError", (status, code)
    assert "Contents" not in s3.list_objects_v2(Bucket="keyless")
    server.stop()


main()
