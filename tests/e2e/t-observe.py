#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Health, readiness, statistics, metrics and the log."""
import re
from lib import *

server = Server(env={"DGP_LOG_FORMAT": "json"})
server.request("PUT", "/observed")


def endpoint(name, method="GET"):
    return server.request(method, "/_/" + name, sign=False)


def metrics():
    result = {}
    for line in endpoint("metrics").body.decode().splitlines():
        if line and not line.startswith("#"):
            name, number = line.rsplit(" ", 1)
            result[name] = float(number)
    return result


@case
def health_tells_of_the_caches():
    answer = endpoint("health")
    same(answer.headers["Content-Type"], "application/json")
    row = json.loads(answer.body)
    same(row["status"], "healthy")
    assert row["peak_rss_bytes"] > 1000000
    for name in ("cache_size_bytes", "cache_max_bytes", "cache_entries", "cache_utilization_pct"):
        assert name in row, row
    assert "version" not in row


@case
def readiness_asks_the_backend():
    answer = endpoint("ready")
    same((answer.status, json.loads(answer.body)),
         (200, {"status": "ready", "backend": "ready", "config_db": "absent"}))
    other = Server()
    other.stop()
    other.start({"DGP_FAULT": "fs.probe:EIO:2-"})
    answer = other.request("GET", "/_/ready", sign=False)
    same(answer.status, 503)
    same(json.loads(answer.body)["status"], "not_ready")
    same(other.request("GET", "/_/health", sign=False).status, 200)
    other.stop()


@case
def readiness_asks_again_before_it_says_no():
    other = Server(autostart=False, env={"DGP_FAULT": "fs.probe:EIO:2-3"}).start()
    started = time.monotonic()
    answer = other.request("GET", "/_/ready", sign=False)
    same((answer.status, json.loads(answer.body)["backend"]), (200, "ready"))
    assert time.monotonic() - started >= 0.4
    other.restart({"DGP_FAULT": "fs.probe:EIO:2-3", "DGP_READY_RETRIES": "1"})
    same(other.request("GET", "/_/ready", sign=False).status, 503)
    same(other.request("GET", "/_/ready", sign=False).status, 200)
    other.stop()


@case
def readiness_may_be_remembered():
    other = Server(autostart=False, env={"DGP_FAULT": "fs.probe:EIO:3-",
                                         "DGP_READY_CACHE_TTL_SECS": "600"}).start()
    for backend in ("ready", "cached", "cached"):
        answer = other.request("GET", "/_/ready", sign=False)
        same((answer.status, json.loads(answer.body)["backend"]), (200, backend))
    other.stop()


@case
def one_backend_of_two_makes_the_server_degraded():
    config = os.path.join(WORK, "two.yaml")
    with open(config, "w") as file:
        file.write("""
storage:
  backends:
    - {name: first, type: filesystem, path: %s/first}
    - {name: second, type: filesystem, path: %s/second}
""" % (WORK, WORK))
    other = Server(autostart=False, env={"DGP_CONFIG": config, "DGP_DATA_DIR": None,
                                         "DGP_READY_RETRIES": "0",
                                         "DGP_FAULT": "fs.probe:EIO:4"}).start()
    for status, backend in ((200, "degraded"), (200, "ready")):
        answer = other.request("GET", "/_/ready", sign=False)
        same((answer.status, json.loads(answer.body)["backend"]), (status, backend))
    lines = [line.split("message=")[-1] for line in other.log().splitlines()]
    for name in ("first", "second"):
        assert any("  Backend: Filesystem (%s)" % name in line for line in lines), lines
    other.stop()


@case
def the_server_says_how_it_starts():
    other = Server(env={"DGP_CACHE_MB": "2048"})
    log = other.log()
    for line in (r"Starting DeltaGlider v\S+ \(built \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\)",
                 r"  Listen address: 127\.0\.0\.1:%d" % other.port, r"  Backend: Filesystem\b",
                 r"  Data directory: %s" % re.escape(other.data), r"  Max delta ratio: 0\.75",
                 r"  Max object size: 5242880 MB", r"\[cache\] In-memory metadata cache: 50 MB \(",
                 r"\[cache\] In-memory reference cache: 2048 MB",
                 r"  Authentication: SigV4 ENABLED \(access key: %s\)" % ACCESS_KEY,
                 r"backend health: 'default' — connection healthy",
                 r"DeltaGlider listening on http://127\.0\.0\.1:%d" % other.port):
        assert re.search(line, log), (line, log)
    other.restart({"DGP_CACHE_MB": "100"})
    assert "In-memory reference cache is only 100 MB — recommend ≥1024 MB for production. " \
        "Set cache_size_mb or DGP_CACHE_MB." in other.log()
    other.restart({"DGP_CACHE_MB": "0"})
    assert "In-memory reference cache is DISABLED (0 MB)." in other.log()
    other.stop()


@case
def every_specified_metric_is_there_from_the_start():
    other = Server()
    text = other.request("GET", "/_/metrics", sign=False).body.decode()
    labelled = {"build_info", "http_requests_total", "http_request_duration_seconds",
                "http_request_size_bytes", "http_response_size_bytes", "delta_decisions_total",
                "auth_attempts_total", "auth_failures_total", "multipart_sweep_runs_total",
                "multipart_sweep_duration_seconds", "multipart_swept_uploads_total"}
    plain = {"delta_compression_ratio", "delta_encode_duration_seconds",
             "delta_decode_duration_seconds", "delta_bytes_saved_total", "cache_hits_total",
             "cache_misses_total", "cache_size_bytes", "cache_entries", "cache_max_bytes",
             "cache_utilization_ratio", "cache_miss_rate_ratio", "codec_semaphore_available",
             "multipart_sweep_reclaimed_bytes_total", "multipart_sweep_orphan_relay_dirs_total",
             "multipart_sweep_orphan_relay_files_total", "multipart_uploads_inflight",
             "multipart_sweep_last_uploads_reclaimed", "multipart_sweep_last_reclaimed_bytes",
             "delegated_list_upstream_pages_total", "delegated_list_probe_requests_total"}
    for name in labelled | plain:
        assert "# TYPE deltaglider_%s " % name in text, name
    for name in plain:
        assert re.search(r"^deltaglider_%s(_count)? " % name, text, re.M), name
    for name in ("process_start_time_seconds", "process_peak_rss_bytes"):
        assert re.search(r"^%s [1-9]" % name, text, re.M), name
    other.stop()


@case
def endpoints_are_read_only_and_few():
    same(endpoint("health", "POST").status, 405)
    same(endpoint("health", "PUT").status, 405)
    same(endpoint("nothing").status, 404)
    same(endpoint("health", "HEAD").status, 200)


@case
def metrics_count_requests_once():
    before = metrics()
    for _ in range(3):
        server.request("PUT", "/observed/a.zip", body=body(1000))
        server.request("GET", "/observed/a.zip")
    server.request("GET", "/observed/none")
    server.request("GET", "/observed/a.zip", sign=False)
    after = metrics()

    def rose(name, **labels):
        return sum(after[row] - before.get(row, 0) for row in after
                   if row.startswith(name + "{") and
                   all('%s="%s"' % pair in row for pair in labels.items()))
    name = "deltaglider_http_requests_total"
    same(rose(name, method="PUT", status="200", operation="put_object"), 3)
    same(rose(name, method="GET", status="200", operation="get_object"), 3)
    same(rose(name, method="GET", status="404", operation="get_object"), 1)
    same(rose(name, method="GET", status="403"), 1)
    same(rose("deltaglider_auth_failures_total", reason="missing_header"), 1)
    same(rose("deltaglider_http_request_duration_seconds_count", operation="put_object"), 3)


@case
def metrics_are_in_the_exposition_format():
    answer = endpoint("metrics")
    assert answer.headers["Content-Type"].startswith("text/plain"), answer.headers
    text = answer.body.decode()
    for line in text.splitlines():
        assert re.match(r'^(# (HELP|TYPE) \w+ .*|\w+(\{(\w+="[^"]*",?)*\})? '
                        r'(-?[0-9.e+-]+|\+Inf|NaN))$', line), line
    for name in ("process_start_time_seconds", "process_peak_rss_bytes", "deltaglider_build_info",
                 "deltaglider_http_requests_total", "deltaglider_delta_decisions_total",
                 "deltaglider_delta_compression_ratio", "deltaglider_cache_max_bytes",
                 "deltaglider_cache_hits_total", "deltaglider_codec_semaphore_available",
                 "deltaglider_multipart_uploads_inflight", "deltaglider_auth_attempts_total"):
        assert "# TYPE " + name + " " in text, name


@case
def every_request_has_one_line():
    ids = []
    for method, path in (("GET", "/observed"), ("GET", "/observed/none"), ("PUT", "/observed/x")):
        answer = server.request(method, path, body=b"x" if method == "PUT" else None)
        ids.append(answer.headers["x-amz-request-id"])
    answer = server.request("GET", "/observed/x", sign=False)
    ids.append(answer.headers["x-amz-request-id"])
    deadline = time.monotonic() + 5  # the line follows the answer
    while time.monotonic() < deadline and server.log().count(ids[-1]) == 0:
        time.sleep(0.01)
    for id_ in ids:
        lines = [line for line in server.log().splitlines() if id_ in line]
        same(len(lines), 1, lines)
        row = json.loads(lines[0])
        assert "http.request" in row.values(), row


main()
