/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "common/checksum.h"

#include <glib.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <pthread.h>

#include "common/crc.h"
#include "common/hex.h"
#include "common/slice.h"

#include "common/banned.h"

static const struct {
  const char *name, *header, *element;
  size_t len;
} kinds[] = {
    [DG_SUM_CRC32] = {"CRC32", "x-amz-checksum-crc32", "ChecksumCRC32", 4},
    [DG_SUM_CRC32C] = {"CRC32C", "x-amz-checksum-crc32c", "ChecksumCRC32C", 4},
    [DG_SUM_CRC64NVME] = {"CRC64NVME", "x-amz-checksum-crc64nvme", "ChecksumCRC64NVME", 8},
    [DG_SUM_SHA1] = {"SHA1", "x-amz-checksum-sha1", "ChecksumSHA1", 20},
    [DG_SUM_SHA256] = {"SHA256", "x-amz-checksum-sha256", "ChecksumSHA256", 32},
    [DG_SUM_MD5] = {"MD5", NULL, NULL, 16},
};

/* Fetched once: a fetch per digest costs more than hashing a small request. */
static pthread_once_t fetch_once = PTHREAD_ONCE_INIT;
static EVP_MD *md_md5, *md_sha1, *md_sha256;

static void fetch_all(void)
{
  md_md5 = EVP_MD_fetch(NULL, "MD5", NULL);
  md_sha1 = EVP_MD_fetch(NULL, "SHA1", NULL);
  md_sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
  if (!md_md5 || !md_sha1 || !md_sha256)
    g_error("OpenSSL offers no MD5, SHA-1 or SHA-256: the default provider is not available");
}

static const EVP_MD *md_of(uint32_t kind)
{
  (void)pthread_once(&fetch_once, fetch_all);
  return kind == DG_SUM_MD5 ? md_md5 : kind == DG_SUM_SHA1 ? md_sha1 : md_sha256;
}

static bool is_crc(uint32_t kind)
{
  return kind >= DG_SUM_CRC32 && kind <= DG_SUM_CRC64NVME;
}

static struct dg_crc *crc_of(uint32_t kind)
{
  return kind == DG_SUM_CRC32    ? &dg_crc_ieee
         : kind == DG_SUM_CRC32C ? &dg_crc_iscsi
                                 : &dg_crc_nvme64;
}

void dg_checksum_init(struct dg_checksum *sum, uint32_t kind)
{
  sum->kind = kind;
  sum->crc = 0;
  sum->size_bytes = 0;
  if (kind == DG_SUM_NONE || is_crc(kind))
    return;
  if (!sum->evp && !(sum->evp = EVP_MD_CTX_new()))
    g_error("out of memory for a digest");
  if (EVP_DigestInit_ex(sum->evp, md_of(kind), NULL) != 1)
    g_error("OpenSSL cannot start %s", dg_checksum_name(kind));
}

void dg_checksum_update(struct dg_checksum *sum, const void *bytes, size_t len)
{
  if (sum->kind == DG_SUM_NONE || len == 0)
    return;
  sum->size_bytes += len;
  if (is_crc(sum->kind))
    sum->crc = dg_crc_update(crc_of(sum->kind), sum->crc, bytes, len);
  else if (EVP_DigestUpdate(sum->evp, bytes, len) != 1)
    g_error("OpenSSL cannot continue %s", dg_checksum_name(sum->kind));
}

static void store_crc(uint64_t crc, size_t len, uint8_t *out)
{
  for (size_t i = 0; i < len; i++)
    out[i] = (uint8_t)(crc >> (8 * (len - 1 - i)));
}

static uint64_t load_crc(size_t len, const uint8_t *in)
{
  uint64_t crc = 0;

  for (size_t i = 0; i < len; i++)
    crc = crc << 8 | in[i];
  return crc;
}

size_t dg_checksum_final(struct dg_checksum *sum, uint8_t out[DG_SUM_MAX_BYTES])
{
  size_t len = dg_checksum_len(sum->kind);

  if (is_crc(sum->kind))
    store_crc(sum->crc, len, out);
  else if (len && EVP_DigestFinal_ex(sum->evp, out, NULL) != 1)
    g_error("OpenSSL cannot finish %s", dg_checksum_name(sum->kind));
  return len;
}

void dg_checksum_final_base64(struct dg_checksum *sum, char out[DG_SUM_MAX_BASE64])
{
  uint8_t digest[DG_SUM_MAX_BYTES];
  size_t len = dg_checksum_final(sum, digest);

  dg_base64_encode(digest, len, out);
}

void dg_checksum_clear(struct dg_checksum *sum)
{
  EVP_MD_CTX_free(sum->evp);
  *sum = (struct dg_checksum){0};
}

size_t dg_checksum_len(uint32_t kind)
{
  return kind < G_N_ELEMENTS(kinds) ? kinds[kind].len : 0;
}

const char *dg_checksum_name(uint32_t kind)
{
  return kind < G_N_ELEMENTS(kinds) ? kinds[kind].name : NULL;
}

const char *dg_checksum_header(uint32_t kind)
{
  return kind < G_N_ELEMENTS(kinds) ? kinds[kind].header : NULL;
}

const char *dg_checksum_element(uint32_t kind)
{
  return kind < G_N_ELEMENTS(kinds) ? kinds[kind].element : NULL;
}

uint32_t dg_checksum_from_name(struct dg_slice name)
{
  for (uint32_t kind = 1; kind < G_N_ELEMENTS(kinds); kind++)
    if (dg_slice_equal_nocase(name, dg_slice_str(kinds[kind].name)))
      return kind;
  return DG_SUM_NONE;
}

uint32_t dg_checksum_from_header(struct dg_slice header)
{
  for (uint32_t kind = 1; kind < G_N_ELEMENTS(kinds); kind++)
    if (kinds[kind].header && dg_slice_equal_nocase(header, dg_slice_str(kinds[kind].header)))
      return kind;
  return DG_SUM_NONE;
}

bool dg_checksum_valid(uint32_t kind, struct dg_slice base64)
{
  uint8_t digest[DG_SUM_MAX_BYTES];
  size_t len;

  return dg_base64_decode(base64, digest, sizeof digest, &len) && len != 0 &&
         len == dg_checksum_len(kind);
}

bool dg_checksum_combine(uint32_t kind, const uint8_t *first, const uint8_t *second,
                         uint64_t second_bytes, uint8_t *out)
{
  size_t len = dg_checksum_len(kind);

  if (!is_crc(kind))
    return false;
  store_crc(dg_crc_combine(crc_of(kind), load_crc(len, first), load_crc(len, second), second_bytes),
            len, out);
  return true;
}

uint32_t dg_crc32(uint32_t crc, const void *bytes, size_t len)
{
  return (uint32_t)dg_crc_update(&dg_crc_ieee, crc, bytes, len);
}

uint32_t dg_crc32c(uint32_t crc, const void *bytes, size_t len)
{
  return (uint32_t)dg_crc_update(&dg_crc_iscsi, crc, bytes, len);
}

uint64_t dg_crc64nvme(uint64_t crc, const void *bytes, size_t len)
{
  return dg_crc_update(&dg_crc_nvme64, crc, bytes, len);
}

/* ---- One-shot SHA-256 and HMAC ---- */

static void thread_context_free(gpointer context)
{
  EVP_MD_CTX_free(context);
}

static EVP_MD_CTX *thread_context(void)
{
  static GPrivate slot = G_PRIVATE_INIT(thread_context_free);
  EVP_MD_CTX *context = g_private_get(&slot);

  if (!context) {
    context = EVP_MD_CTX_new();
    if (!context)
      g_error("out of memory for a digest");
    g_private_set(&slot, context);
  }
  return context;
}

/* SHA-256 over two pieces. */
static void sha256_pair(const void *a, size_t a_len, const void *b, size_t b_len, uint8_t out[32])
{
  EVP_MD_CTX *context = thread_context();

  if (EVP_DigestInit_ex(context, md_of(DG_SUM_SHA256), NULL) != 1 ||
      EVP_DigestUpdate(context, a, a_len) != 1 || EVP_DigestUpdate(context, b, b_len) != 1 ||
      EVP_DigestFinal_ex(context, out, NULL) != 1)
    g_error("OpenSSL cannot compute SHA-256");
}

void dg_sha256(const void *bytes, size_t len, uint8_t out[32])
{
  sha256_pair(bytes, len, "", 0, out);
}

/* RFC 2104 over the two calls above: with the digest context reused this is
 * several times faster than EVP_MAC for messages of a few hundred bytes. */
void dg_hmac_sha256(const void *key, size_t key_len, struct dg_slice message, uint8_t out[32])
{
  uint8_t pad[64], block[64] = {0}, inner[32];

  if (key_len > sizeof block)
    dg_sha256(key, key_len, block);
  else if (key_len)
    memcpy(block, key, key_len);
  for (size_t i = 0; i < sizeof pad; i++)
    pad[i] = block[i] ^ 0x36;
  sha256_pair(pad, sizeof pad, message.data, message.len, inner);
  for (size_t i = 0; i < sizeof pad; i++)
    pad[i] = block[i] ^ 0x5c;
  sha256_pair(pad, sizeof pad, inner, sizeof inner, out);
  OPENSSL_cleanse(pad, sizeof pad);
  OPENSSL_cleanse(block, sizeof block);
}

bool dg_equal_secret(const void *a, const void *b, size_t len)
{
  return CRYPTO_memcmp(a, b, len) == 0;
}
