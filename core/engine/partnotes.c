/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/engine/partnotes.h"

#include <errno.h>
#include <glib/gstdio.h>

#include "common/checksum.h"
#include "common/clock.h"
#include "common/fault.h"
#include "common/hex.h"
#include "common/oserror.h"
#include "core/engine/space.h"

#include "common/banned.h"

/* Longer sizes go into a note. S3 has 2048 bytes for all metadata, of which ours take up
 * to 600: with little of the client's beside them there is room for this much. */
#define NOTE_MARK '@'
#define GUESS_MARK '?'
#define INLINE_MAX 512u
#define INLINE_BESIDE 512u
#define INLINE_SMALL 64u /* always: parts of one size with another last one */
#define DIGEST_HEX 64u   /* a note: SHA-256 of the sizes in hex, a newline, the sizes */
#define FIRST_LINE "deltaglider-notes 1"
#define LAST_LINE "end"
#define SWEEP_MS 10000u /* one sweep: who sweeps has signals to wait for */
#define SWEEP_FAILURES_MAX 3u
#define RETRY_MS 600000u /* a file that could not be settled; others get their turn */
/* What a storage elsewhere was asked for may take effect so long after nobody waits for it
 * any more: until then nothing can be said of notes that nobody names. */
#define DOUBT_MS 60000u
#define UNDER_WAY UINT64_MAX

struct dg_part_notes {
  GMutex mutex;        /* guards put_off; leaf */
  GHashTable *put_off; /* char * -> uint64_t *, owned: until when (monotonic, in ms) a file is
                          none of the sweep's; UNDER_WAY: its change goes on */
  uint64_t born_mono_ms;
  char *dir;
};

struct dg_part_notes *dg_part_notes_new(const char *state_dir)
{
  struct dg_part_notes *notes = g_new0(struct dg_part_notes, 1);

  g_mutex_init(&notes->mutex);
  notes->put_off = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
  notes->born_mono_ms = dg_time_mono_ms();
  notes->dir = g_build_filename(state_dir, "notes", NULL);
  return notes;
}

void dg_part_notes_free(struct dg_part_notes *notes)
{
  if (!notes)
    return;
  g_hash_table_unref(notes->put_off);
  g_mutex_clear(&notes->mutex);
  g_free(notes->dir);
  g_free(notes);
}

/* until_mono_ms 0: it is the sweep's, or gone. */
static void put_off(struct dg_part_notes *notes, const char *file, uint64_t until_mono_ms)
{
  g_mutex_lock(&notes->mutex);
  if (until_mono_ms)
    (void)g_hash_table_replace(notes->put_off, g_strdup(file),
                               g_memdup2(&until_mono_ms, sizeof until_mono_ms));
  else
    (void)g_hash_table_remove(notes->put_off, file);
  g_mutex_unlock(&notes->mutex);
}

static bool is_put_off(struct dg_part_notes *notes, const char *file)
{
  const uint64_t *until;
  bool is;

  g_mutex_lock(&notes->mutex);
  until = g_hash_table_lookup(notes->put_off, file);
  is = until && *until > dg_time_mono_ms();
  g_mutex_unlock(&notes->mutex);
  return is;
}

/* ---- What names a note ----------------------------------------------------------------- */

static size_t bytes_of(const struct dg_pair *pairs, uint32_t count)
{
  size_t bytes = 0;

  for (uint32_t i = 0; i < count; i++)
    bytes += pairs[i].name.len + pairs[i].value.len;
  return bytes;
}

bool dg_part_note_needed(const struct dg_route *route, struct dg_slice sizes,
                         const struct dg_meta *client)
{
  size_t beside = bytes_of(client->user, client->user_count) +
                  bytes_of(client->extensions, client->extension_count);

  return dg_backend_has(route->backend, DG_CAP_NOTES) &&
         sizes.len > (beside <= INLINE_BESIDE ? INLINE_MAX : INLINE_SMALL) &&
         sizes.len < DG_NOTE_MAX - DIGEST_HEX;
}

bool dg_part_sizes_are_elsewhere(struct dg_slice text)
{
  return text.len && (text.data[0] == NOTE_MARK || dg_slice_find(text, GUESS_MARK, 0) != SIZE_MAX);
}

struct dg_slice dg_part_note_id_in(struct dg_slice text)
{
  size_t mark = dg_slice_find(text, GUESS_MARK, 0);

  if (text.len && text.data[0] == NOTE_MARK)
    mark = 0;
  if (mark == SIZE_MAX || !dg_backend_note_id_valid(dg_slice_skip(text, mark + 1)))
    return DG_SLICE_NONE;
  return dg_slice_skip(text, mark + 1);
}

struct dg_slice dg_part_note_id(const struct dg_meta *meta)
{
  return dg_part_note_id_in(dg_meta_extension(meta, DG_EXTENSION_PART_SIZES));
}

char *dg_part_guess_new(uint64_t size_bytes)
{
  g_autofree char *id = g_uuid_string_random();

  return g_strdup_printf("%" G_GUINT64_FORMAT "%c%s", size_bytes, GUESS_MARK, id);
}

bool dg_part_guess_find(struct dg_slice text, uint32_t part_count, uint32_t part_no,
                        uint64_t size_bytes, struct dg_range *ret_range)
{
  size_t mark = dg_slice_find(text, GUESS_MARK, 0);
  uint64_t each, before_last;

  if (mark == SIZE_MAX || !dg_slice_to_u64(dg_slice_of(text.data, mark), &each) || each == 0 ||
      part_no == 0 || part_no > part_count ||
      __builtin_mul_overflow(each, (uint64_t)part_count - 1, &before_last) ||
      before_last >= size_bytes || size_bytes - before_last > each)
    return false;
  *ret_range = (struct dg_range){
    each * (part_no - 1), part_no < part_count ? each : size_bytes - before_last};
  return true;
}

static bool names(const struct dg_meta *meta, const char *id)
{
  return meta && dg_slice_equal_str(dg_part_note_id(meta), id);
}

/* ---- The file of a change ----------------------------------------------------------------- */

/* Whose notes may be too many. Texts are owned. */
struct debt {
  char *backend, *real_bucket, *bucket, *key;
  size_t key_len;
  GPtrArray *ids;
};

static void debt_clear(struct debt *debt)
{
  g_free(debt->backend);
  g_free(debt->real_bucket);
  g_free(debt->bucket);
  g_free(debt->key);
  if (debt->ids)
    g_ptr_array_unref(debt->ids);
  *debt = (struct debt){0};
}

static void append_hex(GString *out, struct dg_slice text)
{
  g_autofree char *hex = g_malloc(2 * text.len + 1);

  dg_hex_encode(text.data, text.len, hex);
  g_string_append_printf(out, "%s\n", hex);
}

static char *take_hex(const char *hex)
{
  size_t len = strlen(hex) / 2;
  char *text = g_malloc0(len + 1);

  if (dg_hex_decode(dg_slice_str(hex), text, len))
    return text;
  g_free(text);
  return NULL;
}

/* Not synced: the kernel keeps what a dead process wrote, and a power failure may leave a
 * note at worst. */
static bool write_debt(const char *path, const struct dg_route *route, struct dg_slice bucket,
                       struct dg_slice key, const GPtrArray *old, const char *new_id)
{
  g_autoptr(GString) text = g_string_new(FIRST_LINE "\n");
  g_autofree char *dir = g_path_get_dirname(path);
  int number = dg_fault("engine.notes.file");

  g_string_append_printf(text, "%s\n%s\n", dg_backend_name(route->backend), route->bucket);
  append_hex(text, bucket);
  append_hex(text, key);
  for (guint i = 0; i < old->len; i++)
    g_string_append_printf(text, "%s\n", (const char *)old->pdata[i]);
  if (new_id)
    g_string_append_printf(text, "%s\n", new_id);
  g_string_append(text, LAST_LINE "\n");
  return !number && g_mkdir_with_parents(dir, 0700) == 0 &&
         g_file_set_contents_full(path, text->str, (gssize)text->len, G_FILE_SET_CONTENTS_NONE,
                                  0600, NULL);
}

static bool read_debt(const char *path, struct debt *ret_debt)
{
  g_autofree char *text = NULL;
  g_auto(GStrv) lines = NULL;
  guint count;

  if (!g_file_get_contents(path, &text, NULL, NULL))
    return false;
  lines = g_strsplit(text, "\n", 64);
  count = g_strv_length(lines);
  if (count < 7 || strcmp(lines[0], FIRST_LINE) != 0 || strcmp(lines[count - 2], LAST_LINE) != 0)
    return false;
  *ret_debt = (struct debt){.backend = g_strdup(lines[1]),
                            .real_bucket = g_strdup(lines[2]),
                            .bucket = take_hex(lines[3]),
                            .key = take_hex(lines[4]),
                            .key_len = strlen(lines[4]) / 2,
                            .ids = g_ptr_array_new_with_free_func(g_free)};
  for (guint i = 5; i + 2 < count; i++)
    g_ptr_array_add(ret_debt->ids, g_strdup(lines[i]));
  if (ret_debt->bucket && ret_debt->key)
    return true;
  debt_clear(ret_debt);
  return false;
}

/* ---- A change ------------------------------------------------------------------------------- */

static void add_old(GPtrArray *old, const struct dg_meta *meta)
{
  struct dg_slice id = meta ? dg_part_note_id(meta) : DG_SLICE_NONE;

  if (id.len)
    g_ptr_array_add(old, dg_slice_dup(id));
}

void dg_part_notes_begin(struct dg_engine *engine, const struct dg_call *call,
                         const struct dg_route *route, struct dg_slice bucket,
                         struct dg_slice key, const struct dg_found *found, const char *new_id,
                         struct dg_note_change *ret_change)
{
  GPtrArray *old;

  *ret_change = (struct dg_note_change){.engine = engine, .call = call, .route = route};
  if (!dg_backend_has(route->backend, DG_CAP_NOTES))
    return;
  old = g_ptr_array_new_with_free_func(g_free);
  add_old(old, found->meta);
  add_old(old, found->hidden);
  if (old->len == 0 && !new_id) {
    g_ptr_array_unref(old);
    return;
  }
  {
    g_autofree char *name = g_uuid_string_random();

    ret_change->file = g_build_filename(engine->notes->dir, name, NULL);
  }
  ret_change->old = old;
  put_off(engine->notes, ret_change->file, UNDER_WAY);
  if (!write_debt(ret_change->file, route, bucket, key, old, new_id))
    dg_log_warn(engine->log, "engine.notes_unsafe", "file=%s cause=\"cannot be written\"",
                DG_LOG_QUOTED(dg_slice_str(ret_change->file)));
}

int dg_part_note_write(struct dg_engine *engine, const struct dg_call *call,
                       const struct dg_route *route, struct dg_slice id, struct dg_slice sizes,
                       struct dg_error *err)
{
  g_autofree char *text = g_malloc(DIGEST_HEX + 1 + sizes.len + 1);
  int number = dg_fault("engine.notes.write");
  uint8_t digest[32];
  int rc;

  dg_sha256(sizes.data, sizes.len, digest);
  dg_hex_encode(digest, sizeof digest, text);
  text[DIGEST_HEX] = '\n';
  memcpy(text + DIGEST_HEX + 1, sizes.data, sizes.len);
  rc = number ? dg_fail(err, dg_errno_code(number), "injected at engine.notes.write")
              : dg_backend_note_put(route->backend, call, dg_slice_str(route->bucket), id,
                                    dg_slice_of(text, DIGEST_HEX + 1 + sizes.len), err);
  if (rc < 0)
    dg_log_warn(engine->log, "engine.part_sizes_lost", "bucket=%s note=%.*s cause=%s",
                DG_LOG_QUOTED(dg_slice_str(route->bucket)), DG_SLICE_ARG(id),
                DG_LOG_QUOTED(dg_slice_str(err->detail)));
  return rc;
}

static int remove_note(const struct dg_call *call, const struct dg_route *route, const char *id,
                       struct dg_error *err)
{
  int number = dg_fault("engine.notes.remove");

  if (number)
    return dg_fail(err, dg_errno_code(number), "injected at engine.notes.remove");
  return dg_backend_note_remove(route->backend, call, dg_slice_str(route->bucket),
                                dg_slice_str(id), err);
}

/* Of a disk of our own, everything that was asked for is done, or will not be. */
static bool may_act_late(const struct dg_route *route)
{
  return !dg_backend_has(route->backend, DG_CAP_LOCAL_FILE);
}

void dg_part_notes_end(struct dg_note_change *change, const struct dg_meta *now, bool done)
{
  struct dg_error err;
  bool clean = done;

  if (!change->file)
    return;
  for (guint i = 0; done && i < change->old->len; i++)
    if (!names(now, change->old->pdata[i]) &&
        remove_note(change->call, change->route, change->old->pdata[i], &err) < 0)
      clean = false;
  /* What is not clean is left to the sweep. */
  if (clean)
    (void)g_unlink(change->file);
  put_off(change->engine->notes, change->file,
          !clean && may_act_late(change->route) ? dg_time_mono_ms() + DOUBT_MS : 0);
  g_clear_pointer(&change->file, g_free);
  g_clear_pointer(&change->old, g_ptr_array_unref);
}

int dg_part_note_read(const struct dg_call *call, const struct dg_route *route,
                      struct dg_slice id, char **ret_sizes, struct dg_error *err)
{
  g_autofree char *text = NULL;
  uint8_t digest[32], told[32];
  size_t len;

  if (dg_backend_note_get(route->backend, call, dg_slice_str(route->bucket), id, &text, &len,
                          err) < 0)
    return -1;
  if (len > DIGEST_HEX + 1)
    dg_sha256(text + DIGEST_HEX + 1, len - DIGEST_HEX - 1, digest);
  if (len <= DIGEST_HEX + 1 || !dg_hex_decode(dg_slice_of(text, DIGEST_HEX), told, sizeof told) ||
      memcmp(digest, told, sizeof told) != 0)
    return dg_fail(err, DG_E_CORRUPT, "the note '%.*s' of an object's parts is damaged",
                   DG_SLICE_ARG(id));
  *ret_sizes = g_strdup(text + DIGEST_HEX + 1);
  return 0;
}

/* ---- The sweep ------------------------------------------------------------------------------- */

/* Under the lock of the key: what the object names stays. */
static int settle_locked(const struct dg_call *call, const struct dg_route *route,
                         struct dg_slice key, const struct debt *debt, struct dg_error *err)
{
  struct dg_found found = {0};
  int rc = dg_object_find(route, call, key, &found, err);

  for (guint i = 0; rc == 0 && i < debt->ids->len; i++)
    if (!names(found.meta, debt->ids->pdata[i]) && !names(found.hidden, debt->ids->pdata[i]))
      rc = remove_note(call, route, debt->ids->pdata[i], err);
  dg_found_clear(&found);
  return rc;
}

/* 1: it is too early. */
static int settle(struct dg_engine *engine, const struct dg_call *call, const struct debt *debt,
                  struct dg_error *err)
{
  struct dg_slice key = dg_slice_of(debt->key, debt->key_len);
  struct dg_space *space = NULL;
  struct dg_route route;
  int rc;

  if (dg_route_open(engine, call, dg_slice_str(debt->bucket), &route, err) < 0)
    return err->code == DG_E_NO_SUCH_BUCKET ? 0 : -1; /* the notes went with it */
  /* A bucket that lies elsewhere by now keeps them: they are small, and may be needed
   * again there. */
  if (strcmp(dg_backend_name(route.backend), debt->backend) != 0 ||
      strcmp(route.bucket, debt->real_bucket) != 0) {
    dg_route_clear(&route);
    return 0;
  }
  if (may_act_late(&route) && dg_time_mono_ms() < engine->notes->born_mono_ms + DOUBT_MS) {
    dg_route_clear(&route);
    return 1; /* perhaps of a process that was killed just now */
  }
  rc = dg_space_enter_key(engine, call, &route, key, &space, err);
  if (rc == 0)
    rc = settle_locked(call, &route, key, debt, err);
  dg_space_leave(space);
  dg_route_clear(&route);
  return rc < 0 && err->code == DG_E_NO_SUCH_BUCKET ? 0 : rc;
}

static bool settle_file(struct dg_engine *engine, const char *path, uint64_t until_mono_ms)
{
  struct dg_call call = {.struct_size = sizeof call, .deadline_mono_ms = until_mono_ms};
  struct dg_error err = {0};
  struct debt debt = {0};
  int rc;

  /* Half a file is of a change that had not begun. */
  rc = read_debt(path, &debt) ? settle(engine, &call, &debt, &err) : 0;
  debt_clear(&debt);
  if (rc == 0)
    (void)g_unlink(path);
  else if (rc < 0)
    dg_log_warn(engine->log, "engine.notes_left", "file=%s cause=%s",
                DG_LOG_QUOTED(dg_slice_str(path)), DG_LOG_QUOTED(dg_slice_str(err.detail)));
  put_off(engine->notes, path, rc < 0 ? dg_time_mono_ms() + RETRY_MS : 0);
  return rc >= 0;
}

void dg_part_notes_sweep(struct dg_engine *engine)
{
  uint64_t until_ms = dg_time_mono_ms() + SWEEP_MS;
  GDir *dir = g_dir_open(engine->notes->dir, 0, NULL);
  uint32_t failures = 0;
  const char *name;

  while (dir && failures < SWEEP_FAILURES_MAX && dg_time_mono_ms() < until_ms &&
         (name = g_dir_read_name(dir))) {
    g_autofree char *path = g_build_filename(engine->notes->dir, name, NULL);

    if (!is_put_off(engine->notes, path))
      failures += !settle_file(engine, path, until_ms);
  }
  if (dir)
    g_dir_close(dir);
}
