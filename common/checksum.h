/* SPDX-License-Identifier: Apache-2.0 */
/* Digests of streams: the five S3 checksums and MD5 behind one struct, and the
 * one-shot SHA-256 and HMAC that signatures need.
 *
 * CRCs use carry-less multiplication where the CPU has it and eight-byte
 * tables where not. One struct dg_checksum belongs to one thread at a time;
 * the functions are [any]. */
#ifndef DG_COMMON_CHECKSUM_H
#define DG_COMMON_CHECKSUM_H

#include <deltaglider/plugin.h>
#include <stdbool.h>

#define DG_SUM_NONE      0u
#define DG_SUM_CRC32     1u
#define DG_SUM_CRC32C    2u
#define DG_SUM_CRC64NVME 3u
#define DG_SUM_SHA1      4u
#define DG_SUM_SHA256    5u
#define DG_SUM_MD5       6u /* not an x-amz-checksum: Content-MD5 and ETags */

#define DG_SUM_MAX_BYTES  32
#define DG_SUM_MAX_BASE64 45 /* with its NUL */

/* One running digest. Zeroed is a valid, empty state (DG_SUM_NONE). */
struct dg_checksum {
  uint32_t kind; /* DG_SUM_* */
  uint64_t crc;
  uint64_t size_bytes; /* so far */
  void *evp;           /* EVP_MD_CTX, kept between uses */
};

/* Starts, or starts again, keeping the memory. Aborts only if OpenSSL cannot
 * allocate. */
void dg_checksum_init(struct dg_checksum *sum, uint32_t kind);
void dg_checksum_update(struct dg_checksum *sum, const void *bytes, size_t len);
/* Writes the digest, big-endian for CRCs, and returns its length. Call once;
 * then init or clear. */
size_t dg_checksum_final(struct dg_checksum *sum, uint8_t out[DG_SUM_MAX_BYTES]);
/* The same, as base64 with NUL. */
void dg_checksum_final_base64(struct dg_checksum *sum, char out[DG_SUM_MAX_BASE64]);
/* Frees what it holds. */
void dg_checksum_clear(struct dg_checksum *sum);

/* Bytes of a digest: 4, 4, 8, 20, 32, 16; 0 for none. */
size_t dg_checksum_len(uint32_t kind);
/* "CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256", "MD5"; NULL for none. */
const char *dg_checksum_name(uint32_t kind);
/* "x-amz-checksum-crc32" ..., lower case; NULL for none and MD5. */
const char *dg_checksum_header(uint32_t kind);
/* "ChecksumCRC32" ..., the XML element; NULL for none and MD5. */
const char *dg_checksum_element(uint32_t kind);
/* The kind of a name (any case) or of a header name; DG_SUM_NONE if unknown. */
uint32_t dg_checksum_from_name(struct dg_slice name);
uint32_t dg_checksum_from_header(struct dg_slice header);
/* Is this base64 of a digest of that kind? */
bool dg_checksum_valid(uint32_t kind, struct dg_slice base64);

/* CRC of a concatenation: first and second are the finished values, both as
 * dg_checksum_final() wrote them, second covers second_bytes. False for a kind
 * that is no CRC. out may be first. */
bool dg_checksum_combine(uint32_t kind, const uint8_t *first, const uint8_t *second,
                         uint64_t second_bytes, uint8_t *out);

/* Raw CRCs, for other formats: start with 0, pass the last result on. */
uint32_t dg_crc32(uint32_t crc, const void *bytes, size_t len);
uint32_t dg_crc32c(uint32_t crc, const void *bytes, size_t len);
uint64_t dg_crc64nvme(uint64_t crc, const void *bytes, size_t len);
/* For tests: the table path, or whatever the CPU offers (the default). */
void dg_crc_use_portable(bool portable);

/* One-shot, with a context kept per thread. */
void dg_sha256(const void *bytes, size_t len, uint8_t out[32]);
void dg_hmac_sha256(const void *key, size_t key_len, struct dg_slice message, uint8_t out[32]);

/* Compares secrets without revealing where they differ. */
bool dg_equal_secret(const void *a, const void *b, size_t len);

#endif
