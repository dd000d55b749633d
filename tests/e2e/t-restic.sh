#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# restic: a backup program that verifies every byte it stored.
. "$(dirname "$0")/lib.sh"
requires restic
start_target
export RESTIC_REPOSITORY=s3:$url/backup RESTIC_PASSWORD=secret RESTIC_CACHE_DIR=$work/cache-restic
export RESTIC_PROGRESS_FPS=0

mkdir -p "$work/tree/a/b"
for n in $(seq 40); do random_file "$work/tree/a/b/file $n" $((n * 3001)); done
random_file "$work/tree/large.zip" 30000000
: >"$work/tree/empty"

case_ "init makes the bucket and the repository" restic init
case_ "backup" restic backup "$work/tree"
case_ "check reads all data back" restic check --read-data
echo changed >>"$work/tree/a/b/file 7"
rm "$work/tree/a/b/file 8"
case_ "a second backup" restic backup "$work/tree"
case_ "two snapshots are listed" bash -c "restic snapshots | grep -q '^2 snapshots'"
case_ "restore" restic restore latest --target "$work/restored"
case_ "the trees are the same" diff -r "$work/tree" "$work/restored$work/tree"
case_ "forget and prune delete" restic forget --keep-last 1 --prune
case_ "check reads all data again" restic check --read-data
case_ "the restored tree is still the same" bash -c \
  "rm -rf '$work/restored'; restic restore latest --target '$work/restored' && diff -r '$work/tree' '$work/restored$work/tree'"
finish
