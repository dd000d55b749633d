/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/access/client.h"

#include <string.h>

#include "common/banned.h"

static const char mapped[] = "::ffff:";

const char *dg_client_address(const struct dg_request *request)
{
  const char *peer = request->peer;

  if (request->client[0])
    return request->client;
  if (strncmp(peer, mapped, sizeof mapped - 1) == 0 && strchr(peer, '.'))
    return peer + sizeof mapped - 1;
  return peer;
}
