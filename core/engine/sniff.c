/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/engine/sniff.h"

#include <glib.h>
#include <string.h>

#include "common/banned.h"

struct signature {
  const char *bytes;
  size_t len, offset;
};

#define SIGNATURE(offset, bytes)               \
  {                                            \
    (bytes), sizeof(bytes) - 1, (offset)       \
  }

/* A zip's members are compressed one by one: those that did not change are the same
 * bytes. */
static const struct signature signatures[] = {
  SIGNATURE(0, "PK\3\4"),             /* zip, and what is made of it: jar, apk, docx */
  SIGNATURE(257, "ustar"),            /* tar */
  SIGNATURE(0, "070701"),             /* cpio */
  SIGNATURE(0, "070702"),             /* cpio with checksums */
  SIGNATURE(0, "\177ELF"),            /* programs, libraries, kernel modules */
  SIGNATURE(0, "MZ"),                 /* programs of Windows and of EFI */
  SIGNATURE(0, "\xfe\xed\xfa\xce"),   /* programs of macOS: 32 bits, big-endian */
  SIGNATURE(0, "\xfe\xed\xfa\xcf"),   /* 64 bits */
  SIGNATURE(0, "\xce\xfa\xed\xfe"),   /* 32 bits, little-endian */
  SIGNATURE(0, "\xcf\xfa\xed\xfe"),   /* 64 bits */
  SIGNATURE(0, "\xca\xfe\xba\xbe"),   /* for several processors; also classes of Java */
  SIGNATURE(0, "\0asm"),              /* WebAssembly */
  SIGNATURE(0, "SQLite format 3\0"),  /* databases */
  SIGNATURE(0, "QFI\xfb"),            /* disk images: qcow2 */
  SIGNATURE(0, "KDMV"),               /* VMDK */
  SIGNATURE(0, "vhdxfile"),           /* VHDX */
  SIGNATURE(510, "\x55\xaa"),         /* as they lie on a disk that boots */
};

bool dg_sniff_suits_delta(const void *head, size_t len)
{
  const char *bytes = head;

  for (size_t i = 0; i < G_N_ELEMENTS(signatures); i++) {
    const struct signature *row = &signatures[i];

    if (row->offset + row->len <= len &&
        memcmp(bytes + row->offset, row->bytes, row->len) == 0)
      return true;
  }
  return false;
}
