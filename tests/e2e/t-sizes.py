#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Sizes at and around every boundary (chunks of 64 KiB, 256 KiB and 1 MiB,
windows of 1 MiB, parts of 5 and 8 MiB) and 100 MiB, with every client; each
read back by another one.

DG_SIZES_BIG  the targets that get all of it (default: all); others get 12 MiB instead
              of 100, and a third of the boundaries"""
import filecmp
from target import *

KIB, MIB = 1 << 10, 1 << 20
WHOLE = TARGET in os.environ.get("DG_SIZES_BIG", TARGET).split()
BOUNDARIES = (64 * KIB, 256 * KIB, MIB, 2 * MIB, 5 * MIB, 8 * MIB)
if not WHOLE:
    BOUNDARIES = BOUNDARIES[1::4]
SIZES = [0, 1] + [edge + shift for edge in BOUNDARIES for shift in (-1, 0, 1)]
BIG = (100 if WHOLE else 12) * MIB
server = target(env={"DGP_DEBUG_HEADERS": "true"})
same(server.request("PUT", "/sizes").status, 200)
tree = os.path.join(WORK, "tree")
env = dict(os.environ, RCLONE_CONFIG="/dev/null", RCLONE_CONFIG_X_TYPE="s3",
           RCLONE_CONFIG_X_PROVIDER="Other", RCLONE_CONFIG_X_ENDPOINT=server.url,
           RCLONE_CONFIG_X_FORCE_PATH_STYLE="true", RCLONE_CONFIG_X_ENV_AUTH="true",
           RCLONE_RETRIES="1", RCLONE_LOW_LEVEL_RETRIES="1")


@case
def the_files_are_made():
    os.makedirs(tree)
    ground = body(8 * MIB + 1, 1)
    for size in SIZES:
        for ending in ("bin", "zip"):
            with open(os.path.join(tree, "%d.%s" % (size, ending)), "wb") as file:
                file.write(ground[:size])
    big = bytearray(random.Random(2).randbytes(BIG))
    open(os.path.join(tree, "big-1.zip"), "wb").write(big)
    for at in range(0, BIG, 3 * MIB):
        big[at:at + 40] = b"x" * 40
    big[7 * MIB:7 * MIB] = b"inserted"
    open(os.path.join(tree, "big-2.zip"), "wb").write(big[:BIG])
    open(os.path.join(tree, "big.bin"), "wb").write(big[:BIG])


def compare_with_rclone(prefix):
    """Another program reads what the first one wrote."""
    back = os.path.join(WORK, "back")
    shutil.rmtree(back, ignore_errors=True)
    run("rclone", "copy", "X:sizes/" + prefix, back, env=env)
    compare(back)


def compare(back):
    names = sorted(os.listdir(tree))
    same(sorted(os.listdir(back)), names)
    _, different, errors = filecmp.cmpfiles(tree, back, names, shallow=False)
    same((different, errors), ([], []))
    shutil.rmtree(back)


def drop(prefix):
    run("rclone", "purge", "X:sizes/" + prefix, env=env)


@case
def with_the_aws_command_line():
    requires("/usr/bin/aws", "rclone")
    run("/usr/bin/aws", "--endpoint-url", server.url, "s3", "cp", "--recursive", "--quiet", tree,
        "s3://sizes/aws/")
    compare_with_rclone("aws")
    back = os.path.join(WORK, "back")
    run("/usr/bin/aws", "--endpoint-url", server.url, "s3", "cp", "--recursive", "--quiet",
        "s3://sizes/aws/", back)
    compare(back)
    drop("aws")


@case
def with_boto3():
    s3 = server.client()
    back = os.path.join(WORK, "back")
    os.makedirs(back)
    for name in os.listdir(tree):
        with open(os.path.join(tree, name), "rb") as file:
            s3.put_object(Bucket="sizes", Key="boto3/" + name, Body=file)
        s3.download_file("sizes", "boto3/" + name, os.path.join(back, name))
    compare(back)
    os.makedirs(back)
    for name in os.listdir(tree):  # and through its transfer manager, in parts
        s3.upload_file(os.path.join(tree, name), "sizes", "boto3/" + name)
        with open(os.path.join(back, name), "wb") as file:
            shutil.copyfileobj(s3.get_object(Bucket="sizes", Key="boto3/" + name)["Body"], file,
                               MIB)
    compare(back)
    drop("boto3")


@case
def with_rclone():
    requires("rclone")
    run("rclone", "copy", "--s3-upload-cutoff", "6M", "--s3-chunk-size", "5M", tree,
        "X:sizes/rclone", env=env)
    run("rclone", "check", "--download", tree, "X:sizes/rclone", env=env)
    drop("rclone")


@case
def with_s3cmd():
    requires("s3cmd", "rclone")
    config = os.path.join(WORK, "s3cfg")
    host = "127.0.0.1:%d" % server.port
    open(config, "w").write("[default]\naccess_key = %s\nsecret_key = %s\nhost_base = %s\n"
                            "host_bucket = %s\nuse_https = False\n"
                            % (server.access_key, server.secret_key, host, host))
    run("s3cmd", "-c", config, "--no-progress", "--multipart-chunk-size-mb=8", "sync", tree + "/",
        "s3://sizes/s3cmd/")
    compare_with_rclone("s3cmd")
    back = os.path.join(WORK, "back")
    os.makedirs(back)
    run("s3cmd", "-c", config, "--no-progress", "sync", "s3://sizes/s3cmd/", back + "/")
    compare(back)
    drop("s3cmd")


@case
def with_curl():
    requires("curl", "rclone")
    for name in os.listdir(tree):
        run("curl", "-sS", "--fail-with-body", "--aws-sigv4", "aws:amz:us-east-1:s3", "-u",
            server.access_key + ":" + server.secret_key, "-H", "x-amz-content-sha256: UNSIGNED-PAYLOAD", "-T",
            os.path.join(tree, name), "%s/sizes/curl/%s" % (server.url, name))
    compare_with_rclone("curl")
    drop("curl")


@case
def a_big_version_comes_back_and_is_small_as_a_delta():
    for name in ("big-1.zip", "big-2.zip"):
        with open(os.path.join(tree, name), "rb") as file:
            same(server.request("PUT", "/sizes/delta/" + name, body=file.read()).status, 200)
    answer = server.request("GET", "/sizes/delta/big-2.zip")
    if has_deltas():
        size = int(answer.headers["x-deltaglider-stored-size"])
        assert size < BIG // 1000, size
    with open(os.path.join(tree, "big-2.zip"), "rb") as file:
        assert answer.body == file.read()
    drop("delta")


if is_ours():
    @case
    def memory_stayed_flat():
        with open("/proc/%d/status" % server.process.pid) as status:
            rows = dict(line.split(":", 1) for line in status)
        anon = int(rows["RssAnon"].split()[0]) // 1024
        # 100 MiB of caches by default, and what 16 parts in flight may hold.
        assert anon < 400, "%d MiB" % anon


main()
