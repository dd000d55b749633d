/* SPDX-License-Identifier: Apache-2.0 */
/* Where the upstream is, how its URLs are spelt, and which addresses it may
 * have. */
#ifndef DG_S3_ENDPOINT_H
#define DG_S3_ENDPOINT_H

#include <stdbool.h>
#include <sys/socket.h>

#include <glib.h>

#include <deltaglider/plugin.h>

struct dg_s3_endpoint {
  bool https;
  bool path_style;  /* the bucket stands in the path, not in the host name */
  bool allow_local; /* plain http and private addresses are meant */
  bool is_address;  /* the host is an IP address: no virtual hosts below it */
  char *authority;  /* host[:port], as the Host header says it; no default port */
  char *base_path;  /* "" or "/x", without a trailing '/' */
};

/* url: NULL or "" for AWS in that region. DG_E_CONFIG with the remedy. The
 * name is not resolved here: addresses are judged when a connection is made. */
int dg_s3_endpoint_parse(struct dg_s3_endpoint *endpoint, const char *url, const char *region,
                         bool path_style, bool allow_local, struct dg_error *err);
void dg_s3_endpoint_clear(struct dg_s3_endpoint *endpoint);

/* Appends the host and the encoded path of a bucket's key; both may be empty.
 * The path is what is signed and what is sent, to the byte. [any] */
void dg_s3_endpoint_locate(const struct dg_s3_endpoint *endpoint, struct dg_slice bucket,
                           struct dg_slice key, GString *host, GString *path);

/* Neither loopback, private, link-local, shared, multicast nor unspecified,
 * also when IPv4 hides inside IPv6. [any] */
bool dg_s3_address_is_public(const struct sockaddr *address);

#endif
