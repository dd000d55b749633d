/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/observe/log.h"

#include <errno.h>
#include <glib.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

#include "common/banned.h"

#define LINE_BYTES 4096
#define QUOTE_MAX_BYTES 300

struct dg_log {
  int fd;
  int format;
  atomic_uint level;
};

static const char *const level_names[] = {"off", "error", "warn", "info", "debug"};

struct dg_log *dg_log_new(int fd, int format, uint32_t level)
{
  struct dg_log *log = g_new0(struct dg_log, 1);

  log->fd = fd;
  log->format = format;
  atomic_init(&log->level, level);
  return log;
}

void dg_log_free(struct dg_log *log)
{
  g_free(log);
}

bool dg_log_enabled(const struct dg_log *log, uint32_t level)
{
  return log && level <= atomic_load_explicit(&log->level, memory_order_relaxed);
}

void dg_log_set_level(struct dg_log *log, uint32_t level)
{
  if (log)
    atomic_store_explicit(&log->level, level, memory_order_relaxed);
}

/* A line under construction: cut at its end, which leaves room for what
 * closes it. */
struct line {
  char text[LINE_BYTES];
  size_t len;
  bool is_cut;
};
#define LINE_CLOSING_BYTES 16

static void line_add(struct line *line, const char *text, size_t len)
{
  size_t room = LINE_BYTES - LINE_CLOSING_BYTES - line->len;

  if (len > room) {
    len = room;
    line->is_cut = true;
  }
  memcpy(line->text + line->len, text, len);
  line->len += len;
}

/* Appends one byte as the inside of a JSON string. */
static void line_add_escaped(struct line *line, unsigned char byte)
{
  char text[8];

  if (byte == '"' || byte == '\\')
    line_add(line, (char[2]){'\\', (char)byte}, 2);
  else if (byte < 0x20 || byte == 0x7f)
    line_add(line, text, (size_t)g_snprintf(text, sizeof text, "\\u%04x", byte));
  else
    line_add(line, (const char *)&byte, 1);
}

const char *dg_log_quote(struct dg_log_quoted *buffer, struct dg_slice text)
{
  /* Two bytes stay reserved for the closing quote and the NUL; an escape takes
   * at most six. */
  size_t used = 0, limit = sizeof buffer->text - 8, i;
  bool is_utf8 = g_utf8_validate_len(text.data, text.len, NULL);

  buffer->text[used++] = '"';
  for (i = 0; i < text.len && i < QUOTE_MAX_BYTES && used < limit; i++) {
    unsigned char byte = (unsigned char)text.data[i];

    if (byte == '"' || byte == '\\') {
      buffer->text[used++] = '\\';
      buffer->text[used++] = (char)byte;
    } else if (byte < 0x20 || byte == 0x7f || (byte >= 0x80 && !is_utf8)) {
      used += (size_t)g_snprintf(buffer->text + used, 7, "\\u%04x", byte);
    } else {
      buffer->text[used++] = (char)byte;
    }
  }
  /* Do not leave half a character at the cut. */
  if (is_utf8 && i < text.len)
    while (used > 1 && !g_utf8_validate_len(buffer->text + 1, used - 1, NULL))
      used--;
  buffer->text[used++] = '"';
  buffer->text[used] = '\0';
  return buffer->text;
}

/* The end of the value that starts at text: past its closing quote, or up to
 * the next blank. */
static const char *value_end(const char *text)
{
  if (*text != '"')
    return text + strcspn(text, " ");
  for (text++; *text && *text != '"'; text++)
    if (*text == '\\' && text[1])
      text++;
  return *text ? text + 1 : text;
}

static bool is_pair(const char *text, size_t *ret_name_len)
{
  size_t n = strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789_.");

  *ret_name_len = n;
  return n > 0 && text[n] == '=';
}

/* Whether text is a JSON number as it stands: digits, perhaps a fraction. A
 * leading zero would not be, and a request id of digits only must not lose any. */
static bool is_number(const char *text, size_t len)
{
  size_t i = len > 0 && text[0] == '-', digits = i;

  while (i < len && g_ascii_isdigit(text[i]))
    i++;
  if (i == digits || i - digits > 15 || (text[digits] == '0' && i - digits > 1))
    return false;
  if (i == len)
    return true;
  if (text[i++] != '.' || i == len)
    return false;
  while (i < len && g_ascii_isdigit(text[i]))
    i++;
  return i == len;
}

/* One `"name":value` member, whole or not at all. */
static void add_json_member(struct line *line, const char *name, size_t name_len,
                            const char *value, size_t len)
{
  size_t before = line->len;

  line_add(line, ",\"", 2);
  line_add(line, name, name_len);
  line_add(line, "\":", 2);
  if (is_number(value, len) || (len > 1 && value[0] == '"' && value[len - 1] == '"')) {
    line_add(line, value, len);
  } else {
    line_add(line, "\"", 1);
    for (size_t i = 0; i < len; i++)
      line_add_escaped(line, (unsigned char)value[i]);
    line_add(line, "\"", 1);
  }
  if (line->is_cut)
    line->len = before;
}

/* `key=value ...` as JSON members; what is not a pair goes to "message". */
static void add_json_members(struct line *line, const char *message)
{
  g_autoptr(GString) rest = NULL;
  size_t name_len;

  while (*message && !line->is_cut) {
    message += strspn(message, " ");
    if (!*message)
      break;
    if (is_pair(message, &name_len)) {
      const char *value = message + name_len + 1, *end = value_end(value);

      add_json_member(line, message, name_len, value, (size_t)(end - value));
      message = end;
    } else {
      const char *end = message + strcspn(message, " ");

      if (!rest)
        rest = g_string_new(NULL);
      else
        g_string_append_c(rest, ' ');
      g_string_append_len(rest, message, end - message);
      message = end;
    }
  }
  if (rest)
    add_json_member(line, "message", strlen("message"), rest->str, rest->len);
}

/* Most lines of a busy thread fall into the second of the line before. */
static size_t format_time(char *buffer, size_t capacity)
{
  static _Thread_local struct {
    time_t second;
    size_t len;
    char text[24];
  } last;
  struct timespec now;
  struct tm parts;

  (void)clock_gettime(CLOCK_REALTIME, &now);
  if (now.tv_sec != last.second || last.len == 0) {
    (void)gmtime_r(&now.tv_sec, &parts);
    last.len = strftime(last.text, sizeof last.text, "%Y-%m-%dT%H:%M:%S", &parts);
    last.second = now.tv_sec;
  }
  memcpy(buffer, last.text, last.len);
  return last.len + (size_t)g_snprintf(buffer + last.len, (gulong)(capacity - last.len),
                                       ".%03ldZ", now.tv_nsec / 1000000L);
}

static void emit(const struct dg_log *log, const char *text, size_t len)
{
  while (len > 0) {
    ssize_t n = write(log->fd, text, len);

    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0)
      return; /* nobody left to tell */
    text += n;
    len -= (size_t)n;
  }
}

/* Formats into message and returns its length. A value that was not quoted must
 * not forge a line of its own: control characters turn into blanks. */
DG_PRINTF(2, 0)
static size_t format_message(char message[LINE_BYTES], const char *format, va_list args)
{
  int wanted = g_vsnprintf(message, LINE_BYTES, format, args);
  size_t len = wanted < 0 ? 0 : MIN((size_t)wanted, LINE_BYTES - 1);

  for (size_t i = 0; i < len; i++) {
    unsigned char byte = (unsigned char)message[i];

    message[i] = (char)(byte < 0x20 ? ' ' : byte);
  }
  return len;
}

DG_PRINTF(5, 0)
static void write_line(struct dg_log *log, uint32_t level, const char *event, bool has_pairs,
                       const char *format, va_list args)
{
  struct line line; /* not cleared as a whole: every request would pay for it */
  char stamp[40], message[LINE_BYTES];
  const char *level_name;
  size_t stamp_len, message_len;

  if (!dg_log_enabled(log, level) || level == 0 || level >= G_N_ELEMENTS(level_names))
    return;
  line.len = 0;
  line.is_cut = false;
  message_len = format_message(message, format, args);
  stamp_len = format_time(stamp, sizeof stamp);
  level_name = level_names[level];
  if (log->format == DG_LOG_FORMAT_JSON) {
    line_add(&line, "{\"time\":\"", 9);
    line_add(&line, stamp, stamp_len);
    line_add(&line, "\",\"level\":\"", 11);
    line_add(&line, level_name, strlen(level_name));
    line_add(&line, "\",\"event\":\"", 11);
    line_add(&line, event, strlen(event));
    line_add(&line, "\"", 1);
    if (has_pairs)
      add_json_members(&line, message);
    else
      add_json_member(&line, "message", strlen("message"), message, message_len);
    line.text[line.len++] = '}';
  } else {
    line_add(&line, stamp, stamp_len);
    line_add(&line, " ", 1);
    line_add(&line, level_name, strlen(level_name));
    line_add(&line, " ", 1);
    line_add(&line, event, strlen(event));
    if (message_len > 0)
      line_add(&line, " ", 1);
    line_add(&line, message, message_len);
  }
  line.text[line.len++] = '\n';
  emit(log, line.text, line.len);
}

void dg_log_write(struct dg_log *log, uint32_t level, const char *event, const char *format, ...)
{
  va_list args;

  va_start(args, format);
  write_line(log, level, event, /* has_pairs= */ true, format, args);
  va_end(args);
}

void dg_log_line(struct dg_log *log, uint32_t level, const char *event, const char *format, ...)
{
  va_list args;

  va_start(args, format);
  write_line(log, level, event, /* has_pairs= */ false, format, args);
  va_end(args);
}
