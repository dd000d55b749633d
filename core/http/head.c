/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/http/head.h"

#include <strings.h>

#include "common/banned.h"

/* RFC 9110 token characters: header names. */
static const bool token_char[256] = {
    ['!'] = 1, ['#'] = 1, ['$'] = 1, ['%'] = 1, ['&'] = 1, ['\''] = 1, ['*'] = 1, ['+'] = 1,
    ['-'] = 1, ['.'] = 1, ['^'] = 1, ['_'] = 1, ['`'] = 1, ['|'] = 1,  ['~'] = 1,
    ['0' ... '9'] = 1, ['a' ... 'z'] = 1, ['A' ... 'Z'] = 1,
};

/* Bytes of a header value: visible, blank, tab, and anything above ASCII. */
static const bool value_char[256] = {
    ['\t'] = 1, [0x20 ... 0x7e] = 1, [0x80 ... 0xff] = 1,
};

/* Bytes of a request target. '#' never belongs on the wire: a fragment stays
 * with the client. Bytes above ASCII are kept: clients sign them raw. */
static const bool target_char[256] = {
    [0x21 ... 0x22] = 1, [0x24 ... 0x7e] = 1, [0x80 ... 0xff] = 1,
};

/* Bytes of Host: what a name, an address literal and a port need. */
static const bool host_char[256] = {
    ['-'] = 1, ['.'] = 1, ['_'] = 1, [':'] = 1, ['['] = 1, [']'] = 1, ['%'] = 1, ['~'] = 1,
    ['0' ... '9'] = 1, ['a' ... 'z'] = 1, ['A' ... 'Z'] = 1,
};

/* What is counted while the fields go by. */
struct tally {
  unsigned hosts, lengths, encodings;
  struct dg_slice authority; /* of an absolute-form target; data NULL otherwise */
};

static int refuse(struct dg_head_refusal *ret_refusal, uint16_t status, const char *reason)
{
  ret_refusal->status = status;
  ret_refusal->reason = reason;
  return -1;
}

static bool same_nocase(struct dg_slice slice, const char *word)
{
  return slice.len == strlen(word) && strncasecmp(slice.data, word, slice.len) == 0;
}

static bool same(struct dg_slice slice, const char *word)
{
  return slice.len == strlen(word) && memcmp(slice.data, word, slice.len) == 0;
}

/* ---- The request line ------------------------------------------------------ */

static int check_method(struct dg_slice method, struct dg_head_refusal *ret_refusal)
{
  static const char *const known[] = {"GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS"};

  for (size_t i = 0; i < sizeof known / sizeof *known; i++)
    if (same(method, known[i]))
      return 0;
  if (same(method, "CONNECT") || same(method, "TRACE"))
    return refuse(ret_refusal, 405, "The specified method is not allowed against this resource.");
  return refuse(ret_refusal, 501, "This server does not implement the method.");
}

static int split_target(struct dg_slice target, struct dg_head *head, struct tally *tally,
                        struct dg_head_refusal *ret_refusal)
{
  const char *mark;

  if (same(target, "*")) {
    if (!same(head->method, "OPTIONS"))
      return refuse(ret_refusal, 400, "The target * belongs to OPTIONS alone.");
    head->raw_path = target;
    return 0;
  }
  if (target.data[0] != '/') {
    size_t scheme = 0;
    const char *path;

    if (target.len > 7 && strncasecmp(target.data, "http://", 7) == 0)
      scheme = 7;
    else if (target.len > 8 && strncasecmp(target.data, "https://", 8) == 0)
      scheme = 8;
    if (scheme == 0)
      return refuse(ret_refusal, 400, "The request target must begin with a slash.");
    path = memchr(target.data + scheme, '/', target.len - scheme);
    if (!path)
      return refuse(ret_refusal, 400, "An absolute request target must have a path.");
    tally->authority.data = target.data + scheme;
    tally->authority.len = (size_t)(path - tally->authority.data);
    target.len -= (size_t)(path - target.data);
    target.data = path;
  }
  head->raw_path = target;
  mark = memchr(target.data, '?', target.len);
  if (mark) {
    head->raw_path.len = (size_t)(mark - target.data);
    head->raw_query.data = mark + 1;
    head->raw_query.len = target.len - head->raw_path.len - 1;
  }
  return 0;
}

/* [at, end) is the line without its CRLF. */
static int read_request_line(const char *at, const char *end, struct dg_head *head,
                             struct tally *tally, struct dg_head_refusal *ret_refusal)
{
  const char *from = at;
  struct dg_slice target;

  while (at < end && ((*at >= 'A' && *at <= 'Z') || *at == '-' || *at == '_'))
    at++;
  if (at == from || at == end || *at != ' ' || (size_t)(at - from) > DG_HEAD_MAX_METHOD)
    return refuse(ret_refusal, 400, "The request line must begin with a method in capitals.");
  head->method.data = from;
  head->method.len = (size_t)(at - from);

  from = ++at;
  while (at < end && target_char[(unsigned char)*at])
    at++;
  if ((size_t)(at - from) > DG_HEAD_MAX_TARGET)
    return refuse(ret_refusal, 414, "The request target is longer than 8192 bytes.");
  if (at == from || at == end || *at != ' ')
    return refuse(ret_refusal, 400,
                  "The request target holds a forbidden byte, or the HTTP version is missing.");
  target.data = from;
  target.len = (size_t)(at - from);

  at++;
  if (end - at != 8 || memcmp(at, "HTTP/", 5) != 0 || at[6] != '.' || at[5] < '0' || at[5] > '9' ||
      at[7] < '0' || at[7] > '9')
    return refuse(ret_refusal, 400, "The request line must end with HTTP/1.1 or HTTP/1.0.");
  if (at[5] != '1' || at[7] > '1')
    return refuse(ret_refusal, 505, "Only HTTP/1.1 and HTTP/1.0 are spoken here.");
  head->minor_version_0 = at[7] == '0';
  head->keep_alive = !head->minor_version_0;

  if (check_method(head->method, ret_refusal) < 0)
    return -1;
  return split_target(target, head, tally, ret_refusal);
}

/* ---- Fields that decide framing --------------------------------------------- */

static int read_content_length(struct dg_slice value, struct dg_head *head,
                               struct dg_head_refusal *ret_refusal)
{
  uint64_t length = 0;

  if (value.len == 0 || value.len > 18)
    return refuse(ret_refusal, 400, "Content-Length must be 1 to 18 digits.");
  for (size_t i = 0; i < value.len; i++) {
    if (value.data[i] < '0' || value.data[i] > '9')
      return refuse(ret_refusal, 400, "Content-Length must be 1 to 18 digits.");
    length = length * 10 + (uint64_t)(value.data[i] - '0');
  }
  head->has_content_length = true;
  head->content_length = length;
  head->framing = length ? DG_FRAMING_LENGTH : DG_FRAMING_NONE;
  return 0;
}

/* "close" wins over "keep-alive", wherever both stand. */
static void read_connection(struct dg_slice value, struct dg_head *head)
{
  const char *at = value.data, *end = value.data + value.len;

  while (at < end) {
    struct dg_slice word;
    const char *comma = memchr(at, ',', (size_t)(end - at));

    word.data = at;
    word.len = (size_t)((comma ? comma : end) - at);
    at = comma ? comma + 1 : end;
    while (word.len && (word.data[0] == ' ' || word.data[0] == '\t')) {
      word.data++;
      word.len--;
    }
    while (word.len && (word.data[word.len - 1] == ' ' || word.data[word.len - 1] == '\t'))
      word.len--;
    if (same_nocase(word, "close"))
      head->close_requested = true;
    else if (same_nocase(word, "keep-alive"))
      head->keep_alive = true;
  }
}

static int read_framing_field(struct dg_slice name, struct dg_slice value, struct dg_head *head,
                              struct tally *tally, struct dg_head_refusal *ret_refusal)
{
  switch (name.len) {
  case 4:
    if (same_nocase(name, "host")) {
      if (tally->hosts++)
        return refuse(ret_refusal, 400, "Host must be given once.");
      if (value.len == 0)
        return refuse(ret_refusal, 400, "Host must not be empty.");
      for (size_t i = 0; i < value.len; i++)
        if (!host_char[(unsigned char)value.data[i]])
          return refuse(ret_refusal, 400, "Host holds a byte no host name may hold.");
      head->host = value;
    }
    break;
  case 6:
    if (same_nocase(name, "expect")) {
      if (!same_nocase(value, "100-continue"))
        return refuse(ret_refusal, 417, "Only Expect: 100-continue can be met.");
      head->expect_continue = !head->minor_version_0;
    }
    break;
  case 10:
    if (same_nocase(name, "connection"))
      read_connection(value, head);
    break;
  case 14:
    if (same_nocase(name, "content-length")) {
      if (tally->lengths++)
        return refuse(ret_refusal, 400, "Content-Length must be given once.");
      return read_content_length(value, head, ret_refusal);
    }
    break;
  case 17:
    if (same_nocase(name, "transfer-encoding")) {
      if (tally->encodings++ || head->minor_version_0 || !same_nocase(value, "chunked"))
        return refuse(ret_refusal, 400,
                      "Transfer-Encoding must be exactly chunked, once, on HTTP/1.1.");
    }
    break;
  default:
    break;
  }
  return 0;
}

/* [at, end) is one line without its CRLF. */
static int read_field(const char *at, const char *end, struct dg_head *head, struct tally *tally,
                      struct dg_head_refusal *ret_refusal)
{
  struct dg_slice name = {at, 0}, value;

  if ((size_t)(end - at) > DG_HEAD_MAX_FIELD)
    return refuse(ret_refusal, 431, "A header line is longer than 8192 bytes.");
  while (at < end && token_char[(unsigned char)*at])
    at++;
  name.len = (size_t)(at - name.data);
  if (name.len == 0 || at == end || *at != ':')
    return refuse(ret_refusal, 400, "A header line must be NAME: VALUE, with no blank before ':'.");
  at++;
  for (const char *byte = at; byte < end; byte++)
    if (!value_char[(unsigned char)*byte])
      return refuse(ret_refusal, 400, "A header value holds a control character.");
  while (at < end && (*at == ' ' || *at == '\t'))
    at++;
  while (end > at && (end[-1] == ' ' || end[-1] == '\t'))
    end--;
  value.data = at;
  value.len = (size_t)(end - at);
  head->fields[head->field_count].name = name;
  head->fields[head->field_count].value = value;
  head->field_count++;
  return read_framing_field(name, value, head, tally, ret_refusal);
}

static int check_whole(struct dg_head *head, const struct tally *tally,
                       struct dg_head_refusal *ret_refusal)
{
  if (!head->minor_version_0 && !tally->hosts)
    return refuse(ret_refusal, 400, "HTTP/1.1 requires a Host header.");
  if (tally->encodings && tally->lengths)
    return refuse(ret_refusal, 400, "Content-Length and Transfer-Encoding exclude each other.");
  if (tally->encodings)
    head->framing = DG_FRAMING_CHUNKED;
  if (tally->authority.data &&
      (!head->host.data || head->host.len != tally->authority.len ||
       strncasecmp(head->host.data, tally->authority.data, head->host.len) != 0))
    return refuse(ret_refusal, 400, "The target's authority and Host must be the same.");
  if (head->close_requested)
    head->keep_alive = false;
  return 0;
}

int dg_head_parse(const char *text, size_t len, uint32_t field_capacity, struct dg_head *head,
                  struct dg_head_refusal *ret_refusal)
{
  struct dg_pair *fields = head->fields;
  struct tally tally = {0};
  const char *at = text, *end = text + len;
  const char *line_end;

  if (len > DG_HEAD_MAX_BYTES)
    return refuse(ret_refusal, 431, "The request head is longer than 65536 bytes.");
  if (field_capacity > DG_HEAD_MAX_FIELDS)
    field_capacity = DG_HEAD_MAX_FIELDS;
  memset(head, 0, sizeof *head);
  head->fields = fields;

  line_end = memchr(at, '\n', len);
  if (!line_end || line_end == at || line_end[-1] != '\r')
    return refuse(ret_refusal, 400, "Lines must end with CR LF.");
  if (read_request_line(at, line_end - 1, head, &tally, ret_refusal) < 0)
    return -1;
  for (at = line_end + 1;; at = line_end + 1) {
    line_end = at < end ? memchr(at, '\n', (size_t)(end - at)) : NULL;
    if (!line_end || line_end == at || line_end[-1] != '\r')
      return refuse(ret_refusal, 400, "Lines must end with CR LF.");
    if (line_end - at == 1)
      break;
    if (*at == ' ' || *at == '\t')
      return refuse(ret_refusal, 400, "Folded header lines are not accepted.");
    if (head->field_count == field_capacity)
      return refuse(ret_refusal, 431, "There are more than 200 header lines.");
    if (read_field(at, line_end - 1, head, &tally, ret_refusal) < 0)
      return -1;
  }
  if (line_end + 1 != end)
    return refuse(ret_refusal, 400, "Bytes follow the end of the head.");
  return check_whole(head, &tally, ret_refusal);
}
