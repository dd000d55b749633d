/* SPDX-License-Identifier: Apache-2.0 */
/* Metadata attributes of backend-fs. What is accepted must be JSON to another
 * parser too, and must survive being written and read again. */
#include "config.h"

#include "tests/fuzz/fuzz.h"

#include <glib.h>
#include <jansson.h>
#include <string.h>

#include "common/meta.h"
#include "plugins/backend-fs/metajson.h"

#include "common/banned.h"

static const struct dg_host host = {.struct_size = sizeof host,
                                    .meta_set = dg_meta_set,
                                    .meta_add_user = dg_meta_add_user,
                                    .meta_add_extension = dg_meta_add_extension};

/* Numbers that no double or int64 holds are the other parser's own limit. */
static int is_json(const uint8_t *data, size_t size)
{
  json_error_t why;
  json_t *object = json_loadb((const char *)data, size, 0, &why);
  int good = object || strstr(why.text, "too big") || strstr(why.text, "overflow");

  json_decref(object);
  return good;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  g_autofree char *exact = g_memdup2(data, size);
  struct dg_meta *first = dg_meta_new(), *second = dg_meta_new();
  g_autoptr(GString) once = g_string_new(NULL), twice = g_string_new(NULL);
  struct dg_error err = {0};

  if (size && dg_fs_json_read(&host, (struct dg_slice){exact, size}, first, &err) == 0) {
    FUZZ_CHECK(is_json(data, size));
    FUZZ_CHECK(dg_fs_json_write(first, 0, once, &err) == 0);
    FUZZ_CHECK(dg_fs_json_read(&host, (struct dg_slice){once->str, once->len}, second, &err) == 0);
    FUZZ_CHECK(dg_fs_json_write(second, 0, twice, &err) == 0);
    FUZZ_CHECK(strcmp(once->str, twice->str) == 0);
  } else if (size) {
    FUZZ_CHECK(err.code == DG_E_CORRUPT);
  }
  dg_meta_unref(first);
  dg_meta_unref(second);
  return 0;
}
