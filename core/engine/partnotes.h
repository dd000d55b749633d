/* SPDX-License-Identifier: Apache-2.0 */
/* Sizes of parts that an object's metadata has no room for: they lie in a note beside
 * the object (DG_CAP_NOTES), and the metadata name it in place of the sizes:
 *
 *   @ID         they are in that note
 *   SIZE?ID     of an upload that the storage joins, whose metadata are fixed when the
 *               first part comes: in that note; if there is none, all parts but a
 *               smaller last one have that size
 *
 *   put      the note, durable -> the object that names it -> the old one's note goes
 *   delete   the object -> its note goes
 *
 * A note is made once, under an id of its own, and never changed, so that it always fits
 * the object that names it. It may be missing: then nobody knows the sizes, and all
 * else works. What a crash or a failure leaves is a note that nobody names. So each
 * change that makes or removes one first leaves a file in STATE/notes that tells where
 * the object is and which notes may be too many; a sweep takes the object's lock, looks
 * which of them it names, and removes the others. */
#ifndef DG_CORE_ENGINE_PARTNOTES_H
#define DG_CORE_ENGINE_PARTNOTES_H

#include "core/engine/internal.h"

struct dg_part_notes;

struct dg_part_notes *dg_part_notes_new(const char *state_dir);
void dg_part_notes_free(struct dg_part_notes *notes); /* NULL is fine */

/* Do sizes of so many bytes need a note, beside this metadata of a client's? [any] */
bool dg_part_note_needed(const struct dg_route *route, struct dg_slice sizes,
                         const struct dg_meta *client);
/* The id of the note that the metadata name, within them; empty if they name none. [any] */
struct dg_slice dg_part_note_id(const struct dg_meta *meta);
struct dg_slice dg_part_note_id_in(struct dg_slice text); /* of that extension */
/* Is the extension's text about a note, and tells no sizes? [any] */
bool dg_part_sizes_are_elsewhere(struct dg_slice text);

/* SIZE?ID with a new id: g_free(). [any] */
char *dg_part_guess_new(uint64_t size_bytes);
/* What an extension SIZE?ID means without its note: part part_no of part_count. False:
 * nothing, or another kind. [any] */
bool dg_part_guess_find(struct dg_slice text, uint32_t part_count, uint32_t part_no,
                        uint64_t size_bytes, struct dg_range *ret_range);

/* One change of an object. */
struct dg_note_change {
  struct dg_engine *engine;
  const struct dg_call *call;
  const struct dg_route *route;
  char *file;     /* in STATE/notes; NULL: there is nothing to do */
  GPtrArray *old; /* ids, owned */
};

/* [worker] Under the lock of the key, once `found` is known and before the object is
 * touched. new_id: of the note that is going to be written; NULL: none is. Never fails:
 * at worst a note is left. */
void dg_part_notes_begin(struct dg_engine *engine, const struct dg_call *call,
                         const struct dg_route *route, struct dg_slice bucket,
                         struct dg_slice key, const struct dg_found *found, const char *new_id,
                         struct dg_note_change *ret_change);
/* [worker] Under the same lock. A failure, which is in the log, harms partNumber alone. */
int dg_part_note_write(struct dg_engine *engine, const struct dg_call *call,
                       const struct dg_route *route, struct dg_slice id, struct dg_slice sizes,
                       struct dg_error *err);
/* [worker] Under the same lock. now: what is there by now, NULL: nothing. done: false when
 * nobody knows. */
void dg_part_notes_end(struct dg_note_change *change, const struct dg_meta *now, bool done);

/* [worker] The sizes in that note, as partsizes.h has them: g_free(). DG_E_NO_SUCH_KEY,
 * DG_E_UNSUPPORTED: there is no such note. DG_E_CORRUPT. */
int dg_part_note_read(const struct dg_call *call, const struct dg_route *route,
                      struct dg_slice id, char **ret_sizes, struct dg_error *err);

/* [worker] Removes what crashes and failures have left: for 10 s at most, the next sweep goes
 * on. Of a storage elsewhere not before the minute is over in which a change that failed may
 * yet take effect, and need its note. */
void dg_part_notes_sweep(struct dg_engine *engine);

#endif
