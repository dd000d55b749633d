/* SPDX-License-Identifier: Apache-2.0 */
/* The structured log: one line per event, `time level event key=value ...` as
 * text, or one JSON object. Writes whole lines to one descriptor with a single
 * write(2), so lines of several threads never mix. [any] */
#ifndef DG_CORE_OBSERVE_LOG_H
#define DG_CORE_OBSERVE_LOG_H

#include <stdbool.h>

#include <deltaglider/plugin.h>

struct dg_log;

#define DG_LOG_FORMAT_TEXT 0
#define DG_LOG_FORMAT_JSON 1

/* fd is borrowed (normally 2). level: DG_LOG_*; events above it are dropped. */
struct dg_log *dg_log_new(int fd, int format, uint32_t level);
void dg_log_free(struct dg_log *log);
bool dg_log_enabled(const struct dg_log *log, uint32_t level);
void dg_log_set_level(struct dg_log *log, uint32_t level);

/* event is a stable dotted name. format makes `key=value` pairs; a value that
 * may hold blanks, quotes or client text goes through %s of dg_log_quote(). A
 * NULL log drops everything, so that tests need none. */
DG_PRINTF(4, 5)
void dg_log_write(struct dg_log *log, uint32_t level, const char *event, const char *format, ...);

/* The same of a line whose form others set: it is no pairs, and one "message" in
 * JSON. */
DG_PRINTF(4, 5)
void dg_log_line(struct dg_log *log, uint32_t level, const char *event, const char *format, ...);

#define dg_log_error(log, event, ...) dg_log_write((log), DG_LOG_ERROR, (event), __VA_ARGS__)
#define dg_log_warn(log, event, ...) dg_log_write((log), DG_LOG_WARN, (event), __VA_ARGS__)
#define dg_log_info(log, event, ...) dg_log_write((log), DG_LOG_INFO, (event), __VA_ARGS__)
#define dg_log_debug(log, event, ...) dg_log_write((log), DG_LOG_DEBUG, (event), __VA_ARGS__)

/* text in double quotes, escaped as a JSON string, cut at 300 bytes. Returns
 * buffer. Use DG_LOG_QUOTED(slice) for a compound-literal buffer. */
struct dg_log_quoted {
  char text[640];
};
const char *dg_log_quote(struct dg_log_quoted *buffer, struct dg_slice text);
#define DG_LOG_QUOTED(slice) dg_log_quote(&(struct dg_log_quoted){{0}}, (slice))

#endif
