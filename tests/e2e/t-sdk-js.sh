#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The AWS SDK v3 for JavaScript, with the versions that sdk-js/package-lock.json
# pins. It is installed once, into the build tree, from the configured registry.
. "$(dirname "$0")/lib.sh"
requires node npm
modules=$build/tests/e2e-sdk-js
if ! cmp -s "$e2e_dir/sdk-js/package-lock.json" "$modules/package-lock.json"; then
  mkdir -p "$modules"
  cp "$e2e_dir/sdk-js/package.json" "$e2e_dir/sdk-js/package-lock.json" "$modules"
  if ! (cd "$modules" && npm ci --no-audit --no-fund --ignore-scripts) >"$work/npm.log" 2>&1; then
    rm -f "$modules/package-lock.json"
    if [ "${DG_E2E_STRICT:-0}" != 0 ]; then
      echo "not ok $topic: npm installs the SDK"
      tail -n 20 "$work/npm.log" >&2
      exit 1
    fi
    echo "skip $topic: npm cannot install the SDK: $(tail -n 1 "$work/npm.log")"
    exit 0
  fi
fi
cp "$e2e_dir/sdk-js/test.mjs" "$modules/test.mjs"
start_target
node "$modules/test.mjs" "$url" || failures=1
finish
