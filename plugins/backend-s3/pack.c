/* SPDX-License-Identifier: Apache-2.0 */
/* facts.h: facts as bytes, for memory and files. Numbers in the machine's own
 * order: a file never leaves the machine.
 *
 *   u64 size, i64 modified, i64 seen, u8 flags, text etag, text content type,
 *   u16 pairs, then each: u8 code of its name (0: text name), text value
 *   text: u16 length, bytes */
#include "config.h"

#include "facts.h"

#include "common/slice.h"

#include "common/banned.h"

#define STRAY 1u
#define SEALED 2u

/* Names that most objects have, by position. Append only. */
static const char *const names[] = {
  NULL,             "dg-tool",       "dg-original-name", "dg-file-sha256",     "dg-file-size",
  "dg-md5",         "dg-created-at", "dg-note",          "dg-ref-path",        "dg-ref-sha256",
  "dg-delta-size",  "dg-delta-cmd",  "dg-source-name",   "dg-multipart-etag",  "content-type",
  "dg-created-ns",  "tool",          "original-name",    "file-sha256",        "file-size",
  "created-at",     "note",          "ref-key",          "ref-sha256",         "delta-size",
  "dg-ext-dgx1-sha256", "dg-ext-checksum-crc32", "dg-ext-checksum-crc64nvme",
  "dg-ext-part-sizes", "dg-upload", ":cache-control", ":content-disposition", ":content-encoding",
  ":content-language", ":expires"};

static void put(GByteArray *out, const void *data, size_t len)
{
  if (len)
    (void)g_byte_array_append(out, data, (guint)len);
}

static bool put_text(GByteArray *out, struct dg_slice text)
{
  uint16_t len = (uint16_t)text.len;

  if (text.len > UINT16_MAX)
    return false;
  put(out, &len, sizeof len);
  put(out, text.data, text.len);
  return true;
}

static uint8_t code_of(struct dg_slice name)
{
  for (uint8_t i = 1; i < G_N_ELEMENTS(names); i++)
    if (dg_slice_equal_str(name, names[i]))
      return i;
  return 0;
}

bool dg_s3_facts_pack(const struct dg_s3_facts *facts, GByteArray *out)
{
  uint8_t flags = (facts->is_stray_vcdiff ? STRAY : 0u) | (facts->sealed_upstream ? SEALED : 0u);
  uint16_t pairs = (uint16_t)facts->pair_count;

  put(out, &facts->size, sizeof facts->size);
  put(out, &facts->modified_s, sizeof facts->modified_s);
  put(out, &facts->seen_s, sizeof facts->seen_s);
  put(out, &flags, sizeof flags);
  if (!put_text(out, dg_slice_str(facts->etag)) ||
      !put_text(out, dg_slice_str(facts->content_type)) || facts->pair_count > UINT16_MAX)
    return false;
  put(out, &pairs, sizeof pairs);
  for (uint32_t i = 0; i < facts->pair_count; i++) {
    uint8_t code = code_of(facts->pairs[i].name);

    put(out, &code, sizeof code);
    if ((code == 0 && !put_text(out, facts->pairs[i].name)) ||
        !put_text(out, facts->pairs[i].value))
      return false;
  }
  return true;
}

/* ---- Back -------------------------------------------------------------------------------- */

static bool take(struct dg_slice *from, void *out, size_t len)
{
  if (from->len < len)
    return false;
  memcpy(out, from->data, len);
  *from = dg_slice_skip(*from, len);
  return true;
}

static bool take_text(struct dg_slice *from, struct dg_slice *ret_text)
{
  uint16_t len;

  if (!take(from, &len, sizeof len) || from->len < len)
    return false;
  *ret_text = dg_slice_of(from->data, len);
  *from = dg_slice_skip(*from, len);
  return true;
}

static bool take_pairs(struct dg_slice *from, GPtrArray *out)
{
  uint16_t pairs;

  if (!take(from, &pairs, sizeof pairs))
    return false;
  for (uint16_t i = 0; i < pairs; i++) {
    struct dg_slice name, value;
    uint8_t code;

    if (!take(from, &code, sizeof code) || code >= G_N_ELEMENTS(names) ||
        (code == 0 && !take_text(from, &name)) || !take_text(from, &value))
      return false;
    g_ptr_array_add(out, code ? g_strdup(names[code]) : g_strndup(name.data, name.len));
    g_ptr_array_add(out, g_strndup(value.data, value.len));
  }
  return from->len == 0;
}

struct dg_s3_facts *dg_s3_facts_unpack(struct dg_slice bytes)
{
  struct dg_s3_answer answer = {0};
  struct dg_s3_facts *facts = NULL;
  struct dg_slice etag, type;
  uint64_t size;
  uint8_t flags;

  dg_s3_answer_init(&answer);
  if (take(&bytes, &size, sizeof size) &&
      take(&bytes, &answer.last_modified_s, sizeof answer.last_modified_s) &&
      take(&bytes, &answer.date_s, sizeof answer.date_s) && take(&bytes, &flags, sizeof flags) &&
      take_text(&bytes, &etag) && etag.len < sizeof answer.etag && take_text(&bytes, &type) &&
      type.len < sizeof answer.content_type && take_pairs(&bytes, answer.meta)) {
    memcpy(answer.etag, etag.data, etag.len);
    memcpy(answer.content_type, type.data, type.len);
    answer.sealed_upstream = (flags & SEALED) != 0;
    facts = dg_s3_facts_new(&answer, size);
    facts->is_stray_vcdiff = (flags & STRAY) != 0;
  }
  dg_s3_answer_clear(&answer);
  return facts;
}
