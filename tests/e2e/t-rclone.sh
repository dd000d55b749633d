#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# rclone, whose S3 client is the Go SDK: sync, check, server-side copies, cat.
. "$(dirname "$0")/lib.sh"
requires rclone
start_target
export RCLONE_CONFIG=/dev/null RCLONE_CONFIG_X_TYPE=s3 RCLONE_CONFIG_X_PROVIDER=Other
export RCLONE_CONFIG_X_ENDPOINT=$url RCLONE_CONFIG_X_FORCE_PATH_STYLE=true RCLONE_CONFIG_X_ENV_AUTH=true
export RCLONE_RETRIES=1 RCLONE_LOW_LEVEL_RETRIES=1

mkdir -p "$work/tree/sub dir/deep" "$work/tree/v"
random_file "$work/tree/one.bin" 300000
random_file "$work/tree/sub dir/deep/ünicode ☃.zip" 123457
random_file "$work/tree/v/app-1.tar" 4000000
{ cat "$work/tree/v/app-1.tar"; echo changed; } >"$work/tree/v/app-2.tar"
: >"$work/tree/empty"
random_file "$work/tree/large.zip" 21000000

case_ "mkdir makes a bucket" rclone mkdir X:rclone-test
case_ "lsd lists it" bash -c "rclone lsd X: | grep -q ' rclone-test$'"
case_ "sync uploads a tree, large files in parts" rclone sync --s3-chunk-size 5M --s3-upload-cutoff 8M "$work/tree" X:rclone-test/tree
case_ "check compares sizes and hashes" rclone check "$work/tree" X:rclone-test/tree
case_ "check --download compares bytes" rclone check --download "$work/tree" X:rclone-test/tree
case_ "a second sync transfers nothing" bash -c \
  "rclone sync -v '$work/tree' X:rclone-test/tree 2>&1 | grep -q 'There was nothing to transfer'"
case_ "sync brings it back" rclone sync X:rclone-test/tree "$work/back"
case_ "the trees are the same" diff -r "$work/tree" "$work/back"
case_ "modification times are kept" bash -c \
  "test \$(stat -c %Y '$work/tree/one.bin') = \$(stat -c %Y '$work/back/one.bin')"
case_ "copy on the server" rclone copy X:rclone-test/tree X:rclone-test/copy
case_ "the copy is the same" rclone check --download "$work/tree" X:rclone-test/copy
case_ "a copy in parts on the server" rclone copyto --s3-copy-cutoff 6M --s3-chunk-size 5M X:rclone-test/tree/large.zip X:rclone-test/large2.zip
case_ "its bytes arrive" bash -c "rclone cat X:rclone-test/large2.zip | cmp - '$work/tree/large.zip'"
case_ "cat reads a range" bash -c \
  "rclone cat --offset 100 --count 50 X:rclone-test/tree/v/app-2.tar | cmp - <(tail -c +101 '$work/tree/v/app-2.tar' | head -c 50)"
case_ "rcat streams" bash -c "head -c 700000 '$work/tree/large.zip' | rclone rcat X:rclone-test/rcat.bin"
case_ "moveto renames" rclone moveto X:rclone-test/rcat.bin X:rclone-test/moved.bin
case_ "size counts" bash -c "rclone size X:rclone-test/tree | grep -q 'Total objects: 6'"
case_ "a changed file is found by sync" bash -c \
  "echo more >>'$work/tree/one.bin'; rclone sync '$work/tree' X:rclone-test/tree && rclone check '$work/tree' X:rclone-test/tree"
case_ "a deleted file is found by sync" bash -c \
  "rm '$work/tree/empty'; rclone sync '$work/tree' X:rclone-test/tree && ! rclone lsf X:rclone-test/tree | grep -q empty"
case_ "purge empties the bucket" rclone purge X:rclone-test
case_ "nothing is left in the store" bucket_is_gone rclone-test
finish
