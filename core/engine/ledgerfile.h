/* SPDX-License-Identifier: Apache-2.0 */
/* The file of a ledger: a page of totals, then one place per change at a time.
 *
 * A change is noted in its place before it begins. It has ended once the head
 * says so: `ended` holds the number of the last change that ended in each place,
 * in the same page as the totals that include it, so both are there or neither.
 *
 * Every write lies within one page and carries a checksum. There is no fsync but
 * at an orderly close: the kernel keeps what a killed process wrote, and what a
 * machine lost when it went down is told by the boot's id. Thread: [worker], one
 * at a time. */
#ifndef DG_CORE_ENGINE_LEDGERFILE_H
#define DG_CORE_ENGINE_LEDGERFILE_H

#include "core/engine/ledger.h"

#define DG_LEDGER_PLACES 256u  /* changes at the same time */
#define DG_LEDGER_KEY_MAX 1024u

struct dg_ledger_file;

struct dg_ledger_head {
  bool known; /* use holds */
  struct dg_use use;
  uint64_t ended[DG_LEDGER_PLACES];
};

struct dg_ledger_note {
  uint64_t number; /* from 1, never the same twice */
  struct dg_use before, after;
  struct dg_slice key; /* at most DG_LEDGER_KEY_MAX bytes */
};

/* Opens params->path, or makes it. *ret_head is what an earlier run left, if that
 * can be believed, and all zero else; `note` is called for each change that had not
 * ended, with borrowed data. */
int dg_ledger_file_open(const struct dg_ledger_params *params, struct dg_ledger_head *ret_head,
                        void (*note)(void *receiver, uint32_t place,
                                     const struct dg_ledger_note *note),
                        void *receiver, struct dg_ledger_file **ret_file, struct dg_error *err);
int dg_ledger_file_put_head(struct dg_ledger_file *file, const struct dg_ledger_head *head,
                            struct dg_error *err);
int dg_ledger_file_put_note(struct dg_ledger_file *file, uint32_t place,
                            const struct dg_ledger_note *note, struct dg_error *err);
/* Closes it in order, with this head. NULL is fine. */
void dg_ledger_file_keep(struct dg_ledger_file *file, const struct dg_ledger_head *head);
/* Closes it and makes sure that nobody believes it. NULL is fine. */
void dg_ledger_file_remove(struct dg_ledger_file *file);

#endif
