# SPDX-License-Identifier: Apache-2.0
"""Shows on real input what the server saves.

  scripts/demo [--package NAME] [--versions N] [--endpoint URL] [--wait SECONDS] [FILE...]

Fetches consecutive versions of a package that ships a large executable from
the configured npm registry (default: @esbuild/linux-x64, five of them),
uploads the unpacked tars through the running server with boto3, downloads them,
compares, and prints a table. Given FILEs, it uses those instead, in that order.
What it fetched is kept in build/demo and verified against the registry's digest
on each run.

The server is the one of scripts/serve: keys from ./data/credentials (or from
AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY), endpoint http://127.0.0.1:9000.
When nothing answers there, it starts scripts/serve for the length of the demo, and
gives it ten minutes to come up: the first time it builds."""
import argparse
import base64
import filecmp
import gzip
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DATA = os.environ.get("DGP_DATA_DIR", "./data")
BUCKET = "deltaglider-demo"


def stop(text):
    sys.exit(f"scripts/demo: {text}")


def npm(*arguments, **more):
    try:
        return subprocess.run(("npm",) + arguments, check=True, text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=300, **more).stdout
    except FileNotFoundError:
        stop("npm is missing: install it, or give local files: scripts/demo FILE...")
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        reason = (getattr(error, "stderr", "") or "no answer in five minutes").strip()
        stop(f"npm {arguments[0]} failed. Offline? Then give local files: scripts/demo FILE...\n"
             + "\n".join(reason.splitlines()[:6]))


def digest_matches(path, integrity):
    name, want = integrity.split()[0].split("-", 1)
    with open(path, "rb") as packed:
        return hashlib.new(name, packed.read()).digest() == base64.b64decode(want)


def fetch(package, count):
    """Tars of the last `count` versions that follow each other, oldest first."""
    keep = os.path.join(TOP, "build", "demo")
    os.makedirs(keep, exist_ok=True)
    index = os.path.join(keep, package.replace("/", "_") + ".json")
    try:
        with open(index) as kept:
            chosen = json.load(kept)
        if len(chosen) != count:
            raise ValueError
    except (OSError, ValueError):
        known = json.loads(npm("view", package, "versions", "--json"))
        versions = [v for v in known if re.fullmatch(r"\d+\.\d+\.\d+", v)][-count:]
        if len(versions) < count:
            stop(f"{package} has only {len(versions)} released versions")
        chosen = {v: json.loads(npm("view", f"{package}@{v}", "dist.integrity", "--json"))
                  for v in versions}
        with open(index, "w") as out:
            json.dump(chosen, out)
    tars = []
    for version, integrity in chosen.items():
        stem = os.path.join(keep, f"{package.rsplit('/', 1)[-1]}-{version}")
        if not (os.path.exists(stem + ".tgz") and digest_matches(stem + ".tgz", integrity)):
            print(f"Fetching {package} {version} ...", file=sys.stderr)
            with tempfile.TemporaryDirectory(dir=keep) as work:
                name = npm("pack", "--silent", f"{package}@{version}", cwd=work).split()[-1]
                os.replace(os.path.join(work, name), stem + ".tgz")
        if not digest_matches(stem + ".tgz", integrity):
            stop(f"{stem}.tgz does not match the registry's digest; remove it and try again")
        with gzip.open(stem + ".tgz") as packed, open(stem + ".tar", "wb") as out:
            shutil.copyfileobj(packed, out)
        tars.append((version, stem + ".tar"))
    return tars


def answers(endpoint):
    try:
        urllib.request.urlopen(endpoint + "/_/health", timeout=5).read()
        return True
    except (urllib.error.URLError, OSError):
        return False


def credentials():
    if os.environ.get("AWS_ACCESS_KEY_ID") and os.environ.get("AWS_SECRET_ACCESS_KEY"):
        return os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
    try:
        with open(os.path.join(DATA, "credentials")) as kept:
            pairs = dict(line.rstrip("\n").split("=", 1) for line in kept if "=" in line)
        return pairs["access_key_id"], pairs["secret_access_key"]
    except (OSError, KeyError):
        stop("no keys: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or call this from the "
             "folder whose ./data scripts/serve uses")


def client(endpoint):
    os.environ["BOTO_DISABLE_CRT"] = "true"
    import boto3  # installed by now
    from botocore.config import Config
    access_key, secret = credentials()
    return boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1",
                        aws_access_key_id=access_key, aws_secret_access_key=secret,
                        config=Config(s3={"addressing_style": "path"}))


def stored_bytes(name):
    """What one object and, for the first, the shared reference take at rest."""
    space = os.path.join(DATA, BUCKET, "deltaspaces", "versions")
    sizes = [os.path.getsize(os.path.join(space, name + suffix)) for suffix in ("", ".delta")
             if os.path.exists(os.path.join(space, name + suffix))]
    return sum(sizes) if sizes else None


def main():
    parser = argparse.ArgumentParser(prog="scripts/demo", usage=argparse.SUPPRESS,
                                     description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", default="@esbuild/linux-x64")
    parser.add_argument("--versions", type=int, default=5)
    parser.add_argument("--endpoint",
                        default="http://" + os.environ.get("DGP_LISTEN_ADDR", "127.0.0.1:9000"))
    parser.add_argument("--wait", type=float, default=600)
    parser.add_argument("files", nargs="*", metavar="FILE")
    options = parser.parse_args()
    groups = ["demo"] if options.files else ["demo", "npm"]
    if subprocess.run([os.path.join(TOP, "scripts", "packages"), "--install"] + groups).returncode:
        stop("without these packages it cannot run")
    inputs = ([(os.path.basename(f), f) for f in options.files]
              or fetch(options.package, options.versions))
    for _, path in inputs:
        if not os.path.isfile(path):
            stop(f"{path}: no such file")
    own = None
    try:
        if not answers(options.endpoint):
            own = start_own(options.endpoint)
            await_own(own, options.endpoint, options.wait)
        run(inputs, options.endpoint)
    finally:
        if own:
            own.send_signal(signal.SIGTERM)
            own.wait()


def start_own(endpoint):
    print(f"Nothing answers on {endpoint}: starting scripts/serve, "
          "which logs to demo-server.log.", file=sys.stderr)
    # The first start prints the secret: the log is for its owner only.
    mine = os.open("demo-server.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with open(mine, "ab") as log:
        return subprocess.Popen([os.path.join(TOP, "scripts", "serve")], stdout=log, stderr=log)


def await_own(own, endpoint, patience_s):
    deadline = time.monotonic() + patience_s
    while not answers(endpoint):
        if own.poll() is not None or time.monotonic() > deadline:
            stop("scripts/serve did not come up; demo-server.log says why")
        time.sleep(0.2)


def seconds(action, *arguments):
    begin = time.monotonic()
    action(*arguments)
    return time.monotonic() - begin


def run(inputs, endpoint):
    from botocore.exceptions import BotoCoreError, ClientError
    try:
        measure(client(endpoint), inputs)
    except (BotoCoreError, ClientError) as error:
        stop(f"the server at {endpoint} refused: {error}")


def measure(s3, inputs):
    if BUCKET in (row["Name"] for row in s3.list_buckets()["Buckets"]):
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
            for row in page.get("Contents", []):
                s3.delete_object(Bucket=BUCKET, Key=row["Key"])
    else:
        s3.create_bucket(Bucket=BUCKET)
    rows, total, kept = [], 0, 0
    with tempfile.TemporaryDirectory() as work:
        for label, path in inputs:
            name = os.path.basename(path)
            if not name.endswith((".tar", ".zip", ".jar", ".war", ".iso", ".dmg", ".sql", ".dump")):
                name += ".tar"  # only such names are stored as deltas by default
            size = os.path.getsize(path)
            key = f"versions/{name}"
            back = os.path.join(work, "back")
            up = seconds(s3.upload_file, path, BUCKET, key)
            down = seconds(s3.download_file, BUCKET, key, back)
            if not filecmp.cmp(path, back, shallow=False):
                stop(f"{label}: what came back is not what went in")
            stored = stored_bytes(name)
            rows.append((label, size, stored, up, down))
            total += size
            kept += stored or 0
    reference = os.path.join(DATA, BUCKET, "deltaspaces", "versions", "reference.bin")
    form = "{:<24} {:>13} {:>13} {:>8} {:>12} {:>14}"
    print(form.format("version", "original", "stored", "saved", "upload MB/s", "download MB/s"))
    if os.path.exists(reference):
        size = os.path.getsize(reference)
        kept += size
        print(form.format("(shared reference)", "", f"{size:,}", "", "", ""))
    for label, size, stored, up, down in rows:
        print(form.format(label, f"{size:,}", f"{stored:,}" if stored is not None else "not visible",
                          f"{100 * (1 - stored / size):.1f} %" if stored is not None and size else "",
                          f"{size / 1e6 / up:.0f}",
                          f"{size / 1e6 / down:.0f}"))
    if kept:
        print(form.format("all", f"{total:,}", f"{kept:,}", f"{100 * (1 - kept / total):.1f} %", "", ""))
    print("\nEvery file came back byte-identical. The speeds are what boto3 saw.")


if __name__ == "__main__":
    main()
