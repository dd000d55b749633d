/* SPDX-License-Identifier: Apache-2.0 */
/* Objects that change over from one variant to the other while listings run.
 *
 * The new variant is stored under its own name before the old one is removed, so
 * the object is always there. A listing, though, is no instant: it may pass the
 * new name before that exists and the old one after it is gone, and so miss an
 * object that was never absent. Whoever removes a replaced variant says so first;
 * the listings that run hear of it and look at these objects again. */
#ifndef DG_CORE_ENGINE_CHANGEOVERS_H
#define DG_CORE_ENGINE_CHANGEOVERS_H

#include <glib.h>
#include <stdbool.h>

#include <deltaglider/plugin.h>

struct dg_changeovers;
struct dg_changeover_watch;

struct dg_changeovers *dg_changeovers_new(void);
void dg_changeovers_free(struct dg_changeovers *changeovers); /* no watch may be open */

/* [any] How many there were so far. Who looked at both names and saw neither while this
 * changed looks again. */
uint32_t dg_changeover_count(struct dg_changeovers *changeovers);

/* [worker] Before a variant is removed whose object stays. bucket: its name on the
 * backend. Costs next to nothing while nobody lists. */
void dg_changeover_note(struct dg_changeovers *changeovers, struct dg_slice bucket,
                        struct dg_slice key);

/* [worker] From now on notes of keys in this bucket that begin with prefix are kept.
 * Both are borrowed until the end. */
struct dg_changeover_watch *dg_changeover_watch_begin(struct dg_changeovers *changeovers,
                                                      struct dg_slice bucket,
                                                      struct dg_slice prefix);
void dg_changeover_watch_end(struct dg_changeover_watch *watch); /* NULL is fine */

/* [worker] The lowest key noted, in byte order; false: none. Cheap then. */
bool dg_changeover_first(struct dg_changeover_watch *watch, GString *ret_key);
/* [worker] The listing has dealt with this key. */
void dg_changeover_drop(struct dg_changeover_watch *watch, const GString *key);

#endif
