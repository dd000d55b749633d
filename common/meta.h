/* SPDX-License-Identifier: Apache-2.0 */
/* Object metadata as a growable value: the owner's side of struct dg_meta.
 *
 * The host creates one, a backend fills it through dg_host.meta_*, and the
 * engine reads the public fields. All text lives in one chunk-allocated arena
 * inside the object, so a dg_meta is freed in one step and its slices stay
 * valid, at fixed addresses, until then. Not thread-safe; immutable objects
 * may be shared between threads. */
#ifndef DG_COMMON_META_H
#define DG_COMMON_META_H

#include <deltaglider/plugin.h>
#include <stdbool.h>

/* Bytes of text and pairs one object may hold: bounds hostile metadata. */
#define DG_META_MAX_TEXT (256u * 1024u)
#define DG_META_MAX_PAIRS 1024u

/* A new, empty object with one reference. Never NULL. [any] */
struct dg_meta *dg_meta_new(void);

/* Shared ownership. The last unref frees. [any] */
struct dg_meta *dg_meta_ref(struct dg_meta *meta);
void dg_meta_unref(struct dg_meta *meta); /* NULL is fine */

/* A deep copy. [any] */
struct dg_meta *dg_meta_copy(const struct dg_meta *meta);

/* Back to empty; keeps the memory. Only while unshared. */
void dg_meta_clear(struct dg_meta *meta);

/* The functions behind dg_host.meta_*. DG_E_METADATA_TOO_LARGE past a limit.
 * meta_set on a field already set replaces it. */
int dg_meta_set(struct dg_meta *meta, uint32_t field, struct dg_slice value, struct dg_error *err);
int dg_meta_add_user(struct dg_meta *meta, struct dg_slice name, struct dg_slice value,
                     struct dg_error *err);
int dg_meta_add_extension(struct dg_meta *meta, struct dg_slice name, struct dg_slice value,
                          struct dg_error *err);

/* Takes out the user pairs, or extensions, whose names match. Only while
 * unshared; their text is freed with the object. */
void dg_meta_remove_user(struct dg_meta *meta, bool (*match)(struct dg_slice name));
void dg_meta_remove_extensions(struct dg_meta *meta, bool (*match)(struct dg_slice name));

/* The first extension, or user pair, of that name; an empty slice if none. */
struct dg_slice dg_meta_extension(const struct dg_meta *meta, const char *name);
struct dg_slice dg_meta_user(const struct dg_meta *meta, const char *name);

/* Bytes of memory held, for cache budgets. */
size_t dg_meta_memory(const struct dg_meta *meta);

#endif
