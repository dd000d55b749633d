/* SPDX-License-Identifier: Apache-2.0 */
/* Multipart uploads on disk. */
#include "config.h"

#include "core/engine/upload.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fault.h"
#include "common/hex.h"
#include "core/engine/spool.h"

#include "common/banned.h"

#define PART_MAGIC "DGPART1\n"
#define JSON_MAX_BYTES (4u * 1024u * 1024u)

static gint compare_numbers(gconstpointer a, gconstpointer b)
{
  return (gint)GPOINTER_TO_UINT(a) - (gint)GPOINTER_TO_UINT(b);
}

struct dg_upload *dg_upload_new(const char *dir, const char *id)
{
  struct dg_upload *upload = g_new0(struct dg_upload, 1);

  upload->refs = 1;
  (void)g_strlcpy(upload->id, id, sizeof upload->id);
  upload->dir = g_build_filename(dir, id, NULL);
  upload->meta = dg_meta_new();
  upload->touched_mono_ms = dg_time_mono_ms();
  upload->parts = g_tree_new(compare_numbers);
  upload->native.busy = g_hash_table_new(NULL, NULL);
  g_mutex_init(&upload->mutex);
  g_cond_init(&upload->changed);
  return upload;
}

/* ---- Parts --------------------------------------------------------------------------- */

/* Layout, little-endian: magic 8, part 4, kind 4, checksum length 4, CRC-32C of
 * the bytes 4, size 8 modified 8, md5 16, checksum 32, native 4, tag 136, zeros, CRC-32C
 * of the trailer before it 4. */
void dg_part_encode(const struct dg_part *part, uint8_t trailer[DG_PART_TRAILER])
{
  uint32_t words[4] = {GUINT32_TO_LE(part->part_no), GUINT32_TO_LE(part->checksum_kind),
                       GUINT32_TO_LE(part->checksum_len), GUINT32_TO_LE(part->crc32c)};
  uint64_t longs[2] = {GUINT64_TO_LE(part->size_bytes),
                       GUINT64_TO_LE((uint64_t)part->modified_s)};
  uint32_t native = GUINT32_TO_LE(part->is_native ? 1u : 0u), crc;

  G_STATIC_ASSERT(92 + sizeof part->tag <= DG_PART_TRAILER - 4);
  memset(trailer, 0, DG_PART_TRAILER);
  memcpy(trailer, PART_MAGIC, 8);
  memcpy(trailer + 8, words, 16);
  memcpy(trailer + 24, longs, 16);
  memcpy(trailer + 40, part->md5, 16);
  memcpy(trailer + 56, part->checksum, 32);
  memcpy(trailer + 88, &native, 4);
  memcpy(trailer + 92, part->tag, sizeof part->tag);
  crc = GUINT32_TO_LE(dg_crc32c(0, trailer, DG_PART_TRAILER - 4));
  memcpy(trailer + DG_PART_TRAILER - 4, &crc, 4);
}

bool dg_part_decode(const uint8_t trailer[DG_PART_TRAILER], struct dg_part *ret_part)
{
  uint32_t words[4], native, crc;
  uint64_t longs[2];

  memcpy(&crc, trailer + DG_PART_TRAILER - 4, 4);
  if (memcmp(trailer, PART_MAGIC, 8) != 0 ||
      GUINT32_FROM_LE(crc) != dg_crc32c(0, trailer, DG_PART_TRAILER - 4))
    return false;
  memcpy(words, trailer + 8, 16);
  memcpy(&native, trailer + 88, 4);
  memcpy(longs, trailer + 24, 16);
  *ret_part = (struct dg_part){.part_no = GUINT32_FROM_LE(words[0]),
                               .checksum_kind = GUINT32_FROM_LE(words[1]),
                               .checksum_len = GUINT32_FROM_LE(words[2]),
                               .crc32c = GUINT32_FROM_LE(words[3]),
                               .is_native = native != 0,
                               .size_bytes = GUINT64_FROM_LE(longs[0]),
                               .modified_s = (int64_t)GUINT64_FROM_LE(longs[1])};
  memcpy(ret_part->md5, trailer + 40, 16);
  memcpy(ret_part->checksum, trailer + 56, 32);
  memcpy(ret_part->tag, trailer + 92, sizeof ret_part->tag);
  return ret_part->checksum_len <= sizeof ret_part->checksum &&
         memchr(ret_part->tag, '\0', sizeof ret_part->tag);
}

char *dg_upload_part_path(const struct dg_upload *upload, uint32_t part_no)
{
  return g_strdup_printf("%s/part-%05u", upload->dir, part_no);
}

static bool read_part(const char *path, struct dg_part *ret_part)
{
  uint8_t trailer[DG_PART_TRAILER];
  struct stat st;
  bool good = false;
  int fd = open(path, O_RDONLY | O_CLOEXEC);

  if (fd < 0)
    return false;
  if (fstat(fd, &st) == 0 && st.st_size >= (off_t)DG_PART_TRAILER &&
      pread(fd, trailer, sizeof trailer, st.st_size - (off_t)DG_PART_TRAILER) ==
        (ssize_t)sizeof trailer)
    good = dg_part_decode(trailer, ret_part) &&
           (ret_part->is_native ? 0 : ret_part->size_bytes) ==
             (uint64_t)st.st_size - DG_PART_TRAILER;
  (void)close(fd);
  return good;
}

int dg_upload_load_parts_locked(struct dg_upload *upload, struct dg_error *err)
{
  g_autoptr(GDir) dir = NULL;
  const char *name;

  if (upload->parts_loaded)
    return 0;
  dir = g_dir_open(upload->dir, 0, NULL);
  if (!dir)
    return dg_fail(err, DG_E_IO, "open '%s'", upload->dir);
  while ((name = g_dir_read_name(dir))) {
    g_autofree char *path = g_build_filename(upload->dir, name, NULL);
    struct dg_part part;

    if (g_str_has_prefix(name, "part-") && read_part(path, &part))
      g_tree_replace(upload->parts, GUINT_TO_POINTER(part.part_no), g_memdup2(&part, sizeof part));
  }
  upload->parts_loaded = true;
  return 0;
}

/* ---- JSON ------------------------------------------------------------------------------ */

/* Metadata values need not be UTF-8, as JSON must be. */
static json_t *text_to_json(struct dg_slice text)
{
  g_autofree char *base64 = NULL;

  if (g_utf8_validate_len(text.len ? text.data : "", text.len, NULL))
    return json_stringn(text.len ? text.data : "", text.len);
  base64 = g_base64_encode((const guchar *)text.data, text.len);
  return json_pack("{s:s}", "base64", base64);
}

/* The result lives in *arena or in the JSON value. */
static struct dg_slice text_of_json(const json_t *value, GPtrArray *arena)
{
  const char *base64 = json_string_value(json_object_get(value, "base64"));
  gsize len;
  char *text;

  if (!base64)
    return dg_slice_of(json_string_value(value) ? json_string_value(value) : "",
                       json_string_length(value));
  text = (char *)g_base64_decode(base64, &len);
  g_ptr_array_add(arena, text);
  return dg_slice_of(text, len);
}

static json_t *pairs_to_json(const struct dg_pair *pairs, uint32_t count)
{
  json_t *list = json_array();

  for (uint32_t i = 0; i < count; i++) {
    json_t *pair = json_array();

    json_array_append_new(pair, text_to_json(pairs[i].name));
    json_array_append_new(pair, text_to_json(pairs[i].value));
    json_array_append_new(list, pair);
  }
  return list;
}

static int load_pairs(const json_t *list, GPtrArray *arena, struct dg_meta *meta,
                      int (*add)(struct dg_meta *meta, struct dg_slice name, struct dg_slice value,
                                 struct dg_error *err),
                      struct dg_error *err)
{
  size_t i;
  json_t *pair;

  json_array_foreach(list, i, pair)
    if (add(meta, text_of_json(json_array_get(pair, 0), arena),
            text_of_json(json_array_get(pair, 1), arena), err) < 0)
      return -1;
  return 0;
}

int dg_dir_sync(const char *dir, struct dg_error *err)
{
  int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  int rc = fd < 0 ? -1 : fsync(fd);
  int number = errno;

  if (fd >= 0)
    (void)close(fd);
  return rc < 0 ? dg_fail(err, dg_errno_code(number), "sync '%s': %s", dir, g_strerror(number)) : 0;
}

/* Durable and whole, or not there. document is transferred. */
static int save_json(const char *dir, const char *name, json_t *document, struct dg_error *err)
{
  g_autofree char *path = g_build_filename(dir, name, NULL);
  g_autofree char *temporary = g_strdup_printf("%s/tmp-%s", dir, name);
  char *text = json_dumps(document, JSON_COMPACT);
  int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  int rc;

  json_decref(document);
  if (fd < 0) {
    free(text);
    return dg_fail(err, dg_errno_code(errno), "make '%s': %s", temporary, g_strerror(errno));
  }
  rc = text ? dg_write_all_at(fd, text, strlen(text), 0, err)
            : dg_fail(err, DG_E_INTERNAL, "cannot write '%s' as JSON", name);
  free(text);
  if (rc == 0 && (fsync(fd) < 0 || rename(temporary, path) < 0))
    rc = dg_fail(err, dg_errno_code(errno), "save '%s': %s", path, g_strerror(errno));
  if (close(fd) < 0 && rc == 0)
    rc = dg_fail(err, dg_errno_code(errno), "save '%s': %s", path, g_strerror(errno));
  if (rc < 0) {
    (void)unlink(temporary);
    return -1;
  }
  return dg_dir_sync(dir, err);
}

static json_t *load_json(const char *dir, const char *name)
{
  g_autofree char *path = g_build_filename(dir, name, NULL);
  struct stat st;

  if (stat(path, &st) < 0 || st.st_size > (off_t)JSON_MAX_BYTES)
    return NULL;
  return json_load_file(path, JSON_REJECT_DUPLICATES, NULL);
}

int dg_upload_note_save(const char *dir, const char *name, struct dg_slice bucket,
                        struct dg_error *err)
{
  return save_json(dir, name,
                   json_pack("{s:i, s:o}", "version", 1, "bucket", text_to_json(bucket)), err);
}

char *dg_upload_note_load(const char *dir, const char *name)
{
  g_autoptr(GPtrArray) arena = g_ptr_array_new_with_free_func(g_free);
  json_t *document = load_json(dir, name);
  struct dg_slice bucket = text_of_json(json_object_get(document, "bucket"), arena);
  char *text = bucket.len ? dg_slice_dup(bucket) : NULL;

  json_decref(document);
  return text;
}

int dg_upload_save(struct dg_upload *upload, struct dg_error *err)
{
  g_autofree char *parent = g_path_get_dirname(upload->dir);
  int number = dg_fault("engine.upload.create");
  json_t *document;

  if (number || mkdir(upload->dir, 0700) < 0) {
    number = number ? number : errno;
    return dg_fail(err, dg_errno_code(number), "make '%s': %s", upload->dir, g_strerror(number));
  }
  document = json_pack("{s:i, s:o, s:o, s:I, s:i, s:b, s:o, s:o, s:o}", "version", 1, "bucket",
                       text_to_json(dg_slice_str(upload->bucket)), "key",
                       text_to_json(dg_slice_str(upload->key)), "initiated_s",
                       (json_int_t)upload->initiated_s, "checksum_kind", (int)upload->checksum_kind,
                       "checksum_full_object", (int)upload->checksum_full_object, "content_type",
                       text_to_json(upload->meta->content_type), "user",
                       pairs_to_json(upload->meta->user, upload->meta->user_count), "extensions",
                       pairs_to_json(upload->meta->extensions, upload->meta->extension_count));
  if (save_json(upload->dir, "upload.json", document, err) < 0 || dg_dir_sync(parent, err) < 0) {
    (void)dg_upload_remove_dir(upload->dir);
    return -1;
  }
  return 0;
}

int dg_upload_save_done(struct dg_upload *upload, struct dg_error *err)
{
  const struct dg_put_result *result = &upload->result;
  char hex[65];

  dg_hex_encode(upload->request_sha256, 32, hex);
  return save_json(upload->dir, "done.json",
                   json_pack("{s:s, s:I, s:s, s:s, s:i, s:i, s:I, s:I}", "request", hex, "done_s",
                             (json_int_t)upload->done_s, "etag", result->etag, "checksum",
                             result->checksum_base64, "checksum_kind", (int)result->checksum_kind,
                             "variant", (int)result->variant, "size_bytes",
                             (json_int_t)result->size_bytes, "stored_bytes",
                             (json_int_t)result->stored_bytes),
                   err);
}

int dg_upload_save_native(struct dg_upload *upload, struct dg_error *err)
{
  return save_json(upload->dir, "native.json",
                   json_pack("{s:i, s:o, s:o, s:o, s:o}", "version", 1, "backend",
                             text_to_json(dg_slice_str(upload->native.backend)), "bucket",
                             text_to_json(dg_slice_str(upload->native.bucket)), "token",
                             text_to_json(dg_slice_str(upload->native.token)), "part-sizes",
                             text_to_json(dg_slice_str(upload->native.part_sizes
                                                         ? upload->native.part_sizes
                                                         : ""))),
                   err);
}

void dg_upload_remove_native(const struct dg_upload *upload)
{
  g_autofree char *path = g_build_filename(upload->dir, "native.json", NULL);

  (void)unlink(path);
}

static void load_native(struct dg_upload *upload, GPtrArray *arena)
{
  json_t *document = load_json(upload->dir, "native.json");
  struct dg_slice backend = text_of_json(json_object_get(document, "backend"), arena);
  struct dg_slice bucket = text_of_json(json_object_get(document, "bucket"), arena);
  struct dg_slice token = text_of_json(json_object_get(document, "token"), arena);
  struct dg_slice sizes = text_of_json(json_object_get(document, "part-sizes"), arena);

  if (backend.len && bucket.len && token.len) {
    upload->native.state = DG_NATIVE_BEGUN;
    upload->native.backend = dg_slice_dup(backend);
    upload->native.bucket = dg_slice_dup(bucket);
    upload->native.token = dg_slice_dup(token);
    upload->native.part_sizes = sizes.len ? dg_slice_dup(sizes) : NULL;
  }
  json_decref(document);
}

static uint64_t json_u64(const json_t *object, const char *name)
{
  return (uint64_t)json_integer_value(json_object_get(object, name));
}

static void copy_text(char *out, size_t size, const json_t *object, const char *name)
{
  const char *text = json_string_value(json_object_get(object, name));

  (void)g_strlcpy(out, text ? text : "", size);
}

static void load_done(struct dg_upload *upload)
{
  json_t *document = load_json(upload->dir, "done.json");
  const char *request = json_string_value(json_object_get(document, "request"));

  if (request && dg_hex_decode(dg_slice_str(request), upload->request_sha256, 32)) {
    upload->state = DG_UPLOAD_DONE;
    upload->done_s = (int64_t)json_u64(document, "done_s");
    copy_text(upload->result.etag, sizeof upload->result.etag, document, "etag");
    copy_text(upload->result.checksum_base64, sizeof upload->result.checksum_base64, document,
              "checksum");
    upload->result.checksum_kind = (uint32_t)json_u64(document, "checksum_kind");
    upload->result.variant = (uint32_t)json_u64(document, "variant");
    upload->result.size_bytes = json_u64(document, "size_bytes");
    upload->result.stored_bytes = json_u64(document, "stored_bytes");
  }
  json_decref(document);
}

bool dg_upload_load(struct dg_upload *upload)
{
  g_autoptr(GPtrArray) arena = g_ptr_array_new_with_free_func(g_free);
  json_t *document = load_json(upload->dir, "upload.json");
  struct dg_slice bucket, key, type;
  struct dg_error err;
  struct stat st;
  bool good = false;

  if (json_u64(document, "version") == 1) {
    bucket = text_of_json(json_object_get(document, "bucket"), arena);
    key = text_of_json(json_object_get(document, "key"), arena);
    type = text_of_json(json_object_get(document, "content_type"), arena);
    upload->bucket = dg_slice_dup(bucket);
    upload->key = dg_slice_dup(key);
    upload->initiated_s = (int64_t)json_u64(document, "initiated_s");
    upload->checksum_kind = (uint32_t)json_u64(document, "checksum_kind");
    upload->checksum_full_object = json_is_true(json_object_get(document, "checksum_full_object"));
    good = bucket.len && key.len && upload->checksum_kind <= DG_SUM_SHA256 &&
           (type.len == 0 || dg_meta_set(upload->meta, DG_FIELD_CONTENT_TYPE, type, &err) == 0) &&
           load_pairs(json_object_get(document, "user"), arena, upload->meta, dg_meta_add_user,
                      &err) == 0 &&
           load_pairs(json_object_get(document, "extensions"), arena, upload->meta,
                      dg_meta_add_extension, &err) == 0;
  }
  json_decref(document);
  if (!good)
    return false;
  /* Idle time goes on counting over a restart. */
  if (stat(upload->dir, &st) == 0) {
    int64_t idle_ms = MAX(dg_time_now_s() - (int64_t)st.st_mtime, 0) * 1000;

    /* It may wrap, on a machine that was idle for less long: only the distance
     * to another time counts. */
    upload->touched_mono_ms -= (uint64_t)idle_ms;
  }
  load_native(upload, arena);
  load_done(upload);
  return true;
}

/* ---- Removal ------------------------------------------------------------------------------ */

static uint64_t remove_files(const char *path, const char *prefix)
{
  g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
  const char *name;
  uint64_t freed = 0;

  while (dir && (name = g_dir_read_name(dir))) {
    g_autofree char *child = g_build_filename(path, name, NULL);
    struct stat st;

    if (!g_str_has_prefix(name, prefix))
      continue;
    if (lstat(child, &st) == 0 && unlink(child) == 0)
      freed += (uint64_t)st.st_size;
  }
  return freed;
}

uint64_t dg_upload_remove_parts(const struct dg_upload *upload)
{
  return remove_files(upload->dir, "part-") + remove_files(upload->dir, "tmp-");
}

uint64_t dg_upload_remove_dir(const char *dir)
{
  g_autofree char *root = g_build_filename(dir, "upload.json", NULL);
  uint64_t freed;

  (void)unlink(root);
  freed = remove_files(dir, "");
  (void)rmdir(dir);
  return freed;
}
