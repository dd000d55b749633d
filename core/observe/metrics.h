/* SPDX-License-Identifier: Apache-2.0 */
/* Counters, gauges and histograms, described once in metrics.def and printed
 * in the Prometheus text format. Updates are lock-free and cheap enough for
 * the request path: per-thread shards are summed when scraped. [any] */
#ifndef DG_CORE_OBSERVE_METRICS_H
#define DG_CORE_OBSERVE_METRICS_H

#include <glib.h>

#include <deltaglider/plugin.h>

struct dg_metrics;

/* DG_METRIC_<NAME> for each row of metrics.def, without the deltaglider_ prefix. */
enum dg_metric {
#define DG_METRIC_ROW(id, type, name, labels, buckets, help) DG_METRIC_##id,
#include "core/observe/metrics.def"
#undef DG_METRIC_ROW
  DG_METRIC_COUNT
};

struct dg_metrics *dg_metrics_new(void);
void dg_metrics_free(struct dg_metrics *metrics);

/* label values in the order of the row's labels; each a short string from a
 * closed set (literals), NULL for none. A NULL metrics drops everything. */
void dg_metrics_add(struct dg_metrics *metrics, enum dg_metric id, const char *label1,
                    const char *label2, const char *label3, double amount); /* counter */
void dg_metrics_set(struct dg_metrics *metrics, enum dg_metric id, const char *label1,
                    const char *label2, double value); /* gauge; NAN: shown no more */
void dg_metrics_observe(struct dg_metrics *metrics, enum dg_metric id, const char *label1,
                        const char *label2, double value);                   /* histogram */

/* A counter's value now, over all its labels. Walks the shards: not for the
 * request path. */
double dg_metrics_counter(struct dg_metrics *metrics, enum dg_metric id);

/* Called before each print, to set gauges that are read from elsewhere. One
 * collector; [startup]. */
void dg_metrics_set_collector(struct dg_metrics *metrics,
                              void (*collect)(void *receiver, struct dg_metrics *metrics),
                              void *receiver);

/* Appends everything in text exposition format 0.0.4. */
void dg_metrics_print(struct dg_metrics *metrics, GString *out);

#endif
