#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What a client test runs against. DG_E2E_TARGET names it:

    fs                  our server on a directory (the default)
    rgw, swift          a real S3 server of other people, directly: what fails
                        there is no fault of ours
    STORE:CODEC:CRYPT   our server over STORE (fs, rgw or swift); CODEC is none or
                        a codec's name; CRYPT is none, aesgcm, or kms: rgw:xdelta3:none

A test in Python says `from target import *` and `server = target()`. lib.sh runs
this file as a program for tests in shell: it starts what is named, prints shell
assignments and `ready`, and ends it all when its input ends."""
from lib import *

UPSTREAM_SCRIPTS = os.path.join(HERE, "..", "upstream")
UPSTREAM_KEY, UPSTREAM_SECRET = "upstream-key", "upstream-secret"
CRYPT_KEY = bytes(range(32)).hex()  # a test's: no secret
TARGET = os.environ.get("DG_E2E_TARGET", "fs")


class Upstream(Endpoint):
    """A real S3 server from Debian's packages, with a user who has the keys given. Gone
    when the test ends, however it ends."""

    def __init__(self, kind="rgw", access_key=UPSTREAM_KEY, secret_key=UPSTREAM_SECRET,
                 autostart=True, env=None):
        super().__init__()
        self.env = dict(env or {})
        assert kind in ("rgw", "swift"), kind
        self.kind = kind
        self.access_key = access_key if kind == "rgw" else "main:main"
        self.secret_key = secret_key
        self.root = tempfile.mkdtemp(prefix="up-", dir=WORK)
        self.port, self._port_lock = take_ports(51 if kind == "rgw" else 4)
        at_end(self.stop)
        if autostart:
            self.start()

    def start(self):
        env = dict(os.environ, UPSTREAM_ACCESS_KEY=self.access_key,
                   UPSTREAM_SECRET_KEY=self.secret_key, UPSTREAM_OWNER=str(os.getpid()),
                   **self.env)
        run(os.path.join(UPSTREAM_SCRIPTS, self.kind + "-up"), self.root, self.port, env=env)
        return self

    def stop(self):
        run(os.path.join(UPSTREAM_SCRIPTS, self.kind + "-down"), self.root)

    def pid(self, daemon="client.admin"):
        """Of the gateway, or of another daemon: for signals."""
        with open(os.path.join(self.root, "run", daemon + ".pid")) as file:
            return int(file.read())


def s3_backend(upstream, name="store", port=None, **options):
    """An entry of storage.backends that lies on the upstream; port: of what stands
    in front of it."""
    return dict({"name": name, "type": "s3", "region": REGION, "force_path_style": True,
                 "endpoint": "http://127.0.0.1:%d" % (port or upstream.port),
                 "allow_local": True, "access_key_id": upstream.access_key,
                 "secret_access_key": upstream.secret_key}, **options)


def encryption(crypt):
    """A backend's options for the crypt of a target's name."""
    return {"none": {},
            "aesgcm": {"encryption": {"mode": "aes256-gcm-proxy", "key": CRYPT_KEY,
                                      "key_id": "e2e"}},
            "kms": {"encryption": {"mode": "sse-kms", "kms_key_id": "testkey-1"}}}[crypt]


def codec_settings(codec):
    """The advanced section for the codec of a target's name."""
    return {"max_delta_ratio": 0} if codec == "none" else {"codec": codec}


def target(name=TARGET, env=None):
    """Starts what `name` names: an Endpoint with the tests' usual keys. Below a
    Server over an upstream, `.upstream` is that."""
    store, _, pair = name.partition(":")
    if name == "fs":
        return Server(env=env)
    if not pair:
        upstream = Upstream(store, access_key=ACCESS_KEY, secret_key=SECRET_KEY)
        os.environ["AWS_ACCESS_KEY_ID"] = upstream.access_key  # for the clients
        return upstream
    codec, crypt = pair.split(":")
    server = Server(env=env, autostart=False)
    if store == "fs":
        server.upstream = None
        backend = {"name": "store", "type": "filesystem", "path": server.data}
    else:
        server.upstream = Upstream(store)
        backend = s3_backend(server.upstream)
    backend.update(encryption(crypt))
    server.config = {"storage": {"backends": [backend], "default_backend": "store"},
                     "advanced": codec_settings(codec)}
    return server.start()


def is_ours(name=TARGET):
    return name == "fs" or ":" in name


def has_store(store, name=TARGET):
    return name.partition(":")[0] == store


def has_deltas(name=TARGET):
    return is_ours(name) and ":none:" not in name


def storage_joins(key, name=TARGET):
    """Is an upload of this name joined by the storage below our server?"""
    return is_ours(name) and not has_store("fs", name) and not name.endswith(":aesgcm") \
        and not (has_deltas(name) and key.endswith(".zip"))


def serve():
    import shlex
    server = target(env=dict(setting.split("=", 1) for setting in sys.argv[1:]))
    below = getattr(server, "upstream", None) or server
    for name, value in (("port", server.port), ("url", server.url),
                        ("host", "127.0.0.1:%d" % server.port),
                        ("data", getattr(server, "data", "")),
                        ("upstream_url", below.url),
                        ("upstream_access_key", below.access_key),
                        ("upstream_secret_key", below.secret_key),
                        ("AWS_ACCESS_KEY_ID", server.access_key),
                        ("AWS_SECRET_ACCESS_KEY", server.secret_key)):
        print("%s=%s" % (name, shlex.quote(str(value))))
    print("ready", flush=True)
    sys.stdin.read()
    if not isinstance(server, Server):
        return 0
    ended = server.process.poll()
    code = server.stop() if ended is None else "%d, by itself" % ended
    if code != 0:
        sys.stderr.write("the server ended with %s\n%s" % (code, server.log()[-6000:]))
        server.process = None
    return 0 if code == 0 else 1


if __name__ == "__main__":
    sys.exit(serve())
