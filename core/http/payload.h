/* SPDX-License-Identifier: Apache-2.0 */
/* From the body on the wire to the payload the handler sees.
 *
 * The gate takes HTTP framing off (Content-Length, chunked); what is left may
 * still be aws-chunked, signed or not, with a trailer. This decoder turns it
 * into payload bytes, verifies chunk signatures and trailers, checks the
 * announced lengths, and hands the bytes to the handler as its body_mode asks.
 * It belongs to one exchange and holds at most one chunk header of memory:
 * payload bytes pass straight through. */
#ifndef DG_CORE_HTTP_PAYLOAD_H
#define DG_CORE_HTTP_PAYLOAD_H

#include <stddef.h>
#include <stdint.h>

#include "core/http/exchange.h"

struct dg_payload;

/* What a form upload may carry beside its file. */
#define DG_PAYLOAD_FORM_BYTES (256u * 1024u)

/* [loop] Sets x->payload from the head, once x->identity is known: announced
 * length, digest, checksum. DG_E_INVALID_REQUEST, _INVALID_ARGUMENT or
 * _MISSING_LENGTH for headers that contradict each other. */
int dg_payload_facts_read(struct dg_exchange *x, struct dg_error *err);

/* [worker] After dg_front_route(), before the first body byte. Reads the head:
 * fails with the S3 error for a bad mix of headers, or a body announced as too
 * long. raw_length: of the body on the wire, DG_TO_END if unknown (chunked). */
int dg_payload_open(struct dg_exchange *x, uint64_t raw_length, struct dg_payload **ret_payload,
                    struct dg_error *err);
/* [worker] Any number of raw bytes, in order. Calls handler->body() or appends
 * to x->collected. */
int dg_payload_write(struct dg_payload *payload, const void *data, size_t len,
                     struct dg_error *err);
/* [worker] The raw body is complete: checks that the payload is, and sets the
 * trailer's facts in x->payload. Then the gate calls handler->finish(). */
int dg_payload_end(struct dg_payload *payload, struct dg_error *err);
void dg_payload_free(struct dg_payload *payload); /* [worker] NULL is fine */

#endif
