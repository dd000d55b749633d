/* SPDX-License-Identifier: Apache-2.0 */
/* From what the configuration says of a backend's encryption to the layer that does
 * it. */
#ifndef DG_CORE_SEALING_H
#define DG_CORE_SEALING_H

#include "core/config/config.h"
#include "core/plug/plug.h"

struct dg_backend;

/* Puts the sealing layer over a backend just made (transferred on success), also
 * when config asks for none. Makes the crypt's instance, or tells the backend how
 * its storage is to encrypt; then the secrets in config are wiped. [startup] */
int dg_sealing_open(struct dg_plug_table *table, const struct dg_plug_services *services,
                    const struct dg_backend_config *config, struct dg_backend *inner,
                    struct dg_backend **ret_backend, struct dg_error *err);

#endif
