/* SPDX-License-Identifier: Apache-2.0 */
/* Which address a request is held to account for. The one place that decides
 * it: limits ask here and nowhere else. Thread: [any]. */
#ifndef DG_CORE_ACCESS_CLIENT_H
#define DG_CORE_ACCESS_CLIENT_H

#include "core/s3/request.h"

/* The client's address as text: that of the connection's other end, since no
 * header is trusted to say otherwise. An IPv4 address in IPv6 clothes counts as
 * the IPv4 address. Borrowed from the request. */
const char *dg_client_address(const struct dg_request *request);

#endif
