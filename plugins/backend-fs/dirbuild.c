/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "dirbuild.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "entries.h"

#include "common/banned.h"

/* Memory of one sorted run; ten million names make some twenty-five runs. */
#define RUN_BYTES (32u * 1024u * 1024u)

struct dg_dirchange *dg_dirchange_new(const struct dg_fs_entry *entry, bool present)
{
  struct dg_dirchange *change =
    g_malloc(sizeof *change + entry->sort.len + entry->disk.len);

  if (entry->sort.len)
    memcpy(change->text, entry->sort.data, entry->sort.len);
  if (entry->disk.len)
    memcpy(change->text + entry->sort.len, entry->disk.data, entry->disk.len);
  change->entry = (struct dg_fs_entry){{change->text, entry->sort.len},
                                       {change->text + entry->sort.len, entry->disk.len},
                                       entry->kind};
  change->present = present;
  return change;
}

static int compare_changes(const void *a, const void *b, void *unused)
{
  (void)unused;
  return dg_fs_entry_compare(&((const struct dg_dirchange *)a)->entry,
                             &((const struct dg_dirchange *)b)->entry);
}

GTree *dg_dirchange_tree(void)
{
  return g_tree_new_full(compare_changes, NULL, g_free, NULL);
}

void dg_dirmerge_start(struct dg_dirmerge *merge, const struct dg_indexfile *base, GTree *overlay,
                       const struct dg_fs_entry *from, bool after)
{
  struct dg_dirchange key = {.entry = *from};

  merge->base = base;
  merge->at = dg_indexfile_bound(base, from, after);
  merge->node = after ? g_tree_upper_bound(overlay, &key) : g_tree_lower_bound(overlay, &key);
}

bool dg_dirmerge_next(struct dg_dirmerge *merge, struct dg_fs_entry *ret_entry)
{
  for (;;) {
    bool has_base = merge->at < dg_indexfile_count(merge->base);
    const struct dg_dirchange *change = merge->node ? g_tree_node_key(merge->node) : NULL;
    struct dg_fs_entry entry;
    int order = has_base ? -1 : 1;

    if (!has_base && !change)
      return false;
    if (has_base)
      entry = dg_indexfile_at(merge->base, merge->at);
    if (has_base && change)
      order = dg_fs_entry_compare(&entry, &change->entry);
    if (order <= 0)
      merge->at++;
    if (order >= 0) {
      merge->node = g_tree_node_next(merge->node);
      if (!change->present)
        continue;
      entry = change->entry;
    }
    *ret_entry = entry;
    return true;
  }
}

int dg_dirbuild_anonymous(struct dg_fs *fs, bool in_memory)
{
  char temp[32];
  int fd;

  if (in_memory)
    return memfd_create("dg-index", MFD_CLOEXEC);
  dg_fs_temp_name(fs, temp);
  fd = openat(fs->staging_fd, temp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd >= 0)
    (void)unlinkat(fs->staging_fd, temp, 0);
  return fd;
}

struct build {
  struct dg_fs *fs;
  struct dg_fs_entries run;
  GPtrArray *runs; /* struct dg_indexfile */
  bool in_memory;
  struct dg_error *err;
};

static int write_run(struct build *build, int fd, struct dg_error *err)
{
  struct dg_indexfile_writer *writer;
  struct dg_indexfile *file;

  if (fd < 0)
    return dg_fs_fail(err, errno, "create a temporary for a directory index");
  writer = dg_indexfile_writer_new(fd);
  dg_fs_entries_sort(&build->run);
  for (guint i = 0; i < build->run.rows->len; i++)
    dg_indexfile_add(writer, dg_fs_entries_at(&build->run, i));
  if (dg_indexfile_finish(writer, NULL, &file, err) < 0)
    return -1;
  dg_fs_entries_empty(&build->run);
  g_ptr_array_add(build->runs, file);
  return 0;
}

static int collect(void *receiver, const struct dg_fs_entry *entry)
{
  struct build *build = receiver;

  dg_fs_entries_add(&build->run, entry);
  if (build->run.bytes < RUN_BYTES)
    return 0;
  return write_run(build, dg_dirbuild_anonymous(build->fs, build->in_memory), build->err) < 0 ? 1 : 0;
}

static int fail_hurt(struct dg_indexfile_writer *writer, struct dg_error *err)
{
  dg_indexfile_writer_abort(writer);
  return dg_fail(err, DG_E_IO, "the file of a directory index was cut short, or cannot be read");
}

static bool any_hurt(const GPtrArray *runs)
{
  for (guint i = 0; i < runs->len; i++)
    if (dg_indexfile_is_hurt(runs->pdata[i]))
      return true;
  return false;
}

static int merge_runs(const GPtrArray *runs, int out_fd, struct dg_indexfile **ret_file,
                      struct dg_error *err)
{
  struct dg_indexfile_writer *writer = dg_indexfile_writer_new(out_fd);
  g_autofree uint64_t *at = g_new0(uint64_t, runs->len);

  for (;;) {
    struct dg_fs_entry least = {0};
    guint from = runs->len;

    for (guint i = 0; i < runs->len; i++) {
      struct dg_fs_entry entry;

      if (at[i] == dg_indexfile_count(runs->pdata[i]))
        continue;
      entry = dg_indexfile_at(runs->pdata[i], at[i]);
      if (from == runs->len || dg_fs_entry_compare(&entry, &least) < 0) {
        least = entry;
        from = i;
      }
    }
    if (from == runs->len)
      return any_hurt(runs) ? fail_hurt(writer, err)
                            : dg_indexfile_finish(writer, NULL, ret_file, err);
    dg_indexfile_add(writer, &least);
    at[from]++;
  }
}

static void unref_file(void *file)
{
  dg_indexfile_unref(file);
}

int dg_dirbuild_scan(struct dg_fs *fs, int dir_fd, int out_fd, bool in_memory,
                     struct dg_indexfile **ret_file, struct dg_error *err)
{
  g_autoptr(GPtrArray) runs = g_ptr_array_new_with_free_func(unref_file);
  DG_FS_AUTO_FD out = out_fd;
  struct build build = {.fs = fs, .runs = runs, .in_memory = in_memory, .err = err};
  int rc;

  dg_fs_entries_init(&build.run);
  err->code = DG_E_OK;
  rc = dg_fs_dir_scan(fs, dir_fd, collect, &build, err);
  if (rc == 0 && err->code != DG_E_OK)
    rc = -1; /* a run could not be written */
  if (rc == 0 && runs->len == 0) {
    rc = write_run(&build, dg_fs_steal_fd(&out), err);
    if (rc == 0)
      *ret_file = dg_indexfile_ref(runs->pdata[0]);
  } else if (rc == 0) {
    rc = write_run(&build, dg_dirbuild_anonymous(fs, in_memory), err);
    if (rc == 0)
      rc = merge_runs(runs, dg_fs_steal_fd(&out), ret_file, err);
  }
  dg_fs_entries_clear(&build.run);
  return rc;
}

int dg_dirbuild_fold(const struct dg_indexfile *base, GTree *overlay, int out_fd,
                     struct dg_indexfile **ret_file, struct dg_error *err)
{
  struct dg_indexfile_writer *writer = dg_indexfile_writer_new(out_fd);
  struct dg_fs_entry first = {{"", 0}, {"", 0}, 0}, entry;
  struct dg_dirmerge merge;

  dg_dirmerge_start(&merge, base, overlay, &first, /* after= */ false);
  while (dg_dirmerge_next(&merge, &entry))
    dg_indexfile_add(writer, &entry);
  if (dg_indexfile_is_hurt(base))
    return fail_hurt(writer, err);
  return dg_indexfile_finish(writer, NULL, ret_file, err);
}
