/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "common/fault.h"

#include <errno.h>
#include <glib.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "common/banned.h"

#ifdef DG_FAULT_POINTS

#define MAX_RULES 32

enum action { ACTION_KILL, ACTION_ERRNO, ACTION_DELAY, ACTION_PRINT };

struct rule {
  char step[48];
  bool is_prefix;
  enum action action;
  int error_number;
  unsigned delay_ms;
  unsigned first, last; /* hits, counted from 1 */
  atomic_uint hits;
};

static struct rule rules[MAX_RULES];
static unsigned rule_count;
static atomic_bool active;

static const struct {
  const char *name;
  int number;
} errno_names[] = {
  {"EIO", EIO},       {"ENOSPC", ENOSPC},   {"EDQUOT", EDQUOT}, {"EMFILE", EMFILE},
  {"ENFILE", ENFILE}, {"EROFS", EROFS},     {"EACCES", EACCES}, {"ENOENT", ENOENT},
  {"EINTR", EINTR},   {"ENOTSUP", ENOTSUP}, {"E2BIG", E2BIG},   {"ENOMEM", ENOMEM},
  {"ESTALE", ESTALE}, {"EPERM", EPERM},     {"EBUSY", EBUSY},   {"ETIMEDOUT", ETIMEDOUT},
};

static int parse_action(struct rule *rule, const char *text, struct dg_error *err)
{
  if (!strcmp(text, "kill")) {
    rule->action = ACTION_KILL;
    return 0;
  }
  if (!strcmp(text, "print")) {
    rule->action = ACTION_PRINT;
    return 0;
  }
  if (g_str_has_prefix(text, "delay_")) {
    guint64 ms = 0;

    if (!g_ascii_string_to_unsigned(text + strlen("delay_"), 10, 0, 600000, &ms, NULL))
      return dg_fail(err, DG_E_CONFIG, "DGP_FAULT: '%s': use delay_N, N in milliseconds", text);
    rule->action = ACTION_DELAY;
    rule->delay_ms = (unsigned)ms;
    return 0;
  }
  for (size_t i = 0; i < G_N_ELEMENTS(errno_names); i++)
    if (!strcmp(text, errno_names[i].name)) {
      rule->action = ACTION_ERRNO;
      rule->error_number = errno_names[i].number;
      return 0;
    }
  return dg_fail(err, DG_E_CONFIG,
                 "DGP_FAULT: unknown action '%s': use kill, print, delay_N or an errno name", text);
}

static int parse_hits(struct rule *rule, const char *text, struct dg_error *err)
{
  g_auto(GStrv) ends = g_strsplit(text, "-", 2);
  guint64 first = 0, last = UINT32_MAX;

  if (!ends[0] || !g_ascii_string_to_unsigned(ends[0], 10, 1, UINT32_MAX, &first, NULL) ||
      (ends[1] && *ends[1] &&
       !g_ascii_string_to_unsigned(ends[1], 10, first, UINT32_MAX, &last, NULL)))
    return dg_fail(err, DG_E_CONFIG, "DGP_FAULT: bad hit count '%s': use 3, 1-2 or 2-", text);
  rule->first = (unsigned)first;
  rule->last = ends[1] ? (unsigned)last : (unsigned)first;
  return 0;
}

static int parse_rule(struct rule *rule, const char *text, struct dg_error *err)
{
  g_auto(GStrv) parts = g_strsplit(text, ":", 3);
  size_t len;

  if (g_strv_length(parts) < 2)
    return dg_fail(err, DG_E_CONFIG, "DGP_FAULT: '%s': use STEP:ACTION[:HITS]", text);
  len = strlen(parts[0]);
  if (len == 0 || len >= sizeof rule->step)
    return dg_fail(err, DG_E_CONFIG, "DGP_FAULT: '%s': a step has 1 to %zu characters", text,
                   sizeof rule->step - 1);
  rule->is_prefix = parts[0][len - 1] == '*';
  (void)g_strlcpy(rule->step, parts[0], rule->is_prefix ? len : sizeof rule->step);
  if (parse_action(rule, parts[1], err) < 0)
    return -1;
  rule->first = 1;
  rule->last = UINT32_MAX;
  atomic_init(&rule->hits, 0);
  return parts[2] ? parse_hits(rule, parts[2], err) : 0;
}

int dg_fault_set(const char *text, struct dg_error *err)
{
  g_auto(GStrv) parts = g_strsplit(text ? text : "", ",", -1);

  atomic_store(&active, false);
  rule_count = 0;
  for (unsigned i = 0; parts[i]; i++) {
    if (!*g_strstrip(parts[i]))
      continue;
    if (rule_count == MAX_RULES)
      return dg_fail(err, DG_E_CONFIG, "DGP_FAULT: more than %d rules", MAX_RULES);
    if (parse_rule(&rules[rule_count], parts[i], err) < 0)
      return -1;
    rule_count++;
  }
  atomic_store(&active, rule_count > 0);
  return 0;
}

static int act(const struct rule *rule, const char *step)
{
  struct timespec pause = {.tv_sec = rule->delay_ms / 1000,
                           .tv_nsec = (long)(rule->delay_ms % 1000) * 1000000L};

  switch (rule->action) {
  case ACTION_KILL:
    (void)kill(getpid(), SIGKILL);
    for (;;)
      (void)sleep(1); /* SIGKILL needs no help, only time */
  case ACTION_ERRNO:
    return rule->error_number;
  case ACTION_DELAY:
    (void)nanosleep(&pause, NULL);
    return 0;
  case ACTION_PRINT:
    (void)dprintf(STDERR_FILENO, "fault: %s\n", step);
    return 0;
  }
  return 0;
}

int dg_fault(const char *step)
{
  int result = 0;

  if (G_LIKELY(!atomic_load_explicit(&active, memory_order_relaxed)))
    return 0;
  for (unsigned i = 0; i < rule_count && result == 0; i++) {
    struct rule *rule = &rules[i];
    unsigned hit;

    if (rule->is_prefix ? !g_str_has_prefix(step, rule->step) : strcmp(step, rule->step) != 0)
      continue;
    hit = atomic_fetch_add(&rule->hits, 1) + 1;
    if (hit >= rule->first && hit <= rule->last)
      result = act(rule, step);
  }
  return result;
}

#else

int dg_fault_set(const char *text, struct dg_error *err)
{
  if (text && *text)
    return dg_fail(err, DG_E_CONFIG,
                   "DGP_FAULT is set, but this server was built with --disable-fault-points");
  return 0;
}

#endif

int dg_fault_init(struct dg_error *err)
{
  return dg_fault_set(getenv("DGP_FAULT"), err);
}
