/* SPDX-License-Identifier: Apache-2.0 */
/* The certificate of a server that was given none: for trying things out on one
 * machine. Its key never leaves the process. */
#include "config.h"

#include "core/http/tls.h"

#include <glib.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdbool.h>

#include "common/banned.h"

#define VALID_S (365L * 24 * 3600)
#define CLOCK_SLACK_S 300L /* of clients whose clocks are behind */

static bool add_extension(X509 *cert, int nid, const char *value)
{
  X509V3_CTX context;
  X509_EXTENSION *extension;
  bool added;

  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, cert, cert, NULL, NULL, 0);
  extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
  added = extension && X509_add_ext(cert, extension, -1) == 1;
  X509_EXTENSION_free(extension);
  return added;
}

static bool fill(X509 *cert, EVP_PKEY *key)
{
  X509_NAME *name = X509_get_subject_name(cert);
  uint64_t serial = 0;

  if (RAND_bytes((unsigned char *)&serial, sizeof serial) != 1)
    return false;
  return X509_set_version(cert, X509_VERSION_3) == 1 &&
         ASN1_INTEGER_set_uint64(X509_get_serialNumber(cert), serial >> 1 | 1) == 1 &&
         X509_gmtime_adj(X509_getm_notBefore(cert), -CLOCK_SLACK_S) &&
         X509_gmtime_adj(X509_getm_notAfter(cert), VALID_S) && X509_set_pubkey(cert, key) == 1 &&
         X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"localhost",
                                    -1, -1, 0) == 1 &&
         X509_set_issuer_name(cert, name) == 1 &&
         add_extension(cert, NID_basic_constraints, "critical,CA:TRUE") &&
         add_extension(cert, NID_subject_key_identifier, "hash") &&
         add_extension(cert, NID_ext_key_usage, "serverAuth") &&
         add_extension(cert, NID_subject_alt_name, "DNS:localhost,IP:127.0.0.1,IP:::1") &&
         X509_sign(cert, key, EVP_sha256()) > 0;
}

int dg_tls_self_signed(EVP_PKEY **ret_key, X509 **ret_cert, struct dg_error *err)
{
  EVP_PKEY *key = EVP_EC_gen("P-256");
  X509 *cert = X509_new();
  char cause[160];

  if (!key || !cert || !fill(cert, key)) {
    EVP_PKEY_free(key);
    X509_free(cert);
    dg_tls_cause(cause, sizeof cause);
    return dg_fail(err, DG_E_INTERNAL, "self-signed certificate: %s", cause);
  }
  *ret_key = key;
  *ret_cert = cert;
  return 0;
}
