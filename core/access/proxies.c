/* SPDX-License-Identifier: Apache-2.0 */
/* What proxies say about the client, as far as they are trusted. */
#include "config.h"

#include <arpa/inet.h>

#include "common/slice.h"
#include "core/access/client.h"

#include "common/banned.h"

/* More proxies than that do not stand in a row. */
#define HOPS_MAX 64

/* ---- Addresses ------------------------------------------------------------------------ */

/* "192.0.2.7", "192.0.2.7:80", "2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:80": the
 * address alone. */
static struct dg_slice without_port(struct dg_slice hop)
{
  size_t colon = dg_slice_find(hop, ':', 0);

  if (hop.len && hop.data[0] == '[') {
    size_t end = dg_slice_find(hop, ']', 0);

    return end == SIZE_MAX ? DG_SLICE_NONE : dg_slice_of(hop.data + 1, end - 1);
  }
  if (colon != SIZE_MAX && dg_slice_find(hop, ':', colon + 1) == SIZE_MAX)
    hop.len = colon;
  return hop;
}

/* False: it is no address. */
static bool parse_hop(struct dg_slice hop, struct dg_ip_range *ret_address)
{
  char text[INET6_ADDRSTRLEN];

  hop = without_port(dg_slice_trim(hop));
  if (hop.len == 0 || hop.len >= sizeof text || memchr(hop.data, '/', hop.len) ||
      memchr(hop.data, '\0', hop.len))
    return false;
  memcpy(text, hop.data, hop.len);
  text[hop.len] = '\0';
  return dg_ip_range_parse(text, ret_address);
}

static void print_address(const struct dg_ip_range *address, char text[64])
{
  struct in6_addr in6;

  memcpy(&in6, address->address, sizeof in6);
  if (IN6_IS_ADDR_V4MAPPED(&in6))
    (void)inet_ntop(AF_INET, address->address + 12, text, 64);
  else
    (void)inet_ntop(AF_INET6, &in6, text, 64);
}

static bool is_trusted(const struct dg_snapshot *snapshot, const struct dg_ip_range *address)
{
  for (size_t i = 0; i < snapshot->trusted_proxy_count; i++)
    if (dg_ip_range_holds(&snapshot->trusted_proxies[i], address->address))
      return true;
  return false;
}

/* ---- X-Forwarded-For -------------------------------------------------------------------- */

/* Its hops, the last first, over all headers of that name. */
struct hops {
  const struct dg_request *request;
  uint32_t header;      /* headers from here on are done */
  struct dg_slice left; /* of the header before it; absent: none begun */
};

static bool next_hop(struct hops *hops, struct dg_slice *ret_hop)
{
  size_t start;

  while (!dg_slice_present(hops->left)) {
    if (hops->header == 0)
      return false;
    hops->header--;
    if (dg_slice_equal_nocase(hops->request->headers[hops->header].name,
                              DG_SLICE("X-Forwarded-For")))
      hops->left = hops->request->headers[hops->header].value;
  }
  for (start = hops->left.len; start > 0 && hops->left.data[start - 1] != ','; start--)
    ;
  *ret_hop = dg_slice_skip(hops->left, start);
  if (start > 0)
    hops->left.len = start - 1;
  else
    hops->left = DG_SLICE_NONE;
  return true;
}

/* Each proxy appends whom it was called by, so what a trusted one says is true, and
 * what stands before that was said by whoever is not trusted. */
static void resolve_trusted(const struct dg_snapshot *snapshot, struct dg_request *request)
{
  struct hops hops = {.request = request, .header = request->header_count};
  struct dg_ip_range client, next;
  struct dg_slice hop;
  bool found = false;

  if (!parse_hop(dg_slice_str(request->peer), &client))
    return;
  for (unsigned i = 0; i < HOPS_MAX && is_trusted(snapshot, &client); i++) {
    /* Not an address: the last one that was stays the client. */
    if (!next_hop(&hops, &hop) || !parse_hop(hop, &next))
      break;
    client = next;
    found = true;
  }
  if (found)
    print_address(&client, request->client);
}

static void resolve_believing(struct dg_request *request)
{
  struct dg_slice list = dg_request_header(request, "x-forwarded-for");
  size_t comma = dg_slice_find(list, ',', 0);
  struct dg_ip_range client;

  if (comma != SIZE_MAX)
    list.len = comma;
  if (parse_hop(list, &client) || parse_hop(dg_request_header(request, "x-real-ip"), &client))
    print_address(&client, request->client);
}

void dg_client_resolve(const struct dg_snapshot *snapshot, struct dg_request *request)
{
  request->client[0] = '\0';
  if (!snapshot->trust_proxy_headers)
    return;
  if (snapshot->trusted_proxy_count > 0)
    resolve_trusted(snapshot, request);
  else
    resolve_believing(request);
}
