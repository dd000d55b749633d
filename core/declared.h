/* SPDX-License-Identifier: Apache-2.0 */
/* Buckets that the configuration names and that a filesystem backend would hold. */
#ifndef DG_CORE_DECLARED_H
#define DG_CORE_DECLARED_H

struct dg_engine;
struct dg_log;
struct dg_snapshot;

/* Makes those that are missing. Whatever fails is a warning that names the bucket, and
 * no reason not to serve. snapshot: the engine's. [startup] */
void dg_declared_make_buckets(struct dg_engine *engine, const struct dg_snapshot *snapshot,
                              struct dg_log *log);

#endif
