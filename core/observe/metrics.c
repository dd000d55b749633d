/* SPDX-License-Identifier: Apache-2.0 */
/* Counters and histograms live in shards, one per thread. A thread finds its
 * series by hashing the labels' text, and is the only writer of its shard: an
 * update is a plain load and store, never a locked instruction. The scraper
 * reads the shards while they change, which atomics of one word make safe:
 * slots are only ever pushed at the head of a chain and never move. */
#include "config.h"

#include "core/observe/metrics.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#include "core/observe/process.h"

#include "common/banned.h"

#define TYPE_COUNTER 0
#define TYPE_GAUGE 1
#define TYPE_HISTOGRAM 2
#define MAX_BOUNDS 16
#define MAX_LABELS 3
#define CHAINS 256

static const struct row {
  int type;
  const char *name, *labels, *buckets, *help;
} rows[] = {
#define DG_METRIC_ROW(id, type, name, labels, buckets, help) \
  {TYPE_##type, name, labels, buckets, help},
#include "core/observe/metrics.def"
#undef DG_METRIC_ROW
};

struct series {
  struct series *_Atomic next;
  uint32_t hash;
  enum dg_metric id;
  char *labels[MAX_LABELS];   /* own copies, or NULL */
  _Atomic double value;       /* counter or gauge; sum of a histogram */
  _Atomic uint64_t count;     /* histogram */
  _Atomic uint64_t buckets[]; /* histogram: not cumulative */
};

struct shard {
  struct shard *next;
  atomic_bool taken; /* by a living thread */
  struct series *_Atomic chains[CHAINS];
};

struct dg_metrics {
  pthread_key_t shard_key;
  GMutex mutex; /* guards shards (the list) and gauges */
  struct shard *shards;
  struct shard gauges;
  double bounds[DG_METRIC_COUNT][MAX_BOUNDS];
  unsigned bound_count[DG_METRIC_COUNT];
  unsigned label_count[DG_METRIC_COUNT];
  void (*collect)(void *receiver, struct dg_metrics *metrics);
  void *collect_receiver;
};

static void release_shard(void *shard)
{
  atomic_store(&((struct shard *)shard)->taken, false);
}

struct dg_metrics *dg_metrics_new(void)
{
  struct dg_metrics *metrics = g_new0(struct dg_metrics, 1);

  g_mutex_init(&metrics->mutex);
  if (pthread_key_create(&metrics->shard_key, release_shard) != 0)
    g_error("no thread key left for metrics");
  for (int id = 0; id < DG_METRIC_COUNT; id++) {
    g_auto(GStrv) bounds = g_strsplit(rows[id].buckets, ",", -1);
    g_auto(GStrv) labels = g_strsplit(rows[id].labels, ",", -1);

    metrics->label_count[id] = g_strv_length(labels);
    for (unsigned i = 0; bounds[i]; i++) {
      g_assert(i < MAX_BOUNDS);
      metrics->bounds[id][i] = g_ascii_strtod(bounds[i], NULL);
      metrics->bound_count[id] = i + 1;
    }
  }
  return metrics;
}

static void clear_shard(struct shard *shard)
{
  for (int i = 0; i < CHAINS; i++) {
    struct series *series = atomic_load(&shard->chains[i]);

    while (series) {
      struct series *next = atomic_load(&series->next);

      for (int label = 0; label < MAX_LABELS; label++)
        g_free(series->labels[label]);
      g_free(series);
      series = next;
    }
  }
}

void dg_metrics_free(struct dg_metrics *metrics)
{
  if (!metrics)
    return;
  (void)pthread_key_delete(metrics->shard_key);
  while (metrics->shards) {
    struct shard *next = metrics->shards->next;

    clear_shard(metrics->shards);
    g_free(metrics->shards);
    metrics->shards = next;
  }
  clear_shard(&metrics->gauges);
  g_mutex_clear(&metrics->mutex);
  g_free(metrics);
}

static struct shard *own_shard(struct dg_metrics *metrics)
{
  struct shard *shard = pthread_getspecific(metrics->shard_key);

  if (G_LIKELY(shard))
    return shard;
  g_mutex_lock(&metrics->mutex);
  for (shard = metrics->shards; shard; shard = shard->next)
    if (!atomic_load(&shard->taken))
      break;
  if (!shard) {
    shard = g_new0(struct shard, 1);
    shard->next = metrics->shards;
    metrics->shards = shard;
  }
  atomic_store(&shard->taken, true);
  g_mutex_unlock(&metrics->mutex);
  (void)pthread_setspecific(metrics->shard_key, shard);
  return shard;
}

/* FNV-1a over the texts, a zero byte between them. */
static uint32_t hash_labels(enum dg_metric id, const char *const labels[MAX_LABELS])
{
  uint32_t hash = 2166136261u ^ (uint32_t)id;

  for (int i = 0; i < MAX_LABELS; i++) {
    for (const char *c = labels[i]; c && *c; c++)
      hash = (hash ^ (unsigned char)*c) * 16777619u;
    hash *= 16777619u;
  }
  return hash;
}

static bool same_labels(const struct series *series, const char *const labels[MAX_LABELS])
{
  for (int i = 0; i < MAX_LABELS; i++)
    if (series->labels[i] != labels[i] &&
        (!series->labels[i] || !labels[i] || strcmp(series->labels[i], labels[i]) != 0))
      return false;
  return true;
}

/* The series of the calling thread's shard, made on first use. */
static struct series *find_series(struct dg_metrics *metrics, struct shard *shard,
                                  enum dg_metric id, const char *const labels[MAX_LABELS])
{
  uint32_t hash = hash_labels(id, labels);
  struct series *_Atomic *chain = &shard->chains[hash % CHAINS];
  struct series *series, *head = atomic_load_explicit(chain, memory_order_acquire);
  size_t bucket_count = metrics->bound_count[id];

  for (series = head; series; series = atomic_load_explicit(&series->next, memory_order_relaxed))
    if (series->hash == hash && series->id == id && same_labels(series, labels))
      return series;
  series = g_malloc0(sizeof *series + bucket_count * sizeof series->buckets[0]);
  series->hash = hash;
  series->id = id;
  for (int i = 0; i < MAX_LABELS; i++)
    series->labels[i] = g_strdup(labels[i]);
  atomic_init(&series->next, head);
  atomic_store_explicit(chain, series, memory_order_release);
  return series;
}

/* Only the shard's own thread writes, so load and store suffice. */
static void bump(_Atomic double *value, double amount)
{
  atomic_store_explicit(value, atomic_load_explicit(value, memory_order_relaxed) + amount,
                        memory_order_relaxed);
}

static void bump_count(_Atomic uint64_t *value)
{
  atomic_store_explicit(value, atomic_load_explicit(value, memory_order_relaxed) + 1,
                        memory_order_relaxed);
}

void dg_metrics_add(struct dg_metrics *metrics, enum dg_metric id, const char *label1,
                    const char *label2, const char *label3, double amount)
{
  const char *labels[MAX_LABELS] = {label1, label2, label3};

  if (!metrics)
    return;
  g_assert(rows[id].type == TYPE_COUNTER);
  bump(&find_series(metrics, own_shard(metrics), id, labels)->value, amount);
}

void dg_metrics_set(struct dg_metrics *metrics, enum dg_metric id, const char *label1,
                    const char *label2, double value)
{
  const char *labels[MAX_LABELS] = {label1, label2, NULL};

  if (!metrics)
    return;
  g_assert(rows[id].type == TYPE_GAUGE);
  g_mutex_lock(&metrics->mutex);
  atomic_store(&find_series(metrics, &metrics->gauges, id, labels)->value, value);
  g_mutex_unlock(&metrics->mutex);
}

void dg_metrics_observe(struct dg_metrics *metrics, enum dg_metric id, const char *label1,
                        const char *label2, double value)
{
  const char *labels[MAX_LABELS] = {label1, label2, NULL};
  struct series *series;

  if (!metrics)
    return;
  g_assert(rows[id].type == TYPE_HISTOGRAM);
  series = find_series(metrics, own_shard(metrics), id, labels);
  for (unsigned i = 0; i < metrics->bound_count[id]; i++)
    if (value <= metrics->bounds[id][i]) {
      bump_count(&series->buckets[i]);
      break;
    }
  bump(&series->value, value);
  bump_count(&series->count);
}

double dg_metrics_counter(struct dg_metrics *metrics, enum dg_metric id)
{
  double sum = 0;

  g_assert(rows[id].type == TYPE_COUNTER);
  g_mutex_lock(&metrics->mutex);
  for (const struct shard *shard = metrics->shards; shard; shard = shard->next)
    for (int i = 0; i < CHAINS; i++) {
      struct series *series = atomic_load_explicit(&shard->chains[i], memory_order_acquire);

      for (; series; series = atomic_load_explicit(&series->next, memory_order_relaxed))
        if (series->id == id)
          sum += atomic_load_explicit(&series->value, memory_order_relaxed);
    }
  g_mutex_unlock(&metrics->mutex);
  return sum;
}

void dg_metrics_set_collector(struct dg_metrics *metrics,
                              void (*collect)(void *receiver, struct dg_metrics *metrics),
                              void *receiver)
{
  metrics->collect = collect;
  metrics->collect_receiver = receiver;
}

/* ---- Printing ------------------------------------------------------------- */

/* One series summed over all shards. */
struct total {
  enum dg_metric id;
  const char *labels[MAX_LABELS];
  double value;
  uint64_t count;
  uint64_t buckets[MAX_BOUNDS];
};

static int compare_totals(const void *a, const void *b)
{
  const struct total *x = a, *y = b;

  if (x->id != y->id)
    return x->id < y->id ? -1 : 1;
  for (int i = 0; i < MAX_LABELS; i++) {
    int order = g_strcmp0(x->labels[i], y->labels[i]);

    if (order)
      return order;
  }
  return 0;
}

static void collect_shard(const struct dg_metrics *metrics, const struct shard *shard,
                          GArray *totals)
{
  for (int i = 0; i < CHAINS; i++) {
    struct series *series = atomic_load_explicit(&shard->chains[i], memory_order_acquire);

    for (; series; series = atomic_load_explicit(&series->next, memory_order_relaxed)) {
      struct total total = {.id = series->id,
                            .value = atomic_load_explicit(&series->value, memory_order_relaxed),
                            .count = atomic_load_explicit(&series->count, memory_order_relaxed)};

      if (isnan(total.value))
        continue;
      for (int label = 0; label < MAX_LABELS; label++)
        total.labels[label] = series->labels[label];
      for (unsigned b = 0; b < metrics->bound_count[series->id]; b++)
        total.buckets[b] = atomic_load_explicit(&series->buckets[b], memory_order_relaxed);
      g_array_append_val(totals, total);
    }
  }
}

/* Adds up neighbours of the same series. */
static void merge_totals(GArray *totals)
{
  struct total *all = (struct total *)(void *)totals->data;
  guint kept = 0;

  g_array_sort(totals, compare_totals);
  for (guint i = 0; i < totals->len; i++) {
    if (kept > 0 && compare_totals(&all[kept - 1], &all[i]) == 0) {
      all[kept - 1].value += all[i].value;
      all[kept - 1].count += all[i].count;
      for (int b = 0; b < MAX_BOUNDS; b++)
        all[kept - 1].buckets[b] += all[i].buckets[b];
    } else {
      all[kept++] = all[i];
    }
  }
  g_array_set_size(totals, kept);
}

static void print_number(GString *out, double value)
{
  char text[G_ASCII_DTOSTR_BUF_SIZE];

  if (value >= -9e15 && value <= 9e15 && value == (double)(int64_t)value)
    g_string_append_printf(out, "%" G_GINT64_FORMAT, (gint64)value);
  else
    g_string_append(out, g_ascii_formatd(text, sizeof text, "%.15g", value));
}

/* {a="x",b="y",le="..."}; nothing when there are none. */
static void print_labels(GString *out, const struct dg_metrics *metrics, const struct total *total,
                         const char *le)
{
  g_auto(GStrv) names = g_strsplit(rows[total->id].labels, ",", -1);
  char separator = '{';

  for (unsigned i = 0; i < metrics->label_count[total->id]; i++) {
    g_string_append_printf(out, "%c%s=\"", separator, names[i]);
    for (const char *c = total->labels[i] ? total->labels[i] : ""; *c; c++) {
      if (*c == '\\' || *c == '"')
        g_string_append_c(out, '\\');
      g_string_append_c(out, *c == '\n' ? ' ' : *c);
    }
    g_string_append_c(out, '"');
    separator = ',';
  }
  if (le) {
    g_string_append_printf(out, "%cle=\"%s\"", separator, le);
    separator = ',';
  }
  if (separator == ',')
    g_string_append_c(out, '}');
}

static void print_histogram(GString *out, const struct dg_metrics *metrics,
                            const struct total *total)
{
  const char *name = rows[total->id].name;
  g_auto(GStrv) bounds = g_strsplit(rows[total->id].buckets, ",", -1);
  uint64_t below = 0;

  for (unsigned i = 0; bounds[i]; i++) {
    below += total->buckets[i];
    g_string_append_printf(out, "%s_bucket", name);
    print_labels(out, metrics, total, bounds[i]);
    g_string_append_printf(out, " %" G_GUINT64_FORMAT "\n", below);
  }
  g_string_append_printf(out, "%s_bucket", name);
  print_labels(out, metrics, total, "+Inf");
  /* A scrape between two stores of one observation must not show a bucket
   * above the total. */
  g_string_append_printf(out, " %" G_GUINT64_FORMAT "\n%s_sum", MAX(total->count, below), name);
  print_labels(out, metrics, total, NULL);
  g_string_append_c(out, ' ');
  print_number(out, total->value);
  g_string_append_printf(out, "\n%s_count", name);
  print_labels(out, metrics, total, NULL);
  g_string_append_printf(out, " %" G_GUINT64_FORMAT "\n", MAX(total->count, below));
}

static void print_total(GString *out, const struct dg_metrics *metrics, const struct total *total)
{
  if (rows[total->id].type == TYPE_HISTOGRAM) {
    print_histogram(out, metrics, total);
    return;
  }
  g_string_append(out, rows[total->id].name);
  print_labels(out, metrics, total, NULL);
  g_string_append_c(out, ' ');
  print_number(out, total->value);
  g_string_append_c(out, '\n');
}

static void add_process(GArray *totals)
{
  struct dg_process_facts facts;
  struct total total = {0};

  dg_process_facts(&facts);
#define ADD(metric, number)                                  \
  total.id = DG_METRIC_##metric, total.value = (double)(number), \
  g_array_append_val(totals, total)
  ADD(PROCESS_START_TIME, facts.start_time_s);
  ADD(PROCESS_PEAK_RSS, facts.peak_rss_bytes);
  ADD(PROCESS_RSS, facts.rss_bytes);
  ADD(PROCESS_VIRTUAL, facts.virtual_bytes);
  ADD(PROCESS_CPU, facts.cpu_s);
  ADD(PROCESS_OPEN_FDS, facts.open_fds);
  ADD(PROCESS_MAX_FDS, facts.max_fds);
  ADD(PROCESS_THREADS, facts.threads);
#undef ADD
}

void dg_metrics_print(struct dg_metrics *metrics, GString *out)
{
  g_autoptr(GArray) totals = g_array_new(FALSE, FALSE, sizeof(struct total));
  static const char *const type_names[] = {"counter", "gauge", "histogram"};
  guint next = 0;

  if (!metrics)
    return;
  if (metrics->collect)
    metrics->collect(metrics->collect_receiver, metrics);
  g_mutex_lock(&metrics->mutex);
  for (const struct shard *shard = metrics->shards; shard; shard = shard->next)
    collect_shard(metrics, shard, totals);
  collect_shard(metrics, &metrics->gauges, totals);
  g_mutex_unlock(&metrics->mutex);
  add_process(totals);
  /* A series without labels exists from the start: dashboards want the zero. */
  for (unsigned id = 0; id < DG_METRIC_COUNT; id++) {
    struct total zero = {.id = (enum dg_metric)id};

    if (metrics->label_count[id] == 0)
      g_array_append_val(totals, zero);
  }
  merge_totals(totals);
  for (unsigned id = 0; id < DG_METRIC_COUNT; id++) {
    g_string_append_printf(out, "# HELP %s %s\n# TYPE %s %s\n", rows[id].name, rows[id].help,
                           rows[id].name, type_names[rows[id].type]);
    for (; next < totals->len && g_array_index(totals, struct total, next).id == id; next++)
      print_total(out, metrics, &g_array_index(totals, struct total, next));
  }
}
