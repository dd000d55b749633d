#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A full disk, no descriptors, a read-only filesystem, metadata too large for
the filesystem: a clean S3 error, the old object intact, no partial one, and
recovery without a restart. Plus limits of our own and concurrent writers."""
import re
import threading
from lib import *

BUCKET = "faults"
v = versions(400001, 4)


def filled(env=None, **options):
    server = Server(env=env, **options)
    server.request("PUT", "/" + BUCKET)
    for key, data in (("d/a.zip", v[0]), ("d/b.zip", v[1]), ("d/p.bin", v[2])):
        same(server.request("PUT", "/%s/%s" % (BUCKET, key), body=data).status, 200)
    return server


def put(server, key, data):
    return server.request("PUT", "/%s/%s" % (BUCKET, key), body=data)


def get(server, key):
    answer = server.request("GET", "/%s/%s" % (BUCKET, key))
    return answer.body if answer.status == 200 else answer.status


def intact(server, what, changed=()):
    for key, data in (("d/a.zip", v[0]), ("d/b.zip", v[1]), ("d/p.bin", v[2])):
        if key not in changed:
            assert get(server, key) == data, "%s: %s has changed" % (what, key)


def staging_is_empty(server, what, data=None):
    """data: where the test sees the data directory, when not as the server does."""
    for path in (os.path.join(data or server.data, ".dg-staging"),
                 os.path.join(server.root, "spool")):
        left = [name for name in os.listdir(path)] if os.path.isdir(path) else []
        same([name for name in left if not name.endswith(".lock")], [], what + ": " + path)


STATUS = {"ENOSPC": ((507, "InsufficientStorage"),), "EDQUOT": ((507, "InsufficientStorage"),),
          "EROFS": ((503, "ServiceUnavailable"),), "EMFILE": ((503, "SlowDown"),),
          "EIO": ((500, "InternalError"),)}


@case
def every_errno_at_every_step_is_a_clean_error():
    """The operation fails at one step and passes when repeated at once: the same
    server, no restart."""
    # Steps whose failure is made good, or only logged, by design.
    steps = ("fs.put.open", "fs.put.write", "fs.put.xattr", "fs.put.fsync", "fs.put.rename",
             "fs.put.dirs")
    for name in STATUS:
        for step in steps:
            server = filled()
            server.stop()
            # Hit by hit: each key fails once, then passes.
            server.start({"DGP_FAULT": "%s:%s:1" % (step, name)})
            for key, data in (("d/p.bin", v[3]),):
                what = "%s at %s, %s" % (name, step, key)
                answer = put(server, key, data)
                assert (answer.status, answer.code) in STATUS[name], (what, answer)
                intact(server, what)
                staging_is_empty(server, what)
                same(put(server, key, data).status, 200, what + ", repeated")
                assert get(server, key) == data
            same(server.stop(), 0)


@case
def a_bucket_never_goes_under_a_put():
    server = filled()
    server.stop()
    server.start({"DGP_FAULT": "engine.put.delta:delay_1000:1"})
    server.request("PUT", "/anew")
    answers = []
    writer = threading.Thread(target=lambda: answers.append(
        server.request("PUT", "/anew/n/first.zip", body=v[0])))
    writer.start()
    deadline = time.monotonic() + 20
    while not os.path.exists(server.path("anew", "n/reference.bin")) \
            and time.monotonic() < deadline:
        time.sleep(0.005)  # a file appears: there is no event to wait for
    # It waits for the put, and then the bucket is not empty; or gives up waiting.
    removed = server.request("DELETE", "/anew")
    assert (removed.status, removed.code) in ((409, "BucketNotEmpty"), (503, "SlowDown")), removed
    writer.join()
    same(answers[0].status, 200)
    same(server.request("GET", "/anew/n/first.zip").body, v[0])
    same(server.request("DELETE", "/anew/n/first.zip").status, 204)
    same(server.request("DELETE", "/anew").status, 204)
    same(server.stop(), 0)


@case
def a_full_disk_during_a_delta_leaves_the_old_version():
    for step in ("fs.put.write", "fs.put.xattr", "fs.put.fsync", "fs.put.rename"):
        for hit in (1, 2):
            for key, data in (("d/b.zip", v[3]), ("d/new.zip", v[3]), ("e/first.zip", v[3])):
                what = "ENOSPC at %s:%d, %s" % (step, hit, key)
                server = filled()
                server.stop()
                server.start({"DGP_FAULT": "%s:ENOSPC:%d" % (step, hit)})
                answer = put(server, key, data)
                assert (answer.status, answer.code) in \
                    ((507, "InsufficientStorage"), (200, None)), (what, answer)
                intact(server, what, changed=[key])
                if answer.status == 200:
                    assert get(server, key) == data, what
                elif key == "d/b.zip":
                    assert get(server, key) == v[1], what
                else:
                    same(get(server, key), 404, what)
                staging_is_empty(server, what)
                # The fault may be this one's, when the first passed without it.
                if put(server, key, data).status != 200:
                    same(put(server, key, data).status, 200, what)
                assert get(server, key) == data, what
                intact(server, what, changed=[key])
                same(server.stop(), 0)


KEEPS_ATTRIBUTES = "import os, sys; os.setxattr(sys.argv[1], 'user.probe', b'x')"


def small_filesystem(folder):
    """Mounts six megabytes on the folder, with user attributes, as root may.
    tmpfs keeps such attributes since Linux 6.6."""
    probe = [sys.executable, "-c", KEEPS_ATTRIBUTES, folder]
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    if subprocess.call(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", folder], **silent) == 0:
        if subprocess.call(probe, **silent) == 0:
            return True
        run("umount", folder)
    image = folder + ".img"
    with open(image, "wb") as disk:
        disk.truncate(6000000)
    return subprocess.call(["mkfs.ext4", "-q", "-O", "^has_journal", image], **silent) == 0 \
        and subprocess.call(["mount", "-o", "loop", image, folder], **silent) == 0


def in_own_namespace(folder):
    """The same for an ordinary user: a command that runs another one with a
    tmpfs on the folder, which nobody else sees; or nothing."""
    prefix = ["unshare", "-rm", "sh", "-c",
              'mount -t tmpfs -o size=6m tmpfs "$0" && exec "$@"', folder]
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return prefix if subprocess.call(prefix + [sys.executable, "-c", KEEPS_ATTRIBUTES, folder],
                                     **silent) == 0 else None


@case
def a_full_disk_while_an_index_is_built_costs_no_object():
    for fault in ("codec.index.claim:ENOSPC", "codec.index.seal:ENOSPC"):
        server = filled()
        server.stop()
        shutil.rmtree(os.path.join(server.root, "cache"))
        server.start({"DGP_FAULT": fault, "DGP_DEBUG_HEADERS": "true"})
        answer = put(server, "d/full.zip", v[3])
        same((answer.status, answer.headers["x-amz-storage-type"]), (200, "delta"))
        assert get(server, "d/full.zip") == v[3]
        assert "codec.index_not_kept" in server.log(), fault
        intact(server, fault, changed=["d/full.zip"])
        same(server.stop(), 0)


@case
def a_really_full_filesystem():
    folder = tempfile.mkdtemp(prefix="small-", dir=WORK)
    mounted = os.geteuid() == 0 and small_filesystem(folder)
    prefix = None if mounted else in_own_namespace(folder)
    if not mounted and not prefix:
        raise Skip("neither mount nor user namespace gives a small filesystem with attributes")
    try:
        server = Server(data=folder, prefix=prefix)
        seen = "/proc/%d/root%s" % (server.process.pid, folder)
        assert os.path.isdir(os.path.join(seen, ".dg-staging")), os.listdir(seen)
        server.request("PUT", "/" + BUCKET)
        same(put(server, "kept.bin", body(1000000, 1)).status, 200)
        for key in ("big.bin", "big.zip", "kept.bin"):
            answer = put(server, key, body(8000000, 2))
            same((answer.status, answer.code), (507, "InsufficientStorage"), key)
        assert get(server, "kept.bin") == body(1000000, 1)
        same(get(server, "big.bin"), 404)
        staging_is_empty(server, "full disk", seen)
        same(put(server, "fits.bin", body(1000000, 3)).status, 200)
        same(server.request("DELETE", "/%s/kept.bin" % BUCKET).status, 204)
        same(put(server, "fits2.bin", body(3000000, 4)).status, 200)
        server.stop()
    finally:
        if mounted:
            run("umount", folder, check=False)


@case
def a_file_size_limit_is_a_full_disk_and_no_end_of_the_server():
    server = filled(prefix=["prlimit", "--fsize=4194304"])
    for key in ("big.bin", "d/big.zip"):
        answer = put(server, key, body(6000000, 2))
        same((answer.status, answer.code), (507, "InsufficientStorage"), key)
        same(get(server, key), 404)
    intact(server, "a file size limit")
    staging_is_empty(server, "a file size limit")
    same(put(server, "d/p.bin", v[3]).status, 200)
    same(server.stop(), 0)


@case
def few_descriptors_slow_clients_down_but_break_nothing():
    server = filled(prefix=["prlimit", "--nofile=64:64"])
    held = []
    try:
        for _ in range(100):
            connection = socket.create_connection(("127.0.0.1", server.port), timeout=5)
            connection.sendall(b"GET /")
            held.append(connection)
    except OSError:
        pass
    for connection in held:
        connection.close()
    deadline = time.monotonic() + 20
    while True:
        try:
            intact(server, "after the crowd left")
            same(put(server, "d/p.bin", v[3]).status, 200)
            break
        except OSError:
            if time.monotonic() > deadline:
                raise
    same(server.stop(), 0)


@case
def metadata_that_the_filesystem_cannot_hold_is_refused():
    server = filled()
    server.stop()
    server.start({"DGP_FAULT": "fs.put.xattr:E2BIG:1"})
    answer = put(server, "d/p.bin", v[3])
    same((answer.status, answer.code), (400, "MetadataTooLarge"))
    intact(server, "E2BIG")
    same(put(server, "d/p.bin", v[3]).status, 200)
    same(server.stop(), 0)


@case
def a_data_directory_without_attributes_is_refused_at_start():
    server = Server(autostart=False)
    server.spawn({"DGP_FAULT": "fs.start.xattr:ENOTSUP"})
    same(server.process.wait(20), 1)
    assert "extended attributes" in server.log(), server.log()
    server.process = None


@case
def one_data_directory_has_one_server():
    server = filled()
    other = Server(autostart=False, data=server.data)
    other.spawn()
    assert other.process.wait(20) not in (0, None)
    other.process = None
    assert server.data in other.log(), other.log()
    intact(server, "second server")
    server.stop()


@case
def one_address_has_one_server():
    server = filled()
    other = Server(autostart=False)
    other.port = server.port
    other.spawn()
    assert other.process.wait(20) not in (0, None)
    other.process = None
    assert str(server.port) in other.log(), other.log()
    server.stop()


@case
def a_size_limit_is_a_clean_error():
    server = Server(env={"DGP_MAX_OBJECT_SIZE": "1000000"})
    server.request("PUT", "/" + BUCKET)
    for key in ("limit.bin", "limit.zip"):
        same(put(server, key, body(1000000)).status, 200)
        answer = put(server, key, body(1000001))
        same((answer.status, answer.code), (400, "EntityTooLarge"))
        answer = server.request("PUT", "/%s/%s" % (BUCKET, key), headers={
            "Transfer-Encoding": "chunked", "x-amz-content-sha256": "UNSIGNED-PAYLOAD"},
            body=b"".join(b"10000\r\n" + bytes(65536) + b"\r\n" for _ in range(20)) + b"0\r\n\r\n")
        same((answer.status, answer.code), (400, "EntityTooLarge"))
        assert get(server, key) == body(1000000)
    server.stop()


@case
def many_writers_of_one_deltaspace_keep_each_other_whole():
    server = filled()
    problems = []

    def work(number):
        rng = random.Random(number)
        for _ in range(25):
            key = "d/k%d.zip" % rng.randrange(4)
            what = rng.randrange(4)
            if what == 0:
                status = server.request("DELETE", "/%s/%s" % (BUCKET, key)).status
                if status != 204:
                    problems.append((key, status))
            elif what == 1:
                got = get(server, key)
                if got != 404 and got not in v:
                    problems.append((key, got if isinstance(got, int) else "wrong bytes"))
            else:
                status = put(server, key, v[rng.randrange(4)]).status
                if status != 200:
                    problems.append((key, status))
    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    same(problems, [])
    for number in range(4):
        got = get(server, "d/k%d.zip" % number)
        assert got == 404 or got in v
    intact(server, "eight writers")
    for key in ["d/a.zip", "d/b.zip", "d/p.bin"] + ["d/k%d.zip" % n for n in range(4)]:
        server.request("DELETE", "/%s/%s" % (BUCKET, key))
    same(server.request("DELETE", "/" + BUCKET).status, 204)
    same([path for path in server.files() if path != ".dg-lock"], [])
    same(server.stop(), 0)


@case
def a_stop_finishes_what_is_in_flight():
    server = filled()
    data = body(30000000)
    result = []
    headers = {"Content-Length": str(len(data)), "x-amz-content-sha256": "UNSIGNED-PAYLOAD"}
    sign_headers(server, "PUT", "/%s/slow.bin" % BUCKET, {}, headers, None)
    connection = socket.create_connection(("127.0.0.1", server.port))
    head = "PUT /%s/slow.bin HTTP/1.1\r\n" % BUCKET
    head += "".join("%s: %s\r\n" % pair for pair in headers.items())
    connection.sendall(head.encode() + b"\r\n" + data[:10000000])
    server.process.send_signal(signal.SIGTERM)
    while "top" not in server.log()[-2000:]:  # "Stopping": it has noticed
        time.sleep(0.01)
    connection.sendall(data[10000000:])
    answer = connection.makefile("rb").readline()
    assert b" 200 " in answer, answer
    same(server.process.wait(30), 0)
    server.process = None
    server.start()
    assert get(server, "slow.bin") == data
    server.stop()


main()
