/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/http/chunked.h"

#include <stdbool.h>

#include "common/banned.h"

/*   SIZE --;--> EXTENSION --CR--> SIZE_LF --n>0--> DATA -> DATA_CR -> DATA_LF -> SIZE
 *     \------------CR------------/   \--n==0--> LINE
 *   LINE --CR--> LAST_LF -> END
 *   LINE --name--> NAME --:--> VALUE --CR--> VALUE_LF -> LINE                     */
enum {
  SIZE,
  EXTENSION,
  SIZE_LF,
  DATA,
  DATA_CR,
  DATA_LF,
  LINE,
  NAME,
  VALUE,
  VALUE_LF,
  LAST_LF,
  END,
  BROKEN,
};

static int hex_value(uint8_t byte)
{
  if (byte >= '0' && byte <= '9')
    return byte - '0';
  byte |= 0x20;
  return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

static bool is_text(uint8_t byte)
{
  return byte == '\t' || (byte >= 0x20 && byte != 0x7f);
}

/* One byte of framing: the next state. */
static uint32_t on_byte(struct dg_chunked *chunked, uint8_t byte)
{
  int digit;

  switch (chunked->state) {
  case SIZE:
    digit = hex_value(byte);
    if (digit >= 0) {
      if (++chunked->digits > 15)
        return BROKEN;
      chunked->left = chunked->left << 4 | (uint64_t)digit;
      return SIZE;
    }
    if (chunked->digits == 0)
      return BROKEN;
    return byte == ';' ? EXTENSION : byte == '\r' ? SIZE_LF : BROKEN;
  case EXTENSION:
    return byte == '\r' ? SIZE_LF : is_text(byte) ? EXTENSION : BROKEN;
  case SIZE_LF:
    if (byte != '\n')
      return BROKEN;
    chunked->line_bytes = 0;
    chunked->digits = 0;
    return chunked->left ? DATA : LINE;
  case DATA_CR:
    return byte == '\r' ? DATA_LF : BROKEN;
  case DATA_LF:
    return byte == '\n' ? SIZE : BROKEN;
  case LINE:
    if (byte == '\r')
      return LAST_LF;
    return is_text(byte) && byte != ' ' && byte != '\t' && byte != ':' ? NAME : BROKEN;
  case NAME:
    return byte == ':' ? VALUE : is_text(byte) && byte != ' ' && byte != '\t' ? NAME : BROKEN;
  case VALUE:
    return byte == '\r' ? VALUE_LF : is_text(byte) ? VALUE : BROKEN;
  case VALUE_LF:
    return byte == '\n' ? LINE : BROKEN;
  case LAST_LF:
    return byte == '\n' ? END : BROKEN;
  default:
    return BROKEN;
  }
}

uint64_t dg_chunked_payload_left(const struct dg_chunked *chunked)
{
  return chunked->state == DATA ? chunked->left : 0;
}

void dg_chunked_took(struct dg_chunked *chunked, size_t len)
{
  chunked->left -= len;
  if (chunked->left == 0)
    chunked->state = DATA_CR;
}

enum dg_chunked_result dg_chunked_step(struct dg_chunked *chunked, const void *data, size_t len,
                                       size_t *ret_skip, size_t *ret_data)
{
  const uint8_t *bytes = data;
  size_t at = 0;

  *ret_data = 0;
  while (at < len && chunked->state != END && chunked->state != BROKEN) {
    if (chunked->state == DATA) {
      size_t here = len - at;

      if (here > chunked->left)
        here = (size_t)chunked->left;
      dg_chunked_took(chunked, here);
      *ret_skip = at;
      *ret_data = here;
      return DG_CHUNKED_DATA;
    }
    chunked->state = on_byte(chunked, bytes[at++]);
    if (chunked->state < DATA && ++chunked->line_bytes > DG_CHUNKED_MAX_LINE)
      chunked->state = BROKEN;
    else if (chunked->state >= LINE && ++chunked->line_bytes > DG_CHUNKED_MAX_TRAILER)
      chunked->state = BROKEN;
  }
  *ret_skip = at;
  if (chunked->state == BROKEN)
    return DG_CHUNKED_MALFORMED;
  return chunked->state == END ? DG_CHUNKED_END : DG_CHUNKED_MORE;
}
