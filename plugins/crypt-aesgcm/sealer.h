/* SPDX-License-Identifier: Apache-2.0 */
/* What the writers of both formats have in common: a body that must be as long as it
 * was announced, a failure after which nothing goes on, and the next layer's writer,
 * which they own until commit or abort. Thread: that of the writer's call. */
#ifndef DG_CRYPT_AESGCM_SEALER_H
#define DG_CRYPT_AESGCM_SEALER_H

#include "plugins/crypt-aesgcm/aesgcm.h"

struct dg_sealer;

struct dg_sealer_format {
  uint64_t max_size; /* bytes of plaintext; DG_TO_END: any */
  /* Seals what comes next. */
  int (*take)(struct dg_sealer *sealer, const uint8_t *data, size_t len, struct dg_error *err);
  /* Seals the rest: all of the plaintext was taken. */
  int (*finish)(struct dg_sealer *sealer, struct dg_error *err);
  /* Frees the format's own and the struct itself, not what is below. */
  void (*release)(struct dg_sealer *sealer);
};

/* First member of a format's writer. */
struct dg_sealer {
  struct dg_writer writer; /* first: the public face */
  const struct dg_sealer_format *format;
  struct dg_writer *inner;
  EVP_CIPHER_CTX *ctx;     /* holds the key; owned */
  uint64_t plain_size;     /* DG_TO_END: not known */
  uint64_t written;        /* plaintext */
  bool failed;
};

/* Takes over inner and ctx. Cannot fail. */
void dg_sealer_init(struct dg_sealer *sealer, const struct dg_sealer_format *format,
                    struct dg_writer *inner, EVP_CIPHER_CTX *ctx, uint64_t plain_size);

static inline int dg_sealer_push(struct dg_sealer *sealer, const void *data, size_t len,
                                 struct dg_error *err)
{
  return sealer->inner->ops->write(sealer->inner, data, len, err);
}

#endif
