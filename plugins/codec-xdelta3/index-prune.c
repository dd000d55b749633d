/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "plugins/codec-xdelta3/index-file.h"

#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/banned.h"

/* A temporary file this old belongs to no build under way. */
#define ABANDONED_S 3600

struct kept_file {
  char *path;
  uint64_t size;
  int64_t used_s;
};

static void kept_file_free(void *file)
{
  g_free(((struct kept_file *)file)->path);
  g_free(file);
}

static gint by_use(gconstpointer a, gconstpointer b)
{
  const struct kept_file *x = *(const struct kept_file *const *)a;
  const struct kept_file *y = *(const struct kept_file *const *)b;

  return x->used_s < y->used_s ? -1 : x->used_s > y->used_s;
}

void index_prune(const struct codec *codec, const char *cache_dir, const char *newest)
{
  g_autoptr(GPtrArray) files = g_ptr_array_new_with_free_func(kept_file_free);
  int64_t now_s = g_get_real_time() / G_USEC_PER_SEC;
  GDir *dir = g_dir_open(cache_dir, 0, NULL);
  uint64_t total = 0;
  const char *name;

  while (dir && (name = g_dir_read_name(dir))) {
    g_autofree char *path = NULL;
    struct kept_file *file;
    struct stat st;

    if (!strstr(name, INDEX_SUFFIX))
      continue;
    path = g_build_filename(cache_dir, name, NULL);
    if (g_lstat(path, &st) < 0 || !S_ISREG(st.st_mode))
      continue;
    if (!g_str_has_suffix(name, INDEX_SUFFIX)) {
      if (now_s - st.st_mtime > ABANDONED_S)
        (void)g_unlink(path);
      continue;
    }
    file = g_new0(struct kept_file, 1);
    file->size = (uint64_t)st.st_size;
    file->used_s = st.st_mtime;
    file->path = g_steal_pointer(&path);
    total += file->size;
    g_ptr_array_add(files, file);
  }
  if (dir)
    g_dir_close(dir);
  g_ptr_array_sort(files, by_use);
  for (guint i = 0; i < files->len && total > codec->index_cache_size; i++) {
    const struct kept_file *file = files->pdata[i];

    if (strcmp(file->path, newest) == 0)
      continue;
    (void)g_unlink(file->path);
    total -= file->size;
  }
}
