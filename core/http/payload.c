/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/http/payload.h"

#include "common/checksum.h"
#include "common/hex.h"
#include "common/slice.h"
#include "core/config/config.h"
#include "core/http/front.h"
#include "core/s3/aws_chunked.h"

#include "common/banned.h"

struct dg_payload {
  struct dg_exchange *x;
  struct dg_aws_chunked *chunks; /* NULL: the body is the payload */
  uint64_t max_bytes;            /* more is refused */
  struct dg_checksum sha256;     /* of a form; hashes: begun */
  bool hashes;
};

/* ---- Facts in the head [loop] --------------------------------------------------- */

static int checksum_headers(struct dg_exchange *x, struct dg_error *err)
{
  struct dg_payload_facts *facts = &x->payload;
  const struct dg_request *request = &x->request;

  for (uint32_t i = 0; i < request->header_count; i++) {
    uint32_t kind = dg_checksum_from_header(request->headers[i].name);
    struct dg_slice value = request->headers[i].value;

    if (kind == DG_SUM_NONE)
      continue;
    if (facts->checksum_kind != DG_SUM_NONE)
      return dg_fail(err, DG_E_INVALID_REQUEST,
                     "Expecting a single x-amz-checksum- header. Multiple checksum types are not "
                     "allowed.");
    if (!dg_checksum_valid(kind, value) || value.len >= sizeof facts->checksum_base64)
      return dg_fail(err, DG_E_INVALID_REQUEST, "Value for %s header is invalid.",
                     dg_checksum_header(kind));
    facts->checksum_kind = kind;
    memcpy(facts->checksum_base64, value.data, value.len);
    facts->checksum_base64[value.len] = '\0';
  }
  return 0;
}

/* x-amz-trailer announces which checksum follows the body. */
static int checksum_trailer(struct dg_exchange *x, struct dg_error *err)
{
  struct dg_payload_facts *facts = &x->payload;
  struct dg_slice names = dg_request_header(&x->request, "x-amz-trailer");
  size_t from = 0;

  while (names.len && from <= names.len) {
    size_t comma = dg_slice_find(names, ',', from);
    size_t end = comma == SIZE_MAX ? names.len : comma;
    struct dg_slice name = dg_slice_trim(dg_slice_of(names.data + from, end - from));
    uint32_t kind = dg_checksum_from_header(name);

    if (kind != DG_SUM_NONE) {
      if (facts->checksum_kind != DG_SUM_NONE)
        return dg_fail(err, DG_E_INVALID_REQUEST,
                       "Expecting a single checksum, in a header or in the trailer.");
      facts->checksum_kind = kind;
    }
    from = end + 1;
  }
  return 0;
}

/* Announced without a value: computed, kept and returned. */
static void checksum_algorithm(struct dg_exchange *x)
{
  uint32_t kind;

  if (x->payload.checksum_kind != DG_SUM_NONE)
    return;
  kind = dg_checksum_from_name(dg_request_header(&x->request, "x-amz-sdk-checksum-algorithm"));
  if (kind != DG_SUM_MD5)
    x->payload.checksum_kind = kind;
}

static int decoded_length(struct dg_exchange *x, struct dg_error *err)
{
  struct dg_slice value = dg_request_header(&x->request, "x-amz-decoded-content-length");

  if (!dg_payload_mode_chunked(x->identity.payload_mode)) {
    if (x->request.content_length >= 0)
      x->payload.decoded_length = (uint64_t)x->request.content_length;
    else
      x->payload.decoded_length = x->request.chunked ? DG_TO_END : 0;
    return 0;
  }
  if (!value.len)
    return dg_fail(err, DG_E_MISSING_LENGTH, "x-amz-decoded-content-length is missing");
  if (!dg_slice_to_u64(value, &x->payload.decoded_length) || x->payload.decoded_length > INT64_MAX)
    return dg_fail(err, DG_E_INVALID_ARGUMENT,
                   "x-amz-decoded-content-length must be a number of bytes.");
  return 0;
}

int dg_payload_facts_read(struct dg_exchange *x, struct dg_error *err)
{
  enum dg_payload_mode mode = x->identity.payload_mode;

  memset(&x->payload, 0, sizeof x->payload);
  if (decoded_length(x, err) < 0 || checksum_headers(x, err) < 0)
    return -1;
  if ((mode == DG_PAYLOAD_SIGNED_TRAILER || mode == DG_PAYLOAD_UNSIGNED_TRAILER) &&
      checksum_trailer(x, err) < 0)
    return -1;
  checksum_algorithm(x);
  if (mode == DG_PAYLOAD_SHA256) {
    x->payload.has_sha256 = true;
    memcpy(x->payload.sha256, x->identity.payload_sha256, sizeof x->payload.sha256);
  }
  return 0;
}

/* ---- The body [worker] ------------------------------------------------------------ */

int dg_payload_open(struct dg_exchange *x, uint64_t raw_length, struct dg_payload **ret_payload,
                    struct dg_error *err)
{
  const struct dg_handler *handler = x->handler;
  uint64_t announced = x->payload.decoded_length;
  struct dg_payload *payload;
  uint64_t max_bytes;

  switch (handler->body_mode) {
  case DG_BODY_COLLECT:
    max_bytes = handler->collect_max;
    break;
  case DG_BODY_STREAM:
    max_bytes = x->snapshot->max_object_size;
    break;
  default:
    max_bytes = DG_TO_END; /* ignored: the gate bounds what it drains */
  }
  if (handler->raw_payload) /* a form: the fields and the framing come on top */
    max_bytes = max_bytes > DG_TO_END - DG_PAYLOAD_FORM_BYTES ? DG_TO_END
                                                              : max_bytes + DG_PAYLOAD_FORM_BYTES;
  if (announced == DG_TO_END)
    announced = raw_length;
  if (announced != DG_TO_END && announced > max_bytes)
    return dg_fail(err, DG_E_ENTITY_TOO_LARGE, "%" G_GUINT64_FORMAT " bytes announced", announced);
  if (handler->raw_payload && dg_payload_mode_chunked(x->identity.payload_mode))
    return dg_fail(err, DG_E_NOT_IMPLEMENTED, "A form cannot be sent in signed chunks.");
  payload = g_new0(struct dg_payload, 1);
  payload->x = x;
  payload->max_bytes = max_bytes;
  /* Other streams are hashed by the put. */
  if (handler->raw_payload && x->payload.has_sha256) {
    dg_checksum_init(&payload->sha256, DG_SUM_SHA256);
    payload->hashes = true;
  }
  if (!handler->raw_payload && dg_payload_mode_chunked(x->identity.payload_mode))
    payload->chunks = dg_aws_chunked_new(x->identity.payload_mode,
                                         x->identity.signed_chunks ? &x->identity.seed : NULL,
                                         x->payload.decoded_length);
  *ret_payload = payload;
  return 0;
}

static int deliver(struct dg_payload *payload, struct dg_slice bytes, struct dg_error *err)
{
  struct dg_exchange *x = payload->x;

  if (bytes.len > payload->max_bytes - x->body_bytes)
    return dg_fail(err, DG_E_ENTITY_TOO_LARGE, "more than %" G_GUINT64_FORMAT " bytes",
                   payload->max_bytes);
  x->body_bytes += bytes.len;
  if (payload->hashes)
    dg_checksum_update(&payload->sha256, bytes.data, bytes.len);
  switch (x->handler->body_mode) {
  case DG_BODY_STREAM:
    return x->handler->body(x, bytes.data, bytes.len, err);
  case DG_BODY_COLLECT:
    if (!x->collected)
      x->collected = g_byte_array_new();
    g_byte_array_append(x->collected, (const guint8 *)bytes.data, (guint)bytes.len);
    return 0;
  default:
    return 0;
  }
}

int dg_payload_write(struct dg_payload *payload, const void *data, size_t len, struct dg_error *err)
{
  struct dg_slice input = dg_slice_of(data, len);

  if (!payload->chunks)
    return len ? deliver(payload, input, err) : 0;
  while (input.len) {
    struct dg_slice bytes = DG_SLICE_NONE;

    if (dg_aws_chunked_feed(payload->chunks, &input, &bytes, err) < 0 ||
        (bytes.len && deliver(payload, bytes, err) < 0))
      return -1;
  }
  return 0;
}

static int take_trailer(struct dg_payload *payload, struct dg_error *err)
{
  struct dg_payload_facts *facts = &payload->x->payload;
  struct dg_slice value;

  if (facts->checksum_kind == DG_SUM_NONE || facts->checksum_base64[0] ||
      !dg_slice_present(dg_request_header(&payload->x->request, "x-amz-trailer")))
    return 0;
  value = dg_aws_chunked_trailer(payload->chunks, dg_checksum_header(facts->checksum_kind));
  if (!dg_checksum_valid(facts->checksum_kind, value) || value.len >= sizeof facts->checksum_base64)
    return dg_fail(err, DG_E_INVALID_REQUEST, "Value for %s trailer is missing or invalid.",
                   dg_checksum_header(facts->checksum_kind));
  memcpy(facts->checksum_base64, value.data, value.len);
  facts->checksum_base64[value.len] = '\0';
  return 0;
}

/* A collected body is whole: what was promised about it can be checked here,
 * so that no handler of documents has to. */
static int verify_collected(struct dg_exchange *x, struct dg_error *err)
{
  struct dg_slice body =
      x->collected ? dg_slice_of(x->collected->data, x->collected->len) : DG_SLICE("");
  struct dg_slice md5 = dg_request_header(&x->request, "content-md5");
  struct dg_checksum sum = {0};
  char base64[DG_SUM_MAX_BASE64];
  int result = 0;

  if (x->payload.has_sha256) {
    uint8_t digest[32];

    dg_sha256(body.data, body.len, digest);
    if (memcmp(digest, x->payload.sha256, sizeof digest) != 0)
      return dg_fail(err, DG_E_PAYLOAD_MISMATCH, "the document's SHA-256 is another one");
  }
  if (dg_slice_present(md5)) {
    if (!dg_checksum_valid(DG_SUM_MD5, md5))
      return dg_fail(err, DG_E_INVALID_DIGEST, "Content-MD5 is not the base64 of 16 bytes.");
    dg_checksum_init(&sum, DG_SUM_MD5);
    dg_checksum_update(&sum, body.data, body.len);
    dg_checksum_final_base64(&sum, base64);
    if (!dg_slice_equal_str(md5, base64))
      result = dg_fail(err, DG_E_BAD_DIGEST, "Content-MD5 of the document");
  }
  /* On a Complete the checksum header is about the object, not the document. */
  if (result == 0 && x->payload.checksum_base64[0] &&
      x->target.op != DG_OP_COMPLETE_MULTIPART_UPLOAD) {
    dg_checksum_init(&sum, x->payload.checksum_kind);
    dg_checksum_update(&sum, body.data, body.len);
    dg_checksum_final_base64(&sum, base64);
    if (strcmp(base64, x->payload.checksum_base64) != 0)
      result = dg_fail(err, DG_E_CHECKSUM_MISMATCH, "checksum of the document");
  }
  dg_checksum_clear(&sum);
  return result;
}

static int verify_form(struct dg_payload *payload, struct dg_error *err)
{
  uint8_t digest[DG_SUM_MAX_BYTES];

  if (!payload->hashes)
    return 0;
  (void)dg_checksum_final(&payload->sha256, digest);
  if (memcmp(digest, payload->x->payload.sha256, sizeof payload->x->payload.sha256) != 0)
    return dg_fail(err, DG_E_PAYLOAD_MISMATCH, "the form's SHA-256 is another one");
  return 0;
}

int dg_payload_end(struct dg_payload *payload, struct dg_error *err)
{
  struct dg_exchange *x = payload->x;

  if (payload->chunks) {
    if (dg_aws_chunked_finish(payload->chunks, err) < 0 || take_trailer(payload, err) < 0)
      return -1;
  } else if (x->handler->body_mode != DG_BODY_NONE && x->payload.decoded_length != DG_TO_END &&
             x->body_bytes != x->payload.decoded_length) {
    return dg_fail(err, DG_E_INCOMPLETE_BODY,
                   "%" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT " bytes", x->body_bytes,
                   x->payload.decoded_length);
  }
  if (verify_form(payload, err) < 0)
    return -1;
  return x->handler->body_mode == DG_BODY_COLLECT ? verify_collected(x, err) : 0;
}

void dg_payload_free(struct dg_payload *payload)
{
  if (!payload)
    return;
  dg_aws_chunked_free(payload->chunks);
  dg_checksum_clear(&payload->sha256);
  g_free(payload);
}
