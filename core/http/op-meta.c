/* SPDX-License-Identifier: Apache-2.0 */
/* Metadata and checksums between headers and objects.
 *
 * User metadata values are bytes in HTTP and Unicode at rest. ASCII passes
 * through untouched, so what a client encoded itself comes back as it was
 * sent. Raw UTF-8 (or Latin-1, which is what some clients make of it) is kept
 * as text and goes out as an RFC 2047 word, which is what S3 does and what
 * header parsers survive. */
#include "config.h"

#include "core/http/op.h"

#include "common/checksum.h"
#include "common/clock.h"
#include "common/hex.h"
#include "core/config/config.h"
#include "core/s3/aws_chunked.h"
#include "core/s3/names.h"

#include "common/banned.h"

/* Content headers that objects keep beside Content-Type, by extension name,
 * and the query parameter that overrides each on a GET. */
static const struct kept_header {
  const char *name, *header, *override;
} kept_headers[] = {
    {"cache-control", "Cache-Control", "response-cache-control"},
    {"content-disposition", "Content-Disposition", "response-content-disposition"},
    {"content-encoding", "Content-Encoding", "response-content-encoding"},
    {"content-language", "Content-Language", "response-content-language"},
    {"expires", "Expires", "response-expires"},
};

#define META_PREFIX  "x-amz-meta-"
#define DEFAULT_TYPE "application/octet-stream"

/* ---- Text ------------------------------------------------------------------------ */

static bool is_ascii(struct dg_slice text)
{
  for (size_t i = 0; i < text.len; i++)
    if ((unsigned char)text.data[i] >= 0x80)
      return false;
  return true;
}

/* Latin-1 to UTF-8: every byte has a meaning, so nothing can fail. */
static void append_latin1(GString *out, struct dg_slice text)
{
  for (size_t i = 0; i < text.len; i++)
    g_string_append_unichar(out, (unsigned char)text.data[i]);
}

static void append_text(GString *out, struct dg_slice text)
{
  if (is_ascii(text) || g_utf8_validate(text.data, (gssize)text.len, NULL))
    dg_slice_append(out, text);
  else
    append_latin1(out, text);
}

/* A header value: ASCII as it is, else encoded words of at most 75 characters,
 * cut between characters, joined by a space that decoders drop. */
static void append_encoded(GString *out, struct dg_slice text)
{
  size_t from = 0;

  if (is_ascii(text)) {
    dg_slice_append(out, text);
    return;
  }
  while (from < text.len) {
    size_t end = MIN(text.len, from + 45);
    char base64[DG_BASE64_LEN(45) + 1];

    while (end < text.len && end > from + 1 && ((unsigned char)text.data[end] & 0xc0) == 0x80)
      end--;
    dg_base64_encode(text.data + from, end - from, base64);
    g_string_append_printf(out, "%s=?UTF-8?B?%s?=", from ? " " : "", base64);
    from = end;
  }
}

/* ---- Request to metadata ----------------------------------------------------------- */

static int add_kept(struct dg_meta *meta, const struct kept_header *kept, struct dg_slice value,
                    struct dg_error *err)
{
  g_autoptr(GString) text = g_string_new(NULL);

  if (strcmp(kept->name, "content-encoding") == 0) {
    g_autofree char *codings = dg_content_encoding_kept(value);

    g_string_assign(text, codings ? codings : "");
  } else {
    append_text(text, value);
  }
  if (!text->len)
    return 0;
  return dg_meta_add_extension(meta, dg_slice_str(kept->name), dg_slice_of(text->str, text->len),
                               err);
}

/* Could this be the name of a header? Names from forms and queries were not
 * judged by the gate, and they go out in response heads. */
static bool is_header_name(struct dg_slice name)
{
  for (size_t i = 0; i < name.len; i++)
    if (!g_ascii_isalnum(name.data[i]) && !memchr("!#$%&'*+-.^_`|~", name.data[i], 15))
      return false;
  return name.len > 0;
}

static bool has_control(struct dg_slice value)
{
  for (size_t i = 0; i < value.len; i++)
    if (((unsigned char)value.data[i] < 0x20 && value.data[i] != '\t') || value.data[i] == 0x7f)
      return true;
  return false;
}

static int add_user(struct dg_meta *meta, struct dg_slice name, struct dg_slice value,
                    struct dg_error *err)
{
  g_autofree char *lower = g_ascii_strdown(name.data, (gssize)name.len);
  g_autoptr(GString) text = g_string_new(NULL);

  if (!is_header_name(name) || has_control(value))
    return dg_fail(err, DG_E_INVALID_ARGUMENT,
                   "Metadata names must be header names, and values must be free of control "
                   "characters.");
  append_text(text, value);
  return dg_meta_add_user(meta, dg_slice_str(lower), dg_slice_of(text->str, text->len), err);
}

int dg_op_meta_add(struct dg_meta *meta, struct dg_slice name, struct dg_slice value,
                   struct dg_error *err)
{
  struct dg_slice user = dg_user_meta_name(name);

  if (user.len)
    return add_user(meta, user, value, err);
  if (dg_slice_equal_nocase(name, DG_SLICE("content-type"))) {
    g_autoptr(GString) text = g_string_new(NULL);

    append_text(text, value);
    return text->len
               ? dg_meta_set(meta, DG_FIELD_CONTENT_TYPE, dg_slice_of(text->str, text->len), err)
               : 0;
  }
  for (size_t i = 0; i < G_N_ELEMENTS(kept_headers); i++)
    if (dg_slice_equal_nocase(name, dg_slice_str(kept_headers[i].name)))
      return add_kept(meta, &kept_headers[i], value, err);
  return 0;
}

int dg_op_meta_check(const struct dg_meta *meta, struct dg_error *err)
{
  size_t total = 0;

  for (uint32_t i = 0; i < meta->user_count; i++)
    total += meta->user[i].name.len + meta->user[i].value.len;
  if (total > DG_USER_META_MAX_BYTES)
    return dg_fail(err, DG_E_METADATA_TOO_LARGE,
                   "user metadata holds %zu bytes of names and values; at most %u are kept", total,
                   DG_USER_META_MAX_BYTES);
  return 0;
}

/* Has an earlier header this name? Then its value was merged already. */
static bool seen_before(const struct dg_request *request, uint32_t at)
{
  for (uint32_t i = 0; i < at; i++)
    if (dg_slice_equal_nocase(request->headers[i].name, request->headers[at].name))
      return true;
  return false;
}

static void join_values(GString *out, const struct dg_request *request, uint32_t at)
{
  for (uint32_t i = at; i < request->header_count; i++) {
    if (!dg_slice_equal_nocase(request->headers[i].name, request->headers[at].name))
      continue;
    if (i != at)
      g_string_append_c(out, ',');
    dg_slice_append(out, request->headers[i].value);
  }
}

/* Some signers move x-amz-meta-* headers into the query of a presigned link,
 * where they are signed as well. A header of that name wins. */
static int add_hoisted(const struct dg_exchange *x, struct dg_meta *meta, struct dg_error *err)
{
  if (!x->identity.presigned)
    return 0;
  for (uint32_t i = 0; i < x->target.param_count; i++) {
    const struct dg_param *param = &x->target.params[i];
    struct dg_slice name = dg_user_meta_name(param->name);

    if (name.len && !dg_slice_present(dg_request_header_find(&x->request, param->name)) &&
        add_user(meta, name, param->value, err) < 0)
      return -1;
  }
  return 0;
}

int dg_op_meta_from_head(const struct dg_exchange *x, struct dg_meta **ret_meta,
                         struct dg_error *err)
{
  struct dg_meta *meta = dg_meta_new();
  const struct dg_request *request = &x->request;

  for (uint32_t i = 0; i < request->header_count; i++) {
    g_autoptr(GString) value = NULL;

    if (seen_before(request, i))
      continue;
    value = g_string_new(NULL);
    join_values(value, request, i);
    if (dg_op_meta_add(meta, request->headers[i].name, dg_slice_of(value->str, value->len), err) <
        0)
      goto fail;
  }
  if (add_hoisted(x, meta, err) < 0 || dg_op_meta_check(meta, err) < 0)
    goto fail;
  *ret_meta = meta;
  return 0;
fail:
  dg_meta_unref(meta);
  return -1;
}

/* ---- Metadata to response ------------------------------------------------------------ */

static void date_header(struct dg_exchange *x, const char *name, int64_t seconds)
{
  char date[DG_HTTP_DATE_SIZE];

  dg_time_format_http(date, seconds);
  dg_response_header(x, name, dg_slice_str(date));
}

void dg_op_validator_headers(struct dg_exchange *x, const struct dg_object_info *info)
{
  if (info->etag[0])
    dg_response_header(x, "ETag", dg_slice_str(info->etag));
  date_header(x, "Last-Modified", info->last_modified_s);
}

static void text_header(struct dg_exchange *x, const char *name, struct dg_slice text)
{
  if (is_ascii(text)) {
    dg_response_header(x, name, text);
  } else {
    g_autoptr(GString) value = g_string_new(NULL);

    append_encoded(value, text);
    dg_response_header(x, name, dg_slice_of(value->str, value->len));
  }
}

/* What the client asked the answer to say, if it may: a value that could end
 * the header line is refused at the door, by dg_op_check_overrides(). */
static struct dg_slice chosen(const struct dg_exchange *x, const char *parameter,
                              struct dg_slice kept)
{
  struct dg_slice wanted = dg_op_query(x, parameter);

  return wanted.len ? wanted : kept;
}

int dg_op_check_overrides(const struct dg_exchange *x, struct dg_error *err)
{
  for (uint32_t i = 0; i < x->target.param_count; i++) {
    const struct dg_param *param = &x->target.params[i];

    if (!dg_slice_starts_with(param->name, DG_SLICE("response-")))
      continue;
    for (size_t at = 0; at < param->value.len; at++) {
      unsigned char byte = (unsigned char)param->value.data[at];

      if ((byte < 0x20 && byte != '\t') || byte == 0x7f)
        return dg_fail(err, DG_E_INVALID_ARGUMENT, "%.*s: control characters are not allowed",
                       DG_SLICE_ARG(param->name));
    }
  }
  return 0;
}

/* What the engine knows of an object, by the names it has in S3 metadata.
 * Returns how many of pairs are filled. size_text: room for a number. */
#define SYSTEM_PAIRS 5
static unsigned system_pairs(const struct dg_meta *meta, char size_text[24],
                             struct dg_pair pairs[SYSTEM_PAIRS])
{
  unsigned count = 0, kept = 0;

  (void)g_snprintf(size_text, 24, "%" G_GUINT64_FORMAT, meta->file_size);
  pairs[count++] = (struct dg_pair){DG_SLICE("x-amz-meta-dg-tool"), meta->tool};
  pairs[count++] = (struct dg_pair){DG_SLICE("x-amz-meta-dg-original-name"), meta->original_name};
  pairs[count++] = (struct dg_pair){DG_SLICE("x-amz-meta-dg-file-sha256"), meta->file_sha256};
  pairs[count++] = (struct dg_pair){DG_SLICE("x-amz-meta-dg-file-size"), dg_slice_str(size_text)};
  pairs[count++] = (struct dg_pair){DG_SLICE("x-amz-meta-dg-ref-path"), meta->ref_path};
  for (unsigned i = 0; i < count; i++)
    if (pairs[i].value.len)
      pairs[kept++] = pairs[i];
  return kept;
}

static void debug_headers(struct dg_exchange *x, const struct dg_object_info *info)
{
  struct dg_pair pairs[SYSTEM_PAIRS];
  char size_text[24];
  unsigned count;

  const struct dg_meta *meta = info->meta;

  if (!x->snapshot->debug_headers)
    return;
  dg_op_stored_headers(x, meta->variant, info->stored_bytes);
  if (meta->variant == DG_VARIANT_DELTA)
    dg_response_header(x, "x-deltaglider-cache", dg_slice_str(info->cache_hit ? "hit" : "miss"));
  count = system_pairs(meta, size_text, pairs);
  for (unsigned i = 0; i < count; i++)
    text_header(x, pairs[i].name.data, pairs[i].value);
}

void dg_op_stored_headers(struct dg_exchange *x, uint32_t variant, uint64_t stored_bytes)
{
  if (!x->snapshot->debug_headers)
    return;
  dg_response_header(x, "x-amz-storage-type",
                     dg_slice_str(variant == DG_VARIANT_DELTA       ? "delta"
                                  : variant == DG_VARIANT_REFERENCE ? "reference"
                                                                    : "passthrough"));
  dg_response_headerf(x, "x-deltaglider-stored-size", "%" G_GUINT64_FORMAT, stored_bytes);
}

static bool is_engine_mark(struct dg_slice name)
{
  return dg_slice_starts_with(name, DG_SLICE("dg-"));
}

static void user_headers(struct dg_exchange *x, const struct dg_meta *meta)
{
  for (uint32_t i = 0; i < meta->user_count; i++) {
    g_autofree char *name = NULL;

    if (is_engine_mark(meta->user[i].name) || !is_header_name(meta->user[i].name))
      continue;
    name = g_strconcat(META_PREFIX, meta->user[i].name.data, NULL);
    text_header(x, name, meta->user[i].value);
  }
}

static void add_item(GArray *items, GStringChunk *names, const char *prefix, struct dg_slice name,
                     struct dg_slice value)
{
  g_autofree char *bare = dg_slice_dup(name);
  g_autofree char *full = g_strconcat(prefix, bare, NULL);
  struct dg_pair pair = {dg_slice_str(g_string_chunk_insert(names, full)), value};

  g_array_append_val(items, pair);
}

void dg_op_list_items(const struct dg_exchange *x, const struct dg_meta *meta, GArray *items,
                      GStringChunk *names)
{
  struct dg_pair pairs[SYSTEM_PAIRS];
  char size_text[24];

  if (x->snapshot->debug_headers) {
    unsigned count = system_pairs(meta, size_text, pairs);

    for (unsigned i = 0; i < count; i++) {
      if (pairs[i].value.data == size_text)
        pairs[i].value = dg_slice_str(g_string_chunk_insert(names, size_text));
      g_array_append_val(items, pairs[i]);
    }
  }
  if (meta->content_type.len)
    add_item(items, names, "", DG_SLICE("content-type"), meta->content_type);
  for (uint32_t i = 0; i < meta->user_count; i++)
    if (!is_engine_mark(meta->user[i].name))
      add_item(items, names, META_PREFIX "user-", meta->user[i].name, meta->user[i].value);
}

void dg_op_object_headers(struct dg_exchange *x, const struct dg_object_info *info)
{
  const struct dg_meta *meta = info->meta;
  struct dg_slice type = meta->content_type.len ? meta->content_type : DG_SLICE(DEFAULT_TYPE);

  /* Another writer's folder marker carries no type of its own. */
  if (!meta->content_type.len && info->size_bytes == 0 && x->target.key.len &&
      x->target.key.data[x->target.key.len - 1] == '/')
    type = DG_SLICE("application/x-directory");
  text_header(x, "Content-Type", chosen(x, "response-content-type", type));
  for (size_t i = 0; i < G_N_ELEMENTS(kept_headers); i++) {
    struct dg_slice value =
        chosen(x, kept_headers[i].override, dg_meta_extension(meta, kept_headers[i].name));

    if (value.len)
      text_header(x, kept_headers[i].header, value);
  }
  dg_op_validator_headers(x, info);
  dg_response_header(x, "Accept-Ranges", DG_SLICE("bytes"));
  user_headers(x, meta);
  debug_headers(x, info);
}

/* ---- Checksums -------------------------------------------------------------------------- */

bool dg_op_sum_composite(struct dg_slice base64)
{
  return dg_slice_find(base64, '-', 0) != SIZE_MAX;
}

void dg_op_checksum_header(struct dg_exchange *x, uint32_t kind, const char *base64)
{
  struct dg_slice value = dg_slice_str(base64);

  if (!dg_checksum_header(kind) || !value.len)
    return;
  dg_response_header(x, dg_checksum_header(kind), value);
  dg_response_header(x, "x-amz-checksum-type",
                     dg_op_sum_composite(value) ? DG_SLICE("COMPOSITE") : DG_SLICE("FULL_OBJECT"));
}

void dg_op_checksum_headers(struct dg_exchange *x, const struct dg_object_info *info)
{
  struct dg_slice value;
  uint32_t kind;

  if (!info->meta ||
      !dg_slice_equal_nocase(dg_op_header(x, "x-amz-checksum-mode"), DG_SLICE("ENABLED")))
    return;
  value = dg_object_checksum(info, &kind);
  if (kind != DG_SUM_NONE)
    dg_op_checksum_header(x, kind, value.data);
}

int dg_op_expect(const struct dg_exchange *x, struct dg_put_expect *ret_expect,
                 struct dg_error *err)
{
  struct dg_slice md5 = dg_op_header(x, "content-md5");
  struct dg_put_expect expect = {0};
  size_t len;

  if (dg_slice_present(md5)) {
    if (!dg_base64_decode(md5, expect.md5, sizeof expect.md5, &len) || len != sizeof expect.md5)
      return dg_fail(err, DG_E_INVALID_DIGEST, "Content-MD5 is not the base64 of 16 bytes.");
    expect.has_md5 = true;
  }
  if (x->payload.has_sha256) {
    expect.has_sha256 = true;
    memcpy(expect.sha256, x->payload.sha256, sizeof expect.sha256);
  }
  if (x->payload.checksum_kind != DG_SUM_NONE)
    expect.checksum_base64 = dg_slice_str(x->payload.checksum_base64);
  *ret_expect = expect;
  return 0;
}
