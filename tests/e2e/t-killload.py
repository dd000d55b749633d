#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""kill -9 at any moment under load: eight clients write, overwrite, copy, delete
and complete uploads in shared deltaspaces until the server dies. After each
restart every key holds what was last acknowledged, or what was being written.

DG_KILL_ROUNDS (default 40) kills; DG_KILL_SEED repeats a run."""
import re
import threading
from lib import *

ROUNDS = int(os.environ.get("DG_KILL_ROUNDS", "40"))
SEED = int(os.environ.get("DG_KILL_SEED", str(time.time_ns() % 1000000)))
BUCKET, CLIENTS, KEYS = "load", 8, 6
VERSIONS = versions(200000, 6, seed=SEED) + [body(150000, SEED), body(1000, SEED), b""]


class Client:
    """Owns its keys, so that for each of them there is one order of writes; the
    deltaspaces are everybody's."""

    def __init__(self, server, number):
        self.server, self.number = server, number
        self.rng = random.Random(SEED * 1000 + number)
        self.keys = ["s%d/c%d-%d.%s" % (n % 2, number, n, "zip" if n % 3 else "bin")
                     for n in range(KEYS)]
        self.held = {key: None for key in self.keys}  # acknowledged
        self.pending = {}                             # key: what is being written
        self.problem = None
        self.writes = 0

    def call(self, method, key, data=None, query=None, headers=None):
        return self.server.request(method, "/%s/%s" % (BUCKET, key), body=data, query=query,
                                   headers=headers)

    def write(self, key, data):
        kind = self.rng.randrange(10)
        if data is None:
            return self.call("DELETE", key).status == 204
        if kind == 0:
            answer = self.call("POST", key, query={"uploads": ""})
            id_ = re.search(rb"<UploadId>(\w+)<", answer.body).group(1).decode()
            half = len(data) // 2
            tags = [self.call("PUT", key, piece, {"uploadId": id_, "partNumber": str(n)})
                    .headers["ETag"] for n, piece in enumerate((data[:half], data[half:]), 1)]
            document = "<CompleteMultipartUpload>%s</CompleteMultipartUpload>" % "".join(
                "<Part><PartNumber>%d</PartNumber><ETag>%s</ETag></Part>" % pair
                for pair in enumerate(tags, 1))
            return self.call("POST", key, document.encode(), {"uploadId": id_}).status == 200
        return self.call("PUT", key, data).status == 200

    def run(self):
        try:
            while True:
                key = self.rng.choice(self.keys)
                if self.rng.randrange(4) == 0:
                    answer = self.call("GET", key)
                    got = answer.body if answer.status == 200 else None
                    if answer.status not in (200, 404) or got != self.held[key]:
                        self.problem = "GET %s: %d, not what was acknowledged" % (key, answer.status)
                        return
                    continue
                data = self.rng.choice(VERSIONS + [None, None])
                self.pending = {key: data}
                if not self.write(key, data):
                    self.problem = "a write of %s was refused" % key
                    return
                self.held[key] = data
                self.pending = {}
                self.writes += 1
        except (OSError, http.client.HTTPException, AttributeError, TypeError):
            return  # the server has died

    def verify(self):
        for key in self.keys:
            answer = self.call("GET", key)
            assert answer.status in (200, 404), (key, answer)
            got = answer.body if answer.status == 200 else None
            allowed = [self.held[key]] + ([self.pending[key]] if key in self.pending else [])
            assert any(got == one for one in allowed), "%s: %s, which is neither old nor new" % (
                key, "absent" if got is None else "%d bytes" % len(got))
            self.held[key] = got
        self.pending = {}


@case
def every_kill_under_load_is_survived():
    server = Server()
    server.request("PUT", "/" + BUCKET)
    clients = [Client(server, number) for number in range(CLIENTS)]
    rng = random.Random(SEED)
    for round_ in range(ROUNDS):
        threads = [threading.Thread(target=client.run) for client in clients]
        for thread in threads:
            thread.start()
        time.sleep(rng.uniform(0.02, 0.5))  # the moment of the kill is the test
        server.kill()
        for thread in threads:
            thread.join()
        problems = [client.problem for client in clients if client.problem]
        assert not problems, "seed %d, round %d: %s" % (SEED, round_, problems)
        server.start()
        for folder in ("data/.dg-staging", "spool"):
            path = os.path.join(server.root, folder)
            left = [name for name in os.listdir(path) if not name.endswith(".lock")]
            same(left, [], "seed %d, round %d: %s" % (SEED, round_, folder))
        for client in clients:
            client.verify()
        listed = set(re.findall(r"<Key>(.*?)</Key>", server.request(
            "GET", "/" + BUCKET, query={"list-type": "2"}).body.decode()))
        same(listed, {key for client in clients for key in client.keys
                      if client.held[key] is not None}, "seed %d, round %d" % (SEED, round_))
    print("# %d kills, %d acknowledged writes, seed %d"
          % (ROUNDS, sum(client.writes for client in clients), SEED))
    for client in clients:
        for key in client.keys:
            client.call("DELETE", key)
    uploads = server.request("GET", "/" + BUCKET, query={"uploads": ""}).body.decode()
    for key, id_ in zip(re.findall(r"<Upload><Key>(.*?)</Key>", uploads),
                        re.findall(r"<UploadId>(\w+)</UploadId>", uploads)):
        server.request("DELETE", "/%s/%s" % (BUCKET, key), query={"uploadId": id_})
    same(server.request("DELETE", "/" + BUCKET).status, 204)
    same([path for path in server.files() if path != ".dg-lock"], [])


main()
