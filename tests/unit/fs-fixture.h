/* SPDX-License-Identifier: Apache-2.0 */
/* A data root of its own, a host that injects faults, and short forms of the
 * backend's operations, for the tests of backend-fs. */
#ifndef DG_TEST_FS_FIXTURE_H
#define DG_TEST_FS_FIXTURE_H

#include <stdbool.h>

#include <glib.h>

#include <deltaglider/plugin.h>

#include "common/meta.h"

struct fs_fixture {
  char *base, *root, *cache; /* base holds the other two */
  struct dg_host host;
  const struct dg_backend_ops *ops;
  void *self;
  char *config_path, *config_index;

  /* Faults: the fault_at-th time (from 1) that a step begins with fault_step,
   * it fails with fault_errno; negative: the process ends with status 99. */
  const char *fault_step;
  unsigned fault_at, fault_seen;
  int fault_errno;
  GPtrArray *steps; /* every step asked for, when not NULL */
};

/* Ends the program with status 77, saying why, when no temporary directory
 * with user extended attributes is to be had. First thing in main(). */
void fs_fixture_require(void);

/* A fresh root with bucket "bkt". in_memory: on a tmpfs where that will do. */
struct fs_fixture *fs_fixture_new(bool in_memory);
void fs_fixture_free(struct fs_fixture *fixture);

/* Closes and opens the instance again, as a restart does. */
void fs_fixture_restart(struct fs_fixture *fixture);
int fs_fixture_open(struct fs_fixture *fixture, struct dg_error *err);
void fs_fixture_close(struct fs_fixture *fixture);

/* Absolute path below the root; free with g_free(). */
char *fs_path(const struct fs_fixture *fixture, const char *relative);

struct dg_slice fs_slice(const char *text);
struct dg_item fs_item(const char *key, uint32_t variant);

/* Writes an object with plausible metadata. Return 0 or -1. */
int fs_put(struct fs_fixture *fixture, const char *key, uint32_t variant, const void *data,
           size_t len, struct dg_error *err);
int fs_put_meta(struct fs_fixture *fixture, const char *key, const void *data, size_t len,
                const struct dg_meta *meta, struct dg_error *err);
void fs_must_put(struct fs_fixture *fixture, const char *key, const char *text);

/* The object's bytes, NUL-terminated, or NULL with err. */
char *fs_get(struct fs_fixture *fixture, const char *key, uint32_t variant, struct dg_meta *meta,
             struct dg_error *err);
void fs_must_hold(struct fs_fixture *fixture, const char *key, const char *text);
void fs_must_lack(struct fs_fixture *fixture, const char *key);
int fs_remove(struct fs_fixture *fixture, const char *key, uint32_t variant, struct dg_error *err);

/* Rows joined by '\n'; common prefixes are written as "PRE:...". */
char *fs_list(struct fs_fixture *fixture, const char *prefix, const char *delimiter,
              const char *start_after, uint32_t flags, unsigned limit);

/* A file behind the backend's back; json NULL: no attribute. */
void fs_drop_file(struct fs_fixture *fixture, const char *relative, const char *text,
                  const char *json);

/* Entries below the staging directory. */
unsigned fs_staged(struct fs_fixture *fixture);

#endif
