/* SPDX-License-Identifier: Apache-2.0 */
/* What lies in one bucket: objects and bytes as clients count them.
 *
 * Whoever changes an object tells the ledger before (`begin`: what is there, what
 * will be there) and after (`end`: what is there now). In between the growth is
 * reserved, so that changes side by side never pass a limit together.
 *
 * The figures stay exact
 *
 *   through kill -9   each change is in a file before it begins and until it has
 *                     ended. What a killed server was in the middle of is *in
 *                     doubt*: its growth stays reserved until somebody who holds
 *                     the object's lock has looked and tells (`resolve`)
 *   through a count   a listing of the bucket that runs beside changes gives the
 *                     same figures as one that had the bucket for itself
 *
 * The file is written without fsync: what it holds outlives the process, not the
 * machine. It is believed when it was closed in order, or was last written since
 * this very machine was started; and only when the run of the server before this
 * one had it open, as no other saw every change. Else the bucket must be counted.
 *
 * Thread: [worker], any number of them, but for open and close. The ledger's lock
 * is a leaf: it is held for short writes into the page cache, never over a backend. */
#ifndef DG_CORE_ENGINE_LEDGER_H
#define DG_CORE_ENGINE_LEDGER_H

#include <glib.h>
#include <stdbool.h>

#include <deltaglider/plugin.h>

struct dg_ledger;
struct dg_log;

struct dg_use {
  uint64_t objects, bytes;
};

/* The most that may be in use; UINT64_MAX: any number. */
struct dg_use_limit {
  const char *bucket; /* as clients call it, for messages */
  struct dg_use most;
};

struct dg_ledger_params {
  const char *path;   /* NULL: kept in memory alone */
  const char *place;  /* what is counted; the file of another place is not believed */
  uint64_t run;       /* the number of this run of the server */
  bool believe;       /* a file that run - 1 left may be believed */
  struct dg_log *log; /* borrowed, may be NULL */
};

/* Never fails: without a file that can be written it is kept in memory, which
 * costs a count at the next start. Borrows nothing but log. */
struct dg_ledger *dg_ledger_open(const struct dg_ledger_params *params);
/* After the last change ended. keep: the file is for the next run; else it is removed. */
void dg_ledger_close(struct dg_ledger *ledger, bool keep);

/* ---- Changes ---------------------------------------------------------------------- */

/* Before an object is changed; the lock of its key is held until dg_ledger_end().
 *
 * before, after  what the object counts now, and what it will
 * limit          NULL: none. It is asked of what grows only
 * ret_change     to be given to dg_ledger_end()
 *
 * DG_E_QUOTA: the growth does not fit. DG_E_SLOW_DOWN: nobody can say yet, as the
 * bucket is not counted or something in doubt decides it. */
int dg_ledger_begin(struct dg_ledger *ledger, const struct dg_call *call, struct dg_slice key,
                    struct dg_use before, struct dg_use after, const struct dg_use_limit *limit,
                    uint32_t *ret_change, struct dg_error *err);
/* now: what the object counts; NULL: nobody knows, it is in doubt. */
void dg_ledger_end(struct dg_ledger *ledger, uint32_t change, const struct dg_use *now);
/* Would such a change be let in now? Errors as dg_ledger_begin(). */
int dg_ledger_check(struct dg_ledger *ledger, struct dg_use before, struct dg_use after,
                    const struct dg_use_limit *limit, struct dg_error *err);

/* The key of the n-th change in doubt, from 0: transferred; NULL: there are no more. */
GBytes *dg_ledger_doubt(struct dg_ledger *ledger, uint32_t n);
/* Under the lock of key: if it is in doubt, it counts `now`. */
void dg_ledger_resolve(struct dg_ledger *ledger, struct dg_slice key, struct dg_use now);

struct dg_ledger_state {
  bool known;              /* the bucket was counted: use holds */
  struct dg_use use;       /* changes that have ended */
  struct dg_use reserved;  /* growth of those that have not */
  uint32_t change_count;   /* that have not ended; those in doubt too */
  uint32_t doubt_count;
};

/* ---- Counting: one count at a time -------------------------------------------------- */

void dg_ledger_count_begin(struct dg_ledger *ledger);
/* The next object of a listing that began after dg_ledger_count_begin(), each key
 * once, in ascending byte order. False: the count is void, the listing may stop. */
bool dg_ledger_count_row(struct dg_ledger *ledger, struct dg_slice key, struct dg_use use);
/* The listing is over: its sum holds from now on. False: the count is void.
 * ret_before: how the ledger stood at this moment; ret_use: how it stands now. */
bool dg_ledger_count_end(struct dg_ledger *ledger, struct dg_ledger_state *ret_before,
                         struct dg_use *ret_use);
void dg_ledger_count_drop(struct dg_ledger *ledger); /* the listing failed */

/* The bucket was deleted, or made: everything is to be counted anew. */
void dg_ledger_reset(struct dg_ledger *ledger);

void dg_ledger_look(struct dg_ledger *ledger, struct dg_ledger_state *ret_state); /* [any] */

#endif
