/* SPDX-License-Identifier: Apache-2.0 */
/* The log, the metrics, the health documents and the fault points. */
#include "config.h"

#include <check.h>
#include <errno.h>
#include <glib.h>
#include <jansson.h>
#include <signal.h>
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/fault.h"
#include "core/observe/health.h"
#include "core/observe/log.h"
#include "core/observe/metrics.h"

/* What one dg_log_write() put on the descriptor. NUL-terminated, static. */
static const char *logged(int pipe_fd)
{
  static char text[8192];
  ssize_t n = read(pipe_fd, text, sizeof text - 1);

  ck_assert_int_ge(n, 0);
  text[n] = '\0';
  return text;
}

START_TEST(a_text_line_has_time_level_event_and_pairs)
{
  int ends[2];
  struct dg_log *log;
  const char *line;

  ck_assert_int_eq(pipe(ends), 0);
  log = dg_log_new(ends[1], DG_LOG_FORMAT_TEXT, DG_LOG_INFO);
  dg_log_info(log, "request.done", "key=%s bytes=%d", DG_LOG_QUOTED(DG_SLICE("a\n\"b")), 7);
  line = logged(ends[0]);
  ck_assert_msg(g_str_has_suffix(line, " info request.done key=\"a\\u000a\\\"b\" bytes=7\n"), "%s",
                line);
  ck_assert_int_eq(line[4], '-');
  dg_log_free(log);
}
END_TEST

START_TEST(a_json_line_is_one_object_with_typed_members)
{
  int ends[2];
  struct dg_log *log;
  json_t *line;

  ck_assert_int_eq(pipe(ends), 0);
  log = dg_log_new(ends[1], DG_LOG_FORMAT_JSON, DG_LOG_INFO);
  dg_log_warn(log, "backend.retry", "attempt=%u id=007 took=1.5 key=%s plain words peer=::1", 3u,
              DG_LOG_QUOTED(DG_SLICE("a b\\c")));
  line = json_loads(logged(ends[0]), 0, NULL);
  ck_assert_ptr_nonnull(line);
  ck_assert_str_eq(json_string_value(json_object_get(line, "level")), "warn");
  ck_assert_str_eq(json_string_value(json_object_get(line, "event")), "backend.retry");
  ck_assert_int_eq(json_integer_value(json_object_get(line, "attempt")), 3);
  ck_assert_str_eq(json_string_value(json_object_get(line, "id")), "007");
  ck_assert_str_eq(json_string_value(json_object_get(line, "key")), "a b\\c");
  ck_assert_str_eq(json_string_value(json_object_get(line, "peer")), "::1");
  ck_assert_str_eq(json_string_value(json_object_get(line, "message")), "plain words");
  json_decref(line);
  dg_log_free(log);
}
END_TEST

START_TEST(an_overlong_json_line_stays_valid)
{
  int ends[2];
  struct dg_log *log;
  g_autofree char *big = g_strnfill(3900, '\\');
  json_t *line;

  ck_assert_int_eq(pipe(ends), 0);
  log = dg_log_new(ends[1], DG_LOG_FORMAT_JSON, DG_LOG_INFO);
  dg_log_info(log, "x", "a=1 big=%s b=2", big);
  line = json_loads(logged(ends[0]), 0, NULL);
  ck_assert_ptr_nonnull(line);
  ck_assert_int_eq(json_integer_value(json_object_get(line, "a")), 1);
  json_decref(line);
  dg_log_free(log);
}
END_TEST

START_TEST(a_value_cannot_forge_a_second_line)
{
  int ends[2];
  struct dg_log *log;
  const char *line;

  ck_assert_int_eq(pipe(ends), 0);
  log = dg_log_new(ends[1], DG_LOG_FORMAT_TEXT, DG_LOG_INFO);
  dg_log_info(log, "x", "key=%s", "a\nb");
  line = logged(ends[0]);
  ck_assert_ptr_eq(strchr(line, '\n'), line + strlen(line) - 1);
  dg_log_free(log);
}
END_TEST

START_TEST(events_above_the_level_are_dropped)
{
  int ends[2];
  struct dg_log *log;

  ck_assert_int_eq(pipe(ends), 0);
  log = dg_log_new(ends[1], DG_LOG_FORMAT_TEXT, DG_LOG_WARN);
  dg_log_info(log, "quiet", "a=1");
  dg_log_error(log, "loud", "a=1");
  ck_assert_ptr_null(strstr(logged(ends[0]), "quiet"));
  ck_assert(!dg_log_enabled(NULL, DG_LOG_ERROR));
  dg_log_info(NULL, "nobody", "listens=%d", 1);
  dg_log_free(log);
}
END_TEST

START_TEST(long_text_is_cut_between_characters)
{
  g_autoptr(GString) text = g_string_new("x");
  struct dg_log_quoted buffer;

  for (int i = 0; i < 400; i++)
    g_string_append(text, "\xc3\xa9");
  dg_log_quote(&buffer, (struct dg_slice){text->str, text->len});
  ck_assert(g_utf8_validate(buffer.text, -1, NULL));
  ck_assert_uint_le(strlen(buffer.text), 302);
}
END_TEST

/* ---- Metrics ------------------------------------------------------------------ */

static char *printed(struct dg_metrics *metrics)
{
  GString *out = g_string_new(NULL);

  dg_metrics_print(metrics, out);
  return g_string_free(out, FALSE);
}

static gpointer count_thousand(gpointer metrics)
{
  for (int i = 0; i < 1000; i++)
    dg_metrics_add(metrics, DG_METRIC_HTTP_REQUESTS_TOTAL, "GET", "200", "get_object", 1);
  return NULL;
}

START_TEST(a_gauge_of_what_is_gone_is_not_shown)
{
  struct dg_metrics *metrics = dg_metrics_new();
  g_autofree char *before = NULL, *after = NULL;

  dg_metrics_set(metrics, DG_METRIC_BACKEND_UP, "gone", NULL, 0);
  dg_metrics_set(metrics, DG_METRIC_BACKEND_UP, "here", NULL, 1);
  before = printed(metrics);
  ck_assert_ptr_nonnull(strstr(before, "deltaglider_backend_up{backend=\"gone\"} 0\n"));
  dg_metrics_set(metrics, DG_METRIC_BACKEND_UP, "gone", NULL, (double)NAN);
  after = printed(metrics);
  ck_assert_ptr_null(strstr(after, "gone"));
  ck_assert_ptr_nonnull(strstr(after, "deltaglider_backend_up{backend=\"here\"} 1\n"));
  dg_metrics_free(metrics);
}
END_TEST

START_TEST(counters_of_several_threads_add_up)
{
  struct dg_metrics *metrics = dg_metrics_new();
  GThread *threads[4];
  g_autofree char *text = NULL;

  for (int i = 0; i < 4; i++)
    threads[i] = g_thread_new("count", count_thousand, metrics);
  for (int i = 0; i < 4; i++)
    g_thread_join(threads[i]);
  text = printed(metrics);
  ck_assert_double_eq(dg_metrics_counter(metrics, DG_METRIC_HTTP_REQUESTS_TOTAL), 4000);
  ck_assert_ptr_nonnull(strstr(text, "deltaglider_http_requests_total{method=\"GET\",status=\"200\","
                                     "operation=\"get_object\"} 4000\n"));
  dg_metrics_free(metrics);
}
END_TEST

START_TEST(histograms_are_cumulative)
{
  struct dg_metrics *metrics = dg_metrics_new();
  g_autofree char *text = NULL;

  dg_metrics_observe(metrics, DG_METRIC_DELTA_COMPRESSION_RATIO, NULL, NULL, 0.02);
  dg_metrics_observe(metrics, DG_METRIC_DELTA_COMPRESSION_RATIO, NULL, NULL, 0.5);
  dg_metrics_observe(metrics, DG_METRIC_DELTA_COMPRESSION_RATIO, NULL, NULL, 7);
  text = printed(metrics);
  ck_assert_ptr_nonnull(strstr(text, "deltaglider_delta_compression_ratio_bucket{le=\"0.01\"} 0\n"));
  ck_assert_ptr_nonnull(strstr(text, "deltaglider_delta_compression_ratio_bucket{le=\"0.05\"} 1\n"));
  ck_assert_ptr_nonnull(strstr(text, "deltaglider_delta_compression_ratio_bucket{le=\"1\"} 2\n"));
  ck_assert_ptr_nonnull(strstr(text, "deltaglider_delta_compression_ratio_bucket{le=\"+Inf\"} 3\n"));
  ck_assert_ptr_nonnull(strstr(text, "deltaglider_delta_compression_ratio_sum 7.52\n"));
  ck_assert_ptr_nonnull(strstr(text, "deltaglider_delta_compression_ratio_count 3\n"));
  dg_metrics_free(metrics);
}
END_TEST

START_TEST(series_without_labels_exist_from_the_start)
{
  struct dg_metrics *metrics = dg_metrics_new();
  g_autofree char *text = NULL;

  dg_metrics_set(metrics, DG_METRIC_BUILD_INFO, "0.1\"", "filesystem", 1);
  text = printed(metrics);
  ck_assert_ptr_nonnull(strstr(text, "\ndeltaglider_cache_hits_total 0\n"));
  ck_assert_ptr_nonnull(strstr(
    text, "deltaglider_build_info{version=\"0.1\\\"\",backend_type=\"filesystem\"} 1\n"));
  ck_assert_ptr_nonnull(strstr(text, "# TYPE deltaglider_http_request_duration_seconds histogram\n"));
  ck_assert_ptr_null(strstr(text, "process_resident_memory_bytes 0\n"));
  dg_metrics_free(metrics);
}
END_TEST

START_TEST(a_null_registry_drops_everything)
{
  g_autoptr(GString) out = g_string_new(NULL);

  dg_metrics_add(NULL, DG_METRIC_CACHE_HITS_TOTAL, NULL, NULL, NULL, 1);
  dg_metrics_print(NULL, out);
  ck_assert_uint_eq(out->len, 0);
}
END_TEST

/* ---- Health --------------------------------------------------------------------- */

START_TEST(health_documents_are_json)
{
  g_autoptr(GString) out = g_string_new(NULL);
  json_t *document;

  dg_health_print(out, &(struct dg_health_facts){.cache_size_bytes = 50, .cache_max_bytes = 200});
  document = json_loads(out->str, 0, NULL);
  ck_assert_str_eq(json_string_value(json_object_get(document, "status")), "healthy");
  ck_assert_double_eq(json_real_value(json_object_get(document, "cache_utilization_pct")), 25.0);
  ck_assert_int_gt(json_integer_value(json_object_get(document, "peak_rss_bytes")), 1000000);
  json_decref(document);
}
END_TEST

START_TEST(readiness_is_told_by_status_and_word)
{
  static const struct {
    const char *backend, *word;
    int status;
  } rows[] = {{"ready", "ready", 200},       {"degraded", "ready", 200},
              {"cached", "ready", 200},      {"unreachable", "not_ready", 503},
              {"timeout", "not_ready", 503}};

  for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
    g_autoptr(GString) out = g_string_new(NULL);
    g_autofree char *want = g_strdup_printf(
      "{\"status\":\"%s\",\"backend\":\"%s\",\"config_db\":\"absent\"}\n", rows[i].word,
      rows[i].backend);

    ck_assert_int_eq(dg_ready_print(out, rows[i].backend, "absent"), rows[i].status);
    ck_assert_str_eq(out->str, want);
  }
}
END_TEST

START_TEST(savings_stay_between_0_and_99_99)
{
  g_autoptr(GString) out = g_string_new(NULL);

  dg_stats_print(out, &(struct dg_stats_facts){1, 1000000000, 1, 7});
  ck_assert_ptr_nonnull(strstr(out->str, "\"savings_percentage\":99.99,\"age_seconds\":7}\n"));
  g_string_truncate(out, 0);
  dg_stats_print(out, &(struct dg_stats_facts){1, 10, 20, 0});
  ck_assert_ptr_nonnull(strstr(out->str, "\"savings_percentage\":0.00,\"age_seconds\":0}\n"));
  g_string_truncate(out, 0);
  dg_stats_print(out, &(struct dg_stats_facts){0});
  ck_assert_ptr_nonnull(strstr(out->str, "\"total_objects\":0"));
}
END_TEST

/* ---- Fault points ------------------------------------------------------------------ */

#ifdef DG_FAULT_POINTS
START_TEST(faults_strike_on_the_hits_named)
{
  struct dg_error err = {0};

  ck_assert_int_eq(dg_fault_set("fs.write:ENOSPC:2-3, fs.link:EIO:1,net.*:EIO", &err), 0);
  ck_assert_int_eq(dg_fault("fs.write"), 0);
  ck_assert_int_eq(dg_fault("fs.write"), ENOSPC);
  ck_assert_int_eq(dg_fault("fs.write"), ENOSPC);
  ck_assert_int_eq(dg_fault("fs.write"), 0);
  ck_assert_int_eq(dg_fault("fs.link"), EIO);
  ck_assert_int_eq(dg_fault("fs.link"), 0);
  ck_assert_int_eq(dg_fault("net.read"), EIO);
  ck_assert_int_eq(dg_fault("other"), 0);
  ck_assert_int_eq(dg_fault_set(NULL, &err), 0);
  ck_assert_int_eq(dg_fault("net.read"), 0);
}
END_TEST

START_TEST(a_kill_rule_kills)
{
  struct dg_error err = {0};

  ck_assert_int_eq(dg_fault_set("put.rename:kill:2", &err), 0);
  ck_assert_int_eq(dg_fault("put.rename"), 0);
  (void)dg_fault("put.rename");
}
END_TEST

START_TEST(a_bad_rule_is_named)
{
  struct dg_error err = {0};

  ck_assert_int_eq(dg_fault_set("fs.write:EWHAT", &err), -1);
  ck_assert_ptr_nonnull(strstr(err.detail, "EWHAT"));
  ck_assert_int_eq(dg_fault_set("fs.write", &err), -1);
  ck_assert_int_eq(dg_fault_set("fs.write:EIO:0", &err), -1);
  ck_assert_int_eq(dg_fault_set("fs.write:EIO:3-2", &err), -1);
}
END_TEST
#endif

int main(void)
{
  Suite *suite = suite_create("observe");
  TCase *log = tcase_create("log"), *metrics = tcase_create("metrics");
  TCase *health = tcase_create("health"), *fault = tcase_create("fault");
  SRunner *runner;
  int failed;

  tcase_add_test(log, a_text_line_has_time_level_event_and_pairs);
  tcase_add_test(log, a_json_line_is_one_object_with_typed_members);
  tcase_add_test(log, an_overlong_json_line_stays_valid);
  tcase_add_test(log, a_value_cannot_forge_a_second_line);
  tcase_add_test(log, events_above_the_level_are_dropped);
  tcase_add_test(log, long_text_is_cut_between_characters);
  tcase_add_test(metrics, a_gauge_of_what_is_gone_is_not_shown);
  tcase_add_test(metrics, counters_of_several_threads_add_up);
  tcase_add_test(metrics, histograms_are_cumulative);
  tcase_add_test(metrics, series_without_labels_exist_from_the_start);
  tcase_add_test(metrics, a_null_registry_drops_everything);
  tcase_add_test(health, health_documents_are_json);
  tcase_add_test(health, readiness_is_told_by_status_and_word);
  tcase_add_test(health, savings_stay_between_0_and_99_99);
#ifdef DG_FAULT_POINTS
  tcase_add_test(fault, faults_strike_on_the_hits_named);
  tcase_add_test_raise_signal(fault, a_kill_rule_kills, SIGKILL);
  tcase_add_test(fault, a_bad_rule_is_named);
#endif
  suite_add_tcase(suite, log);
  suite_add_tcase(suite, metrics);
  suite_add_tcase(suite, health);
  suite_add_tcase(suite, fault);
  runner = srunner_create(suite);
  srunner_run_all(runner, CK_NORMAL);
  failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
