/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/http/op.h"

#include "core/s3/conditional.h"

#include "common/banned.h"

int dg_op_check_read(const struct dg_exchange *x, const struct dg_object_info *info,
                     struct dg_error *err)
{
  struct dg_conditions conditions;

  dg_conditions_read(&x->request, /* copy_source= */ false, &conditions);
  return dg_conditions_check_read(&conditions, info->etag, info->last_modified_s, err);
}

int dg_op_check_copy_source(void *receiver, const struct dg_object_info *info, struct dg_error *err)
{
  const struct dg_exchange *x = receiver;
  struct dg_conditions conditions;

  dg_conditions_read(&x->request, /* copy_source= */ true, &conditions);
  return dg_conditions_check_copy(&conditions, info->etag, info->last_modified_s, err);
}

static int check_write(void *receiver, const struct dg_object_info *current, struct dg_error *err)
{
  const struct dg_exchange *x = receiver;
  struct dg_conditions conditions;

  dg_conditions_read(&x->request, /* copy_source= */ false, &conditions);
  return dg_conditions_check_write(&conditions, current != NULL, current ? current->etag : "", err);
}

int dg_op_write_check(const struct dg_exchange *x, dg_write_check_fn *ret_check,
                      struct dg_error *err)
{
  struct dg_conditions conditions;

  dg_conditions_read(&x->request, /* copy_source= */ false, &conditions);
  if (dg_conditions_check_form(&conditions, err) < 0)
    return -1;
  *ret_check = conditions.if_match.len || conditions.if_none_match.len ? check_write : NULL;
  return 0;
}
