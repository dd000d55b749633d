/* SPDX-License-Identifier: Apache-2.0 */
/* The server's certificates, ready to serve with.
 *
 * One set serves all loops; a reload makes a new one, and the old one lives as
 * long as a connection that began with it. A set never changes, so only its
 * reference count is shared. */
#ifndef DG_CORE_HTTP_TLS_H
#define DG_CORE_HTTP_TLS_H

#include <openssl/ssl.h>

#include <deltaglider/plugin.h>

struct dg_tls;
struct dg_tls_config;

/* Reads and checks every file that config (borrowed for the call) names.
 *
 * before    borrowed, may be NULL: the set in use, whose self-signed certificate
 *           is kept when config names none
 * ret_tls   transferred, with one reference
 *
 * DG_E_CONFIG says which file is at fault and why. [startup] */
int dg_tls_new(const struct dg_tls_config *config, const struct dg_tls *before,
               struct dg_tls **ret_tls, struct dg_error *err);
struct dg_tls *dg_tls_ref(struct dg_tls *tls); /* [any] */
void dg_tls_unref(struct dg_tls *tls);         /* [any] NULL is fine */

/* A server's side of a connection, transferred; NULL without memory. The set
 * must outlive it. [any] */
SSL *dg_tls_accept(const struct dg_tls *tls);

/* When the main certificate ends, in seconds since 1970. [any] */
int64_t dg_tls_expires_s(const struct dg_tls *tls);

/* The first error of this thread's OpenSSL queue as words, which it empties. [any] */
void dg_tls_cause(char *text, size_t room);

/* A key and a certificate for localhost, 127.0.0.1 and ::1, signed by itself; both
 * transferred. [any] */
int dg_tls_self_signed(EVP_PKEY **ret_key, X509 **ret_cert, struct dg_error *err);

#endif
