/* SPDX-License-Identifier: Apache-2.0 */
/* Inside a put: what multipart and copy add to it. */
#ifndef DG_CORE_ENGINE_PUT_H
#define DG_CORE_ENGINE_PUT_H

#include "core/engine/encode.h"
#include "core/engine/hashes.h"
#include "core/engine/internal.h"
#include "core/engine/sniff.h"
#include "core/engine/stage.h"

#define DG_PUT_TOOL "deltaglider_proxy/" PACKAGE_VERSION /* who stores things */

/* Replaces what the body's own digests would say. Texts are copied. */
struct dg_put_extra {
  struct dg_slice multipart_etag; /* with quotes */
  struct dg_slice part_sizes;     /* DG_EXTENSION_PART_SIZES */
  uint32_t checksum_kind;         /* a composite checksum: kind and base64-N */
  struct dg_slice checksum_text;
};
void dg_put_set_extra(struct dg_put *put, const struct dg_put_extra *extra);

/* An object whose bytes are at the storage already. */
struct dg_put_ready {
  /* Gives them the object's name, with the right to it. meta is the one below, with
   * a moment of creation that is later than all that is there; it is left as head()
   * would tell it. Fills in the result's variant and stored_bytes. */
  int (*store)(void *receiver, struct dg_put *put, struct dg_meta *meta,
               struct dg_put_result *result, struct dg_error *err);
  void *receiver;
  struct dg_meta *meta; /* unshared; NULL: an empty one */
  /* Sizes of parts that go into the note note_id before store(); NULL: they need none. */
  const char *part_sizes, *note_id;
  bool needs_note; /* fails without it */
};
/* [worker] A whole put: the request's size and check count, and its meta does not. Fails
 * also when an older variant cannot be removed: without digests of its own the object's
 * age is the storage's, and may not tell that it is the younger one. */
int dg_engine_put_ready(struct dg_engine *engine, const struct dg_call *call,
                        const struct dg_put_request *request, const struct dg_put_ready *ready,
                        struct dg_put_result *ret_result, struct dg_error *err);

/* Does an object become a delta, if that pays? */
enum dg_delta_chance {
  DG_DELTA_NEVER,
  DG_DELTA_BY_CONTENT, /* as dg_sniff_suits_delta() says of its first bytes */
  DG_DELTA_TRIED,
};
/* size_bytes: DG_TO_END if nobody knows; of an upload (from_parts) that is under way, what
 * it has at least. [any] */
enum dg_delta_chance dg_put_delta_chance(const struct dg_route *route, struct dg_slice key,
                                         uint64_t size_bytes, bool from_parts);

/* [worker] dg_put_write() for the rest of a stream, which stays open. */
int dg_put_drain(struct dg_put *put, struct dg_reader *reader, struct dg_error *err);

/* The reference of a deltaspace, as its metadata tells. */
struct dg_basis {
  bool exists;
  bool needs_healing; /* it has lost its metadata */
  uint8_t sha256[32];
};

struct dg_put {
  struct dg_engine *engine;
  const struct dg_call *call;
  struct dg_route route;
  char *bucket_text, *key_text;
  struct dg_slice bucket, key; /* of the copies above; bucket as the client named it */
  struct dg_meta *client_meta;
  dg_write_check_fn check;
  void *receiver;
  uint64_t size_hint, size_bytes, size_max;
  bool from_parts;
  struct dg_spool_room *room; /* owned; what the source holds of the spool; NULL: nothing */
  struct dg_hashes *hashes;
  struct dg_digests digests;
  struct dg_stage *stage;   /* NULL while undecided */
  bool undecided;           /* whether it is a candidate: the first bytes are still to come */
  bool candidate;           /* may come to rest as a delta */
  uint8_t head[DG_SNIFF_BYTES]; /* the first bytes, while undecided */
  size_t head_len;
  struct dg_basis basis;    /* what encode was opened against, or given up against */
  struct dg_encode *encode; /* NULL: not begun, or given up */
  bool judged;              /* encode was begun: basis says against what */
  bool reference_bad;       /* never mind deltas: the reference cannot be trusted */
  bool delta_in_doubt;      /* the first of its deltaspace may yet come: its reference stays */
  bool finished;            /* encoded holds the result, the ratio was good enough */
  struct dg_encode_result encoded;
  int64_t encode_us;
  const struct dg_put_ready *ready; /* NULL: the bytes come through here */
  /* From multipart. */
  char *multipart_etag, *part_sizes, *checksum_text;
  char *note_id;            /* NULL, or where part_sizes go: partnotes.h */
  uint32_t checksum_kind;
};

/* ---- The delta side of a put: putdelta.c -------------------------------------- */

/* [worker] The reference that counts now. Heals one that has lost its metadata, which
 * needs the deltaspace alone: has_space tells whether the caller has it, else it has no
 * lock. An error means that nobody knows: the put must fail. */
int dg_basis_find(struct dg_put *put, bool has_space, struct dg_basis *ret_basis,
                  struct dg_error *err);
/* Opens the encoder against put->basis; leaves encode NULL when the object had
 * better be stored as it is. */
int dg_put_encode_open(struct dg_put *put, struct dg_error *err);
int dg_put_encode_feed(struct dg_put *put, const void *data, size_t len, struct dg_error *err);
/* After the last byte: finishes the encoder, and drops it if the ratio is bad. */
int dg_put_encode_finish(struct dg_put *put, struct dg_error *err);
/* With the right to the object (alone: to its deltaspace): looks whether the reference is
 * still the one encode was opened against, and encodes anew if not. Leaves encode finished
 * when the object is to be a delta. *ret_switch: nothing was done, and this is to be called
 * again with the other right: alone, as the reference is to be made; or not, as another
 * put has made it, and nobody need wait for what is left to do (asked for if may_share). */
int dg_put_prepare_delta(struct dg_put *put, bool alone, bool may_share, bool *ret_switch,
                         struct dg_error *err);
/* After that, stores the delta; first the reference, if the deltaspace has none. */
int dg_put_store_delta(struct dg_put *put, struct dg_meta *meta, struct dg_put_result *result,
                       struct dg_error *err);

/* Metadata without what depends on the variant. created_at is the caller's. */
struct dg_meta *dg_put_build_meta(const struct dg_put *put, struct dg_error *err);
/* User pairs without the reserved names, and extensions. */
int dg_put_add_client_pairs(struct dg_meta *meta, const struct dg_meta *client,
                            struct dg_error *err);
/* Sets created_at: now, and later than everything found. */
void dg_put_set_created(struct dg_meta *meta, const struct dg_found *found);

#endif
