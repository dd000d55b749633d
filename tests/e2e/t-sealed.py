#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A sealed filesystem backend: clients see plaintext, the disk does not; what was
changed, stripped or sealed with another key is an error and never wrong bytes."""
from lib import *

BUCKET = "vault"
KEY = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
OTHER_KEY = "ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1eff"
NEEDLE = body(48, 77)  # what must not lie on the disk


def config(text, root):
    path = os.path.join(root, "config-%d.yaml" % random.randrange(1 << 30))
    with open(path, "w") as out:
        out.write(text)
    return path


def sealed(options="", key=KEY, data=None, start=True, **env):
    """A server whose one backend is sealed; options: more YAML of the encryption."""
    text = "storage:\n  backend_encryption:\n    mode: aes256-gcm-proxy\n" + "".join(
        "    %s\n" % line for line in options.splitlines())
    server = Server(env=dict(env, DGP_ENCRYPTION_KEY=key), data=data, autostart=False)
    server.env["DGP_CONFIG"] = config(text, server.root)
    if start:
        server.start()
        server.request("PUT", "/" + BUCKET)
    return server


def refuses_to_start(text, *words, **env):
    server = Server(env=env, autostart=False)
    server.env["DGP_CONFIG"] = config(text, server.root)
    server.spawn()
    assert server.process.wait(20) != 0
    for word in words:
        assert word in server.log(), (word, server.log())
    server.drop()


def bytes_below(folder):
    for place, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(place, name)
            with open(path, "rb") as file:
                yield path, file.read()


def hides(server):
    """No file below the data directory holds the needle, nor an attribute."""
    count = 0
    for path, data in bytes_below(server.data):
        count += 1
        assert NEEDLE not in data, path
        for name in os.listxattr(path):
            assert NEEDLE not in os.getxattr(path, name), (path, name)
    assert count > 0
    return count


def marks(path):
    return json.loads(os.getxattr(path, "user.dg.metadata"))


def with_needle(size, seed):
    data = bytearray(body(size, seed))
    for at in range(0, size - len(NEEDLE), 9973):
        data[at:at + len(NEEDLE)] = NEEDLE
    return bytes(data)


def put(server, key, data):
    answer = server.request("PUT", "/%s/%s" % (BUCKET, key), body=data)
    same(answer.status, 200, key)


def get(server, key, first=None, last=None):
    """(status, bytes); a cut answer has status 0."""
    headers = {"Range": "bytes=%d-%d" % (first, last)} if first is not None else None
    try:
        answer = server.request("GET", "/%s/%s" % (BUCKET, key), headers=headers)
        return answer.status, answer.body
    except http.client.IncompleteRead as cut:
        return 0, cut.partial
    except (ConnectionError, http.client.HTTPException):
        return 0, b""


def logs(server, words):
    """A line is written after the answer is sent: it may take a moment."""
    end = time.monotonic() + 10
    while words not in server.log():
        assert time.monotonic() < end, (words, server.log()[-2000:])
        time.sleep(0.01)


def cold(server, **env):
    same(server.stop(), 0)
    shutil.rmtree(os.path.join(server.root, "cache"), ignore_errors=True)
    server.start(env)


def flip(path, at, bit=0):
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1 << bit]))


@case
def objects_come_back_and_the_disk_does_not_show_them():
    server = sealed()
    s3 = server.client()
    plain, small = with_needle(1300000, 1), with_needle(900, 2)
    one = with_needle(700001, 3)
    two = one[:300000] + body(500, 4) + one[300000:]
    for key, data in (("a/plain.bin", plain), ("a/small.txt", small), ("a/empty", b""),
                      ("d/one.zip", one), ("d/two.zip", two)):
        s3.put_object(Bucket=BUCKET, Key=key, Body=data, Metadata={"colour": "blue"})
    for key, data in (("a/plain.bin", plain), ("a/small.txt", small), ("a/empty", b""),
                      ("d/one.zip", one), ("d/two.zip", two)):
        answer = s3.get_object(Bucket=BUCKET, Key=key)
        assert answer["Body"].read() == data, key
        same(answer["ETag"], etag_of(data), key)
        same(answer["Metadata"], {"colour": "blue"}, key)
        same(s3.head_object(Bucket=BUCKET, Key=key)["ContentLength"], len(data), key)
    for name in ("a/plain.bin", "d/two.zip.delta", "d/reference.bin"):
        with open(server.path(BUCKET, name), "rb") as file:
            same(file.read(4), b"DGE1", name)
        same(marks(server.path(BUCKET, name))["user_metadata"]["dg-encrypted"],
             "aes-256-gcm-chunked-v1", name)
    assert hides(server) >= 6
    assert os.path.getsize(server.path(BUCKET, "d/two.zip.delta")) < 20000
    server.drop()


@case
def ranges_are_exact_everywhere():
    server = sealed()
    plain, one = body(300000, 1), body(700001, 3)
    two = one[:300000] + body(500, 4) + one[300000:]
    put(server, "p.bin", plain), put(server, "one.zip", one), put(server, "two.zip", two)
    for key, data in (("p.bin", plain), ("one.zip", one), ("two.zip", two)):
        edges = [0, 1, 65535, 65536, 65537, 131071, 131072, 262144, len(data) - 2, len(data) - 1]
        for first in edges:
            for last in edges:
                if first <= last:
                    status, got = get(server, key, first, last)
                    assert (status, got) == (206, data[first:last + 1]), (key, first, last, status)
        same(get(server, key, len(data), len(data) + 5)[0], 416, key)
        status, got = get(server, key, len(data) - 10, len(data) + 100)
        assert (status, got) == (206, data[-10:]), key
    server.drop()


@case
def listings_copies_and_uploads_speak_of_plaintext():
    server = sealed()
    s3 = server.client()
    data, part = with_needle(400000, 1), with_needle(5 << 20, 2)
    s3.put_object(Bucket=BUCKET, Key="a.bin", Body=data)
    s3.copy_object(Bucket=BUCKET, Key="b.bin", CopySource={"Bucket": BUCKET, "Key": "a.bin"})
    s3.copy_object(Bucket=BUCKET, Key="a.bin", CopySource={"Bucket": BUCKET, "Key": "a.bin"},
                   MetadataDirective="REPLACE", Metadata={"shape": "round"})
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key="m.bin")["UploadId"]
    parts = []
    for number, piece in ((1, part), (2, data)):
        etag = s3.upload_part(Bucket=BUCKET, Key="m.bin", UploadId=upload, PartNumber=number,
                              Body=piece)["ETag"]
        parts.append({"PartNumber": number, "ETag": etag})
    s3.complete_multipart_upload(Bucket=BUCKET, Key="m.bin", UploadId=upload,
                                 MultipartUpload={"Parts": parts})
    want = {"a.bin": data, "b.bin": data, "m.bin": part + data}
    for row in s3.list_objects_v2(Bucket=BUCKET)["Contents"]:
        head = s3.head_object(Bucket=BUCKET, Key=row["Key"])
        same(row["Size"], len(want[row["Key"]]), row["Key"])
        same((head["ContentLength"], head["ETag"]), (row["Size"], row["ETag"]), row["Key"])
        assert s3.get_object(Bucket=BUCKET, Key=row["Key"])["Body"].read() == want[row["Key"]]
    same(s3.head_object(Bucket=BUCKET, Key="a.bin")["Metadata"], {"shape": "round"})
    a, b = (marks(server.path(BUCKET, key)) for key in ("a.bin", "b.bin"))
    same(a["user_metadata"]["dg-encrypted"], "aes-256-gcm-chunked-v1")
    assert a != b
    hides(server)
    server.drop()


@case
def marks_are_no_matter_of_clients():
    server = sealed()
    s3 = server.client()
    forged = {"dg-encrypted": "none", "dg-encryption-key-id": "mine", "dg-other": "x", "mine": "y"}
    s3.put_object(Bucket=BUCKET, Key="a.bin", Body=b"bytes", Metadata=forged)
    answer = s3.get_object(Bucket=BUCKET, Key="a.bin")
    same(answer["Body"].read(), b"bytes")
    same(answer["Metadata"], {"mine": "y"})
    assert not [name for name in answer["ResponseMetadata"]["HTTPHeaders"]
                if "encrypt" in name or "crypt-iv" in name]
    same(marks(server.path(BUCKET, "a.bin"))["user_metadata"]["dg-encrypted"],
         "aes-256-gcm-chunked-v1")
    server.drop()


@case
def a_flipped_bit_is_an_error_and_never_wrong_bytes():
    server = sealed(DGP_CACHE_MB="0", DGP_METADATA_CACHE_MB="0")
    plain, one = body(200000, 1), body(300000, 3)
    two = one[:100000] + body(700, 4) + one[100000:]
    put(server, "p.bin", plain), put(server, "d/one.zip", one), put(server, "d/two.zip", two)
    rng = random.Random(8)
    for key, name, data in (("p.bin", "p.bin", plain), ("d/two.zip", "d/two.zip.delta", two),
                            ("d/two.zip", "d/reference.bin", two)):
        path = server.path(BUCKET, name)
        size = os.path.getsize(path)
        errors = 0
        for at in [0, 3, 4, 15, 16, 19, 20, size - 1] + [rng.randrange(size) for _ in range(12)]:
            cold(server)
            flip(path, at)
            status, got = get(server, key)
            if status == 200:
                assert got == data, (name, at)
            else:
                assert status in (0, 500) and (status == 500 or data.startswith(got)), (name, at)
                errors += 1
            for first in (0, len(data) // 2):
                status, got = get(server, key, first, first + 999)
                assert status in (0, 500) or got == data[first:first + 1000], (name, at, status)
            flip(path, at)
        # A header that only whole reads use may be the only thing damaged.
        assert errors >= 15, (name, errors)
        cold(server)
        same(get(server, key), (200, data), name)
    server.drop()


@case
def a_rotated_key_reads_old_and_new_objects():
    server = sealed()
    one, two = body(300000, 1), body(200000, 2)
    put(server, "one.bin", one), put(server, "one.zip", one)
    cold(server, DGP_ENCRYPTION_KEY=OTHER_KEY)
    same(get(server, "one.bin")[0], 500)
    same(get(server, "one.bin", 5, 10)[0], 500)
    same(server.request("HEAD", "/%s/one.bin" % BUCKET).status, 200)
    logs(server, "object was encrypted with key id 'ba11f1de37ceed36', but this backend is "
         "configured with key id '")
    same(server.stop(), 0)
    key_file = os.path.join(server.root, "old.key")
    with open(key_file, "w") as out:
        out.write(KEY + "\n")
    server.env["DGP_CONFIG"] = config(
        "storage:\n  backend_encryption:\n    mode: aes256-gcm-proxy\n"
        "    legacy_key_file: %s\n" % key_file, server.root)
    server.env["DGP_ENCRYPTION_KEY"] = OTHER_KEY
    server.start()
    put(server, "two.bin", two)
    same(get(server, "one.bin"), (200, one))
    same(get(server, "one.zip"), (200, one))
    same(get(server, "two.bin"), (200, two))
    # Off: what is written next is plain, what was sealed is read still.
    same(server.stop(), 0)
    server.env["DGP_CONFIG"] = config(
        "storage:\n  backend_encryption: {mode: none, legacy_key: '%s'}\n" % KEY, server.root)
    server.env["DGP_ENCRYPTION_KEY"] = None
    server.start()
    put(server, "three.bin", two)
    same(get(server, "one.bin"), (200, one))
    same(get(server, "two.bin")[0], 500)
    with open(server.path(BUCKET, "three.bin"), "rb") as file:
        assert file.read() == two
    server.drop()


@case
def without_any_key_sealed_objects_are_refused():
    server = sealed()
    put(server, "a.bin", body(100000, 1))
    same(server.stop(), 0)
    server.env.update(DGP_CONFIG=None, DGP_ENCRYPTION_KEY=None)
    server.start()
    same(get(server, "a.bin")[0], 500)
    logs(server, "has NO encryption key configured")
    same(server.request("HEAD", "/%s/a.bin" % BUCKET).headers["Content-Length"], "100000")
    put(server, "b.bin", b"plain")
    same(get(server, "b.bin"), (200, b"plain"))
    server.drop()


@case
def a_restore_without_attributes_is_never_served():
    server = sealed()
    plain, one = body(200000, 1), body(300000, 3)
    two = one[:100000] + body(700, 4) + one[100000:]
    put(server, "p.bin", plain), put(server, "d/one.zip", one), put(server, "d/two.zip", two)
    for key, name in (("p.bin", "p.bin"), ("d/two.zip", "d/reference.bin"),
                      ("d/one.zip", "d/one.zip.delta")):
        os.removexattr(server.path(BUCKET, name), "user.dg.metadata")
        cold(server)
        same(get(server, key)[0], 500, name)
        same(get(server, key, 100, 110)[0], 500, name)
        if not name.endswith(".delta"):  # it has the size of its file now
            same(get(server, key, 150000, 150010)[0], 500, name)
    logs(server, "object body begins with chunked-encryption magic but metadata has no "
         "dg-encrypted marker")
    cold(server, DGP_ENCRYPTION_KEY=None, DGP_CONFIG=None)
    same(get(server, "p.bin")[0], 500)
    same(get(server, "p.bin", 150000, 150010)[0], 500)
    server.drop()


def plant(server, name, content, note, plain, algorithm, **fields):
    """One file as DeltaGlider Proxy lays it down."""
    path = server.path(BUCKET, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as out:
        out.write(content)
    facts = {"tool": "deltaglider_proxy/1.19.0", "original_name": os.path.basename(name),
             "file_sha256": sha256(plain), "file_size": len(plain),
             "md5": hashlib.md5(plain).hexdigest(), "created_at": "2026-01-02T03:04:05Z",
             "user_metadata": {"dg-encrypted": algorithm,
                               "dg-encryption-key-id": "ba11f1de37ceed36"}, "note": note}
    facts.update(fields)
    os.setxattr(path, "user.dg.metadata", json.dumps(facts).encode())


@case
def a_store_sealed_by_deltaglider_proxy_is_served():
    server = sealed()
    v1 = bytes.fromhex("0102030405060708090a0b0c6d8f36b98352ea56e00e3a29eba41faf3a910a35cb")
    dge1 = bytes.fromhex("444745310102030405060708090a0b0c150000006d8f36b983fd13d474b9318dc7a3bc5b"
                         "85719bf0f5")
    plant(server, "v1.bin", v1, "passthrough", b"hello", "aes-256-gcm-v1")
    plant(server, "dge1.bin", dge1, "passthrough", b"hello", "aes-256-gcm-chunked-v1")
    plant(server, "wrong.bin", v1[:-1] + b"\0", "passthrough", b"hello", "aes-256-gcm-v1")
    for key in ("v1.bin", "dge1.bin"):
        same(get(server, key), (200, b"hello"), key)
        same(get(server, key, 1, 3), (206, b"ell"), key)
        same(server.request("HEAD", "/%s/%s" % (BUCKET, key)).headers["Content-Length"], "5", key)
    same(get(server, "wrong.bin")[0], 500)
    logs(server, "decryption failed (wrong key or tampered data)")
    server.drop()


@case
def deltas_may_be_written_for_deltaglider_proxy():
    server = sealed("seal_deltas: compatible", DGP_CACHE_MB="0")
    one = with_needle(2500001, 3)
    two = one[:1300000] + body(1500000, 4) + one[1300000:]
    put(server, "d/one.zip", one), put(server, "d/two.zip", two), put(server, "p.bin", one)
    for name, algorithm in (("d/reference.bin", "aes-256-gcm-v1"),
                            ("d/two.zip.delta", "aes-256-gcm-v1"),
                            ("p.bin", "aes-256-gcm-chunked-v1")):
        facts = marks(server.path(BUCKET, name))
        same(facts["user_metadata"]["dg-encrypted"], algorithm, name)
        if algorithm == "aes-256-gcm-v1":
            plain_size = facts.get("delta_size", facts["file_size"])
            same(os.path.getsize(server.path(BUCKET, name)), plain_size + 28, name)
    cold(server)
    same(get(server, "d/two.zip"), (200, two))
    same(get(server, "d/two.zip", 1200000, 1400000), (206, two[1200000:1400001]))
    same(get(server, "d/one.zip"), (200, one))
    hides(server)
    server.drop()


@case
def plain_objects_from_before_stay_readable():
    server = Server()
    server.request("PUT", "/" + BUCKET)
    one = body(300000, 1)
    put(server, "a.bin", one), put(server, "a.zip", one)
    same(server.stop(), 0)
    later = sealed(data=server.data, start=False)
    later.start()
    same(get(later, "a.bin"), (200, one))
    same(get(later, "a.bin", 299000, 299999), (206, one[299000:]))
    same(get(later, "a.zip"), (200, one))
    put(later, "b.zip", one + b"x")
    same(get(later, "b.zip"), (200, one + b"x"))
    later.drop()
    server.drop()


@case
def without_a_key_writes_are_refused_unless_allowed():
    server = sealed(key=None)
    assert "backend 'default' has encryption mode aes256-gcm-proxy but no key is configured" \
        in server.log()
    same(server.request("PUT", "/%s/a.bin" % BUCKET, body=b"bytes").status, 500)
    same(get(server, "a.bin")[0], 404)
    server.drop()
    server = sealed("allow_plaintext_writes: true", key=None)
    put(server, "a.bin", b"bytes")
    same(get(server, "a.bin"), (200, b"bytes"))
    server.drop()


@case
def working_folders_do_not_lie_in_a_sealed_directory():
    server = sealed(start=False, DGP_CACHE_DIR=None, DGP_SPOOL_DIR=None, DGP_STATE_DIR=None)
    server.start()
    server.request("PUT", "/" + BUCKET)
    one = with_needle(300000, 3)
    put(server, "one.zip", one), put(server, "two.zip", one + b"x")
    same(get(server, "two.zip"), (200, one + b"x"))
    upload = server.client().create_multipart_upload(Bucket=BUCKET, Key="m.bin")["UploadId"]
    server.client().upload_part(Bucket=BUCKET, Key="m.bin", UploadId=upload, PartNumber=1, Body=one)
    hides(server)
    assert not [name for name in os.listdir(server.data) if name.startswith(".dg-cache")]
    assert os.path.isdir(os.path.join(server.root, ".dg-cache"))
    server.drop()


@case
def mistakes_stop_the_start():
    refuses_to_start("storage:\n  backend_encryption: {mode: sse-kms, kms_key_id: x}\n",
                     "yaml:2:30", "sse-kms", "aes256-gcm-proxy")
    refuses_to_start("storage:\n  backend_encryption: {mode: aes256-gcm-proxy, key: 0a0b}\n",
                     "yaml:2:53", "storage.backend_encryption.key")
    refuses_to_start("storage:\n  backend_encryption: {mode: rot13}\n", "crypt-rot13")
    refuses_to_start("storage:\n  backend_encryption: {mode: aes256-gcm-proxy, seal_detlas: x}\n",
                     "yaml:2:48", "did you mean 'seal_deltas'?")
    refuses_to_start("{}", "environment DGP_ENCRYPTION_KEY", DGP_ENCRYPTION_KEY="short")
    refuses_to_start("storage:\n  backends:\n"
                     "    - {name: x, type: filesystem, path: x, encryption: {mode: "
                     "aes256-gcm-proxy, key: '%s', key_id: k}}\n"
                     "    - {name: y, type: filesystem, path: y, encryption: {mode: "
                     "aes256-gcm-proxy, key: '%s', key_id: k}}\n" % (KEY, OTHER_KEY),
                     "backends x and y share key_id but declare DIFFERENT keys",
                     DGP_DATA_DIR=None)


@case
def each_backend_has_its_own_key():
    server = Server(autostart=False, env={"DGP_DATA_DIR": None,
                                          "DGP_BACKEND_COLD_STORE_ENCRYPTION_KEY": OTHER_KEY})
    server.env["DGP_CONFIG"] = config(
        "storage:\n  backends:\n"
        "    - {name: open, type: filesystem, path: open}\n"
        "    - name: cold-store\n      type: filesystem\n      path: cold\n"
        "      encryption: {mode: aes256-gcm-proxy, key: '%s'}\n"
        "  buckets: {vault: {backend: cold-store}, shop: {backend: open}}\n" % KEY, server.root)
    server.start()
    data = with_needle(100000, 1)
    for bucket in ("vault", "shop"):
        server.make_bucket(bucket)
        same(server.request("PUT", "/%s/a.bin" % bucket, body=data).status, 200)
        same(server.request("GET", "/%s/a.bin" % bucket).body, data)
    s3 = server.client()
    s3.copy_object(Bucket="shop", Key="b.bin", CopySource={"Bucket": "vault", "Key": "a.bin"})
    assert NEEDLE in open(os.path.join(server.root, "open/shop/deltaspaces/b.bin"), "rb").read()
    assert "user_metadata" not in marks(os.path.join(server.root, "open/shop/deltaspaces/b.bin"))
    cold_file = os.path.join(server.root, "cold/vault/deltaspaces/a.bin")
    assert NEEDLE not in open(cold_file, "rb").read()
    # The environment's key, not the file's: the id tells.
    want = hashlib.sha256(b"cold-store\0" + bytes.fromhex(OTHER_KEY)).hexdigest()[:16]
    same(marks(cold_file)["user_metadata"]["dg-encryption-key-id"], want)
    server.drop()


main()
