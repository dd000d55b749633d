/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mapped files whose bytes may go away while they are used.
 *
 * Reading a mapping cannot fail as a read() can: where the disk returns an
 * error, or the file was cut short, the kernel sends SIGBUS, which ends the
 * process. A guard turns that into something to ask about afterwards: at the
 * first such fault the whole mapping is replaced by zeros and marked hurt, and
 * the code that was reading goes on, with zeros. So
 *
 *   1. it must be sound with any content, also with content that changes while it
 *      looks (bounds never come from the mapping without a check);
 *   2. whatever was made of the mapping is dropped when dg_mapguard_is_hurt() says
 *      so afterwards, and that is asked before anything leaves.
 *
 * Nothing is unwound: locks, allocations and counters of the reader stay as they
 * are, in whichever thread it runs. What is not a fault in a guarded mapping goes to
 * the action that was there before: by default, the process ends as ever.
 *
 * A thread that reads guarded mappings must not block SIGBUS: a fault that is blocked
 * kills. The kernel itself does not send the signal when it reads such memory for a system
 * call; that fails with EFAULT.
 *
 * State is global, as a signal's action is: this file is linked into the server and
 * into plugins, and each copy has mappings and a handler of its own, which passes on
 * what is not its own to the handler that was there before. So no copy may be
 * unloaded, and plugins stay in memory.
 */
#ifndef DG_COMMON_MAPGUARD_H
#define DG_COMMON_MAPGUARD_H

#include <stdbool.h>
#include <stddef.h>

struct dg_mapguard;

/* Guards what mmap() returned, to be read by any thread.
 *
 * size        bytes, as given to mmap(); not 0
 * protection  PROT_READ, and PROT_WRITE if anything is written to it
 *
 * Never NULL. [any] */
struct dg_mapguard *dg_mapguard_add(void *mapping, size_t size, int protection);

/* Has any of it been lost? Then all of it reads as zeros, and did so at some time
 * before; it stays so. guard NULL: false. [any] */
bool dg_mapguard_is_hurt(struct dg_mapguard *guard);

/* Before munmap(), once nobody reads the mapping any more. NULL is fine. [any] */
void dg_mapguard_remove(struct dg_mapguard *guard);

#endif
