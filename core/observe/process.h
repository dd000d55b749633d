/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel knows about this process, from /proc. [any] */
#ifndef DG_CORE_OBSERVE_PROCESS_H
#define DG_CORE_OBSERVE_PROCESS_H

#include <stdint.h>

struct dg_process_facts {
  double start_time_s, cpu_s;
  uint64_t peak_rss_bytes, rss_bytes, virtual_bytes;
  uint64_t open_fds, max_fds, threads;
};

/* What cannot be read is 0. Opens a few files: not for the request path. */
void dg_process_facts(struct dg_process_facts *ret_facts);

#endif
