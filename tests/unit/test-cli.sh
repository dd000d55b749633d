#!/bin/sh
# The command line: exit codes, and that messages name place and remedy.
set -eu
server=$top_builddir/core/deltaglider_proxy
work=$(mktemp -d "${TMPDIR:-/tmp}/test-cli-XXXXXX")
trap 'rm -rf "$work"' EXIT
for name in $(env | sed -n 's/^\(DGP_[A-Z_]*\)=.*/\1/p'); do unset "$name"; done
unset RUST_LOG
bad=0

# expect CODE WORDS COMMAND...: the exit code, and words in the output
expect() {
  want=$1 words=$2
  shift 2
  code=0
  (cd "$work" && "$@") >"$work/out" 2>&1 || code=$?
  if [ "$code" -ne "$want" ] || ! grep -qF -e "$words" "$work/out"; then
    echo "test-cli: $*: exit $code instead of $want, or without '$words':"
    cat "$work/out"
    bad=$((bad + 1))
  fi
}

cat >"$work/good.yaml" <<'TEXT'
access: { access_key_id: a, secret_access_key: b }
storage: { filesystem: ./data }
TEXT
printf 'advanced:\n  cache_sise_mb: 1\n' >"$work/typo.yaml"
printf 'advanced: [' >"$work/torn.yaml"

printf 'access_key_id: a\nsecret_access_key: hush\nfilesystem: /srv/x\n' >"$work/flat.yaml"
printf 'access_key_id: a\nadvanced: {}\n' >"$work/mixed.yaml"
printf 'access: {access_key_id: "${env:TEST_UNSET_NAME}"}\n' >"$work/unset.yaml"
printf 'storage: {buckets: {bee: {public_prefixes: ["", x]}}}\n' >"$work/dropped.yaml"

expect 0 "deltaglider_proxy " "$server" --version
expect 0 "Usage:" "$server" --help
expect 2 "--help" "$server" --no-such-option
expect 2 "unknown command" "$server" frobnicate
expect 0 "backend-fs" "$server" --list-plugins
expect 0 "path (path" "$server" --describe-plugin backend-fs
expect 1 "not found in" "$server" --describe-plugin backend-nowhere
expect 0 "DGP_LISTEN_ADDR=" "$server" --show-env
expect 0 "listen_addr:" "$server" config example
expect 0 "serves='yes'" "$server" --explain
expect 0 "data_dir='a b'" "$server" --explain -vd "a b"
expect 0 "listen='x:1'" "$server" --liste=x:1 --explain
expect 0 "config_file='good.yaml'" "$server" --explain --conf good.yaml
expect 0 "config_file='flat.yaml'" env DGP_CONFIG=flat.yaml "$server" --explain
expect 0 "serves='no'" "$server" --explain config lint torn.yaml
expect 0 "serves='no'" "$server" --vers --explain
expect 1 "TOML is not supported" "$server" --explain -c x.toml
expect 2 "no-such-option" "$server" --explain --no-such-option
expect 0 "json-schema.org/draft-07" "$server" config schema
expect 0 '"backend-fs": {' "$server" config defaults
expect 0 '"codec-xdelta3": {' \
  sh -c '"$1" config schema --out schema.json && cat schema.json' sh "$server"
expect 0 '"recursive_delete": {' "$server" config defaults
expect 0 "recursive_delete: false" "$server" config example
expect 0 '"mpu_delta_reconstruct_max_bytes": {' "$server" config defaults
expect 0 '"delta_sniffing": {' "$server" config defaults
expect 3 "nowhere/x" "$server" config example --out nowhere/x
expect 2 "takes no --out" "$server" config lint good.yaml --out x
expect 2 "unknown command" "$server" config export
expect 0 "path: /srv/x" "$server" config export flat.yaml
expect 4 "do not mix" "$server" config lint mixed.yaml
expect 4 "the variable is not set" "$server" config lint unset.yaml
expect 0 "error: dropped.yaml:1:49: storage.buckets.bee: the public prefix 'x'" \
  "$server" config lint dropped.yaml
expect 0 "good.yaml: valid" "$server" config lint good.yaml
expect 3 "nofile" "$server" config lint nofile
expect 4 "torn.yaml:" "$server" config lint torn.yaml
expect 6 "typo.yaml:2:3: advanced: unknown key 'cache_sise_mb': did you mean 'cache_size_mb'?" \
  "$server" config lint typo.yaml
printf 'advanced: { instances: 2 }\nstorage:\n  filesystem: ./data\n' >"$work/shared.yaml"
expect 6 "shared.yaml:3:3: backend 'default' cannot be shared by 2 instances: backend-fs is for one server: use an S3 storage with conditional writes, or one server with advanced.instances: 1" \
  "$server" config lint shared.yaml
printf 'advanced: { instances: 2 }\nstorage:\n  backends: [{ name: up, type: s3, endpoint: "https://h.example" }]\n' \
  >"$work/shared.yaml"
expect 0 "shared.yaml: valid" "$server" config lint shared.yaml
expect 1 "set access.access_key_id" "$server" --data-dir data
expect 1 "cert_path 'none.pem': No such file" \
  env DGP_TLS_ENABLED=true DGP_TLS_CERT=none.pem DGP_TLS_KEY=none.key \
  "$server" --config good.yaml
expect 1 "DGP_FAULT" env DGP_FAULT=x "$server" --config good.yaml
expect 1 "undefined symbol: nobody_defines_this" \
  "$server" --plugin-dir "$top_builddir/tests/unit" --describe-plugin codec-broken
(cd "$work" && "$server" config export flat.yaml) | grep -q hush && {
  echo "test-cli: an export shows a secret"
  bad=$((bad + 1))
}
cat >"$work/rules.yaml" <<'TEXT'
access: { access_key_id: a, secret_access_key: b }
admission:
  blocks:
    - { name: office, match: { source_ip: 192.0.2.0/24, method: [PUT] }, action: deny }
    - { name: tea, match: { path_glob: 'tea/*' }, action: { type: reject, status: 418, message: "no\"" } }
storage: { filesystem: ./data, buckets: { bee: { public_prefixes: [open/] } } }
TEXT
# traced JSON-WORDS ARGUMENT...: the answer's words, without blanks
traced() {
  want=$1
  shift
  got=$(cd "$work" && "$server" admission trace --config rules.yaml "$@" | tr -d ' \n')
  [ "$got" = "$want" ] || {
    echo "test-cli: admission trace $*: $got instead of $want"
    bad=$((bad + 1))
  }
}
traced '{"resolved":{"method":"PUT","bucket":"bee","key":"ab","list_prefix":null,"authenticated":true},"admission":{"decision":"deny","matched":"office"}}' \
  --method put --path /bee/a%62 --source-ip 192.0.2.9 --authenticated
traced '{"resolved":{"method":"PUT","bucket":"bee","key":"ab","list_prefix":null,"authenticated":false},"admission":{"decision":"continue"}}' \
  --method PUT --path /bee/ab
traced '{"resolved":{"method":"GET","bucket":"bee","key":null,"list_prefix":"tea/x","authenticated":false},"admission":{"decision":"reject","matched":"tea","status":418,"message":"no\""}}' \
  --method GET --path /bee --query 'list-type=2&prefix=tea%2Fx'
traced '{"resolved":{"method":"GET","bucket":"bee","key":"open/1","list_prefix":null,"authenticated":false},"admission":{"decision":"allow-anonymous","matched":"public-prefix:bee"}}' \
  --method GET --path /bee/open/1
traced '{"resolved":{"method":"GET","bucket":"bee","key":"open/1","list_prefix":null,"authenticated":true},"admission":{"decision":"continue"}}' \
  --method GET --path /bee/open/1 --query X-Amz-Signature=0
traced '{"resolved":{"method":"GET","bucket":null,"key":null,"list_prefix":null,"authenticated":false},"admission":{"decision":"continue"}}' \
  --method GET --path /
expect 0 '"deny"' env DGP_CONFIG=rules.yaml "$server" admission trace --method PUT --path /b/k \
  --source-ip 192.0.2.1
expect 2 "needs --method and --path" "$server" admission trace --method GET
expect 2 "begins with '/'" "$server" admission trace --config rules.yaml --method GET --path '/a?b'
expect 2 "is no address" "$server" admission trace --config rules.yaml --method GET --path / \
  --source-ip 192.0.2.0/24
expect 2 "go with admission trace" "$server" --method GET
expect 3 "nofile" "$server" admission trace --config nofile --method GET --path /
expect 6 "typo.yaml:2:3" "$server" admission trace --config typo.yaml --method GET --path /

# A password in an endpoint, from the file and from the environment: refused unseen.
for endpoint in 'https://us:hush@h.example' 'http://us:hush@h.example' 'us:hush@h.example' \
  'https://us:hu/sh@h.example:x' 'https://h.example/?hush'; do
  printf 'access: {access_key_id: a, secret_access_key: b}\nstorage:\n  backends:\n%s%s%s\n' \
    "    - {name: one, type: s3, endpoint: '" "$endpoint" "'}" >"$work/user.yaml"
  expect 1 "endpoint '" "$server" --config user.yaml
  grep -qE 'hush|hu/|us:' "$work/out" && {
    echo "test-cli: the secret of an endpoint is logged:"
    cat "$work/out"
    bad=$((bad + 1))
  }
  expect 1 "endpoint '" env DGP_S3_ENDPOINT="$endpoint" "$server" -v --config good.yaml
  grep -qE 'hush|hu/|us:' "$work/out" && {
    echo "test-cli: the secret of an endpoint is logged:"
    cat "$work/out"
    bad=$((bad + 1))
  }
done
[ ! -e "$work/data" ] || { echo "test-cli: a refused start left files"; bad=$((bad + 1)); }
[ "$bad" -eq 0 ] || exit 1
echo "test-cli: exit codes and messages are as the manual says"
