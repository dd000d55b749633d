/* SPDX-License-Identifier: Apache-2.0 */
/* The aws-chunked body: payload in length-prefixed pieces, maybe signed one by
 * one, maybe with a trailer of headers.
 *
 *   SIZE[;chunk-signature=HEX] CRLF  data CRLF  ...  0[;chunk-signature=HEX] CRLF
 *   [name:value CRLF ... [x-amz-trailer-signature:HEX CRLF]] CRLF
 *
 * The decoder copies no payload: feed it raw bytes, it hands back spans that
 * point into them. A signature follows from the data of its chunk, so payload
 * comes out before it is verified: make nothing visible until
 * dg_aws_chunked_finish() has returned 0. One owner at a time. */
#ifndef DG_CORE_S3_AWS_CHUNKED_H
#define DG_CORE_S3_AWS_CHUNKED_H

#include <deltaglider/plugin.h>
#include <stdbool.h>

#include "common/sigv4.h"

#define DG_AWS_CHUNK_MAX_LINE   4096
#define DG_AWS_CHUNK_MAX_TRAILERS 16

struct dg_aws_chunked;

/* mode: one of the three chunked ones. seed: copied; NULL leaves signatures
 * unverified (open mode). decoded_length: x-amz-decoded-content-length,
 * DG_TO_END if unknown. Never NULL. */
struct dg_aws_chunked *dg_aws_chunked_new(enum dg_payload_mode mode,
                                          const struct dg_sigv4_seed *seed,
                                          uint64_t decoded_length);
void dg_aws_chunked_free(struct dg_aws_chunked *decoder); /* wipes the key; NULL is fine */

/* Consumes from the front of *io_input and yields at most one span of payload,
 * in *ret_payload (empty: none this time). Call until io_input is empty.
 *
 * Fails with DG_E_INVALID_REQUEST (framing), DG_E_SIGNATURE_MISMATCH,
 * DG_E_INCOMPLETE_BODY (more or less data than decoded_length). After a failure only free
 * it. */
int dg_aws_chunked_feed(struct dg_aws_chunked *decoder, struct dg_slice *io_input,
                        struct dg_slice *ret_payload, struct dg_error *err);

/* The raw body has ended: was the last chunk seen, was everything verified, is
 * the length as announced? DG_E_INCOMPLETE_BODY if not. */
int dg_aws_chunked_finish(struct dg_aws_chunked *decoder, struct dg_error *err);

/* A trailer by name (any case), after finish; absent if not sent. Borrowed. */
struct dg_slice dg_aws_chunked_trailer(const struct dg_aws_chunked *decoder, const char *name);

/* Payload bytes so far. */
uint64_t dg_aws_chunked_size(const struct dg_aws_chunked *decoder);

/* A Content-Encoding without `aws-chunked`, which describes the transfer and
 * not the object. NULL when nothing is left; else free with g_free(). */
char *dg_content_encoding_kept(struct dg_slice header);

#endif
