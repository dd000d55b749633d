/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "fs.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "common/oserror.h"

#include "common/banned.h"

int dg_fs_fail(struct dg_error *err, int errnum, const char *format, ...)
{
  char what[160];
  va_list args;

  va_start(args, format);
  (void)vsnprintf(what, sizeof what, format, args);
  va_end(args);
  return dg_fail(err, dg_errno_code(errnum), "%s: %s", what, g_strerror(errnum));
}

int dg_fs_step(const struct dg_fs *fs, const char *step)
{
#ifdef DG_FAULT_POINTS
  return fs->host && fs->host->fault ? fs->host->fault(fs->host, step) : 0;
#else
  (void)fs;
  (void)step;
  return 0;
#endif
}

void dg_fs_log(const struct dg_fs *fs, uint32_t level, const char *event, const char *format, ...)
{
  char message[1024];
  va_list args;

  if (!fs->host || !fs->host->log)
    return;
  va_start(args, format);
  (void)vsnprintf(message, sizeof message, format, args);
  va_end(args);
  fs->host->log(fs->host, level, event, message);
}

int dg_fs_check_call(const struct dg_call *call, struct dg_error *err)
{
  if (!call)
    return 0;
  if (call->cancelled && __atomic_load_n(call->cancelled, __ATOMIC_RELAXED))
    return dg_fail(err, DG_E_CANCELLED, "the client left");
  if (call->deadline_mono_ms) {
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    if ((uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u > call->deadline_mono_ms)
      return dg_fail(err, DG_E_TIMEOUT, "the request's deadline has passed");
  }
  return 0;
}

pthread_rwlock_t *dg_fs_bucket_lock(struct dg_fs *fs, struct dg_slice bucket)
{
  uint32_t hash = 2166136261u;

  for (size_t i = 0; i < bucket.len; i++)
    hash = (hash ^ (uint8_t)bucket.data[i]) * 16777619u;
  return &fs->bucket_locks[hash % DG_FS_BUCKET_LOCKS];
}

void dg_fs_temp_name(struct dg_fs *fs, char out[static 32])
{
  (void)snprintf(out, 32, "t%016" PRIxFAST64,
                 atomic_fetch_add_explicit(&fs->next_temp, 1, memory_order_relaxed));
}

int dg_fs_slice_compare(struct dg_slice a, struct dg_slice b)
{
  size_t shorter = MIN(a.len, b.len);
  int order = shorter ? memcmp(a.data, b.data, shorter) : 0;

  return order ? order : (a.len > b.len) - (a.len < b.len);
}
