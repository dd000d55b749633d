#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What a newcomer types first: scripts/serve and scripts/demo over the real server,
# and scripts/build over a small project that changes as trees do between pulls.
. "$(dirname "$0")/lib.sh"
scripts=$(cd "$e2e_dir/../../scripts" && pwd)
requires autoreconf make gcc curl
for name in $(compgen -v DGP_); do unset "$name"; done

# ---- scripts/serve: everything is installed and built already ----
top=$work/serve
mkdir -p "$top/scripts" "$top/run"
cp "$scripts/serve" "$scripts/demo" "$scripts/demo.py" "$top/scripts"
printf '#!/bin/sh\n' | tee "$top/scripts/packages" >"$top/scripts/build"
chmod +x "$top/scripts/packages" "$top/scripts/build"
ln -s "$build" "$top/build"

answers() { # the server just started, in a while
  local n=0
  until curl -sf -o /dev/null "http://127.0.0.1:$port/_/health"; do
    n=$((n + 1))
    if [ $n -gt 400 ] || ! kill -0 "$server_pid" 2>/dev/null; then cat "$work/serve.log" && return 1; fi
    sleep 0.05 # until something listens: there is no event to wait for
  done
}
serve() { # on $port, until it answers
  (cd "$top/run" && exec "$top/scripts/serve") >"$work/serve.log" 2>&1 &
  server_pid=$!
  answers
}
serve_ends() { kill -TERM "$server_pid" && wait "$server_pid" && server_pid=; }
# The keys in the file are those the server asks for.
kept_keys_work() {
  local key secret
  key=$(sed -n s/^access_key_id=//p "$top/run/data/credentials")
  secret=$(sed -n s/^secret_access_key=//p "$top/run/data/credentials")
  test "$(curl -s -o /dev/null -w '%{http_code}' "http://127.0.0.1:$port/")" = 403 &&
    curl -sf -o /dev/null --user "$key:$secret" --aws-sigv4 aws:amz:us-east-1:s3 \
      -H "x-amz-content-sha256: UNSIGNED-PAYLOAD" "http://127.0.0.1:$port/"
}

take_port
export DGP_LISTEN_ADDR=127.0.0.1:$port
case_ "the first start serves" serve
case_ "its keys are kept, for their owner only" test "$(stat -c %a "$top/run/data/credentials")" = 600
case_ "it prints them, and the address" grep -q \
  "AWS_SECRET_ACCESS_KEY=$(sed -n s/^secret_access_key=//p "$top/run/data/credentials") " "$work/serve.log"
case_ "they open the server" kept_keys_work
case_ "the server ends when told" serve_ends
cp "$top/run/data/credentials" "$work/credentials"
case_ "a second start serves" serve
case_ "it keeps the keys" cmp "$work/credentials" "$top/run/data/credentials"
case_ "it prints no secret" bash -c "! grep -q \"\$(sed -n s/^secret_access_key=//p '$work/credentials')\" '$work/serve.log'"
random_file "$work/app-1.tar" 300000
{ cat "$work/app-1.tar" && echo more; } >"$work/app-2.tar"
demo() { (cd "$top/run" && unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY && "$top/scripts/demo" "$@" >"$work/demo.table"); }
case_ "the demo runs with the kept keys" demo "$work/app-1.tar" "$work/app-2.tar"
case_ "its table has the original and the saving" grep -Eq \
  '^app-2.tar +300,005 +[0-9]{2,4} +(9[0-9]|100)\.[0-9] % +[0-9]+ +[0-9]+$' "$work/demo.table"
case_ "it sums up" grep -Eq '^all +600,005 +30[0-9],[0-9]{3} +(49|50)\.[0-9] %' "$work/demo.table"
case_ "the second server ends when told" serve_ends
cp "$top/run/data/credentials" "$work/credentials" && rm -r "$top/run/data"
case_ "without a server the demo starts one" demo "$work/app-1.tar"
case_ "which keeps its log to itself" test "$(stat -c %a "$top/run/demo-server.log")" = 600
case_ "and ends with it" bash -c "! curl -s -o /dev/null http://127.0.0.1:$port/"
for folder in "$build"/plugins/*-*/; do
  case_ "$(basename "$folder") is found" bash -c \
    "'$top/scripts/serve' --list-plugins | grep -q '^$(basename "$folder") '"
done
"$top/scripts/serve" config example >"$top/run/deltaglider_proxy.yaml"
case_ "a configuration without credentials is served" serve
case_ "the kept keys open it" kept_keys_work
case_ "the third server ends when told" serve_ends
printf 'access: { access_key_id: other, secret_access_key: other-secret }\n' >"$top/run/deltaglider_proxy.yaml"
case_ "a configuration with credentials is served" serve
kept_keys_fail() { ! kept_keys_work; }
case_ "the kept keys do not open it" kept_keys_fail
case_ "the fourth server ends when told" serve_ends
unset DGP_LISTEN_ADDR
rm "$top/run/deltaglider_proxy.yaml"

# ---- where to store and to listen, by arguments ----
server_in() { # FOLDER ARGUMENTS...: as serve()
  local folder=$1
  shift
  (cd "$top/run" && exec "$top/scripts/serve" "$@") >"$work/serve.log" 2>&1 &
  server_pid=$!
  answers
  test -s "$folder/credentials" && grep -q "endpoint-url http://127.0.0.1:$port " "$work/serve.log"
}
rm -rf "$top/run/data"
case_ "-d and -l choose folder and address" server_in "$work/d1" -d "$work/d1" -l "127.0.0.1:$port"
case_ "that server ends when told" serve_ends
case_ "so they do written together" server_in "$work/d2" "-d$work/d2" "-l0.0.0.0:$port"
case_ "that server ends when told, too" serve_ends
case_ "and as long options" server_in "$work/d3" -v --data-dir="$work/d3" --listen "127.0.0.1:$port"
case_ "that server ends as the others do" serve_ends
case_ "and in short, as the server takes them" server_in "$work/d4" --verb --data="$work/d4" --liste "127.0.0.1:$port"
case_ "that server ends as well" serve_ends
case_ "and behind another option's letter" server_in "$work/d 5'" "-vd$work/d 5'" -vl "127.0.0.1:$port"
case_ "that server ends, too" serve_ends
"$top/scripts/serve" config example >"$work/named.yaml"
sed -i "s/^  listen_addr:.*/  listen_addr: 127.0.0.1:$port/" "$work/named.yaml"
named() { # ARGUMENTS...: what they name is served, with the keys that are kept
  (cd "$top/run" && exec "$top/scripts/serve" "$@") >"$work/serve.log" 2>&1 &
  server_pid=$!
  answers && ! grep -q endpoint-url "$work/serve.log"
}
case_ "a configuration named in short is found" named -vc "$work/named.yaml" -d "$work/d3"
case_ "that one ends when told" serve_ends
case_ "and with its long option" named --conf "$work/named.yaml" --data "$work/d3"
case_ "this one ends when told" serve_ends
case_ "an unknown option is an error" bash -c \
  "cd '$top/run' && ! '$top/scripts/serve' --nonsense 2>'$work/nonsense' && grep -q nonsense '$work/nonsense'"
case_ "a question is answered" bash -c "cd '$top/run' && '$top/scripts/serve' --vers | grep -q deltaglider_proxy"
case_ "nothing is made where nobody asked for it" test ! -e "$top/run/data"

# ---- a server that does not come up in time ----
printf '#!/bin/sh\necho $$ >"%s"\nexec sleep 600\n' "$work/stuck.pid" >"$top/scripts/serve"
demo_gives_up() {
  ! (cd "$top/run" && "$top/scripts/demo" --wait 1 --endpoint "http://127.0.0.1:$port" "$work/app-1.tar") &&
    test -s "$work/stuck.pid" && ! kill -0 "$(cat "$work/stuck.pid")" 2>/dev/null
}
case_ "the demo ends a server that does not answer" demo_gives_up
cp "$scripts/serve" "$top/scripts"

# ---- the systemd unit ----
unit_dir=$(sed -n 's/^systemdsystemunitdir = //p' "$build/Makefile" | sed "s|\$(prefix)|$(sed -n 's/^prefix = //p' "$build/Makefile")|")
unit() { make -s -C "$build" "$1-systemdsystemunitDATA" DESTDIR="$work/dest"; }
case_ "make install installs the systemd unit" unit install
case_ "it runs the server where it is installed" grep -q \
  "^ExecStart=$(sed -n 's/^prefix = //p' "$build/Makefile")/bin/deltaglider_proxy$" \
  "$work/dest$unit_dir/deltaglider_proxy.service"
case_ "make uninstall removes it" unit uninstall
case_ "nothing is left of it" test -z "$(find "$work/dest" -type f)"

# ---- scripts/build: a project of one program ----
project=$work/project
mkdir -p "$project/scripts" "$project/core"
cp "$scripts/build" "$project/scripts"
cat >"$project/configure.ac" <<'TEXT'
AC_INIT([small], [1])
AC_CONFIG_AUX_DIR([build-aux])
AM_INIT_AUTOMAKE([foreign subdir-objects])
AC_PROG_CC
AC_ARG_ENABLE([loud], [], [CFLAGS="$CFLAGS -DLOUD"])
AC_CONFIG_FILES([Makefile core/Makefile])
AC_OUTPUT
TEXT
echo 'SUBDIRS = core' >"$project/Makefile.am"
printf 'bin_PROGRAMS = deltaglider_proxy\ndeltaglider_proxy_SOURCES = main.c\n' >"$project/core/Makefile.am"
cat >"$project/core/main.c" <<'TEXT'
#include <stdio.h>
int main(void)
{
#ifdef LOUD
  fputs("loud ", stdout);
#endif
#if defined SUBSTITUTED
  puts("substituted");
#elif defined MAKEFILE
  puts("makefile");
#else
  puts("first");
#endif
  return 0;
}
TEXT
says() { test "$("$project/build/core/deltaglider_proxy")" = "$1"; }
builds() { "$project/scripts/build" "$project/build" "$@"; }
builds_nothing() { test -z "$(builds "$@" 2>&1)"; }

case_ "a fresh clone is built" builds
case_ "it runs" says first
case_ "a second build has nothing to do" builds_nothing
sed -i 's/"first"/"second"/' "$project/core/main.c"
case_ "a changed source is built" builds
case_ "the change is in" says second
echo 'AM_CPPFLAGS = -DMAKEFILE $(MORE)' >>"$project/core/Makefile.am"
touch "$project/core/main.c"
case_ "a changed Makefile.am is built" builds
case_ "its flags are in" says makefile
sed -i 's/^AC_PROG_CC/&\nAC_SUBST([MORE], [-DSUBSTITUTED])/; s/^AC_OUTPUT/AC_CONFIG_FILES([more\/Makefile])\n&/' \
  "$project/configure.ac"
mkdir "$project/more"
echo 'SUBDIRS = core more' >"$project/Makefile.am"
printf 'bin_PROGRAMS = more\nmore_SOURCES = more.c\n' >"$project/more/Makefile.am"
echo 'int main(void) { return 0; }' >"$project/more/more.c"
touch "$project/core/main.c"
case_ "a new folder in configure.ac is built" builds
case_ "its program runs" "$project/build/more/more"
case_ "what configure.ac substitutes is in" says substituted
case_ "other arguments build anew" builds --enable-loud
case_ "every object has them" says "loud substituted"
case_ "the same arguments have nothing to do" builds_nothing --enable-loud
case_ "without arguments nothing changes" builds_nothing
builds_something() { ! builds_nothing "$@"; }
sed -i '1s/.*/none/' "$project/build/.configured"
case_ "what was configured without libcheck is configured again" builds_something --enable-loud
mv "$project" "$work/elsewhere"
project=$work/elsewhere
sed -i 's/loud /LOUD /' "$project/core/main.c"
case_ "a tree that was moved is built" builds --enable-loud
case_ "from its own sources" says "LOUD substituted"
[ "$failures" = 0 ]
