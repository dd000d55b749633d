/* SPDX-License-Identifier: Apache-2.0 */
/* Many small blocking steps of one request, some at a time: where each is a round trip
 * to the storage, one after the other would take minutes. */
#ifndef DG_CORE_HTTP_FANOUT_H
#define DG_CORE_HTTP_FANOUT_H

#include <stdint.h>

#define DG_FANOUT_THREADS 16u /* of one request, the worker included */

/* [worker] run(receiver, i) for every i below count, on this thread and on some more,
 * each i once; returns when all have returned. With many such requests at a time it may
 * be this thread alone. */
void dg_fan_out(uint32_t count, void (*run)(void *receiver, uint32_t i), void *receiver);

#endif
