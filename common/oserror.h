/* SPDX-License-Identifier: Apache-2.0 */
/* What a failed file operation means to a client. [any] */
#ifndef DG_COMMON_OSERROR_H
#define DG_COMMON_OSERROR_H

#include <errno.h>

#include <deltaglider/plugin.h>

/* The DG_E_* for an errno of a file operation. A file that would grow beyond
 * what the process or the filesystem may hold (EFBIG) is a lack of space. */
static inline int32_t dg_errno_code(int number)
{
  switch (number) {
  case ENOSPC:
  case EDQUOT:
  case EFBIG:
    return DG_E_NO_SPACE;
  case EROFS:
    return DG_E_READ_ONLY;
  case EMFILE:
  case ENFILE:
  case ENOMEM:
    return DG_E_SLOW_DOWN;
  default:
    return DG_E_IO;
  }
}

#endif
