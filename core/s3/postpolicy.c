/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/s3/postpolicy.h"

#include <jansson.h>

#include "common/clock.h"
#include "common/slice.h"

#include "common/banned.h"

#define MAX_CONDITIONS 200

struct condition {
  char *field; /* without '$' */
  char *value;
  bool prefix; /* starts-with, else eq */
};

struct dg_post_policy {
  int64_t expires_s;
  uint64_t min_bytes, max_bytes;
  GArray *conditions; /* struct condition */
};

static void clear_condition(gpointer row)
{
  struct condition *condition = row;

  g_free(condition->field);
  g_free(condition->value);
}

void dg_post_policy_free(struct dg_post_policy *policy)
{
  if (!policy)
    return;
  g_array_unref(policy->conditions);
  g_free(policy);
}

static int fail_policy(struct dg_error *err, const char *what)
{
  return dg_fail(err, DG_E_INVALID_ARGUMENT, "Invalid Policy: %s.", what);
}

static void add_condition(struct dg_post_policy *policy, const char *field, const char *value,
                          bool prefix)
{
  struct condition condition = {g_strdup(field), g_strdup(value), prefix};

  g_array_append_val(policy->conditions, condition);
}

/* A size as a JSON number or its text. */
static bool parse_size(const json_t *number, uint64_t *ret_size)
{
  if (json_is_integer(number) && json_integer_value(number) >= 0) {
    *ret_size = (uint64_t)json_integer_value(number);
    return true;
  }
  return json_is_string(number) &&
         dg_slice_to_u64(dg_slice_str(json_string_value(number)), ret_size);
}

/* ["eq", "$field", "value"] and the like. */
static int parse_array(struct dg_post_policy *policy, const json_t *array, struct dg_error *err)
{
  const char *operator= json_string_value(json_array_get(array, 0));
  const char *field = json_string_value(json_array_get(array, 1));
  const char *value = json_string_value(json_array_get(array, 2));
  bool prefix;

  if (json_array_size(array) != 3 || !operator)
    return fail_policy(err, "a condition must have three elements");
  if (g_ascii_strcasecmp(operator, "content-length-range") == 0) {
    uint64_t low, high;

    if (!parse_size(json_array_get(array, 1), &low) ||
        !parse_size(json_array_get(array, 2), &high) || low > high)
      return fail_policy(err, "content-length-range needs two sizes, the lower one first");
    policy->min_bytes = MAX(policy->min_bytes, low);
    policy->max_bytes = MIN(policy->max_bytes, high);
    return 0;
  }
  prefix = g_ascii_strcasecmp(operator, "starts-with") == 0;
  if (!prefix && g_ascii_strcasecmp(operator, "eq") != 0)
    return fail_policy(err, "a condition is neither eq, starts-with nor content-length-range");
  if (!field || field[0] != '$' || !field[1] || !value)
    return fail_policy(err, "a condition names its field as \"$name\" and has a text as value");
  add_condition(policy, field + 1, value, prefix);
  return 0;
}

static int parse_condition(struct dg_post_policy *policy, json_t *row, struct dg_error *err)
{
  const char *field;
  json_t *value;

  if (policy->conditions->len >= MAX_CONDITIONS)
    return fail_policy(err, "too many conditions");
  if (json_is_array(row))
    return parse_array(policy, row, err);
  if (!json_is_object(row) || json_object_size(row) == 0)
    return fail_policy(err, "a condition is neither an object nor an array");
  json_object_foreach(row, field, value)
  {
    if (!json_is_string(value))
      return fail_policy(err, "a condition's value must be a text");
    if (policy->conditions->len >= MAX_CONDITIONS)
      return fail_policy(err, "too many conditions");
    add_condition(policy, field, json_string_value(value), /* prefix= */ false);
  }
  return 0;
}

static int parse_document(struct dg_post_policy *policy, json_t *document, struct dg_error *err)
{
  const char *expiration = json_string_value(json_object_get(document, "expiration"));
  json_t *conditions = json_object_get(document, "conditions"), *row;
  uint32_t ns;
  size_t i;

  if (!expiration || !dg_time_parse_rfc3339(dg_slice_str(expiration), &policy->expires_s, &ns))
    return fail_policy(err, "it has no valid expiration");
  if (!json_is_array(conditions))
    return fail_policy(err, "it has no conditions");
  json_array_foreach(conditions, i, row)
  {
    if (parse_condition(policy, row, err) < 0)
      return -1;
  }
  return 0;
}

int dg_post_policy_parse(struct dg_slice json, struct dg_post_policy **ret_policy,
                         struct dg_error *err)
{
  struct dg_post_policy *policy;
  json_error_t ignored;
  json_t *document = json_loadb(json.data, json.len, JSON_REJECT_DUPLICATES, &ignored);
  int result;

  if (!document)
    return fail_policy(err, "it is not valid JSON");
  policy = g_new0(struct dg_post_policy, 1);
  policy->max_bytes = UINT64_MAX;
  policy->conditions = g_array_new(FALSE, FALSE, sizeof(struct condition));
  g_array_set_clear_func(policy->conditions, clear_condition);
  result = parse_document(policy, document, err);
  json_decref(document);
  if (result < 0) {
    dg_post_policy_free(policy);
    return -1;
  }
  *ret_policy = policy;
  return 0;
}

/* A Content-Type may be a list: every entry has to fit. */
static bool list_fits(struct dg_slice list, struct dg_slice prefix)
{
  while (list.len) {
    size_t comma = dg_slice_find(list, ',', 0);
    size_t end = comma == SIZE_MAX ? list.len : comma;

    if (!dg_slice_starts_with(dg_slice_trim(dg_slice_of(list.data, end)), prefix))
      return false;
    list = dg_slice_skip(list, end + 1);
  }
  return true;
}

static bool condition_holds(const struct condition *condition, struct dg_slice value)
{
  struct dg_slice wanted = dg_slice_str(condition->value);

  if (!condition->prefix)
    return dg_slice_equal(value, wanted);
  if (g_ascii_strcasecmp(condition->field, "content-type") == 0 && value.len)
    return list_fits(value, wanted);
  return dg_slice_starts_with(value, wanted);
}

int dg_post_policy_check(const struct dg_post_policy *policy, struct dg_slice bucket,
                         struct dg_slice (*value)(void *receiver, const char *name), void *receiver,
                         int64_t now_s, struct dg_error *err)
{
  if (now_s > policy->expires_s)
    return dg_fail(err, DG_E_ACCESS_DENIED, "Invalid according to Policy: Policy expired.");
  for (guint i = 0; i < policy->conditions->len; i++) {
    const struct condition *condition = &g_array_index(policy->conditions, struct condition, i);
    struct dg_slice actual = g_ascii_strcasecmp(condition->field, "bucket") == 0
                                 ? bucket
                                 : value(receiver, condition->field);

    if (!condition_holds(condition, actual))
      return dg_fail(err, DG_E_ACCESS_DENIED,
                     "Invalid according to Policy: Policy Condition failed: [\"%s\", \"$%.60s\", "
                     "\"%.60s\"]",
                     condition->prefix ? "starts-with" : "eq", condition->field, condition->value);
  }
  return 0;
}

int dg_post_policy_covers(const struct dg_post_policy *policy, const char *field,
                          struct dg_error *err)
{
  /* The signature's own fields are bound by the signature itself. */
  static const char *const exempt[] = {"policy",          "x-amz-signature", "x-amz-credential",
                                       "x-amz-algorithm", "x-amz-date",      "file",
                                       "submit"};

  for (size_t i = 0; i < G_N_ELEMENTS(exempt); i++)
    if (g_ascii_strcasecmp(field, exempt[i]) == 0)
      return 0;
  if (g_ascii_strncasecmp(field, "x-ignore-", 9) == 0)
    return 0;
  for (guint i = 0; i < policy->conditions->len; i++)
    if (g_ascii_strcasecmp(g_array_index(policy->conditions, struct condition, i).field, field) ==
        0)
      return 0;
  return dg_fail(err, DG_E_ACCESS_DENIED, "Invalid according to Policy: Extra input fields: %.100s",
                 field);
}

void dg_post_policy_size(const struct dg_post_policy *policy, uint64_t *ret_min_bytes,
                         uint64_t *ret_max_bytes)
{
  *ret_min_bytes = policy->min_bytes;
  *ret_max_bytes = policy->max_bytes;
}
