/* SPDX-License-Identifier: Apache-2.0 */
/* Who sent a request: SigV4 in headers, in the query, or in a form's fields.
 *
 *   locked out? -> find the credentials -> shape, scope, date -> key -> signature
 *   -> replay? -> identity
 *
 * Pure functions over the credentials of the request's configuration, without I/O; the
 * only state is a cache of derived keys, the replay memory and the failure counts,
 * all bounded and locked inside. Nothing is counted as success, remembered or
 * revealed before the signature is verified. Thread: [any], meant for loops. */
#ifndef DG_CORE_ACCESS_IDENTITY_H
#define DG_CORE_ACCESS_IDENTITY_H

#include <deltaglider/plugin.h>
#include <stdbool.h>

#include "common/sigv4.h"
#include "core/s3/request.h"
#include "core/s3/target.h"

struct dg_access;
struct dg_credentials;

enum dg_identity_kind {
  DG_IDENTITY_ANONYMOUS, /* no credentials, where none are needed */
  DG_IDENTITY_OPEN,      /* `authentication: none`: nothing was verified */
  DG_IDENTITY_USER,      /* the signature is right */
};

struct dg_identity {
  enum dg_identity_kind kind;
  bool presigned;
  bool signed_chunks;        /* seed is set: chunk signatures must be verified */
  enum dg_payload_mode payload_mode;
  uint8_t payload_sha256[32]; /* DG_PAYLOAD_SHA256 only */
  char access_key[129];      /* as claimed; "" if none */
  struct dg_sigv4_seed seed; /* DG_PAYLOAD_SIGNED_*, verified identities only */
  bool remembered;           /* replay_signature is in the replay memory */
  uint8_t replay_signature[32];
  /* NULL, or why it failed, for auth_failures_total{reason}: missing_header,
   * invalid_presigned, invalid_access_key, user_disabled, replay,
   * form_post_denied, invalid_signature. Set on failure too. */
  const char *failure;
  /* NULL, or what it is to whoever watches for attacks: repeated_auth_failure,
   * brute_force_lockout (with this failure), brute_force_blocked (not even looked at).
   * attempts: the failures that dg_identity_source() is held to account for. */
  const char *alarm;
  uint32_t attempts;
  bool counted_with_key;
  /* How long the answer to this failure should wait: the more failures from one
   * source, the longer. 0: not at all. */
  uint32_t delay_ms;
};

struct dg_access_params {
  bool open;                /* authentication: none */
  uint32_t clock_skew_s;    /* 0 means 300 */
  uint32_t replay_window_s; /* 0: no replay check */
  uint32_t lockout_failures; /* 0: failures are not counted: no delay, no lockout */
  uint32_t lockout_window_s, lockout_s; /* 300, 600 when 0 */
};

struct dg_access *dg_access_new(const struct dg_access_params *params);
void dg_access_free(struct dg_access *access); /* wipes secrets; NULL is fine */
/* Verifies who sent this request. credentials: of the configuration that serves it
 * (core/access/credentials.h); NULL: nobody has any. now_s: the wall clock, passed in for tests.
 *
 * Unsigned requests pass as ANONYMOUS for OPTIONS, HEAD / and form uploads
 * (whose signature is in the form), else fail with DG_E_ACCESS_DENIED.
 *
 * Fails with DG_E_ACCESS_DENIED, _SIGNATURE_MISMATCH, _TIME_SKEWED,
 * _EXPIRED_TOKEN, _AUTH_MALFORMED, _AUTH_QUERY, _INVALID_ARGUMENT,
 * _INVALID_REQUEST, _NOT_IMPLEMENTED, _REPLAY, _SLOW_DOWN. *ret_identity is
 * always set as far as known (access_key, failure). Its seed holds a derived
 * key: dg_identity_clear() when the exchange ends. */
int dg_identity_verify(struct dg_access *access, struct dg_credentials *credentials,
                       const struct dg_request *request, const struct dg_target *target,
                       int64_t now_s, struct dg_identity *ret_identity, struct dg_error *err);

/* Verifies the signature of a form upload's policy: the fields
 * x-amz-algorithm, -credential, -date, -signature, and policy as sent (base64).
 * request: for the lockout. Open mode accepts anything. */
struct dg_form_credentials {
  struct dg_slice policy, algorithm, credential, date, signature;
};
int dg_identity_verify_form(struct dg_access *access, struct dg_credentials *credentials,
                            const struct dg_form_credentials *form,
                            const struct dg_request *request, int64_t now_s,
                            struct dg_identity *ret_identity, struct dg_error *err);

/* The request was answered with an error, so it changed nothing: clients repeat
 * it, and within the same second that gives the same signature. */
void dg_identity_forgive(struct dg_access *access, struct dg_identity *identity);

/* What failures are counted by: the address, or its network, and perhaps the access
 * key: "192.0.2.1|KEY". */
struct dg_failure_source {
  char text[256];
};
struct dg_slice dg_identity_source(const struct dg_identity *identity,
                                   const struct dg_request *request, struct dg_failure_source *ret_source);

void dg_identity_clear(struct dg_identity *identity);

#endif
