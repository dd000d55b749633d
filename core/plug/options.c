/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/plug/options.h"

#include <errno.h>
#include <math.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <regex.h>
#include <stdlib.h>

#include "common/banned.h"

struct config_owner {
  struct dg_config config; /* first: what plugins see */
  const struct dg_option *table;
  char *instance_name;
  unsigned count;
  struct dg_option_value values[];
};

static const struct {
  const char *suffix;
  int64_t factor;
} size_units[] = {
  {"", 1},
  {"B", 1},
  {"KiB", INT64_C(1) << 10},
  {"MiB", INT64_C(1) << 20},
  {"GiB", INT64_C(1) << 30},
  {"TiB", INT64_C(1) << 40},
}, duration_units[] = {
  {"ms", 1},
  {"s", 1000},
  {"m", 60 * 1000},
  {"h", 3600 * 1000},
  {"d", 24 * 3600 * 1000},
};

const char *dg_option_type_name(uint32_t type)
{
  static const char *const names[] = {NULL,   "string", "bool", "int",  "size",
                                      "duration", "path", "number", "choice", "secret"};

  return type < G_N_ELEMENTS(names) ? names[type] : NULL;
}

static int parse_bool(const char *text, int64_t *ret_number, struct dg_error *err)
{
  static const char *const yes[] = {"true", "1", "yes", "on"}, *const no[] = {"false", "0", "no",
                                                                             "off"};

  for (size_t i = 0; i < G_N_ELEMENTS(yes); i++) {
    if (!g_ascii_strcasecmp(text, yes[i]) || !g_ascii_strcasecmp(text, no[i])) {
      *ret_number = !g_ascii_strcasecmp(text, yes[i]);
      return 0;
    }
  }
  return dg_fail(err, DG_E_CONFIG, "'%s' is not a truth value: use true or false", text);
}

static int parse_int(const char *text, int64_t *ret_number, struct dg_error *err)
{
  gint64 number;

  if (!g_ascii_string_to_signed(text, 10, G_MININT64, G_MAXINT64, &number, NULL))
    return dg_fail(err, DG_E_CONFIG, "'%s' is not a whole number", text);
  *ret_number = number;
  return 0;
}

/* Digits, then an optional unit. */
static int parse_size(const char *text, int64_t *ret_number, struct dg_error *err)
{
  char *unit;
  int64_t number;

  errno = 0;
  number = g_ascii_strtoll(text, &unit, 10);
  if (unit != text && g_ascii_isdigit(*text) && errno == 0) {
    unit += strspn(unit, " ");
    for (size_t i = 0; i < G_N_ELEMENTS(size_units); i++)
      if (!g_ascii_strcasecmp(unit, size_units[i].suffix)) {
        if (__builtin_mul_overflow(number, size_units[i].factor, ret_number))
          break;
        return 0;
      }
  }
  return dg_fail(err, DG_E_CONFIG, "'%s' is not a size: use bytes, or 64KiB, 100MiB, 2GiB, 5TiB",
                 text);
}

/* One or more of number and unit: 90d, 1h30m. */
static int parse_duration(const char *text, int64_t *ret_number, struct dg_error *err)
{
  const char *rest = text;
  int64_t sum = 0;

  while (g_ascii_isdigit(*rest)) {
    char *unit;
    int64_t number, part;
    size_t unit_len, i;

    errno = 0;
    number = g_ascii_strtoll(rest, &unit, 10);
    unit_len = strspn(unit, "mshd");
    for (i = 0; i < G_N_ELEMENTS(duration_units); i++)
      if (strlen(duration_units[i].suffix) == unit_len &&
          !strncmp(unit, duration_units[i].suffix, unit_len))
        break;
    if (errno != 0 || i == G_N_ELEMENTS(duration_units) ||
        __builtin_mul_overflow(number, duration_units[i].factor, &part) ||
        __builtin_add_overflow(sum, part, &sum))
      break;
    rest = unit + unit_len;
    if (!*rest) {
      *ret_number = sum;
      return 0;
    }
  }
  return dg_fail(err, DG_E_CONFIG, "'%s' is not a duration: use 500ms, 30s, 5m, 2h or 1d", text);
}

static int parse_double(const char *text, double *ret_real, struct dg_error *err)
{
  char *end;

  errno = 0;
  *ret_real = g_ascii_strtod(text, &end);
  if (end == text || *end || (errno == ERANGE && fabs(*ret_real) > 1))
    return dg_fail(err, DG_E_CONFIG, "'%s' is not a number", text);
  return 0;
}

static int check_choice(const struct dg_option *option, const char *text, struct dg_error *err)
{
  g_auto(GStrv) choices = g_strsplit(option->choices, "|", -1);

  if (g_strv_contains((const char *const *)choices, text))
    return 0;
  return dg_fail(err, DG_E_CONFIG, "'%s' is not one of %s", text, option->choices);
}

/* A choice between on and off takes the words of a truth value, too. */
static const char *as_choice(const struct dg_option *option, const char *text)
{
  g_auto(GStrv) choices = g_strsplit(option->choices, "|", -1);
  struct dg_error not_one;
  int64_t yes;

  if (!g_strv_contains((const char *const *)choices, "on") ||
      !g_strv_contains((const char *const *)choices, "off") || parse_bool(text, &yes, &not_one) < 0)
    return text;
  return yes ? "on" : "off";
}

/* A text that must have a form. Secrets are not repeated in the message. */
static int check_pattern(const struct dg_option *option, const char *text, struct dg_error *err)
{
  regex_t pattern;
  int mismatch;

  if (!option->choices || option->choices[0] != '^')
    return 0;
  if (regcomp(&pattern, option->choices, REG_EXTENDED | REG_NOSUB) != 0)
    return dg_fail(err, DG_E_CONFIG, "its pattern '%s' is no regular expression", option->choices);
  mismatch = regexec(&pattern, text, 0, NULL, 0);
  regfree(&pattern);
  if (!mismatch)
    return 0;
  if (option->type == DG_OPT_SECRET)
    return dg_fail(err, DG_E_CONFIG, "the value does not have the form %s", option->choices);
  return dg_fail(err, DG_E_CONFIG, "'%s' does not have the form %s", text, option->choices);
}

static int check_range(const struct dg_option *option, const char *text, int64_t number,
                       struct dg_error *err)
{
  if (option->min == 0 && option->max == 0)
    return 0;
  if (number < option->min || number > option->max)
    return dg_fail(err, DG_E_CONFIG, "'%s' is outside %lld..%lld%s", text, (long long)option->min,
                   (long long)option->max,
                   option->type == DG_OPT_SIZE       ? " bytes"
                   : option->type == DG_OPT_DURATION ? " milliseconds"
                                                     : "");
  return 0;
}

int dg_option_parse(const struct dg_option *option, const char *text,
                    struct dg_option_value *ret_value, struct dg_error *err)
{
  struct dg_option_value value = {0};
  int result = 0;

  switch (option->type) {
  case DG_OPT_BOOL:
    result = parse_bool(text, &value.number, err);
    break;
  case DG_OPT_INT:
    result = parse_int(text, &value.number, err);
    value.real = (double)value.number;
    break;
  case DG_OPT_SIZE:
    result = parse_size(text, &value.number, err);
    break;
  case DG_OPT_DURATION:
    result = parse_duration(text, &value.number, err);
    break;
  case DG_OPT_DOUBLE:
    result = parse_double(text, &value.real, err);
    break;
  case DG_OPT_ENUM:
    text = as_choice(option, text);
    result = check_choice(option, text, err);
    break;
  case DG_OPT_PATH:
    if (!*text)
      result = dg_fail(err, DG_E_CONFIG, "a path must not be empty");
    break;
  case DG_OPT_STRING:
  case DG_OPT_SECRET:
    result = check_pattern(option, text, err);
    break;
  default:
    break;
  }
  if (result == 0 && (option->type == DG_OPT_INT || option->type == DG_OPT_SIZE ||
                      option->type == DG_OPT_DURATION))
    result = check_range(option, text, value.number, err);
  if (result < 0)
    return -1;
  value.text = g_strdup(text);
  *ret_value = value;
  return 0;
}

void dg_option_value_clear(const struct dg_option *option, struct dg_option_value *value)
{
  if (value->text && option->type == DG_OPT_SECRET)
    OPENSSL_cleanse(value->text, strlen(value->text));
  g_free(value->text);
  memset(value, 0, sizeof *value);
}

/* ---- Tables --------------------------------------------------------------- */

static int check_row(const struct dg_option *table, const struct dg_option *row,
                     struct dg_error *err)
{
  struct dg_option_value value;

  if (!*row->name || row->name[strspn(row->name, "abcdefghijklmnopqrstuvwxyz0123456789_")])
    return dg_fail(err, DG_E_CONFIG, "option '%s': names are lower-case letters, digits and '_'",
                   row->name);
  if (dg_options_find(table, row->name) != row)
    return dg_fail(err, DG_E_CONFIG, "option '%s' is declared twice", row->name);
  if (!dg_option_type_name(row->type))
    return dg_fail(err, DG_E_CONFIG, "option '%s' has the unknown type %u", row->name, row->type);
  if (!row->help || !*row->help)
    return dg_fail(err, DG_E_CONFIG, "option '%s' lacks its help text", row->name);
  if (row->type == DG_OPT_ENUM && (!row->choices || !*row->choices))
    return dg_fail(err, DG_E_CONFIG, "option '%s' is a choice without choices", row->name);
  if (row->min > row->max)
    return dg_fail(err, DG_E_CONFIG, "option '%s': its minimum is above its maximum", row->name);
  if (row->dflt) {
    struct dg_error cause = {0};

    if (dg_option_parse(row, row->dflt, &value, &cause) < 0)
      return dg_fail(err, DG_E_CONFIG, "option '%s': its default %s", row->name, cause.detail);
    dg_option_value_clear(row, &value);
  }
  return 0;
}

int dg_options_check(const struct dg_option *table, struct dg_error *err)
{
  for (const struct dg_option *row = table; row && row->name; row++)
    if (check_row(table, row, err) < 0)
      return -1;
  return 0;
}

const struct dg_option *dg_options_find(const struct dg_option *table, const char *name)
{
  for (const struct dg_option *row = table; row && row->name; row++)
    if (!strcmp(row->name, name))
      return row;
  return NULL;
}

/* Edit distance with neighbours swapped counting once. Long names are never
 * near anything. */
static unsigned distance(const char *a, const char *b)
{
  enum { MAX = 48 };
  unsigned cost[MAX + 1][MAX + 1];
  size_t na = strlen(a), nb = strlen(b);

  if (na > MAX || nb > MAX)
    return UINT32_MAX;
  for (size_t i = 0; i <= na; i++)
    for (size_t j = 0; j <= nb; j++) {
      if (i == 0 || j == 0) {
        cost[i][j] = (unsigned)(i + j);
        continue;
      }
      cost[i][j] = MIN(MIN(cost[i - 1][j], cost[i][j - 1]) + 1,
                       cost[i - 1][j - 1] + (a[i - 1] != b[j - 1]));
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        cost[i][j] = MIN(cost[i][j], cost[i - 2][j - 2] + 1);
    }
  return cost[na][nb];
}

/* Keeps the nearer of *best and candidate. */
static void consider(const char *name, const char *candidate, const char **best, unsigned *best_cost)
{
  unsigned cost = distance(name, candidate);

  if (cost < *best_cost) {
    *best_cost = cost;
    *best = candidate;
  }
}

/* A third of the letters may be wrong, at least one. */
static unsigned tolerance(const char *name)
{
  return MAX((unsigned)strlen(name) / 3, 1u) + 1;
}

const char *dg_options_nearest(const struct dg_option *table, const char *name)
{
  const char *best = NULL;
  unsigned best_cost = tolerance(name);

  for (const struct dg_option *row = table; row && row->name; row++)
    consider(name, row->name, &best, &best_cost);
  return best;
}

const char *dg_nearest_name(const char *const *names, const char *name)
{
  const char *best = NULL;
  unsigned best_cost = tolerance(name);

  for (; *names; names++)
    consider(name, *names, &best, &best_cost);
  return best;
}

/* ---- struct dg_config ------------------------------------------------------ */

static const struct dg_option_value *value_of(const struct dg_config *config, const char *name)
{
  const struct config_owner *owner = config->self;
  const struct dg_option *row = dg_options_find(owner->table, name);

  return row ? &owner->values[row - owner->table] : NULL;
}

static const char *get_text(const struct dg_config *config, const char *name)
{
  const struct dg_option_value *value = value_of(config, name);

  return value ? value->text : NULL;
}

static int64_t get_int(const struct dg_config *config, const char *name)
{
  const struct dg_option_value *value = value_of(config, name);

  return value ? value->number : 0;
}

static double get_double(const struct dg_config *config, const char *name)
{
  const struct dg_option_value *value = value_of(config, name);

  return value ? value->real : 0;
}

static int32_t get_bool(const struct dg_config *config, const char *name)
{
  return get_int(config, name) != 0;
}

struct dg_config *dg_config_new(const struct dg_option *table, const char *instance_name)
{
  struct config_owner *owner;
  unsigned count = 0;

  while (table && table[count].name)
    count++;
  owner = g_malloc0(sizeof *owner + count * sizeof owner->values[0]);
  owner->table = table;
  owner->count = count;
  owner->instance_name = g_strdup(instance_name);
  owner->config = (struct dg_config){
    .struct_size = sizeof owner->config,
    .self = owner,
    .instance_name = owner->instance_name,
    .get_text = get_text,
    .get_int = get_int,
    .get_double = get_double,
    .get_bool = get_bool,
  };
  return &owner->config;
}

static struct config_owner *owner_of(struct dg_config *config)
{
  return (struct config_owner *)config; /* its first member */
}

int dg_config_set(struct dg_config *config, const char *name, const char *text,
                  struct dg_error *err)
{
  struct config_owner *owner = owner_of(config);
  const struct dg_option *row = dg_options_find(owner->table, name);
  const char *near = row ? NULL : dg_options_nearest(owner->table, name);
  struct dg_option_value value;
  struct dg_error cause = {0};

  if (!row)
    return dg_fail(err, DG_E_CONFIG, "unknown option '%s'%s%s%s", name,
                   near ? ": did you mean '" : "", near ? near : "", near ? "'?" : "");
  if (dg_option_parse(row, text, &value, &cause) < 0)
    return dg_fail(err, DG_E_CONFIG, "%s: %s", name, cause.detail);
  dg_option_value_clear(row, &owner->values[row - owner->table]);
  owner->values[row - owner->table] = value;
  return 0;
}

int dg_config_is_set(const struct dg_config *config, const char *name)
{
  const struct dg_option_value *value = value_of(config, name);

  return value && value->text;
}

const struct dg_option *dg_config_table(const struct dg_config *config)
{
  return ((const struct config_owner *)config->self)->table;
}

int dg_config_finish(struct dg_config *config, struct dg_error *err)
{
  struct config_owner *owner = owner_of(config);

  for (unsigned i = 0; i < owner->count; i++) {
    const struct dg_option *row = &owner->table[i];

    if (owner->values[i].text)
      continue;
    if (row->dflt) {
      if (dg_option_parse(row, row->dflt, &owner->values[i], err) < 0)
        return -1;
    } else if (row->required) {
      return dg_fail(err, DG_E_CONFIG, "the option '%s' is required: %s", row->name, row->help);
    }
  }
  return 0;
}

static void hash_text(struct evp_md_ctx_st *hash, const char *text)
{
  uint8_t set = text != NULL;

  /* With its end: "a", "bc" is not "ab", "c". */
  if (EVP_DigestUpdate(hash, &set, 1) != 1 ||
      (text && EVP_DigestUpdate(hash, text, strlen(text) + 1) != 1))
    g_error("a digest failed");
}

void dg_config_hash(const struct dg_config *config, struct evp_md_ctx_st *hash)
{
  const struct config_owner *owner = config->self;

  for (unsigned i = 0; i < owner->count; i++) {
    hash_text(hash, owner->table[i].name);
    hash_text(hash, owner->values[i].text);
  }
}

void dg_config_forget_secrets(struct dg_config *config)
{
  struct config_owner *owner = owner_of(config);

  for (unsigned i = 0; i < owner->count; i++)
    if (owner->table[i].type == DG_OPT_SECRET)
      dg_option_value_clear(&owner->table[i], &owner->values[i]);
}

void dg_config_free(struct dg_config *config)
{
  struct config_owner *owner;

  if (!config)
    return;
  owner = owner_of(config);
  for (unsigned i = 0; i < owner->count; i++)
    dg_option_value_clear(&owner->table[i], &owner->values[i]);
  g_free(owner->instance_name);
  g_free(owner);
}

struct dg_config *dg_config_of(const struct dg_option *table, const char *instance_name, ...)
{
  struct dg_config *config = dg_config_new(table, instance_name);
  struct dg_error err = {0};
  const char *name;
  va_list args;

  va_start(args, instance_name);
  while ((name = va_arg(args, const char *)))
    if (dg_config_set(config, name, va_arg(args, const char *), &err) < 0)
      g_error("%s", err.detail);
  va_end(args);
  if (dg_config_finish(config, &err) < 0)
    g_error("%s", err.detail);
  return config;
}
