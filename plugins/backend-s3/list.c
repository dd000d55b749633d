/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "list.h"

#include "common/meta.h"
#include "facts.h"
#include "item.h"
#include "metahdr.h"
#include "metaindex.h"
#include "names.h"
#include "pages.h"
#include "run.h"

#include "common/banned.h"

#define BATCH_FIRST 32u   /* rows whose metadata is asked for at once */
#define BATCH_MAX 512u
#define HELD_MAX 2000u    /* rows that wait, before late names are asked for */
#define PAGE_KEYS 1000u   /* what upstreams give at most */
#define SPARE_KEYS 24u    /* names that may turn out hidden, or second variants */
#define LATE_MAX 32u      /* more late names than this: read on instead */

/* One row that waits for its turn. */
struct row {
  struct dg_slice key; /* lies in name, or is the common prefix in name */
  uint32_t type, variant;
  struct dg_s3_entry entry; /* owned */
  struct dg_s3_facts *facts; /* owned; NULL: not looked up yet */
  bool gone;
};

struct lister {
  struct dg_s3 *s3;
  const struct dg_call *call;
  const struct dg_list_request *request;
  dg_list_row_fn row;
  void *receiver;
  struct dg_s3_pages pages;
  GSequence *held;     /* struct row *, in order */
  GString *last;       /* the last upstream name read; NULL: none yet */
  GHashTable *asked;   /* late names asked for: they are not taken again */
  GString *last_prefix; /* the last common prefix of our own making */
  uint32_t batch;
  uint64_t given;
  bool stop;
  struct dg_meta *meta; /* reused from row to row */
};

static void row_free(gpointer item)
{
  struct row *row = item;

  dg_s3_facts_unref(row->facts);
  g_free(row->entry.name);
  g_free(row);
}

static gint compare_rows(gconstpointer a, gconstpointer b, gpointer unused)
{
  const struct row *x = a, *y = b;
  int order = dg_slice_compare(x->key, y->key);

  (void)unused;
  return order ? order : (int)x->variant - (int)y->variant;
}

/* ---- Which rows there are ------------------------------------------------------------------- */

static bool ends_in_slash(struct dg_slice text)
{
  return text.len && text.data[text.len - 1] == '/';
}

static void add_late(struct dg_slice last, struct dg_slice key, uint32_t variant, GPtrArray *names)
{
  g_autoptr(GString) name = g_string_new(NULL);

  if (dg_s3_name_append(name, key, variant) &&
      dg_slice_compare(dg_slice_of(name->str, name->len), last) > 0)
    g_ptr_array_add(names, g_strndup(name->str, name->len));
}

void dg_s3_list_late_names(struct dg_slice last, size_t prefix_len, struct dg_slice delimiter,
                           bool references, GPtrArray *names)
{
  for (size_t len = prefix_len; len < last.len; len++) {
    struct dg_slice key = dg_slice_of(last.data, len);

    if (delimiter.len && len >= prefix_len + delimiter.len &&
        dg_slice_ends_with(key, delimiter))
      break; /* this key and all longer ones are rolled up */
    if (key.len == 0 || ends_in_slash(key)) {
      if (references)
        add_late(last, key, DG_VARIANT_REFERENCE, names);
      continue;
    }
    if (dg_s3_name_reserved(key))
      add_late(last, key, DG_VARIANT_PASSTHROUGH, names);
    add_late(last, key, DG_VARIANT_DELTA, names);
  }
}

/* The common prefix a key falls into, when the upstream was not asked to find
 * it. */
static bool roll_up(const struct lister *lister, struct dg_slice key, struct dg_slice *ret_prefix)
{
  const struct dg_list_request *request = lister->request;

  *ret_prefix = dg_slice_roll_up(key, request->prefix.len, request->delimiter);
  return dg_slice_present(*ret_prefix);
}

/* start_after is a common prefix: what lies below it is passed over too. */
static bool is_passed(const struct lister *lister, struct dg_slice key)
{
  struct dg_slice after = lister->request->start_after, delimiter = lister->request->delimiter;

  if (!after.len)
    return false;
  if (dg_slice_compare(key, after) <= 0)
    return true;
  return delimiter.len && after.len >= lister->request->prefix.len + delimiter.len &&
         dg_slice_starts_with(after, lister->request->prefix) &&
         dg_slice_ends_with(after, delimiter) && dg_slice_starts_with(key, after);
}

static void hold(struct lister *lister, struct row *row)
{
  (void)g_sequence_insert_sorted(lister->held, row, compare_rows, NULL);
}

/* Takes over the entry's name. facts may be NULL; else transferred. */
static void take_object(struct lister *lister, struct dg_s3_entry *entry, struct dg_s3_facts *facts)
{
  struct dg_slice name = dg_slice_of(entry->name, entry->name_len), key, prefix;
  struct row *row;
  uint32_t variant;

  if (!dg_s3_name_parse(name, &key, &variant) ||
      (variant == DG_VARIANT_REFERENCE && !(lister->request->flags & DG_LIST_REFERENCES)) ||
      !dg_slice_starts_with(key, lister->request->prefix) || is_passed(lister, key)) {
    dg_s3_facts_unref(facts);
    g_free(entry->name);
    return;
  }
  row = g_new0(struct row, 1);
  row->entry = *entry;
  row->facts = facts;
  row->key = key;
  row->variant = variant;
  row->type = DG_ROW_OBJECT;
  if (roll_up(lister, key, &prefix)) {
    bool again = dg_slice_equal(prefix, dg_slice_of(lister->last_prefix->str,
                                                    lister->last_prefix->len));

    if (again) {
      row_free(row);
      return;
    }
    g_string_truncate(lister->last_prefix, 0);
    dg_slice_append(lister->last_prefix, prefix);
    row->type = DG_ROW_PREFIX;
    row->variant = 0;
    row->key = prefix;
  }
  hold(lister, row);
}

static int32_t see_one(void *receiver, const struct dg_list_row *row)
{
  (void)row;
  *(bool *)receiver = true;
  return 1;
}

/* Is there any row below a prefix, after some key? */
static int has_rows(struct lister *lister, struct dg_slice prefix, struct dg_slice after,
                    bool *ret_has, struct dg_error *err)
{
  struct dg_list_request inner = {.struct_size = sizeof inner,
                                  .flags = DG_LIST_NO_META |
                                           (lister->request->flags & DG_LIST_REFERENCES),
                                  .bucket = lister->request->bucket,
                                  .prefix = prefix,
                                  .start_after = after,
                                  .max_rows = 1};

  *ret_has = false;
  return dg_s3_list(lister->s3, lister->call, &inner, see_one, ret_has, err);
}

/* Some prefixes hold names of the proxy's own, which nobody lists. */
static int is_visible(struct lister *lister, struct dg_slice prefix, bool *ret_visible,
                      struct dg_error *err)
{
  if (dg_slice_equal_str(prefix, ".deltaglider/") || dg_slice_equal_str(prefix, "_dgp/"))
    return has_rows(lister, prefix, DG_SLICE(""), ret_visible, err);
  *ret_visible = true;
  return 0;
}

static int take_prefix(struct lister *lister, struct dg_s3_entry *entry, struct dg_error *err)
{
  struct dg_slice prefix = dg_slice_of(entry->name, entry->name_len);
  struct row *row;
  bool visible;

  if (is_passed(lister, prefix))
    return 0;
  if (is_visible(lister, prefix, &visible, err) < 0)
    return -1;
  if (!visible)
    return 0;
  row = g_new0(struct row, 1);
  row->entry = *entry;
  row->entry.name = g_strndup(prefix.data, prefix.len);
  row->key = dg_slice_of(row->entry.name, prefix.len);
  row->type = DG_ROW_PREFIX;
  hold(lister, row);
  return 0;
}

/* Reads one more page into the rows that wait. */
static int read_page(struct lister *lister, struct dg_error *err)
{
  const struct dg_s3_entry *entry;
  int rc;

  do {
    rc = dg_s3_pages_next(&lister->pages, &entry, err);
    if (rc <= 0)
      return rc;
    if (!lister->last)
      lister->last = g_string_new(NULL);
    g_string_truncate(lister->last, 0);
    g_string_append_len(lister->last, entry->name, (gssize)entry->name_len);
    if (entry->is_prefix) {
      struct dg_s3_entry copy = *entry;

      if (take_prefix(lister, &copy, err) < 0)
        return -1;
    } else if (!g_hash_table_contains(lister->asked, entry->name)) {
      struct dg_s3_entry copy = *entry;

      copy.name = g_strndup(entry->name, entry->name_len);
      take_object(lister, &copy, NULL);
    }
  } while (dg_s3_pages_ready(&lister->pages));
  return 0;
}

/* ---- Which of them may go out ------------------------------------------------------------------ */

/* The late names that nobody asked for yet. Free it. */
static GPtrArray *late_names(struct lister *lister)
{
  GPtrArray *names = g_ptr_array_new_with_free_func(g_free);

  if (!lister->last || dg_s3_pages_ended(&lister->pages))
    return names;
  dg_s3_list_late_names(dg_slice_of(lister->last->str, lister->last->len),
                        lister->request->prefix.len, lister->request->delimiter,
                        (lister->request->flags & DG_LIST_REFERENCES) != 0, names);
  for (guint i = names->len; i-- > 0;) {
    struct dg_slice key;
    uint32_t variant;

    if (g_hash_table_contains(lister->asked, names->pdata[i]) ||
        !dg_s3_name_parse(dg_slice_str(names->pdata[i]), &key, &variant) || is_passed(lister, key))
      g_ptr_array_remove_index(names, i);
  }
  return names;
}

/* Rows below every key that may still come. Appended to rows, borrowed. */
static void free_rows(struct lister *lister, const GPtrArray *late, guint max, GPtrArray *rows)
{
  struct dg_slice bound = DG_SLICE_NONE;
  uint32_t variant;

  if (late->len && !dg_s3_name_parse(dg_slice_str(late->pdata[0]), &bound, &variant))
    bound = DG_SLICE_NONE;
  for (GSequenceIter *at = g_sequence_get_begin_iter(lister->held);
       !g_sequence_iter_is_end(at) && rows->len < max; at = g_sequence_iter_next(at)) {
    struct row *row = g_sequence_get(at);

    if (late->len && dg_slice_compare(row->key, bound) > 0)
      return;
    g_ptr_array_add(rows, row);
  }
}

static void fill_head(struct dg_s3_job *job, struct dg_slice bucket, const char *name)
{
  dg_s3_request_init(&job->request, "HEAD", bucket, dg_slice_str(name));
}

/* Asks for late names; those that exist become rows. */
static int ask_for(struct lister *lister, const GPtrArray *names, struct dg_error *err)
{
  g_autofree struct dg_s3_job *jobs = g_new0(struct dg_s3_job, names->len);
  struct dg_slice bucket = lister->request->bucket;
  int rc;

  for (guint i = 0; i < names->len; i++)
    fill_head(&jobs[i], bucket, names->pdata[i]);
  rc = dg_s3_run_jobs(lister->s3, lister->call, jobs, names->len, lister->s3->head_parallel, 0, err);
  for (guint i = 0; i < names->len; i++) {
    if (jobs[i].rc == 0 && jobs[i].answer.content_length == UINT64_MAX)
      jobs[i].rc = dg_fail(&jobs[i].err, DG_E_IO, "upstream HEAD answered without a length");
    if (rc == 0 && jobs[i].rc == 0) {
      const struct dg_s3_answer *answer = &jobs[i].answer;
      struct dg_s3_entry entry = {.name = g_strdup(names->pdata[i]),
                                  .name_len = strlen(names->pdata[i]),
                                  .size = answer->content_length,
                                  .modified_s = answer->last_modified_s};
      struct dg_s3_facts *facts = dg_s3_facts_new(answer, answer->content_length);

      (void)g_strlcpy(entry.etag, answer->etag, sizeof entry.etag);
      dg_s3_metaindex_put(lister->s3->index, bucket, dg_slice_str(entry.name), facts);
      take_object(lister, &entry, facts);
    } else if (rc == 0 && jobs[i].err.code != DG_E_NO_SUCH_KEY) {
      *err = jobs[i].err;
      rc = -1;
    }
    if (rc == 0)
      (void)g_hash_table_add(lister->asked, g_strdup(names->pdata[i]));
    dg_s3_job_clear(&jobs[i]);
  }
  return rc;
}

/* ---- Giving out ---------------------------------------------------------------------------------- */

/* A row's name is gone since it was listed. The object may be there all the same, stored
 * anew as its other variant; and while it goes to and fro, as the first one again. */
static int look_for_other(struct lister *lister, struct row *row, struct dg_error *err)
{
  uint32_t other = row->variant == DG_VARIANT_DELTA ? DG_VARIANT_PASSTHROUGH : DG_VARIANT_DELTA;
  const uint32_t variants[] = {other, row->variant};
  g_autoptr(GString) name = g_string_new(NULL);

  row->gone = true;
  for (size_t i = 0; row->variant != DG_VARIANT_REFERENCE && i < G_N_ELEMENTS(variants); i++) {
    g_string_truncate(name, 0);
    if (!dg_s3_name_append(name, row->key, variants[i]))
      continue;
    if (dg_s3_look(lister->s3, lister->call, lister->request->bucket,
                   dg_slice_of(name->str, name->len), &row->facts, err) == 0) {
      row->variant = variants[i];
      row->gone = false;
      return 0;
    }
    if (err->code != DG_E_NO_SUCH_KEY)
      return -1;
  }
  return 0;
}

/* Finds the metadata of rows: remembered, or asked for, many at once. */
static int look_up(struct lister *lister, const GPtrArray *rows, struct dg_error *err)
{
  g_autofree struct dg_s3_job *jobs = g_new0(struct dg_s3_job, MAX(rows->len, 1));
  g_autoptr(GPtrArray) wanted = g_ptr_array_new();
  struct dg_slice bucket = lister->request->bucket;
  int rc;

  for (guint i = 0; i < rows->len; i++) {
    struct row *row = rows->pdata[i];

    if (row->type != DG_ROW_OBJECT || row->facts)
      continue;
    row->facts = dg_s3_metaindex_get(lister->s3->index, bucket, &row->entry);
    if (row->facts)
      continue;
    fill_head(&jobs[wanted->len], bucket, row->entry.name);
    g_ptr_array_add(wanted, row);
  }
  if (!wanted->len)
    return 0;
  rc = dg_s3_run_jobs(lister->s3, lister->call, jobs, wanted->len, lister->s3->head_parallel, 0,
                      err);
  for (guint i = 0; i < wanted->len; i++) {
    struct row *row = wanted->pdata[i];
    struct dg_slice name = dg_slice_of(row->entry.name, row->entry.name_len);

    if (jobs[i].rc == 0 && jobs[i].answer.content_length == UINT64_MAX)
      jobs[i].rc = dg_fail(&jobs[i].err, DG_E_IO, "upstream HEAD answered without a length");
    if (rc == 0 && jobs[i].rc == 0) {
      row->facts = dg_s3_facts_new(&jobs[i].answer, jobs[i].answer.content_length);
      if (row->variant == DG_VARIANT_DELTA)
        rc = dg_s3_peek(lister->s3, lister->call, bucket, name, row->facts, err);
      dg_s3_metaindex_put(lister->s3->index, bucket, name, row->facts);
    } else if (rc == 0 && jobs[i].err.code == DG_E_NO_SUCH_KEY) {
      rc = look_for_other(lister, row, err);
    } else if (rc == 0) {
      *err = jobs[i].err;
      rc = -1;
    }
    dg_s3_job_clear(&jobs[i]);
  }
  return rc;
}

static int give_object(struct lister *lister, const struct row *row, struct dg_list_row *out,
                       struct dg_error *err)
{
  struct dg_slice segment = row->key;
  size_t from = segment.len;

  if (lister->request->flags & DG_LIST_NO_META)
    return 0;
  while (from && segment.data[from - 1] != '/')
    from--;
  lister->meta = dg_meta_new();
  out->meta = lister->meta;
  return dg_s3_meta_read(lister->s3->host, row->facts, row->variant, dg_slice_skip(segment, from),
                         lister->meta, err);
}

static int give(struct lister *lister, const struct row *row, struct dg_error *err)
{
  struct dg_list_row out = {.struct_size = sizeof out, .type = row->type, .key = row->key};
  int rc = row->type == DG_ROW_OBJECT ? give_object(lister, row, &out, err) : 0;

  if (rc == 0 && !(out.meta && (out.meta->flags & DG_META_CORRUPT))) {
    lister->given++;
    if (lister->row(lister->receiver, &out))
      lister->stop = true;
  }
  g_clear_pointer(&lister->meta, dg_meta_unref);
  return rc;
}

static int give_rows(struct lister *lister, const GPtrArray *rows, struct dg_error *err)
{
  if (!(lister->request->flags & DG_LIST_NO_META) && look_up(lister, rows, err) < 0)
    return -1;
  for (guint i = 0; i < rows->len && !lister->stop; i++) {
    struct row *row = rows->pdata[i];

    if (!row->gone && give(lister, row, err) < 0)
      return -1;
    g_sequence_remove(g_sequence_get_begin_iter(lister->held));
  }
  lister->batch = MIN(lister->batch * 2, BATCH_MAX);
  return 0;
}

/* ---- The walk -------------------------------------------------------------------------------------- */

/* How many rows the caller still wants, as far as it said. */
static uint64_t wanted(const struct lister *lister)
{
  uint64_t max = lister->request->struct_size >= sizeof *lister->request
                   ? lister->request->max_rows
                   : 0;

  if (!max)
    return UINT64_MAX;
  return max > lister->given ? max - lister->given : 1;
}

static int step(struct lister *lister, struct dg_error *err)
{
  g_autoptr(GPtrArray) late = late_names(lister);
  g_autoptr(GPtrArray) rows = g_ptr_array_new();
  uint64_t want = wanted(lister);
  uint64_t held = (uint64_t)g_sequence_get_length(lister->held);

  free_rows(lister, late, (guint)MIN(want == UINT64_MAX ? lister->batch : want, BATCH_MAX), rows);
  if (rows->len)
    return give_rows(lister, rows, err);
  if (dg_s3_pages_ended(&lister->pages)) {
    lister->stop = true;
    return 0;
  }
  if (late->len && late->len <= LATE_MAX && held >= MIN(want, HELD_MAX))
    return ask_for(lister, late, err);
  lister->pages.max_keys = want < PAGE_KEYS ? (uint32_t)want + SPARE_KEYS : 0;
  return read_page(lister, err);
}

/* A listing that goes on inside a common prefix shows that prefix if anything is
 * left in it. Upstreams do not agree on that, so they are not asked for it. */
static int begin_inside(struct lister *lister, struct dg_error *err)
{
  struct dg_slice after = lister->request->start_after, prefix;
  struct dg_list_row out = {.struct_size = sizeof out, .type = DG_ROW_PREFIX};
  bool has;

  if (!dg_slice_starts_with(after, lister->request->prefix) || !roll_up(lister, after, &prefix) ||
      prefix.len == after.len)
    return 0;
  if (has_rows(lister, prefix, after, &has, err) < 0)
    return -1;
  lister->pages.start_after = prefix;
  out.key = prefix;
  if (has) {
    lister->given++;
    lister->stop = lister->row(lister->receiver, &out) != 0;
  }
  return 0;
}

int dg_s3_list(struct dg_s3 *s3, const struct dg_call *call, const struct dg_list_request *request,
               dg_list_row_fn row, void *receiver, struct dg_error *err)
{
  bool slash = dg_slice_equal_str(request->delimiter, "/");
  struct lister lister = {.s3 = s3,
                          .call = call,
                          .request = request,
                          .row = row,
                          .receiver = receiver,
                          .held = g_sequence_new(row_free),
                          .asked = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL),
                          .last_prefix = g_string_new(NULL),
                          .batch = BATCH_FIRST};
  int rc = 0;

  /* Only '/' means the same in names as in keys: no suffix of ours holds it. */
  dg_s3_pages_begin(&lister.pages, s3, call, request->bucket, request->prefix,
                    slash ? request->delimiter : DG_SLICE(""), request->start_after);
  if (slash)
    rc = begin_inside(&lister, err);
  while (rc == 0 && !lister.stop) {
    rc = dg_s3_check_call(call, err);
    if (rc == 0)
      rc = step(&lister, err);
  }
  dg_s3_pages_end(&lister.pages);
  g_sequence_free(lister.held);
  g_hash_table_unref(lister.asked);
  g_string_free(lister.last_prefix, TRUE);
  if (lister.last)
    g_string_free(lister.last, TRUE);
  return rc;
}
