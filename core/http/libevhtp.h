/* SPDX-License-Identifier: Apache-2.0 */
/* <evhtp.h>, whose K&R-style declarations our warnings would refuse. */
#ifndef DG_CORE_HTTP_LIBEVHTP_H
#define DG_CORE_HTTP_LIBEVHTP_H

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wstrict-prototypes"
#include <evhtp.h>
#pragma GCC diagnostic pop

#endif
