/* SPDX-License-Identifier: Apache-2.0 */
/* What quota.c, quotabook.c and quotacount.c share; nobody else includes it. */
#ifndef DG_CORE_ENGINE_QUOTA_INTERNAL_H
#define DG_CORE_ENGINE_QUOTA_INTERNAL_H

#include "core/engine/quota.h"

/* A bucket that is counted. Lives as long as somebody holds a reference. */
struct dg_quota_book {
  gint refs;
  gint dropped;         /* no quota asks for it any more: its file goes with it */
  char *place;          /* BACKEND/BUCKET, as the backend names it */
  struct dg_ledger *ledger;
  /* Guarded by the registry's mutex. */
  const struct dg_backend *backend; /* that was counted; to compare, not to use */
  GPtrArray *names;     /* char *: what clients call it, those with a quota */
  uint64_t seen;        /* by which reading of the configuration, or made since */
  bool fresh;           /* there may be changes under way that it was not told of */
  bool wanted;          /* somebody waits for a count */
  bool busy;            /* it is being counted, or looked at */
  bool absent;          /* the last count found no bucket */
  uint64_t resets;      /* of the ledger */
  uint64_t rounds;      /* how often the thread was done with it, well or not */
  uint64_t due_mono_ms; /* of the next count */
  uint64_t pause_ms;    /* between two counts, at least: the last one took long */
  uint64_t retry_mono_ms; /* of the next look at what is in doubt; 0: nothing is */
};

struct dg_quota {
  struct dg_engine *engine;
  GMutex mutex;     /* guards what follows; ledgers' mutexes come after it */
  GCond wake;       /* for the thread: something to do, or to end */
  GCond done;       /* the thread was done with a book */
  GHashTable *books; /* place -> struct dg_quota_book *, one reference each */
  GThread *thread;   /* NULL: not needed so far */
  GSList *workers;   /* of the thread's, struct worker *: one book of a backend at a time */
  bool poked, stopping;
  uint32_t waiter_count;
  uint64_t reading;
  bool prepared;     /* dir was opened, or given up */
  char *dir;         /* of the files; NULL: none */
  int lock_fd;       /* while it is held, dir is this process's own; -1: it is not */
  uint64_t run;
  bool believe;      /* files that the run before left */
  uint64_t first_view; /* serial of the view that this run began with */
  /* Also read without the mutex. */
  gint book_count;
  gint synced;       /* the configuration of the start was read */
  int32_t cancelled; /* for the thread's calls */
};

static inline bool dg_quota_of(const struct dg_bucket_config *policy)
{
  return (policy->quota_bytes != DG_QUOTA_NONE && policy->quota_bytes != 0) ||
         policy->quota_objects != DG_QUOTA_NONE;
}

/* ---- The registry: quotabook.c --------------------------------------------------------- */

/* Prepares the directory and the number of this run; `used`: some bucket has a quota.
 * If none has, that is left to the first book. */
void dg_quota_dir_open(struct dg_quota *quota, bool used);
/* The book of a route, with a reference, or NULL: nobody counts there. name: what
 * the client calls the bucket; a book is made if its policy has a quota. */
struct dg_quota_book *dg_quota_book_find(struct dg_quota *quota, const struct dg_route *route,
                                         struct dg_slice name);
/* All that is known of the bucket is void. */
void dg_quota_book_reset_locked(struct dg_quota *quota, struct dg_quota_book *book);
struct dg_quota_book *dg_quota_book_ref(struct dg_quota_book *book);
void dg_quota_book_unref(struct dg_quota_book *book);
/* [worker] Opens a book for each bucket with a quota, and drops those that have none.
 * For the thread alone. */
void dg_quota_sync(struct dg_quota *quota, const struct dg_call *call);

/* The figures of a bucket that has no quota any more are shown no more. */
void dg_quota_gauges_unset(struct dg_metrics *metrics, const char *name);

/* ---- The thread: quotacount.c ------------------------------------------------------------- */

gpointer dg_quota_run(gpointer quota);
void dg_quota_poke_locked(struct dg_quota *quota); /* starts it if need be */

#endif
