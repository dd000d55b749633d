/* SPDX-License-Identifier: Apache-2.0 */
/* What a reload cannot apply: options that differ between two snapshots and are
 * marked RESTART in their table. */
#include <config.h>

#include "core/config/internal.h"
#include "core/plug/options.h"

#include "common/banned.h"

static gboolean is_equal(const struct dg_option *option, const struct dg_config *a,
                         const struct dg_config *b)
{
  switch (option->type) {
  case DG_OPT_BOOL:
  case DG_OPT_INT:
  case DG_OPT_SIZE:
  case DG_OPT_DURATION:
    return a->get_int(a, option->name) == b->get_int(b, option->name);
  case DG_OPT_DOUBLE:
    return !(a->get_double(a, option->name) < b->get_double(b, option->name)) &&
           !(a->get_double(a, option->name) > b->get_double(b, option->name));
  default:
    return !g_strcmp0(a->get_text(a, option->name), b->get_text(b, option->name));
  }
}

static void compare(enum dg_section section, const struct dg_config *a, const struct dg_config *b,
                    GPtrArray *paths)
{
  for (const struct dg_option *o = dg_schema_options(section); a && b && o->name; o++)
    if (dg_schema_needs_restart(section, o) && !is_equal(o, a, b))
      g_ptr_array_add(paths, g_strdup_printf("%s.%s", dg_schema_section_name(section), o->name));
}

void dg_snapshot_restart_changes(const struct dg_snapshot *old_snapshot,
                                 const struct dg_snapshot *new_snapshot, GPtrArray *ret_paths)
{
  for (int section = 0; section < DG_SNAPSHOT_SECTIONS; section++)
    compare((enum dg_section)section, old_snapshot->options[section],
            new_snapshot->options[section], ret_paths);
  compare(DG_SECTION_TLS, old_snapshot->tls_options, new_snapshot->tls_options, ret_paths);
}
