#!/bin/sh
# The public header is C99, clean in C++, needs nothing but the C library, and
# refuses to be used by accident while its ABI is not frozen.
set -eu
work=$(mktemp -d "${TMPDIR:-/tmp}/test-header-XXXXXX")
trap 'rm -rf "$work"' EXIT
printf '#define DG_ABI_UNSTABLE\n#include <deltaglider/plugin.h>\n%s\n%s\n' \
  'static const struct dg_plugin plugin = {sizeof(struct dg_plugin), DG_ABI_MAJOR, DG_ABI_MINOR};' \
  'DG_PLUGIN_ENTRY(backend_x, plugin)' >"$work/a.c"
cp "$work/a.c" "$work/a.cc"
${CC:-cc} -std=c99 -pedantic-errors -Wall -Werror -I"$top_srcdir/include" -fsyntax-only "$work/a.c"
if command -v c++ >/dev/null 2>&1; then
  c++ -std=c++11 -pedantic-errors -Wall -Werror -I"$top_srcdir/include" -fsyntax-only "$work/a.cc"
fi
echo '#include <deltaglider/plugin.h>' >"$work/b.c"
if ${CC:-cc} -std=c99 -I"$top_srcdir/include" -fsyntax-only "$work/b.c" 2>/dev/null; then
  echo "test-header: the header compiles without DG_ABI_UNSTABLE"
  exit 1
fi
echo "test-header: C99, C++11, and not by accident"
