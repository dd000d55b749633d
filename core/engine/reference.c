/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/engine/reference.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fault.h"
#include "common/hex.h"
#include "core/engine/callwait.h"
#include "core/engine/internal.h"
#include "core/engine/readers.h"
#include "core/engine/spool.h"

#include "common/banned.h"

#define MAX_IDLE_ENTRIES 512u  /* each holds a mapping */
#define MAX_NOTES 4096u
#define MAX_KEPT_BYTES (UINT64_C(32) << 30) /* of copies and indexes on disk, at the start */
#define FILE_ALIGNMENT 4096u   /* what a codec may map */

/* ABSENT -> LOADING -> READY; a failed load leaves the table again. */
struct dg_ref {
  struct dg_refcache *cache;
  struct ref_name {
    struct dg_codec *codec;
    uint32_t purpose;
    uint8_t sha256[32];
  } name;
  uint32_t users; /* waiting loaders included; 0: idle, in the LRU list */
  bool loading, failed, distrusted;
  GCond loaded;
  struct dg_error error;
  struct dg_codec_ref *codec_ref;
  uint64_t bytes;
  GList idle_link; /* in cache->idle, newest first */
};

/* A local file whose content was hashed by this process: not hashed again while
 * nothing about it changes. */
struct note {
  dev_t device;
  ino_t inode;
  uint64_t size_bytes;
  struct timespec modified, changed;
  uint8_t sha256[32];
};

struct dg_refcache {
  char *dir;
  uint64_t max_bytes;
  struct dg_log *log;
  struct dg_metrics *metrics;
  GMutex mutex; /* guards everything below and the entries' state */
  GHashTable *entries; /* struct ref_name * -> struct dg_ref * */
  GQueue idle;
  uint64_t bytes, hits, misses;
  GHashTable *notes; /* hex sha256 -> struct note * */
};

static guint hash_name(gconstpointer key)
{
  const struct ref_name *name = key;
  guint hash;

  memcpy(&hash, name->sha256, sizeof hash);
  return hash ^ name->purpose;
}

static gboolean equal_names(gconstpointer a, gconstpointer b)
{
  const struct ref_name *x = a, *y = b;

  return x->codec == y->codec && x->purpose == y->purpose &&
         memcmp(x->sha256, y->sha256, sizeof x->sha256) == 0;
}

struct kept_file {
  char *path;
  int64_t modified_s;
  uint64_t size_bytes;
};

static void kept_file_clear(gpointer file)
{
  g_free(((struct kept_file *)file)->path);
}

static gint newest_first(gconstpointer a, gconstpointer b)
{
  const struct kept_file *x = a, *y = b;

  return (y->modified_s > x->modified_s) - (y->modified_s < x->modified_s);
}

/* At the start: copies that a crash tore, and what is too much, oldest first. */
static void prune_dir(const char *path)
{
  g_autoptr(GArray) files = g_array_new(FALSE, FALSE, sizeof(struct kept_file));
  g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
  uint64_t total = 0;
  const char *name;

  g_array_set_clear_func(files, kept_file_clear);
  while (dir && (name = g_dir_read_name(dir))) {
    struct kept_file file = {.path = g_build_filename(path, name, NULL)};
    struct stat st;

    if (strstr(name, ".ref.") || lstat(file.path, &st) < 0 || !S_ISREG(st.st_mode)) {
      if (strstr(name, ".ref."))
        (void)unlink(file.path);
      g_free(file.path);
      continue;
    }
    file.modified_s = st.st_mtime;
    file.size_bytes = (uint64_t)st.st_size;
    g_array_append_val(files, file);
  }
  g_array_sort(files, newest_first);
  for (guint i = 0; i < files->len; i++) {
    const struct kept_file *file = &g_array_index(files, struct kept_file, i);

    total += file->size_bytes;
    if (total > MAX_KEPT_BYTES)
      (void)unlink(file->path);
  }
}

struct dg_refcache *dg_refcache_new(const char *dir, uint64_t max_bytes, struct dg_log *log,
                                    struct dg_metrics *metrics)
{
  struct dg_refcache *cache = g_new0(struct dg_refcache, 1);

  prune_dir(dir);
  cache->dir = g_strdup(dir);
  cache->max_bytes = max_bytes;
  cache->log = log;
  cache->metrics = metrics;
  g_mutex_init(&cache->mutex);
  cache->entries = g_hash_table_new(hash_name, equal_names);
  g_queue_init(&cache->idle);
  cache->notes = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
  return cache;
}

static void free_ref(struct dg_ref *ref)
{
  if (ref->codec_ref)
    dg_codec_ref_close(ref->name.codec, ref->codec_ref);
  g_cond_clear(&ref->loaded);
  g_free(ref);
}

/* Takes idle entries out until the budget holds; they are freed outside the
 * lock, as closing one may unmap gigabytes. */
static GSList *evict_locked(struct dg_refcache *cache, bool all)
{
  GSList *evicted = NULL;

  while (cache->idle.tail &&
         (all || cache->bytes > cache->max_bytes || cache->idle.length > MAX_IDLE_ENTRIES ||
          cache->max_bytes == 0)) {
    struct dg_ref *ref = cache->idle.tail->data;

    g_queue_unlink(&cache->idle, &ref->idle_link);
    (void)g_hash_table_remove(cache->entries, &ref->name);
    cache->bytes -= ref->bytes;
    evicted = g_slist_prepend(evicted, ref);
  }
  return evicted;
}

static void free_evicted(GSList *evicted)
{
  g_slist_free_full(evicted, (GDestroyNotify)free_ref);
}

void dg_refcache_free(struct dg_refcache *cache)
{
  if (!cache)
    return;
  free_evicted(evict_locked(cache, /* all= */ true));
  g_assert(g_hash_table_size(cache->entries) == 0);
  g_hash_table_unref(cache->entries);
  g_hash_table_unref(cache->notes);
  g_mutex_clear(&cache->mutex);
  g_free(cache->dir);
  g_free(cache);
}

/* ---- Local files --------------------------------------------------------------- */

static int hash_file(int fd, uint64_t offset, uint64_t size, const struct dg_call *call,
                     uint8_t sha256[32], struct dg_error *err)
{
  g_autofree char *buffer = g_malloc(DG_STREAM_CHUNK);
  struct dg_checksum sum = {0};
  int rc = 0;

  dg_checksum_init(&sum, DG_SUM_SHA256);
  while (rc == 0 && size) {
    ssize_t got = pread(fd, buffer, (size_t)MIN(size, DG_STREAM_CHUNK), (off_t)offset);

    if (got < 0 && errno == EINTR)
      continue;
    if (got <= 0) {
      rc = dg_fail(err, got < 0 ? DG_E_IO : DG_E_CORRUPT, "read of a reference: %s",
                   got < 0 ? g_strerror(errno) : "it is too short");
      break;
    }
    dg_checksum_update(&sum, buffer, (size_t)got);
    offset += (uint64_t)got;
    size -= (uint64_t)got;
    rc = dg_call_check(call, err);
  }
  if (rc == 0)
    (void)dg_checksum_final(&sum, sha256);
  dg_checksum_clear(&sum);
  return rc;
}

static bool take_note(int fd, uint64_t size, const uint8_t sha256[32], struct note *ret_note)
{
  struct stat st;

  if (fstat(fd, &st) < 0)
    return false;
  *ret_note = (struct note){.device = st.st_dev,
                            .inode = st.st_ino,
                            .size_bytes = size,
                            .modified = st.st_mtim,
                            .changed = st.st_ctim};
  memcpy(ret_note->sha256, sha256, sizeof ret_note->sha256);
  return true;
}

static bool same_note(const struct note *a, const struct note *b)
{
  return a->device == b->device && a->inode == b->inode && a->size_bytes == b->size_bytes &&
         a->modified.tv_sec == b->modified.tv_sec && a->modified.tv_nsec == b->modified.tv_nsec &&
         a->changed.tv_sec == b->changed.tv_sec && a->changed.tv_nsec == b->changed.tv_nsec &&
         memcmp(a->sha256, b->sha256, sizeof a->sha256) == 0;
}

/* Does the file hold this content? Hashes it unless this process has, and the
 * file was not touched since. */
static int check_file(struct dg_refcache *cache, const struct dg_call *call, int fd,
                      uint64_t offset, uint64_t size, const uint8_t sha256[32],
                      struct dg_error *err)
{
  g_autofree struct note *now = g_new0(struct note, 1);
  char hex[65];
  uint8_t actual[32];
  bool known = false, noted = take_note(fd, size, sha256, now);

  dg_hex_encode(sha256, 32, hex);
  if (noted) {
    const struct note *note;

    g_mutex_lock(&cache->mutex);
    note = g_hash_table_lookup(cache->notes, hex);
    known = note && same_note(note, now);
    g_mutex_unlock(&cache->mutex);
  }
  if (known)
    return 0;
  if (hash_file(fd, offset, size, call, actual, err) < 0)
    return -1;
  if (memcmp(actual, sha256, sizeof actual) != 0)
    return dg_fail(err, DG_E_CORRUPT, "the reference does not have the SHA-256 %.16s...", hex);
  if (noted) {
    g_mutex_lock(&cache->mutex);
    if (g_hash_table_size(cache->notes) >= MAX_NOTES)
      g_hash_table_remove_all(cache->notes);
    g_hash_table_replace(cache->notes, g_strdup(hex), g_steal_pointer(&now));
    g_mutex_unlock(&cache->mutex);
  }
  return 0;
}

static char *copy_path(const struct dg_refcache *cache, const uint8_t sha256[32])
{
  char hex[65];

  dg_hex_encode(sha256, 32, hex);
  return g_strdup_printf("%s/%s.ref", cache->dir, hex);
}

/* The load ended for a reason of the request that made it, or one that may have
 * gone by now: it says nothing about the reference. */
static bool is_of_request(int32_t code)
{
  return code == DG_E_CANCELLED || code == DG_E_TIMEOUT || code == DG_E_SLOW_DOWN;
}

/* A copy kept from before; *ret_fd is -1 when there is no good one. Fails only when
 * the request ends while the copy is checked. */
static int open_copy(struct dg_refcache *cache, const struct dg_call *call,
                     const uint8_t sha256[32], int *ret_fd, uint64_t *ret_size,
                     struct dg_error *err)
{
  g_autofree char *path = copy_path(cache, sha256);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  struct stat st;

  *ret_fd = -1;
  if (fd < 0)
    return 0;
  if (fstat(fd, &st) < 0) {
    (void)close(fd);
    return 0;
  }
  if (check_file(cache, call, fd, 0, (uint64_t)st.st_size, sha256, err) < 0) {
    (void)close(fd);
    if (is_of_request(err->code))
      return -1;
    (void)unlink(path); /* torn by a crash, or damaged: fetched again */
    return 0;
  }
  *ret_fd = fd;
  *ret_size = (uint64_t)st.st_size;
  return 0;
}

struct copy {
  int fd;
  uint64_t size_bytes;
};

static int copy_piece(void *receiver, const void *data, size_t len, struct dg_error *err)
{
  struct copy *copy = receiver;

  if (dg_write_all_at(copy->fd, data, len, copy->size_bytes, err) < 0)
    return -1;
  copy->size_bytes += len;
  return 0;
}

/* Streams a reference into the cache directory. Rebuildable, so not synced. */
static int make_copy(struct dg_refcache *cache, const struct dg_call *call, struct dg_reader *reader,
                     const uint8_t sha256[32], int *ret_fd, uint64_t *ret_size,
                     struct dg_error *err)
{
  g_autofree char *path = copy_path(cache, sha256);
  g_autofree char *temporary = g_strdup_printf("%s.XXXXXX", path);
  struct copy copy = {.fd = mkostemp(temporary, O_CLOEXEC)};

  if (copy.fd < 0)
    return dg_fail(err, dg_errno_code(errno), "make '%s': %s", temporary, g_strerror(errno));
  if (dg_reader_drain(reader, call, copy_piece, &copy, err) < 0 ||
      check_file(cache, call, copy.fd, 0, copy.size_bytes, sha256, err) < 0)
    goto fail;
  /* A delete of the reference may just have forgotten all its files, this one
   * too: the open descriptor serves this read, and nothing is kept. */
  if (rename(temporary, path) < 0 && errno != ENOENT) {
    (void)dg_fail(err, dg_errno_code(errno), "rename '%s': %s", temporary, g_strerror(errno));
    goto fail;
  }
  *ret_fd = copy.fd;
  *ret_size = copy.size_bytes;
  return 0;

fail:
  (void)close(copy.fd);
  (void)unlink(temporary);
  return -1;
}

/* A local file with the wanted content. */
static int find_file(struct dg_refcache *cache, const struct dg_call *call,
                     const struct dg_route *route, struct dg_slice prefix,
                     const uint8_t sha256[32], int *ret_fd, uint64_t *ret_offset,
                     uint64_t *ret_size, struct dg_error *err)
{
  struct dg_item item = dg_route_item(route, prefix, DG_VARIANT_REFERENCE);
  struct dg_reader *reader;
  struct dg_meta *meta;
  uint64_t offset, size;
  int32_t fd;
  int rc;

  *ret_offset = 0;
  if (!dg_backend_has(route->backend, DG_CAP_LOCAL_FILE)) {
    if (open_copy(cache, call, sha256, ret_fd, ret_size, err) < 0)
      return -1;
    if (*ret_fd >= 0)
      return 0;
  }
  meta = dg_meta_new();
  rc = dg_backend_get(route->backend, call, &item, (struct dg_range){0, DG_TO_END}, meta, &reader,
                      err);
  dg_meta_unref(meta);
  if (rc < 0)
    return -1;
  if (dg_reader_file_range(reader, &fd, &offset, &size, err) == 0) {
    dg_reader_close(reader);
    if (offset % FILE_ALIGNMENT == 0) {
      if (check_file(cache, call, fd, offset, size, sha256, err) < 0) {
        (void)close(fd);
        return -1;
      }
      *ret_fd = fd;
      *ret_offset = offset;
      *ret_size = size;
      return 0;
    }
    reader = dg_file_reader_new(fd, offset, size);
  }
  rc = make_copy(cache, call, reader, sha256, ret_fd, ret_size, err);
  dg_reader_close(reader);
  return rc;
}

/* ---- Opening --------------------------------------------------------------------- */

/* Fills ref->codec_ref. Runs without the cache's lock. */
static int load(struct dg_refcache *cache, const struct dg_call *call, const struct dg_route *route,
                struct dg_permits *permits, struct dg_slice prefix, struct dg_ref *ref,
                struct dg_error *err)
{
  struct dg_codec_ref_params params = {.struct_size = sizeof params, .cache_dir = cache->dir};
  int number = dg_fault("engine.reference.load");
  int fd, rc;

  if (number)
    return dg_fail(err, dg_errno_code(number), "injected at engine.reference.load");
  if (find_file(cache, call, route, prefix, ref->name.sha256, &fd, &params.offset,
                &params.size_bytes, err) < 0)
    return -1;
  params.fd = fd;
  params.flags = ref->name.purpose == DG_REF_FOR_DECODE ? DG_CODEC_REF_DECODE_ONLY : 0;
  memcpy(params.sha256, ref->name.sha256, sizeof params.sha256);
  rc = dg_permits_take(permits, call,
                       ref->name.purpose == DG_REF_FOR_DECODE ? DG_PERMIT_WAIT_GET_MS
                                                              : DG_PERMIT_WAIT_PUT_MS,
                       err);
  if (rc == 0) {
    rc = dg_codec_ref_open(ref->name.codec, call, &params, &ref->codec_ref, err);
    dg_permits_give(permits);
  }
  (void)close(fd);
  if (rc == 0)
    ref->bytes = dg_codec_ref_bytes(ref->name.codec, ref->codec_ref) + sizeof *ref;
  return rc;
}

static struct dg_ref *find_locked(struct dg_refcache *cache, const struct ref_name *name)
{
  struct dg_ref *ref;

  if (name->purpose == DG_REF_FOR_DECODE) {
    struct ref_name richer = *name;

    richer.purpose = DG_REF_FOR_ENCODE;
    ref = g_hash_table_lookup(cache->entries, &richer);
    if (ref && !ref->loading)
      return ref;
  }
  return g_hash_table_lookup(cache->entries, name);
}

static void show_locked(struct dg_refcache *cache)
{
  double max = (double)cache->max_bytes;

  dg_metrics_set(cache->metrics, DG_METRIC_CACHE_SIZE_BYTES, NULL, NULL, (double)cache->bytes);
  dg_metrics_set(cache->metrics, DG_METRIC_CACHE_MAX_BYTES, NULL, NULL, max);
  dg_metrics_set(cache->metrics, DG_METRIC_CACHE_ENTRIES, NULL, NULL,
                 g_hash_table_size(cache->entries));
  dg_metrics_set(cache->metrics, DG_METRIC_CACHE_UTILIZATION_RATIO, NULL, NULL,
                 max > 0 ? (double)cache->bytes / max : 0);
  dg_metrics_set(cache->metrics, DG_METRIC_CACHE_MISS_RATE_RATIO, NULL, NULL,
                 cache->misses ? (double)cache->misses / (double)(cache->hits + cache->misses) : 0);
}

/* Drops one user; the last one makes it idle, or frees what has left the table. */
static GSList *drop_user_locked(struct dg_ref *ref)
{
  struct dg_refcache *cache = ref->cache;

  if (--ref->users > 0)
    return NULL;
  if (ref->failed || ref->distrusted)
    return g_slist_prepend(NULL, ref);
  ref->idle_link.data = ref;
  g_queue_push_head_link(&cache->idle, &ref->idle_link);
  return evict_locked(cache, /* all= */ false);
}

/* Counts a look, once however often the request must look. */
static void count_look_locked(struct dg_refcache *cache, bool hit)
{
  cache->hits += hit;
  cache->misses += !hit;
  dg_metrics_add(cache->metrics, hit ? DG_METRIC_CACHE_HITS_TOTAL : DG_METRIC_CACHE_MISSES_TOTAL,
                 NULL, NULL, NULL, 1);
}

/* Loads a reference that the table does not have. */
static int load_first(struct dg_refcache *cache, const struct dg_call *call,
                      const struct dg_route *route, struct dg_permits *permits,
                      struct dg_slice prefix, const struct ref_name *name, GSList **freed,
                      struct dg_ref **ret_ref, struct dg_error *err)
{
  struct dg_ref *ref = g_new0(struct dg_ref, 1);
  int rc;

  ref->cache = cache;
  ref->name = *name;
  ref->users = 1;
  ref->loading = true;
  g_cond_init(&ref->loaded);
  g_hash_table_insert(cache->entries, &ref->name, ref);
  g_mutex_unlock(&cache->mutex);
  rc = load(cache, call, route, permits, prefix, ref, err);
  g_mutex_lock(&cache->mutex);
  ref->loading = false;
  g_cond_broadcast(&ref->loaded);
  if (rc < 0) {
    ref->failed = true;
    ref->error = *err;
    if (!ref->distrusted)
      (void)g_hash_table_remove(cache->entries, &ref->name);
    *freed = g_slist_concat(*freed, drop_user_locked(ref));
  } else {
    if (!ref->distrusted)
      cache->bytes += ref->bytes;
    *freed = g_slist_concat(*freed, evict_locked(cache, /* all= */ false));
    *ret_ref = ref;
  }
  show_locked(cache);
  return rc;
}

/* Waits while another request loads it, no longer than its own call may. */
static int wait_loaded(struct dg_ref *ref, const struct dg_call *call, struct dg_error *err)
{
  while (ref->loading)
    if (dg_call_wait(call, &ref->loaded, &ref->cache->mutex, /* until_mono_ms= */ 0, err) < 0)
      return -1;
  return 0;
}

/* Uses what the table has. *ret_ref is NULL when it must be looked for again, as the
 * request that loaded it was ended. */
static int use_found(struct dg_ref *ref, const struct dg_call *call, GSList **freed,
                     struct dg_ref **ret_ref, struct dg_error *err)
{
  int rc;

  *ret_ref = NULL;
  if (ref->users++ == 0)
    g_queue_unlink(&ref->cache->idle, &ref->idle_link);
  rc = wait_loaded(ref, call, err);
  if (rc == 0 && !ref->failed) {
    *ret_ref = ref;
    return 0;
  }
  if (rc == 0 && !is_of_request(ref->error.code)) {
    *err = ref->error;
    rc = -1;
  }
  *freed = g_slist_concat(*freed, drop_user_locked(ref));
  return rc;
}

int dg_refcache_open(struct dg_refcache *cache, const struct dg_call *call,
                     const struct dg_route *route, struct dg_permits *permits,
                     struct dg_slice prefix, const uint8_t sha256[32], uint32_t purpose,
                     bool *ret_deferred, struct dg_ref **ret_ref, bool *ret_hit,
                     struct dg_error *err)
{
  struct ref_name name = {.codec = route->codec, .purpose = purpose};
  struct dg_ref *ref = NULL;
  GSList *freed = NULL;
  bool counted = false;
  int rc = 0;

  memcpy(name.sha256, sha256, sizeof name.sha256);
  g_mutex_lock(&cache->mutex);
  while (rc == 0 && !ref) {
    struct dg_ref *found = find_locked(cache, &name);

    bool at_hand = found && !found->loading;

    if (!at_hand && ret_deferred) {
      *ret_deferred = true;
      rc = dg_fail(err, DG_E_SLOW_DOWN, "the reference is not at hand");
      break;
    }
    if (!counted) {
      *ret_hit = at_hand;
      counted = true;
      count_look_locked(cache, at_hand);
    }
    rc = found ? use_found(found, call, &freed, &ref, err)
               : load_first(cache, call, route, permits, prefix, &name, &freed, &ref, err);
  }
  g_mutex_unlock(&cache->mutex);
  free_evicted(freed);
  if (rc == 0)
    *ret_ref = ref;
  return rc;
}

void dg_ref_close(struct dg_ref *ref)
{
  struct dg_refcache *cache;
  GSList *evicted;

  if (!ref)
    return;
  cache = ref->cache;
  g_mutex_lock(&cache->mutex);
  evicted = drop_user_locked(ref);
  show_locked(cache);
  g_mutex_unlock(&cache->mutex);
  free_evicted(evicted);
}

const struct dg_codec_ref *dg_ref_codec(const struct dg_ref *ref)
{
  return ref->codec_ref;
}

/* Those of one content, or of one codec. */
static GSList *distrust_locked(struct dg_refcache *cache, const uint8_t *sha256,
                               const struct dg_codec *codec)
{
  GSList *freed = NULL;
  GHashTableIter iter;
  gpointer value;

  g_hash_table_iter_init(&iter, cache->entries);
  while (g_hash_table_iter_next(&iter, NULL, &value)) {
    struct dg_ref *ref = value;

    if (sha256 ? memcmp(ref->name.sha256, sha256, sizeof ref->name.sha256) != 0
               : ref->name.codec != codec)
      continue;
    g_hash_table_iter_remove(&iter);
    ref->distrusted = true;
    if (!ref->loading)
      cache->bytes -= ref->bytes;
    if (ref->users == 0) {
      g_queue_unlink(&cache->idle, &ref->idle_link);
      freed = g_slist_prepend(freed, ref);
    }
  }
  return freed;
}

void dg_refcache_evict(struct dg_refcache *cache, const uint8_t sha256[32])
{
  GSList *freed;
  char hex[65];

  dg_hex_encode(sha256, 32, hex);
  g_mutex_lock(&cache->mutex);
  (void)g_hash_table_remove(cache->notes, hex);
  freed = distrust_locked(cache, sha256, NULL);
  g_mutex_unlock(&cache->mutex);
  free_evicted(freed);
}

void dg_refcache_evict_codec(struct dg_refcache *cache, const struct dg_codec *codec)
{
  GSList *freed;

  g_mutex_lock(&cache->mutex);
  freed = distrust_locked(cache, NULL, codec);
  show_locked(cache);
  g_mutex_unlock(&cache->mutex);
  free_evicted(freed);
}

/* Whatever is kept for one content is named HEX.something. */
void dg_refcache_forget(struct dg_refcache *cache, const uint8_t sha256[32])
{
  g_autoptr(GDir) dir = g_dir_open(cache->dir, 0, NULL);
  const char *name;
  char hex[65];

  dg_refcache_evict(cache, sha256);
  dg_hex_encode(sha256, 32, hex);
  while (dir && (name = g_dir_read_name(dir)))
    if (g_str_has_prefix(name, hex)) {
      g_autofree char *path = g_build_filename(cache->dir, name, NULL);

      (void)unlink(path);
    }
}

uint64_t dg_refcache_max(const struct dg_refcache *cache)
{
  return cache->max_bytes;
}

void dg_refcache_usage(struct dg_refcache *cache, uint64_t *ret_bytes, uint64_t *ret_entries)
{
  g_mutex_lock(&cache->mutex);
  *ret_bytes = cache->bytes;
  *ret_entries = g_hash_table_size(cache->entries);
  g_mutex_unlock(&cache->mutex);
}
