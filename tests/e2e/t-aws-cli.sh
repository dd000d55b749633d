#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The AWS command line client as people use it: mb, cp, sync, ls, mv, rm, rb,
# presign, and its low-level commands.
. "$(dirname "$0")/lib.sh"
aws=/usr/bin/aws # another aws may stand first in PATH
requires "$aws" curl
start_target
s3() { "$aws" --endpoint-url "$url" s3 "$@"; }
api() { "$aws" --endpoint-url "$url" --output text s3api "$@"; }

case_ "a bucket is made" s3 mb s3://first
case_ "making it twice is refused" bash -c "! $aws --endpoint-url $url s3 mb s3://first"
case_ "it is listed" bash -c "$aws --endpoint-url $url s3 ls | grep -q ' first$'"

mkdir -p "$work/tree/a b" "$work/tree/c/d"
random_file "$work/tree/one.bin" 100000
random_file "$work/tree/a b/zwei + drei.zip" 70000
random_file "$work/tree/c/d/größe ☃.tar" 150000
: >"$work/tree/c/empty"
case_ "cp uploads a file" s3 cp "$work/tree/one.bin" s3://first/one.bin
case_ "cp brings it back" s3 cp s3://first/one.bin "$work/one.back"
case_ "the bytes are the same" cmp "$work/tree/one.bin" "$work/one.back"
case_ "sync uploads a tree with odd names" s3 sync "$work/tree" s3://first/tree
case_ "sync brings it back" s3 sync s3://first/tree "$work/tree2"
case_ "the trees are the same" diff -r "$work/tree" "$work/tree2"
case_ "a second sync has nothing to do" bash -c \
  "test -z \"\$($aws --endpoint-url $url s3 sync '$work/tree' s3://first/tree)\""
case_ "ls --recursive counts them" bash -c \
  "test \$($aws --endpoint-url $url s3 ls --recursive s3://first/tree/ | wc -l) = 4"
case_ "ls shows folders" bash -c "$aws --endpoint-url $url s3 ls s3://first/tree/ | grep -q 'PRE a b/'"
case_ "cp copies on the server" s3 cp s3://first/one.bin s3://first/copy/one.bin
case_ "mv moves" s3 mv s3://first/copy/one.bin s3://first/moved.bin
case_ "what was moved is gone" bash -c "! $aws --endpoint-url $url s3 ls s3://first/copy/one.bin"
random_file "$work/big" 20000003
case_ "a multipart upload passes" s3 cp "$work/big" s3://first/big.zip
case_ "and comes back" s3 cp s3://first/big.zip "$work/big.back"
case_ "byte-identical" cmp "$work/big" "$work/big.back"
case_ "a large server-side copy passes" s3 cp s3://first/big.zip s3://first/big2.zip
case_ "its bytes arrive too" bash -c \
  "$aws --endpoint-url $url s3 cp s3://first/big2.zip - | cmp - '$work/big'"
case_ "cp from stdin" bash -c "head -c 9000000 '$work/big' | $aws --endpoint-url $url s3 cp - s3://first/stdin"
case_ "presign gives a link that works" bash -c \
  "curl -sf \"\$($aws --endpoint-url $url s3 presign s3://first/one.bin)\" | cmp - '$work/tree/one.bin'"
case_ "put-object with a checksum" api put-object --bucket first --key sum --body "$work/tree/one.bin" \
  --checksum-algorithm CRC32
case_ "head-object shows it" bash -c \
  "$aws --endpoint-url $url --output text s3api head-object --bucket first --key sum \
     --checksum-mode ENABLED --query ChecksumCRC32 | grep -q =="
case_ "get-object verifies it" api get-object --bucket first --key sum --checksum-mode ENABLED "$work/sum"
case_ "get-object takes a range" bash -c \
  "$aws --endpoint-url $url s3api get-object --bucket first --key one.bin --range bytes=5-9 '$work/r' \
     && tail -c +6 '$work/tree/one.bin' | head -c 5 | cmp - '$work/r'"
case_ "get-bucket-location" api get-bucket-location --bucket first
case_ "rm --recursive empties a prefix" s3 rm --recursive s3://first/tree
case_ "it is empty" bash -c "! $aws --endpoint-url $url s3 ls s3://first/tree/"
case_ "rb of a full bucket is refused" bash -c "! $aws --endpoint-url $url s3 rb s3://first"
case_ "rb --force removes it" s3 rb --force s3://first
case_ "nothing is left in the store" bucket_is_gone first
finish
