/* SPDX-License-Identifier: Apache-2.0 */
/* What the server says of its configuration when it starts. [startup] */
#ifndef DG_CORE_STARTLINES_H
#define DG_CORE_STARTLINES_H

struct dg_log;
struct dg_snapshot;

/* The settings an operator looks for first, then the findings. */
void dg_say_start(struct dg_log *log, const struct dg_snapshot *snapshot);

/* The errors and warnings that did not keep the configuration from being used. */
void dg_say_findings(struct dg_log *log, const struct dg_snapshot *snapshot);

#endif
