/* SPDX-License-Identifier: Apache-2.0 */
/* Times as text, and the two clocks. Seconds since 1970 UTC, years 0001 to
 * 9999, no leap seconds, no locale, no time zone database. Thread: [any]. */
#ifndef DG_COMMON_CLOCK_H
#define DG_COMMON_CLOCK_H

#include <deltaglider/plugin.h>
#include <stdbool.h>

#define DG_RFC3339_SIZE 36 /* room for the longest form and its NUL */
#define DG_HTTP_DATE_SIZE 30
#define DG_BASIC_DATE_SIZE 17

/* `2015-08-30T12:36:00Z`, `.123456789` of any length, offsets `+02:00`; a
 * lower-case t or z and a space for T are taken too. False if malformed. */
bool dg_time_parse_rfc3339(struct dg_slice text, int64_t *ret_s, uint32_t *ret_ns);

/* UTC, with `digits` (0, 3, 6 or 9) of fraction, cut, not rounded. Returns the
 * length. */
size_t dg_time_format_rfc3339(char out[DG_RFC3339_SIZE], int64_t s, uint32_t ns, unsigned digits);

/* All three forms of RFC 9110: IMF-fixdate, RFC 850 and asctime. A two-digit
 * year lies in 1970..2069. */
bool dg_time_parse_http(struct dg_slice text, int64_t *ret_s);

/* `Sun, 06 Nov 1994 08:49:37 GMT`, 29 bytes. */
void dg_time_format_http(char out[DG_HTTP_DATE_SIZE], int64_t s);

/* `20150830T123600Z`, 16 bytes exactly. */
bool dg_time_parse_basic(struct dg_slice text, int64_t *ret_s);
void dg_time_format_basic(char out[DG_BASIC_DATE_SIZE], int64_t s);

/* The wall clock, and CLOCK_MONOTONIC in milliseconds. */
int64_t dg_time_now_s(void);
void dg_time_now(int64_t *ret_s, uint32_t *ret_ns);
uint64_t dg_time_mono_ms(void);

#endif
