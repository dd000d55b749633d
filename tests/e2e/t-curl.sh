#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# curl: its own SigV4, no signature at all, strange framing, virtual hosts.
. "$(dirname "$0")/lib.sh"
requires curl
start_target DGP_BASE_DOMAINS=s3.example.test
sig=(--aws-sigv4 aws:amz:us-east-1:s3 -u "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY")
c() { curl -s --fail-with-body "${sig[@]}" "$@"; }
code() { curl -s -o /dev/null -w '%{http_code}' "$@"; }
random_file "$work/one" 70001
empty=e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855

case_ "a bucket is made" c -X PUT -H "x-amz-content-sha256: $empty" "$url/curl"
case_ "a signed upload, payload unsigned" c -H 'x-amz-content-sha256: UNSIGNED-PAYLOAD' -T "$work/one" "$url/curl/one"
case_ "a signed upload, payload signed" c -H "x-amz-content-sha256: $(sha256sum "$work/one" | cut -d' ' -f1)" \
  -T "$work/one" "$url/curl/one.zip"
case_ "a wrong payload digest is refused" test 400 = "$(code "${sig[@]}" -H "x-amz-content-sha256: $empty" \
  -T "$work/one" "$url/curl/wrong")"
case_ "a chunked upload of unknown length" bash -c "cat '$work/one' | curl -s --fail-with-body ${sig[*]} \
  -H 'x-amz-content-sha256: UNSIGNED-PAYLOAD' -T - '$url/curl/chunked'"
for key in one one.zip chunked; do
  case_ "$key comes back" bash -c "curl -s --fail-with-body ${sig[*]} -H 'x-amz-content-sha256: $empty' '$url/curl/$key' | cmp - '$work/one'"
done
case_ "a range" bash -c "curl -s ${sig[*]} -H 'x-amz-content-sha256: $empty' -r 10-19 '$url/curl/one' | cmp - <(tail -c +11 '$work/one' | head -c 10)"
case_ "no signature, no access" test 403 = "$(code "$url/curl/one")"
case_ "a wrong secret is told apart" bash -c "curl -s --aws-sigv4 aws:amz:us-east-1:s3 -u '$AWS_ACCESS_KEY_ID:wrong' \
  -H 'x-amz-content-sha256: $empty' '$url/curl/one' | grep -q SignatureDoesNotMatch"
case_ "an unknown key is denied" bash -c "curl -s --aws-sigv4 aws:amz:us-east-1:s3 -u 'nobody:wrong' \
  -H 'x-amz-content-sha256: $empty' '$url/curl/one' | grep -q '<Code>AccessDenied'"
case_ "any region is taken" curl -sf --aws-sigv4 aws:amz:eu-central-7:s3 -u "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" \
  -H "x-amz-content-sha256: $empty" -o /dev/null "$url/curl/one"
case_ "the bucket in the host name" bash -c "curl -s --fail-with-body ${sig[*]} -H 'x-amz-content-sha256: $empty' \
  --resolve 'curl.s3.example.test:$port:127.0.0.1' 'http://curl.s3.example.test:$port/one' | cmp - '$work/one'"
case_ "HEAD / answers strangers" test 200 = "$(code -I "$url/")"
case_ "GET / does not" test 403 = "$(code "$url/")"
case_ "OPTIONS passes" test 200 = "$(code -X OPTIONS "$url/curl/one")"
finish
