/* SPDX-License-Identifier: Apache-2.0 */
/* Patterns over keys. `*` stands for any characters, `/` among them, `?` for one,
 * `[a-z]` and `[!a-z]` for one of a set, and `\` takes the next one as it is.
 * Thread: [any]. */
#ifndef DG_CORE_ACCESS_GLOB_H
#define DG_CORE_ACCESS_GLOB_H

#include <deltaglider/plugin.h>
#include <stdbool.h>

/* Does the pattern cover the whole text? Steps are bounded by the product of the
 * lengths. What is not UTF-8 counts byte by byte. */
bool dg_glob_matches(const char *glob, struct dg_slice text);

#endif
