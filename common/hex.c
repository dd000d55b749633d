/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "common/hex.h"

#include "common/banned.h"

static int hex_value(char digit)
{
  if (digit >= '0' && digit <= '9')
    return digit - '0';
  if (digit >= 'a' && digit <= 'f')
    return digit - 'a' + 10;
  if (digit >= 'A' && digit <= 'F')
    return digit - 'A' + 10;
  return -1;
}

void dg_hex_encode(const void *bytes, size_t len, char *out)
{
  static const char digits[] = "0123456789abcdef";
  const uint8_t *in = bytes;

  for (size_t i = 0; i < len; i++) {
    out[2 * i] = digits[in[i] >> 4];
    out[2 * i + 1] = digits[in[i] & 15];
  }
  out[2 * len] = '\0';
}

bool dg_hex_decode(struct dg_slice text, void *out, size_t len)
{
  uint8_t *bytes = out;

  if (text.len != 2 * len)
    return false;
  for (size_t i = 0; i < len; i++) {
    int high = hex_value(text.data[2 * i]);
    int low = hex_value(text.data[2 * i + 1]);

    if (high < 0 || low < 0)
      return false;
    bytes[i] = (uint8_t)(high << 4 | low);
  }
  return true;
}

bool dg_hex_is(struct dg_slice text, size_t digits, bool lower_only)
{
  if (text.len != digits)
    return false;
  for (size_t i = 0; i < text.len; i++) {
    if (hex_value(text.data[i]) < 0)
      return false;
    if (lower_only && text.data[i] >= 'A' && text.data[i] <= 'F')
      return false;
  }
  return true;
}

void dg_base64_encode(const void *bytes, size_t len, char *out)
{
  static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const uint8_t *in = bytes;
  size_t i = 0;

  for (; i + 3 <= len; i += 3) {
    uint32_t group = (uint32_t)in[i] << 16 | (uint32_t)in[i + 1] << 8 | in[i + 2];

    *out++ = alphabet[group >> 18];
    *out++ = alphabet[group >> 12 & 63];
    *out++ = alphabet[group >> 6 & 63];
    *out++ = alphabet[group & 63];
  }
  if (i < len) {
    bool two = i + 1 < len;
    uint32_t group = (uint32_t)in[i] << 16 | (two ? (uint32_t)in[i + 1] << 8 : 0);

    *out++ = alphabet[group >> 18];
    *out++ = alphabet[group >> 12 & 63];
    *out++ = two ? alphabet[group >> 6 & 63] : '=';
    *out++ = '=';
  }
  *out = '\0';
}

static int base64_value(char c)
{
  if (c >= 'A' && c <= 'Z')
    return c - 'A';
  if (c >= 'a' && c <= 'z')
    return c - 'a' + 26;
  if (c >= '0' && c <= '9')
    return c - '0' + 52;
  return c == '+' ? 62 : c == '/' ? 63 : -1;
}

bool dg_base64_decode(struct dg_slice text, void *out, size_t capacity, size_t *ret_len)
{
  uint8_t *bytes = out;
  size_t len, padding = 0, written = 0;

  if (text.len % 4 != 0)
    return false;
  while (padding < 2 && padding < text.len && text.data[text.len - 1 - padding] == '=')
    padding++;
  len = text.len / 4 * 3 - padding;
  if (len > capacity)
    return false;
  for (size_t i = 0; i < text.len; i += 4) {
    uint32_t group = 0;
    size_t given = i + 4 == text.len ? 4 - padding : 4;

    for (size_t j = 0; j < 4; j++) {
      int value = j < given ? base64_value(text.data[i + j]) : 0;

      if (value < 0)
        return false;
      group = group << 6 | (uint32_t)value;
    }
    if ((given == 3 && (group & 0xff)) || (given == 2 && (group & 0xffff)))
      return false;
    for (size_t j = 0; j + 1 < given; j++)
      bytes[written++] = (uint8_t)(group >> (16 - 8 * j));
  }
  *ret_len = len;
  return true;
}
