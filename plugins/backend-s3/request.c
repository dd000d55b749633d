/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "request.h"

#include <stdlib.h>

#include "common/checksum.h"
#include "common/clock.h"
#include "common/hex.h"
#include "common/sigv4.h"
#include "common/uri.h"
#include "lease.h"

#include "common/banned.h"

void dg_s3_request_init(struct dg_s3_request *request, const char *method, struct dg_slice bucket,
                        struct dg_slice name)
{
  *request = (struct dg_s3_request){.method = method, .bucket = bucket, .name = name};
  request->query = g_ptr_array_new_with_free_func(g_free);
  request->headers = g_ptr_array_new_with_free_func(g_free);
}

void dg_s3_request_clear(struct dg_s3_request *request)
{
  g_clear_pointer(&request->query, g_ptr_array_unref);
  g_clear_pointer(&request->headers, g_ptr_array_unref);
  g_clear_pointer(&request->lease, dg_s3_lease_unref);
}

void dg_s3_request_query(struct dg_s3_request *request, const char *name, struct dg_slice value)
{
  g_ptr_array_add(request->query, g_strdup(name));
  g_ptr_array_add(request->query, g_strndup(value.data ? value.data : "", value.len));
}

void dg_s3_request_header(struct dg_s3_request *request, const char *name, struct dg_slice value)
{
  g_ptr_array_add(request->headers, g_strdup(name));
  g_ptr_array_add(request->headers, g_strndup(value.data ? value.data : "", value.len));
}

void dg_s3_request_seal(const struct dg_s3 *s3, struct dg_s3_request *request)
{
  for (guint i = 0; s3->seal_headers && i < s3->seal_headers->len; i += 2)
    dg_s3_request_header(request, s3->seal_headers->pdata[i],
                         dg_slice_str(s3->seal_headers->pdata[i + 1]));
}

void dg_s3_request_meta(const struct dg_s3 *s3, struct dg_s3_request *request,
                        const GPtrArray *pairs)
{
  dg_s3_request_seal(s3, request);
  dg_s3_request_header(request, "content-type", DG_SLICE(DG_S3_CONTENT_TYPE));
  for (guint i = 0; i + 1 < pairs->len; i += 2) {
    g_autofree char *name = g_strconcat("x-amz-meta-", pairs->pdata[i], NULL);

    dg_s3_request_header(request, name, dg_slice_str(pairs->pdata[i + 1]));
  }
}

void dg_s3_request_text(struct dg_s3_request *request, struct dg_slice text)
{
  uint8_t digest[32];

  dg_sha256(text.data, text.len, digest);
  dg_hex_encode(digest, sizeof digest, request->sha256);
  request->has_body = true;
  request->body = (struct dg_s3_body){.memory = text.data, .fd = -1, .length = text.len};
}

void dg_s3_request_body(struct dg_s3_request *request, const struct dg_s3_body *body,
                        const char *sha256)
{
  (void)g_strlcpy(request->sha256, sha256, sizeof request->sha256);
  request->has_body = true;
  request->body = *body;
}

static void append_pair(GString *raw, const char *name, struct dg_slice value)
{
  if (raw->len)
    g_string_append_c(raw, '&');
  dg_uri_encode(raw, dg_slice_str(name), /* keep_slash= */ false);
  g_string_append_c(raw, '=');
  dg_uri_encode(raw, value, /* keep_slash= */ false);
}

/* The query sorted and encoded: what is signed and what is sent. more: pairs that
 * belong to it, encoded. */
static void append_query(const struct dg_s3_request *request, const GString *more, GString *out)
{
  g_autoptr(GString) raw = g_string_new(more->str);

  for (guint i = 0; i + 1 < request->query->len; i += 2)
    append_pair(raw, request->query->pdata[i], dg_slice_str(request->query->pdata[i + 1]));
  (void)dg_sigv4_append_query(out, dg_slice_of(raw->str, raw->len), DG_SLICE(""),
                              /* as_sent= */ true);
}

struct header {
  const char *name, *value;
};

static int compare_headers(const void *a, const void *b)
{
  return strcmp(((const struct header *)a)->name, ((const struct header *)b)->name);
}

/* Ranges and conditions may be rewritten on the way; the rest is signed. */
static bool is_signed(const char *name)
{
  return g_str_has_prefix(name, "x-amz-") || strcmp(name, "host") == 0 ||
         strncmp(name, "content-", 8) == 0;
}

/* The names of the headers that are signed: a;b;c. */
static void append_signed_names(const GArray *headers, GString *names)
{
  for (guint i = 0; i < headers->len; i++) {
    const struct header *header = &g_array_index(headers, struct header, i);

    if (is_signed(header->name))
      g_string_append_printf(names, "%s%s", names->len ? ";" : "", header->name);
  }
}

/* One attempt's signature and what it is made of. */
struct signing {
  const struct dg_s3 *s3;
  const struct dg_s3_request *request;
  const GArray *headers; /* sorted */
  const GString *path, *names;
  const char *sha256, *stamp;
};

static void sign(const struct signing *it, const GString *query, char signature[65])
{
  struct dg_sigv4_scope scope = {dg_slice_of(it->stamp, 8), dg_slice_str(it->s3->region),
                                 DG_SLICE("s3")};
  g_autoptr(GString) canonical = g_string_new(it->request->method);
  g_autoptr(GString) to_sign = g_string_new(NULL);
  uint8_t key[32];

  g_string_append_printf(canonical, "\n%s\n%s\n", it->path->str, query->str);
  for (guint i = 0; i < it->headers->len; i++) {
    const struct header *header = &g_array_index(it->headers, struct header, i);

    if (!is_signed(header->name))
      continue;
    g_string_append(canonical, header->name);
    g_string_append_c(canonical, ':');
    dg_sigv4_append_value(canonical, dg_slice_str(header->value));
    g_string_append_c(canonical, '\n');
  }
  g_string_append_printf(canonical, "\n%s\n%s", it->names->str, it->sha256);
  dg_sigv4_string_to_sign(to_sign, dg_slice_of(it->stamp, DG_BASIC_DATE_SIZE - 1), &scope,
                          canonical);
  dg_sigv4_key(dg_slice_str(it->s3->secret_access_key), &scope, key);
  dg_sigv4_sign(key, dg_slice_of(to_sign->str, to_sign->len), signature);
}

static char *credential(const struct signing *it)
{
  return g_strdup_printf("%s/%.8s/%s/s3/aws4_request", it->s3->access_key_id, it->stamp,
                         it->s3->region);
}

/* What the query says of a signature that has an end. */
static void append_query_signing(const struct signing *it, GString *raw)
{
  g_autofree char *who = credential(it);
  char seconds[16];

  (void)g_snprintf(seconds, sizeof seconds, "%u", it->request->valid_for_s);
  append_pair(raw, "X-Amz-Algorithm", DG_SLICE(DG_SIGV4_ALGORITHM));
  append_pair(raw, "X-Amz-Credential", dg_slice_str(who));
  append_pair(raw, "X-Amz-Date", dg_slice_str(it->stamp));
  append_pair(raw, "X-Amz-Expires", dg_slice_str(seconds));
  append_pair(raw, "X-Amz-SignedHeaders", dg_slice_of(it->names->str, it->names->len));
}

static struct curl_slist *append_header(struct curl_slist *list, const char *name,
                                        const char *value)
{
  /* An empty value must be written with ';', or curl drops the header. */
  g_autofree char *line =
    *value ? g_strdup_printf("%s: %s", name, value) : g_strdup_printf("%s;", name);
  struct curl_slist *longer = curl_slist_append(list, line);

  g_assert(longer);
  return longer;
}

void dg_s3_request_sign(const struct dg_s3 *s3, const struct dg_s3_request *request, int64_t now_s,
                        char **ret_url, struct curl_slist **ret_headers)
{
  g_autoptr(GString) host = g_string_new(NULL);
  g_autoptr(GString) path = g_string_new(NULL);
  g_autoptr(GString) names = g_string_new(NULL);
  g_autoptr(GString) more = g_string_new(NULL);
  g_autoptr(GString) query = g_string_new(NULL);
  g_autoptr(GArray) headers = g_array_new(FALSE, FALSE, sizeof(struct header));
  const char *sha256 = request->sha256[0] ? request->sha256 : DG_SHA256_EMPTY_HEX;
  bool in_query = request->valid_for_s && s3->access_key_id;
  char stamp[DG_BASIC_DATE_SIZE], signature[65];
  struct signing it = {s3, request, headers, path, names, sha256, stamp};
  struct curl_slist *list = NULL;

  dg_s3_endpoint_locate(&s3->endpoint, request->bucket, request->name, host, path);
  dg_time_format_basic(stamp, in_query ? request->signed_at_s : now_s);
  for (guint i = 0; i + 1 < request->headers->len; i += 2)
    g_array_append_val(headers, ((struct header){request->headers->pdata[i],
                                                 request->headers->pdata[i + 1]}));
  g_array_append_val(headers, ((struct header){"host", host->str}));
  g_array_append_val(headers, ((struct header){"x-amz-content-sha256", sha256}));
  if (!in_query)
    g_array_append_val(headers, ((struct header){"x-amz-date", stamp}));
  qsort(headers->data, headers->len, sizeof(struct header), compare_headers);
  for (guint i = 0; i < headers->len; i++) {
    const struct header *header = &g_array_index(headers, struct header, i);

    list = append_header(list, header->name, header->value);
  }
  append_signed_names(headers, names);
  if (in_query)
    append_query_signing(&it, more);
  append_query(request, more, query);
  if (s3->access_key_id)
    sign(&it, query, signature);
  if (in_query) {
    g_string_append_printf(query, "&X-Amz-Signature=%s", signature);
  } else if (s3->access_key_id) {
    g_autofree char *who = credential(&it);
    g_autofree char *value =
      g_strdup_printf(DG_SIGV4_ALGORITHM " Credential=%s, SignedHeaders=%s, Signature=%s", who,
                      names->str, signature);

    list = append_header(list, "Authorization", value);
  }
  *ret_url = g_strdup_printf("%s://%s%s%s%s", s3->endpoint.https ? "https" : "http", host->str,
                             path->str, query->len ? "?" : "", query->str);
  *ret_headers = list;
}
