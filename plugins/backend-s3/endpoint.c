/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "endpoint.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "common/slice.h"
#include "common/uri.h"

#include "common/banned.h"

struct net {
  uint32_t address;
  unsigned bits;
};

static bool ipv4_is_public(uint32_t address)
{
  static const struct net closed[] = {
    {0x00000000u, 8},  /* this network */
    {0x0a000000u, 8},  /* private */
    {0x64400000u, 10}, /* shared by carriers */
    {0x7f000000u, 8},  /* loopback */
    {0xa9fe0000u, 16}, /* link-local, where clouds keep their metadata */
    {0xac100000u, 12}, /* private */
    {0xc0000000u, 24}, /* protocol assignments */
    {0xc0a80000u, 16}, /* private */
    {0xc6120000u, 15}, /* benchmarks */
    {0xe0000000u, 3},  /* multicast, reserved, broadcast */
  };

  for (size_t i = 0; i < G_N_ELEMENTS(closed); i++)
    if ((address ^ closed[i].address) >> (32 - closed[i].bits) == 0)
      return false;
  return true;
}

static bool ipv6_is_public(const uint8_t address[16])
{
  static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  static const uint8_t nat64[12] = {0, 0x64, 0xff, 0x9b};
  uint32_t ipv4;

  memcpy(&ipv4, address + 12, sizeof ipv4);
  if (memcmp(address, mapped, sizeof mapped) == 0 || memcmp(address, nat64, sizeof nat64) == 0)
    return ipv4_is_public(ntohl(ipv4));
  if (address[0] == 0x20 && address[1] == 0x02) { /* 6to4 */
    memcpy(&ipv4, address + 2, sizeof ipv4);
    return ipv4_is_public(ntohl(ipv4));
  }
  /* 2000::/3 is all that is given out; Teredo tunnels lead anywhere. */
  return (address[0] & 0xe0) == 0x20 &&
         !(address[0] == 0x20 && address[1] == 0x01 && address[2] == 0 && address[3] == 0);
}

bool dg_s3_address_is_public(const struct sockaddr *address)
{
  if (address->sa_family == AF_INET) {
    struct sockaddr_in in;

    memcpy(&in, address, sizeof in);
    return ipv4_is_public(ntohl(in.sin_addr.s_addr));
  }
  if (address->sa_family == AF_INET6) {
    struct sockaddr_in6 in6;

    memcpy(&in6, address, sizeof in6);
    return ipv6_is_public(in6.sin6_addr.s6_addr);
  }
  return false;
}

/* "host", "host:port", "[::1]:port": the host without brackets. */
static char *host_of(const char *authority, const char **ret_port)
{
  const char *end = *authority == '[' ? strchr(authority, ']') : strchr(authority, ':');

  *ret_port = NULL;
  if (*authority == '[') {
    if (!end)
      return NULL;
    if (end[1] == ':')
      *ret_port = end + 2;
    else if (end[1])
      return NULL;
    return g_strndup(authority + 1, (size_t)(end - authority) - 1);
  }
  if (end)
    *ret_port = end + 1;
  return end ? g_strndup(authority, (size_t)(end - authority)) : g_strdup(authority);
}

static bool is_name(const char *host)
{
  return *host && !host[strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                     "0123456789.-_:")];
}

/* shown: the URL for messages. */
static int parse_authority(struct dg_s3_endpoint *endpoint, const char *shown, const char *text,
                           struct dg_error *err)
{
  const char *port = NULL;
  g_autofree char *host = host_of(text, &port);
  struct sockaddr_in in = {.sin_family = AF_INET};
  struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
  guint64 number = 0;
  bool v4, v6, default_port;

  if (!host || !is_name(host) ||
      (port && !g_ascii_string_to_unsigned(port, 10, 1, 65535, &number, NULL)))
    return dg_fail(err, DG_E_CONFIG, "endpoint '%s': host or port is not well-formed", shown);
  v4 = inet_pton(AF_INET, host, &in.sin_addr) == 1;
  v6 = inet_pton(AF_INET6, host, &in6.sin6_addr) == 1;
  endpoint->is_address = v4 || v6;
  if (!endpoint->allow_local &&
      ((v4 && !dg_s3_address_is_public((const struct sockaddr *)&in)) ||
       (v6 && !dg_s3_address_is_public((const struct sockaddr *)&in6)) ||
       g_ascii_strcasecmp(host, "localhost") == 0))
    return dg_fail(err, DG_E_CONFIG,
                   "endpoint '%s' is not a public address: set allow_local if it is meant", shown);
  default_port = !port || number == (endpoint->https ? 443u : 80u);
  endpoint->authority = default_port ? g_strdup_printf(v6 ? "[%s]" : "%s", host) : g_strdup(text);
  return 0;
}

int dg_s3_endpoint_parse(struct dg_s3_endpoint *endpoint, const char *url, const char *region,
                         bool path_style, bool allow_local, struct dg_error *err)
{
  g_autofree char *aws = NULL, *authority = NULL, *shown = NULL;
  const char *rest, *slash;
  size_t len;

  if (!url || !*url)
    url = aws = g_strdup_printf("https://s3.%s.amazonaws.com", region);
  shown = dg_url_for_show(url); /* some write a password into it */
  endpoint->path_style = path_style;
  endpoint->allow_local = allow_local;
  endpoint->https = g_str_has_prefix(url, "https://");
  if (!endpoint->https && !g_str_has_prefix(url, "http://"))
    return dg_fail(err, DG_E_CONFIG, "endpoint '%s': it must begin with https:// or http://",
                   shown);
  if (!endpoint->https && !allow_local)
    return dg_fail(err, DG_E_CONFIG,
                   "endpoint '%s' is not https: set allow_local if plain http is meant", shown);
  rest = strstr(url, "://") + 3;
  len = strcspn(rest, "/?#");
  if (strpbrk(rest + len, "?#") || memchr(rest, '@', len))
    return dg_fail(err, DG_E_CONFIG,
                   "endpoint '%s': no user, query or fragment is allowed in it", shown);
  authority = g_strndup(rest, len);
  if (parse_authority(endpoint, shown, authority, err) < 0)
    return -1;
  slash = rest + len;
  len = strlen(slash);
  while (len && slash[len - 1] == '/')
    len--;
  endpoint->base_path = g_strndup(slash, len);
  return 0;
}

void dg_s3_endpoint_clear(struct dg_s3_endpoint *endpoint)
{
  g_clear_pointer(&endpoint->authority, g_free);
  g_clear_pointer(&endpoint->base_path, g_free);
}

void dg_s3_endpoint_locate(const struct dg_s3_endpoint *endpoint, struct dg_slice bucket,
                           struct dg_slice key, GString *host, GString *path)
{
  /* Wildcard certificates do not cover a bucket with dots. */
  bool in_path = endpoint->path_style || endpoint->is_address ||
                 (endpoint->https && dg_slice_find(bucket, '.', 0) != SIZE_MAX);

  g_string_append(path, endpoint->base_path);
  if (bucket.len && !in_path) {
    dg_slice_append(host, bucket);
    g_string_append_c(host, '.');
  }
  g_string_append(host, endpoint->authority);
  g_string_append_c(path, '/');
  if (bucket.len && in_path) {
    dg_uri_encode(path, bucket, /* keep_slash= */ false);
    if (key.len)
      g_string_append_c(path, '/');
  }
  dg_uri_encode(path, key, /* keep_slash= */ true);
}
