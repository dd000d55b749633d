#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# s3cmd, which signs by itself: sync, put, get, cp, mv, info, del, multipart.
. "$(dirname "$0")/lib.sh"
requires s3cmd
start_target
printf '[default]\naccess_key = %s\nsecret_key = %s\nhost_base = %s\nhost_bucket = %s\nuse_https = False\n' \
  "$AWS_ACCESS_KEY_ID" "$AWS_SECRET_ACCESS_KEY" "$host" "$host" >"$work/s3cfg"
s() { s3cmd -c "$work/s3cfg" --no-progress "$@"; }

mkdir -p "$work/tree/a b"
random_file "$work/tree/one.bin" 100001
random_file "$work/tree/a b/zwei ü.zip" 70000
: >"$work/tree/empty"
random_file "$work/large.zip" 16000001

case_ "mb" s mb s3://cmd
case_ "ls" bash -c "s3cmd -c '$work/s3cfg' ls | grep -q s3://cmd"
case_ "put" s put "$work/tree/one.bin" s3://cmd/one.bin
case_ "get" s get s3://cmd/one.bin "$work/one.back"
case_ "the bytes are the same" cmp "$work/tree/one.bin" "$work/one.back"
case_ "sync up" s sync "$work/tree/" s3://cmd/tree/
case_ "sync down" bash -c "mkdir '$work/back' && s3cmd -c '$work/s3cfg' sync s3://cmd/tree/ '$work/back/'"
case_ "the trees are the same" diff -r "$work/tree" "$work/back"
case_ "a second sync has nothing to do" bash -c \
  "! s3cmd -c '$work/s3cfg' sync '$work/tree/' s3://cmd/tree/ | grep -q upload:"
case_ "put in parts" s put --multipart-chunk-size-mb=5 "$work/large.zip" s3://cmd/large.zip
case_ "get of it" s get s3://cmd/large.zip "$work/large.back"
case_ "byte-identical" cmp "$work/large.zip" "$work/large.back"
case_ "cp on the server" s cp s3://cmd/large.zip s3://cmd/large2.zip
case_ "mv on the server" s mv s3://cmd/large2.zip s3://cmd/large3.zip
case_ "info of an object" s info s3://cmd/one.bin
case_ "info of a bucket" s info s3://cmd
case_ "modify changes metadata" s modify --add-header=Cache-Control:no-cache s3://cmd/one.bin
case_ "a reader sees it" bash -c \
  "s3cmd -d -c '$work/s3cfg' info s3://cmd/one.bin 2>&1 | grep -qi 'cache-control.*no-cache'"
case_ "du counts" s du s3://cmd
case_ "put from stdin" bash -c "head -c 6000000 '$work/large.zip' | s3cmd -c '$work/s3cfg' --multipart-chunk-size-mb=5 put - s3://cmd/stdin"
case_ "multipart lists uploads" s multipart s3://cmd
case_ "del of many" s del --recursive --force s3://cmd/tree/
case_ "they are gone" bash -c "test -z \"\$(s3cmd -c '$work/s3cfg' ls -r s3://cmd/tree/)\""
case_ "rb --recursive" s rb --recursive --force s3://cmd
finish
