# SPDX-License-Identifier: Apache-2.0
# What the scripts of this folder share. Source it first.
set -euo pipefail
me=$(basename "$0")

# Ends with a message and the end of each log in $dir/log.
fail() {
  local log
  echo "$me: $*" >&2
  for log in "$dir"/log/*; do
    [ -s "$log" ] || continue
    echo "-- the end of $log:" >&2
    tail -n 15 "$log" >&2
  done
  exit 1
}

# need GROUP COMMAND...: all are there, or the message says how to get them.
need() {
  local group=$1 command
  shift
  for command; do
    command -v "$command" >/dev/null && continue
    echo "$me: $command is not installed: run scripts/packages --install $group" >&2
    exit 1
  done
}

# wait_until SECONDS COMMAND...: asks every 50 ms; there is no event to wait for.
wait_until() {
  local end=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $end ] || return 1
    sleep 0.05
  done
}

# A killed daemon may stay a zombie for seconds when nobody reaps it: gone, too.
is_gone() { ! grep -qs '^State:[[:space:]]*[^ZX[:space:]]' "/proc/$1/status"; }

# stop_daemons DIR: kills what DIR/run/*.pid name and waits for their end. A pid
# that meanwhile belongs to another program is left alone: each of ours has DIR
# in its environment.
stop_daemons() {
  local file pid pids=()
  for file in "$1"/run/*.pid; do
    [ -s "$file" ] && read -r pid <"$file" || continue
    grep -qsF "$1" "/proc/$pid/environ" || continue
    kill -9 "$pid" 2>/dev/null && pids+=("$pid")
  done
  for pid in "${pids[@]}"; do
    wait_until 20 is_gone "$pid" || { echo "$me: process $pid does not end" >&2; return 1; }
  done
}

# fresh_dir DIR: empties it, which only what one of these scripts made may suffer.
fresh_dir() {
  if [ -n "$(ls -A "$1")" ] && ! { [ -d "$1/run" ] && [ -d "$1/log" ]; }; then
    fail "$1 holds something else: give a folder that is empty or does not exist"
  fi
  rm -rf "$1"
  mkdir -p "$1"/{log,run}
}

# follow_owner DIR: takes everything in DIR down when process $UPSTREAM_OWNER is gone, so
# that a test that was killed leaves nothing running.
follow_owner() {
  [ -n "${UPSTREAM_OWNER:-}" ] || return 0
  setsid bash -c 'tail --pid="$1" -f /dev/null; exec "$2" "$3"' - \
    "$UPSTREAM_OWNER" "$(dirname "$(realpath "$0")")/${me%-*}-down" "$1" \
    </dev/null >/dev/null 2>&1 &
}
