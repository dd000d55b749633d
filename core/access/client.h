/* SPDX-License-Identifier: Apache-2.0 */
/* Which address a request is held to account for. The one place that decides it:
 * admission, limits and logs ask here and nowhere else.
 *
 *   trust_proxy_headers   trusted_proxy_cidrs   the client is
 *   off                   -                     the connection's other end
 *   on                    none                  the first of X-Forwarded-For, else X-Real-IP,
 *                                               else the other end: whatever the client says
 *   on                    some                  from the other end on, and back through
 *                                               X-Forwarded-For: the first that is not trusted
 *
 * Thread: [any], meant for loops. */
#ifndef DG_CORE_ACCESS_CLIENT_H
#define DG_CORE_ACCESS_CLIENT_H

#include "core/config/config.h"
#include "core/s3/request.h"

/* Reads the proxies' headers into request->client, as far as they are trusted. Once,
 * before anybody asks. */
void dg_client_resolve(const struct dg_snapshot *snapshot, struct dg_request *request);

/* The client's address as text. An IPv4 address in IPv6 clothes counts as the IPv4
 * address. Borrowed from the request. */
const char *dg_client_address(const struct dg_request *request);

#endif
