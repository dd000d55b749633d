/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/access/identity.h"

#include <arpa/inet.h>
#include <openssl/crypto.h>

#include "common/checksum.h"
#include "common/hex.h"
#include "common/slice.h"
#include "core/access/claim.h"
#include "core/access/client.h"
#include "core/access/credentials.h"
#include "core/access/limiter.h"
#include "core/access/replay.h"

#include "common/banned.h"

#define MAX_SIGNED_HEADERS 100
#define REPEATED_FAILURES 3u /* fewer are typing errors */

static const char unsigned_payload[] = "UNSIGNED-PAYLOAD";

struct dg_access {
  bool open;
  uint32_t clock_skew_s;
  struct dg_replay *replay;
  struct dg_limiter *limiter;
};

struct dg_access *dg_access_new(const struct dg_access_params *params)
{
  struct dg_access *access = g_new0(struct dg_access, 1);

  access->open = params->open;
  access->clock_skew_s = params->clock_skew_s ? params->clock_skew_s : 300;
  access->replay = dg_replay_new(params->replay_window_s, DG_REPLAY_MAX_ENTRIES);
  access->limiter = dg_limiter_new(params->lockout_failures,
                                   params->lockout_window_s ? params->lockout_window_s : 300,
                                   params->lockout_s ? params->lockout_s : 600);
  return access;
}

void dg_access_free(struct dg_access *access)
{
  if (!access)
    return;
  dg_replay_free(access->replay);
  dg_limiter_free(access->limiter);
  g_free(access);
}

void dg_identity_clear(struct dg_identity *identity)
{
  OPENSSL_cleanse(identity, sizeof *identity);
}

/* ---- Delay and lockout ----
 *
 * An unknown key counts against the address. A wrong signature counts against
 * the address together with the key, so that one broken client behind a shared
 * address does not lock the others out. */

/* An IPv6 client commands a whole /64, so that is what counts as its address.
 * access_key may be empty. */
static struct dg_slice make_source(struct dg_failure_source *source, const char *client,
                                   struct dg_slice access_key)
{
  struct in6_addr address;
  int len;

  if (strchr(client, ':') && inet_pton(AF_INET6, client, &address) == 1 &&
      !IN6_IS_ADDR_V4MAPPED(&address)) {
    char net[17];

    dg_hex_encode(address.s6_addr, 8, net);
    len = g_snprintf(source->text, sizeof source->text, "%s::/64|%.*s", net,
                     DG_SLICE_ARG(access_key));
  } else {
    len = g_snprintf(source->text, sizeof source->text, "%s|%.*s", client, DG_SLICE_ARG(access_key));
  }
  return dg_slice_of(source->text, MIN((size_t)len, sizeof source->text - 1));
}

struct dg_slice dg_identity_source(const struct dg_identity *identity,
                                   const struct dg_request *request,
                                   struct dg_failure_source *ret_source)
{
  const char *client = dg_client_address(request);
  struct dg_slice source;

  if (identity->counted_with_key)
    return make_source(ret_source, client, dg_slice_str(identity->access_key));
  source = make_source(ret_source, client, DG_SLICE_NONE);
  source.len--; /* without the bar */
  return source;
}

static void count_failure(struct dg_access *access, const char *client, struct dg_slice access_key,
                          int64_t now_s, struct dg_identity *identity)
{
  struct dg_failure_source source;
  uint32_t failures =
      dg_limiter_fail(access->limiter, make_source(&source, client, access_key), now_s);

  identity->delay_ms = dg_limiter_delay_ms(failures);
  identity->attempts = failures;
  identity->counted_with_key = access_key.len > 0;
  if (dg_limiter_is_too_many(access->limiter, failures))
    identity->alarm = "brute_force_lockout";
  else if (failures >= REPEATED_FAILURES)
    identity->alarm = "repeated_auth_failure";
}

static int check_lockout(struct dg_access *access, const char *client, struct dg_slice access_key,
                         int64_t now_s, struct dg_identity *identity, struct dg_error *err)
{
  struct dg_failure_source source;

  if (dg_limiter_idle(access->limiter, now_s))
    return 0;
  identity->attempts =
      dg_limiter_locked(access->limiter, make_source(&source, client, DG_SLICE_NONE), now_s);
  if (!identity->attempts && access_key.len) {
    identity->attempts =
        dg_limiter_locked(access->limiter, make_source(&source, client, access_key), now_s);
    identity->counted_with_key = true;
  }
  if (!identity->attempts)
    return 0;
  identity->alarm = "brute_force_blocked";
  return dg_fail(err, DG_E_SLOW_DOWN, "locked out after too many failed attempts: %s", client);
}

static void count_success(struct dg_access *access, const char *client, struct dg_slice access_key,
                          int64_t now_s)
{
  struct dg_failure_source source;

  if (dg_limiter_idle(access->limiter, now_s))
    return;
  dg_limiter_success(access->limiter, make_source(&source, client, DG_SLICE_NONE), now_s);
  dg_limiter_success(access->limiter, make_source(&source, client, access_key), now_s);
}

/* ---- The canonical request ---- */

static bool header_is_signed(struct dg_slice signed_headers, struct dg_slice name)
{
  while (signed_headers.len) {
    size_t end = dg_slice_find(signed_headers, ';', 0);

    if (end == SIZE_MAX)
      end = signed_headers.len;
    if (dg_slice_equal_nocase(dg_slice_of(signed_headers.data, end), name))
      return true;
    signed_headers = dg_slice_skip(signed_headers, end + 1);
  }
  return false;
}

/* Host and every x-amz-* header must be under the signature: those are the ones
 * that steer what we do. */
static int check_signed_headers(const struct dg_request *request, const struct dg_claim *claim,
                                struct dg_error *err)
{
  static const char prefix[] = "x-amz-";
  unsigned count = 1;

  for (size_t i = 0; i < claim->signed_headers.len; i++) {
    char c = claim->signed_headers.data[i];

    count += c == ';';
    if (c <= ' ' || c >= 0x7f || (c >= 'A' && c <= 'Z'))
      return dg_fail(err, claim->presigned ? DG_E_AUTH_QUERY : DG_E_AUTH_MALFORMED,
                     "SignedHeaders must be lower-case header names, separated by ';'.");
  }
  if (count > MAX_SIGNED_HEADERS)
    return dg_fail(err, claim->presigned ? DG_E_AUTH_QUERY : DG_E_AUTH_MALFORMED,
                   "SignedHeaders names more than %d headers.", MAX_SIGNED_HEADERS);
  if (!header_is_signed(claim->signed_headers, DG_SLICE("host")))
    return dg_fail(err, DG_E_SIGNATURE_MISMATCH, "The Host header must be signed.");
  for (uint32_t i = 0; i < request->header_count; i++) {
    struct dg_slice name = request->headers[i].name;

    if (name.len >= sizeof prefix - 1 &&
        dg_slice_equal_nocase(dg_slice_of(name.data, sizeof prefix - 1), dg_slice_str(prefix)) &&
        !header_is_signed(claim->signed_headers, name))
      return dg_fail(err, DG_E_SIGNATURE_MISMATCH,
                     "There were headers present in the request which were not signed: %.*s",
                     DG_SLICE_ARG(name));
  }
  return 0;
}

/* `name:value[,value...]` and a LF per signed header, in the client's order. */
static void append_headers(GString *out, const struct dg_request *request,
                           struct dg_slice signed_headers)
{
  while (signed_headers.len) {
    size_t end = dg_slice_find(signed_headers, ';', 0);
    struct dg_slice name;
    bool first = true;

    if (end == SIZE_MAX)
      end = signed_headers.len;
    name = dg_slice_of(signed_headers.data, end);
    dg_slice_append(out, name);
    g_string_append_c(out, ':');
    for (uint32_t i = 0; i < request->header_count; i++) {
      if (!dg_slice_equal_nocase(request->headers[i].name, name))
        continue;
      if (!first)
        g_string_append_c(out, ',');
      first = false;
      dg_sigv4_append_value(out, request->headers[i].value);
    }
    g_string_append_c(out, '\n');
    signed_headers = dg_slice_skip(signed_headers, end + 1);
  }
}

/* False: the spelling is impossible (a bad escape). */
static bool build_canonical(GString *out, const struct dg_request *request,
                            const struct dg_claim *claim, struct dg_slice payload_hash,
                            bool as_sent)
{
  g_string_truncate(out, 0);
  g_string_append(out, request->method);
  g_string_append_c(out, '\n');
  if (!dg_sigv4_append_path(out, request->raw_path, as_sent))
    return false;
  g_string_append_c(out, '\n');
  if (!dg_sigv4_append_query(out, request->raw_query,
                             claim->presigned ? DG_SLICE("X-Amz-Signature") : DG_SLICE_NONE,
                             as_sent))
    return false;
  g_string_append_c(out, '\n');
  append_headers(out, request, claim->signed_headers);
  g_string_append_c(out, '\n');
  dg_slice_append(out, claim->signed_headers);
  g_string_append_c(out, '\n');
  dg_slice_append(out, payload_hash);
  return true;
}

/* Two spellings are accepted: the canonical one, and path and query exactly as
 * sent, for clients that sign what they send. Both are under the client's own
 * signature and mean the same target to us. */
static bool signature_is_right(const struct dg_request *request, const struct dg_claim *claim,
                               struct dg_slice payload_hash, const uint8_t key[32])
{
  g_autoptr(GString) canonical = g_string_sized_new(1024);
  g_autoptr(GString) to_sign = g_string_sized_new(256);
  g_autofree char *first = NULL;
  gsize first_len = 0;

  for (int as_sent = 0; as_sent < 2; as_sent++) {
    uint8_t mac[32];

    if (!build_canonical(canonical, request, claim, payload_hash, as_sent))
      continue;
    if (as_sent && first && first_len == canonical->len &&
        memcmp(first, canonical->str, first_len) == 0)
      return false;
    g_string_truncate(to_sign, 0);
    dg_sigv4_string_to_sign(to_sign, dg_slice_str(claim->timestamp), &claim->scope, canonical);
    dg_hmac_sha256(key, 32, dg_slice_of(to_sign->str, to_sign->len), mac);
    if (dg_equal_secret(mac, claim->signature, sizeof mac))
      return true;
    if (!as_sent) {
      first_len = canonical->len;
      first = g_memdup2(canonical->str, first_len);
    }
  }
  return false;
}

/* ---- The payload's mode ---- */

/* What x-amz-content-sha256 says, or its place in a presigned query.
 * *ret_hash is the text that goes into the canonical request. */
static int read_payload_mode(const struct dg_request *request, const struct dg_target *target,
                             enum dg_claim_kind kind, struct dg_identity *identity,
                             struct dg_slice *ret_hash, struct dg_error *err)
{
  struct dg_slice value = dg_request_header(request, "x-amz-content-sha256");

  if (dg_request_header_count(request, "x-amz-content-sha256") > 1)
    return dg_fail(err, DG_E_INVALID_REQUEST, "More than one x-amz-content-sha256 header.");
  if (!dg_slice_present(value) && kind == DG_CLAIM_PRESIGNED)
    value = dg_target_param(target, "X-Amz-Content-Sha256");
  if (!dg_slice_present(value)) {
    if (kind == DG_CLAIM_HEADER)
      return dg_fail(err, DG_E_INVALID_REQUEST,
                     "Missing required header for this request: x-amz-content-sha256");
    *ret_hash = dg_slice_str(unsigned_payload);
    return 0;
  }
  if (!dg_payload_mode_parse(value, &identity->payload_mode)) {
    if (dg_slice_starts_with(value, DG_SLICE("STREAMING-")))
      return dg_fail(err, DG_E_NOT_IMPLEMENTED, "This x-amz-content-sha256 is not supported: %.*s",
                     DG_SLICE_ARG(value));
    return dg_fail(err, DG_E_INVALID_ARGUMENT,
                   "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, "
                   "STREAMING-UNSIGNED-PAYLOAD-TRAILER, STREAMING-AWS4-HMAC-SHA256-PAYLOAD, "
                   "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER or a valid sha256 value.");
  }
  if (identity->payload_mode == DG_PAYLOAD_SHA256)
    (void)dg_hex_decode(value, identity->payload_sha256, 32);
  *ret_hash = value;
  return 0;
}

/* Clients told not to sign still send aws-chunked bodies with a trailer, but
 * leave out the header that says so. */
static bool says_aws_chunked(const struct dg_request *request)
{
  struct dg_slice encoding = dg_request_header(request, "content-encoding");

  while (encoding.len) {
    size_t comma = dg_slice_find(encoding, ',', 0);
    size_t end = comma == SIZE_MAX ? encoding.len : comma;

    if (dg_slice_equal_nocase(dg_slice_trim(dg_slice_of(encoding.data, end)),
                              DG_SLICE("aws-chunked")))
      return true;
    encoding = dg_slice_skip(encoding, end + 1);
  }
  return false;
}

static void copy_access_key(struct dg_identity *identity, struct dg_slice access_key)
{
  size_t len = MIN(access_key.len, sizeof identity->access_key - 1);

  if (len)
    memcpy(identity->access_key, access_key.data, len);
  identity->access_key[len] = '\0';
}

/* Open mode verifies nobody, but bodies are still decoded as announced. */
static int identify_open(const struct dg_request *request, const struct dg_target *target,
                         struct dg_identity *identity, struct dg_error *err)
{
  enum dg_claim_kind kind = DG_CLAIM_NONE;
  struct dg_claim claim;
  struct dg_error ignored;
  struct dg_slice hash;

  identity->kind = DG_IDENTITY_OPEN;
  if (dg_claim_find(request, target, &kind, &ignored) == 0 && kind != DG_CLAIM_NONE) {
    (void)dg_claim_parse(request, target, kind, &claim, &ignored);
    copy_access_key(identity, claim.access_key);
    identity->presigned = claim.presigned;
  }
  /* PRESIGNED here only means that the header may be missing. */
  if (read_payload_mode(request, target, DG_CLAIM_PRESIGNED, identity, &hash, err) < 0)
    return -1;
  if (identity->payload_mode == DG_PAYLOAD_NONE && says_aws_chunked(request))
    identity->payload_mode = DG_PAYLOAD_UNSIGNED_TRAILER;
  return 0;
}

/* ---- Verification ---- */

static int fail_reason(struct dg_identity *identity, const char *reason)
{
  identity->failure = reason;
  return -1;
}

static int check_time(const struct dg_access *access, const struct dg_claim *claim, int64_t now_s,
                      struct dg_error *err)
{
  int64_t skew = access->clock_skew_s, ahead = claim->timestamp_s - now_s;

  if (!claim->presigned) {
    if (ahead > skew || -ahead > skew)
      return dg_fail(err, DG_E_TIME_SKEWED, "the request's clock is %lld s off, allowed are %lld",
                     (long long)ahead, (long long)skew);
    return 0;
  }
  if (ahead > skew)
    return dg_fail(err, DG_E_ACCESS_DENIED, "presigned URL is not valid yet: %lld s ahead",
                   (long long)ahead);
  if (-ahead > claim->expires_s)
    return dg_fail(err, DG_E_EXPIRED_TOKEN, "presigned URL expired %lld s ago",
                   (long long)(-ahead - claim->expires_s));
  return 0;
}

/* A signing key while a signature is verified with it. */
struct key_use {
  struct dg_credentials *table; /* borrowed; set by the caller; NULL: there are none */
  const struct dg_credential *credential;
  uint8_t key[32];
  bool cached;
};

/* The key of the claim, once its scope is known to be in order. On success
 * key_use_end() must follow. */
static int key_use_begin(struct dg_access *access, const char *client, struct dg_slice access_key,
                         const struct dg_sigv4_scope *scope, int64_t now_s,
                         struct dg_identity *identity, struct key_use *use, struct dg_error *err)
{
  use->credential = use->table ? dg_credentials_find(use->table, access_key) : NULL;
  if (!use->credential) {
    count_failure(access, client, DG_SLICE_NONE, now_s, identity);
    return dg_fail(err, DG_E_ACCESS_DENIED, "unknown access key '%.*s'", DG_SLICE_ARG(access_key));
  }
  use->cached = dg_credentials_key(use->table, use->credential, scope, use->key);
  return 0;
}

static void key_use_end(struct key_use *use, const struct dg_sigv4_scope *scope, bool right)
{
  if (right && !use->cached)
    dg_credentials_remember(use->table, use->credential, scope, use->key);
  OPENSSL_cleanse(use->key, sizeof use->key);
}

static void fill_seed(struct dg_identity *identity, const struct dg_claim *claim,
                      const uint8_t key[32])
{
  struct dg_sigv4_seed *seed = &identity->seed;

  memcpy(seed->key, key, sizeof seed->key);
  dg_hex_encode(claim->signature, sizeof claim->signature, seed->signature);
  memcpy(seed->timestamp, claim->timestamp, sizeof seed->timestamp);
  (void)g_snprintf(seed->scope, sizeof seed->scope, "%.*s/%.*s/s3/aws4_request",
                   DG_SLICE_ARG(claim->scope.date), DG_SLICE_ARG(claim->scope.region));
  identity->signed_chunks = true;
}

static int verify_claim(struct dg_access *access, struct dg_credentials *credentials,
                        const struct dg_request *request, const struct dg_target *target,
                        enum dg_claim_kind kind, struct dg_claim *claim, int64_t now_s,
                        struct dg_identity *identity, struct dg_error *err)
{
  const char *bad_form = kind == DG_CLAIM_PRESIGNED ? "invalid_presigned" : "missing_header";
  const char *bad_signature =
      kind == DG_CLAIM_PRESIGNED ? "invalid_presigned" : "invalid_signature";
  const char *client = dg_client_address(request);
  struct dg_slice payload_hash;
  struct key_use use = {.table = credentials};
  bool right;

  if (check_signed_headers(request, claim, err) < 0 ||
      read_payload_mode(request, target, kind, identity, &payload_hash, err) < 0)
    return fail_reason(identity, bad_form);
  if (key_use_begin(access, client, claim->access_key, &claim->scope, now_s, identity, &use, err) <
      0)
    return fail_reason(identity, "invalid_access_key");
  if (check_time(access, claim, now_s, err) < 0) {
    key_use_end(&use, &claim->scope, /* right= */ false);
    return fail_reason(identity, bad_signature);
  }
  right = signature_is_right(request, claim, payload_hash, use.key);
  if (right && (identity->payload_mode == DG_PAYLOAD_SIGNED_CHUNKS ||
                identity->payload_mode == DG_PAYLOAD_SIGNED_TRAILER))
    fill_seed(identity, claim, use.key);
  key_use_end(&use, &claim->scope, right);
  if (!right) {
    count_failure(access, client, claim->access_key, now_s, identity);
    err->code = DG_E_SIGNATURE_MISMATCH;
    err->detail[0] = '\0'; /* the standard text serves the client best */
    return fail_reason(identity, bad_signature);
  }
  return 0;
}

static bool may_be_unsigned(const struct dg_target *target)
{
  return target->op == DG_OP_OPTIONS || target->op == DG_OP_HEAD_ROOT ||
         target->op == DG_OP_POST_OBJECT;
}

int dg_identity_verify(struct dg_access *access, struct dg_credentials *credentials,
                       const struct dg_request *request, const struct dg_target *target,
                       int64_t now_s, struct dg_identity *ret_identity, struct dg_error *err)
{
  const char *client = dg_client_address(request);
  enum dg_claim_kind kind = DG_CLAIM_NONE;
  struct dg_claim claim;

  *ret_identity = (struct dg_identity){0};
  if (access->open)
    return identify_open(request, target, ret_identity, err);
  if (dg_claim_find(request, target, &kind, err) < 0)
    return fail_reason(ret_identity, "missing_header");
  if (kind == DG_CLAIM_NONE) {
    if (may_be_unsigned(target))
      return 0;
    (void)dg_fail(err, DG_E_ACCESS_DENIED, "the request carries no credentials");
    return fail_reason(ret_identity, "missing_header");
  }
  if (dg_claim_parse(request, target, kind, &claim, err) < 0) {
    copy_access_key(ret_identity, claim.access_key);
    return fail_reason(ret_identity,
                       kind == DG_CLAIM_PRESIGNED ? "invalid_presigned" : "missing_header");
  }
  copy_access_key(ret_identity, claim.access_key);
  ret_identity->presigned = claim.presigned;
  if (check_lockout(access, client, claim.access_key, now_s, ret_identity, err) < 0)
    return fail_reason(ret_identity, "invalid_access_key");
  if (verify_claim(access, credentials, request, target, kind, &claim, now_s, ret_identity,
                   err) < 0)
    return -1;
  count_success(access, client, claim.access_key, now_s);
  if (!claim.presigned && dg_request_mutates(request)) {
    if (dg_replay_seen(access->replay, claim.signature, now_s)) {
      (void)dg_fail(err, DG_E_REPLAY, "the same signature came within the replay window");
      return fail_reason(ret_identity, "replay");
    }
    ret_identity->remembered = true;
    memcpy(ret_identity->replay_signature, claim.signature, sizeof ret_identity->replay_signature);
  }
  ret_identity->kind = DG_IDENTITY_USER;
  return 0;
}

void dg_identity_forgive(struct dg_access *access, struct dg_identity *identity)
{
  if (identity->remembered)
    dg_replay_forget(access->replay, identity->replay_signature);
  identity->remembered = false;
}

/* ---- Form uploads ---- */

static int verify_form(struct dg_access *access, struct dg_credentials *credentials,
                       const struct dg_form_credentials *form, const char *client, int64_t now_s,
                       struct dg_identity *identity, struct dg_error *err)
{
  struct dg_sigv4_scope scope;
  struct dg_slice access_key = DG_SLICE_NONE;
  uint8_t mac[32], signature[32];
  struct key_use use = {.table = credentials};
  bool right;

  if (!dg_slice_present(form->policy) || !dg_slice_present(form->signature))
    return dg_fail(err, DG_E_ACCESS_DENIED, "the form carries no signed policy");
  if (!dg_slice_equal_str(form->algorithm, DG_SIGV4_ALGORITHM))
    return dg_fail(err, DG_E_INVALID_ARGUMENT,
                   "The field x-amz-algorithm must be \"AWS4-HMAC-SHA256\".");
  if (dg_claim_credential(form->credential, DG_E_INVALID_ARGUMENT, &access_key, &scope, err) < 0)
    return -1;
  copy_access_key(identity, access_key);
  if (!dg_slice_starts_with(form->date, scope.date))
    return dg_fail(err, DG_E_INVALID_ARGUMENT,
                   "The field x-amz-date does not fit the date of x-amz-credential.");
  if (!dg_hex_decode(form->signature, signature, sizeof signature))
    return dg_fail(err, DG_E_INVALID_ARGUMENT, "The field x-amz-signature is no signature.");
  if (check_lockout(access, client, access_key, now_s, identity, err) < 0 ||
      key_use_begin(access, client, access_key, &scope, now_s, identity, &use, err) < 0)
    return -1;
  dg_hmac_sha256(use.key, sizeof use.key, form->policy, mac);
  right = dg_equal_secret(mac, signature, sizeof mac);
  key_use_end(&use, &scope, right);
  if (!right) {
    count_failure(access, client, access_key, now_s, identity);
    err->code = DG_E_SIGNATURE_MISMATCH;
    err->detail[0] = '\0';
    return -1;
  }
  count_success(access, client, access_key, now_s);
  return 0;
}

int dg_identity_verify_form(struct dg_access *access, struct dg_credentials *credentials,
                            const struct dg_form_credentials *form,
                            const struct dg_request *request, int64_t now_s,
                            struct dg_identity *ret_identity, struct dg_error *err)
{
  *ret_identity = (struct dg_identity){0};
  if (access->open) {
    ret_identity->kind = DG_IDENTITY_OPEN;
    return 0;
  }
  if (verify_form(access, credentials, form, dg_client_address(request), now_s, ret_identity,
                  err) < 0)
    return fail_reason(ret_identity, "form_post_denied");
  ret_identity->kind = DG_IDENTITY_USER;
  return 0;
}
