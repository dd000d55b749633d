# SPDX-License-Identifier: Apache-2.0
# What the end-to-end tests in shell share. Source it first:
#
#     . "${0%/*}/lib.sh"
#     start_server
#     case_ "a bucket is made" aws s3 mb s3://b
#
# Lines go to stdout as `ok NAME`, `not ok NAME`, `skip NAME: why`; tests/e2e/run
# counts them. The server and its files vanish at exit.
set -u
e2e_dir=$(cd "$(dirname "$0")" && pwd)
build=${top_builddir:-$(cd "$e2e_dir/../.." && pwd)}
topic=$(basename "$0" .sh)
work=$(mktemp -d "${DG_E2E_TMPDIR:-${TMPDIR:-/tmp}}/dg-e2e-XXXXXX")
failures=0
server_pid= target_pid=

export AWS_ACCESS_KEY_ID=e2e-access-key
export AWS_SECRET_ACCESS_KEY=e2e-secret-key-with-some-length
export AWS_DEFAULT_REGION=us-east-1 AWS_EC2_METADATA_DISABLED=true
export AWS_CONFIG_FILE=/dev/null AWS_SHARED_CREDENTIALS_FILE=/dev/null BOTO_DISABLE_CRT=true
unset http_proxy https_proxy HTTP_PROXY HTTPS_PROXY all_proxy ALL_PROXY AWS_CA_BUNDLE AWS_PROFILE

cleanup() {
  [ -z "$server_pid" ] || { kill -9 "$server_pid" && wait "$server_pid"; } 2>/dev/null
  [ -z "$target_pid" ] || { kill "$target_pid" && wait "$target_pid"; } 2>/dev/null
  rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 143' TERM INT HUP

# Sets $port to one that nobody listens on, locked against other tests for as
# long as this shell lives; see take_port() in lib.py.
take_port() {
  local locks=${TMPDIR:-/tmp}/dg-e2e-ports-$(id -u) lock
  mkdir -p "$locks"
  for port in $(shuf -i "${DG_E2E_PORTS:-20000-29999}"); do
    exec {lock}>"$locks/$port"
    if flock -n "$lock" && ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then return; fi
    exec {lock}>&-
  done
  echo "not ok $topic: a free port is found"
  exit 1
}

# start_server [NAME=VALUE...]: a server on $url with data in $data.
start_server() {
  take_port
  data=$work/data url=http://127.0.0.1:$port host=127.0.0.1:$port
  mkdir -p "$data"
  env DGP_LISTEN_ADDR="127.0.0.1:$port" DGP_DATA_DIR="$data" DGP_CACHE_DIR="$work/cache" \
    DGP_SPOOL_DIR="$work/spool" DGP_STATE_DIR="$work/state" \
    DGP_ACCESS_KEY_ID="$AWS_ACCESS_KEY_ID" DGP_SECRET_ACCESS_KEY="$AWS_SECRET_ACCESS_KEY" \
    DGP_LOG_LEVEL=info "$@" "$build/core/deltaglider_proxy" >>"$work/server.log" 2>&1 &
  server_pid=$!
  local n=0
  until curl -sf -o /dev/null "$url/_/health"; do
    n=$((n + 1))
    if [ $n -gt 400 ] || ! kill -0 "$server_pid" 2>/dev/null; then
      echo "not ok $topic: the server starts"
      tail -n 30 "$work/server.log" >&2
      exit 1
    fi
    sleep 0.05
  done
}

# start_target [NAME=VALUE...]: what DG_E2E_TARGET names, see target.py; settings are for a
# server of ours. Sets $url, $port, $host; and $upstream_url with its keys, unless it is
# the usual server on a directory.
start_target() {
  local line
  if [ "${DG_E2E_TARGET:-fs}" = fs ]; then
    start_server "$@"
    return
  fi
  coproc TARGET { exec /usr/bin/python3 "$e2e_dir/target.py" "$@" 2>"$work/target.err"; }
  target_pid=$TARGET_PID target_stdin=${TARGET[1]}
  while read -r line <&"${TARGET[0]}"; do
    if [ "$line" = ready ]; then return; fi
    eval "$line"
  done
  echo "not ok $topic: $DG_E2E_TARGET starts"
  tail -n 60 "$work/target.err" >&2
  exit 1
}

# bucket_is_gone NAME: nothing of it is left in what the target stores in.
bucket_is_gone() {
  if [ "${DG_E2E_TARGET:-fs}" = fs ] || [[ $DG_E2E_TARGET == fs:* ]]; then
    [ -z "$(find "$data" -path "$data/$1*")" ]
    return
  fi
  local names
  names=$(AWS_ACCESS_KEY_ID=$upstream_access_key AWS_SECRET_ACCESS_KEY=$upstream_secret_key \
    /usr/bin/aws --endpoint-url "$upstream_url" --output text s3api list-buckets \
    --query 'Buckets[].Name') && ! grep -qw -- "$1" <<<"$names"
}

# requires COMMAND...: end this file as skipped when one is missing; a failure
# when DG_E2E_STRICT=1, as scripts/check sets it.
requires() {
  local command
  for command; do
    command -v "$command" >/dev/null && continue
    if [ "${DG_E2E_STRICT:-0}" != 0 ]; then
      echo "not ok $topic: $command is not installed, and skipping is not allowed"
      exit 1
    fi
    echo "skip $topic: $command is not installed"
    exit 0
  done
}

# case_ NAME COMMAND...: one line for one command, which must succeed. Its
# output is shown when it does not.
case_() {
  local name=$1
  shift
  if "$@" >"$work/case.log" 2>&1; then
    echo "ok $topic: $name"
  else
    echo "not ok $topic: $name"
    { echo "--- $topic: $name: $*"; tail -n 40 "$work/case.log"; } >&2
    failures=$((failures + 1))
  fi
}

# random_file PATH BYTES
random_file() { head -c "$2" /dev/urandom >"$1"; }

# The server must still be there, and leave by itself when told to.
finish() {
  if [ -n "$target_pid" ]; then
    exec {target_stdin}>&-
    if ! wait "$target_pid"; then
      echo "not ok $topic: $DG_E2E_TARGET runs to the end and stops when told"
      cat "$work/target.err" >&2
      failures=$((failures + 1))
    fi
    target_pid=
    [ "$failures" = 0 ]
    exit
  fi
  kill -TERM "$server_pid" 2>/dev/null
  if ! wait "$server_pid"; then
    echo "not ok $topic: the server runs to the end and stops when told"
    tail -n 60 "$work/server.log" >&2
    failures=$((failures + 1))
  fi
  server_pid=
  [ "$failures" = 0 ]
  exit
}
