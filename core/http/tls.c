/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/http/tls.h"

#include <glib.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>

#include "core/config/config.h"

#include "common/banned.h"

/* What TLS 1.2 may use: forward secret and authenticated. TLS 1.3 has nothing else. */
#define CIPHERS_1_2 "ECDHE+AESGCM:ECDHE+CHACHA20"
/* Read at once from a socket: several records, one system call. Freed while idle. */
#define READ_BYTES (64u * 1024u)

struct dg_tls {
  atomic_uint refs;
  SSL_CTX *main;      /* every connection begins with it */
  GPtrArray *named;   /* SSL_CTX *: chosen by the name a client asks for */
  EVP_PKEY *self_key; /* without files: the certificate that was made up */
  X509 *self_cert;
};

void dg_tls_cause(char *text, size_t room)
{
  unsigned long code = ERR_get_error();
  const char *reason = code ? ERR_reason_error_string(code) : NULL;

  if (code && ERR_SYSTEM_ERROR(code))
    reason = g_strerror(ERR_GET_REASON(code));
  g_strlcpy(text, reason ? reason : "no cause given", room);
  ERR_clear_error();
}

static int fail_file(struct dg_error *err, const char *what, const char *path)
{
  char cause[128];

  dg_tls_cause(cause, sizeof cause);
  return dg_fail(err, DG_E_CONFIG, "advanced.tls: %s '%s': %s", what, path, cause);
}

/* ---- During a handshake ----------------------------------------------------------- */

static bool serves(const SSL_CTX *context, const char *name)
{
  return X509_check_host(SSL_CTX_get0_certificate(context), name, 0, 0, NULL) == 1;
}

/* A name that no certificate has gets the main one: the client may know better. */
static int on_name(SSL *ssl, int *alert, void *argument)
{
  const struct dg_tls *tls = argument;
  const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);

  (void)alert;
  if (!name || serves(tls->main, name))
    return SSL_TLSEXT_ERR_OK;
  for (guint i = 0; i < tls->named->len; i++)
    if (serves(tls->named->pdata[i], name)) {
      SSL_set_SSL_CTX(ssl, tls->named->pdata[i]);
      break;
    }
  return SSL_TLSEXT_ERR_OK;
}

/* HTTP/1.1 or nothing: a client that offers only others must not believe that
 * one of them was taken. */
static int on_protocols(SSL *ssl, const unsigned char **ret_chosen, unsigned char *ret_len,
                        const unsigned char *offered, unsigned int offered_len, void *argument)
{
  static const unsigned char ours[] = "\x08http/1.1";
  unsigned char *chosen = NULL;

  (void)ssl;
  (void)argument;
  if (SSL_select_next_proto(&chosen, ret_len, ours, sizeof ours - 1, offered, offered_len) !=
      OPENSSL_NPN_NEGOTIATED)
    return SSL_TLSEXT_ERR_ALERT_FATAL;
  *ret_chosen = chosen;
  return SSL_TLSEXT_ERR_OK;
}

/* Without it OpenSSL would ask on the terminal for the password of a key. */
static int on_password(char *buffer, int room, int writing, void *argument)
{
  (void)buffer;
  (void)room;
  (void)writing;
  (void)argument;
  return 0;
}

/* ---- Making ------------------------------------------------------------------------- */

static int ask_clients(SSL_CTX *context, const struct dg_tls_config *config, struct dg_error *err)
{
  static const unsigned char session_context[] = "deltaglider";
  STACK_OF(X509_NAME) *names;
  int mode = SSL_VERIFY_PEER;

  if (!config->client_ca_path)
    return 0;
  names = SSL_load_client_CA_file(config->client_ca_path);
  if (!names || SSL_CTX_load_verify_file(context, config->client_ca_path) != 1) {
    sk_X509_NAME_pop_free(names, X509_NAME_free);
    return fail_file(err, "client_ca_path", config->client_ca_path);
  }
  SSL_CTX_set_client_CA_list(context, names);
  if (config->client_cert_required)
    mode |= SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
  SSL_CTX_set_verify(context, mode, NULL);
  /* A resumed session of a known client is refused without one. */
  (void)SSL_CTX_set_session_id_context(context, session_context, sizeof session_context - 1);
  return 0;
}

static SSL_CTX *new_context(const struct dg_tls_config *config, struct dg_error *err)
{
  SSL_CTX *context = SSL_CTX_new(TLS_server_method());
  char cause[128];

  if (!context ||
      SSL_CTX_set_min_proto_version(context,
                                    config->tls13_only ? TLS1_3_VERSION : TLS1_2_VERSION) != 1 ||
      SSL_CTX_set_cipher_list(context, CIPHERS_1_2) != 1) {
    SSL_CTX_free(context);
    dg_tls_cause(cause, sizeof cause);
    (void)dg_fail(err, DG_E_INTERNAL, "TLS: %s", cause);
    return NULL;
  }
  /* Clients that close without saying so are common, and HTTP has lengths. */
  (void)SSL_CTX_set_options(context, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION |
                                         SSL_OP_CIPHER_SERVER_PREFERENCE |
                                         SSL_OP_PRIORITIZE_CHACHA | SSL_OP_IGNORE_UNEXPECTED_EOF);
  (void)SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                      SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  /* Tickets resume sessions without anything kept, or locked, here. */
  (void)SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_read_ahead(context, 1);
  SSL_CTX_set_default_read_buffer_len(context, READ_BYTES);
  SSL_CTX_set_default_passwd_cb(context, on_password);
  SSL_CTX_set_alpn_select_cb(context, on_protocols, NULL);
  if (ask_clients(context, config, err) < 0) {
    SSL_CTX_free(context);
    return NULL;
  }
  return context;
}

static int use_files(SSL_CTX *context, const struct dg_tls_pair *pair, struct dg_error *err)
{
  if (SSL_CTX_use_certificate_chain_file(context, pair->cert_path) != 1)
    return fail_file(err, "cert_path", pair->cert_path);
  if (SSL_CTX_use_PrivateKey_file(context, pair->key_path, SSL_FILETYPE_PEM) != 1 ||
      SSL_CTX_check_private_key(context) != 1)
    return fail_file(err, "key_path", pair->key_path);
  return 0;
}

static int use_self_signed(struct dg_tls *tls, const struct dg_tls *before, struct dg_error *err)
{
  if (before && before->self_key) {
    (void)EVP_PKEY_up_ref(before->self_key);
    (void)X509_up_ref(before->self_cert);
    tls->self_key = before->self_key;
    tls->self_cert = before->self_cert;
  } else if (dg_tls_self_signed(&tls->self_key, &tls->self_cert, err) < 0) {
    return -1;
  }
  if (SSL_CTX_use_certificate(tls->main, tls->self_cert) != 1 ||
      SSL_CTX_use_PrivateKey(tls->main, tls->self_key) != 1)
    return dg_fail(err, DG_E_INTERNAL, "the self-signed certificate cannot be used");
  return 0;
}

static int fill(struct dg_tls *tls, const struct dg_tls_config *config,
                const struct dg_tls *before, struct dg_error *err)
{
  tls->main = new_context(config, err);
  if (!tls->main)
    return -1;
  if (config->main.cert_path ? use_files(tls->main, &config->main, err) < 0
                             : use_self_signed(tls, before, err) < 0)
    return -1;
  for (guint i = 0; i < config->certificates->len; i++) {
    SSL_CTX *context = new_context(config, err);

    if (!context)
      return -1;
    g_ptr_array_add(tls->named, context);
    if (use_files(context, &g_array_index(config->certificates, struct dg_tls_pair, i), err) < 0)
      return -1;
  }
  (void)SSL_CTX_set_tlsext_servername_callback(tls->main, on_name);
  (void)SSL_CTX_set_tlsext_servername_arg(tls->main, tls);
  return 0;
}

static void free_context(void *context)
{
  SSL_CTX_free(context);
}

int dg_tls_new(const struct dg_tls_config *config, const struct dg_tls *before,
               struct dg_tls **ret_tls, struct dg_error *err)
{
  struct dg_tls *tls = g_new0(struct dg_tls, 1);

  atomic_init(&tls->refs, 1);
  tls->named = g_ptr_array_new_with_free_func(free_context);
  ERR_clear_error();
  if (fill(tls, config, before, err) < 0) {
    dg_tls_unref(tls);
    return -1;
  }
  *ret_tls = tls;
  return 0;
}

struct dg_tls *dg_tls_ref(struct dg_tls *tls)
{
  atomic_fetch_add(&tls->refs, 1);
  return tls;
}

void dg_tls_unref(struct dg_tls *tls)
{
  if (!tls || atomic_fetch_sub(&tls->refs, 1) != 1)
    return;
  SSL_CTX_free(tls->main);
  g_ptr_array_unref(tls->named);
  EVP_PKEY_free(tls->self_key);
  X509_free(tls->self_cert);
  g_free(tls);
}

SSL *dg_tls_accept(const struct dg_tls *tls)
{
  SSL *ssl = SSL_new(tls->main);

  if (ssl)
    SSL_set_accept_state(ssl);
  return ssl;
}

int64_t dg_tls_expires_s(const struct dg_tls *tls)
{
  const ASN1_TIME *end = X509_get0_notAfter(SSL_CTX_get0_certificate(tls->main));
  int days = 0, seconds = 0;

  if (ASN1_TIME_diff(&days, &seconds, NULL, end) != 1)
    return 0;
  return (int64_t)time(NULL) + (int64_t)days * 86400 + seconds;
}
