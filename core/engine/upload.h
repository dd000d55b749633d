/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_CORE_ENGINE_UPLOAD_H
#define DG_CORE_ENGINE_UPLOAD_H

#include "core/engine/internal.h"

int dg_upload_table_new(struct dg_engine *engine, struct dg_upload_table **ret_table,
                        struct dg_error *err);
void dg_upload_table_free(struct dg_upload_table *table);
uint64_t dg_upload_table_open_count(struct dg_upload_table *table);
void dg_upload_drop_bucket(struct dg_upload_table *table, struct dg_slice bucket);

#endif
