/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "common/clock.h"

#include <time.h>

#include "common/banned.h"

struct civil {
  int64_t year;
  unsigned month, day, hour, minute, second; /* month and day from 1 */
};

static const char month_names[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
static const char day_names[] = "SunMonTueWedThuFriSat";

/* Days since 1970-01-01 of a date in the proleptic Gregorian calendar, counted
 * in 400-year eras of years that begin in March, so that the leap day is last. */
static int64_t days_from_civil(int64_t year, unsigned month, unsigned day)
{
  int64_t era, y = month <= 2 ? year - 1 : year;
  unsigned year_of_era, day_of_year, day_of_era;

  era = (y >= 0 ? y : y - 399) / 400;
  year_of_era = (unsigned)(y - era * 400);
  day_of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
  day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
  return era * 146097 + (int64_t)day_of_era - 719468;
}

static struct civil civil_from_seconds(int64_t s)
{
  struct civil c;
  int64_t days = s / 86400, rest = s % 86400, era;
  unsigned day_of_era, year_of_era, day_of_year, shifted_month;

  if (rest < 0) {
    rest += 86400;
    days--;
  }
  days += 719468;
  era = (days >= 0 ? days : days - 146096) / 146097;
  day_of_era = (unsigned)(days - era * 146097);
  year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
  day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  shifted_month = (5 * day_of_year + 2) / 153;
  c.day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
  c.month = shifted_month < 10 ? shifted_month + 3 : shifted_month - 9;
  c.year = (int64_t)year_of_era + era * 400 + (c.month <= 2);
  c.hour = (unsigned)(rest / 3600);
  c.minute = (unsigned)(rest / 60 % 60);
  c.second = (unsigned)(rest % 60);
  return c;
}

/* Years outside 1..9999 have no four-digit text. */
static int64_t clamp_seconds(int64_t s)
{
  const int64_t first = INT64_C(-62135596800), last = INT64_C(253402300799);

  return s < first ? first : s > last ? last : s;
}

static bool seconds_from_civil(const struct civil *c, int64_t *ret_s)
{
  static const uint8_t month_days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  bool leap = (c->year % 4 == 0 && c->year % 100 != 0) || c->year % 400 == 0;

  if (c->year < 1 || c->year > 9999 || c->month < 1 || c->month > 12 || c->day < 1 ||
      c->day > month_days[c->month - 1] + (c->month == 2 && leap ? 1u : 0u) || c->hour > 23 ||
      c->minute > 59 || c->second > 60)
    return false;
  *ret_s = days_from_civil(c->year, c->month, c->day) * 86400 + (int64_t)c->hour * 3600 +
           (int64_t)c->minute * 60 + (c->second == 60 ? 59 : c->second);
  return true;
}

/* Exactly `digits` decimal digits at the cursor; moves it. */
static bool take_number(struct dg_slice *text, size_t digits, unsigned *ret_number)
{
  unsigned number = 0;

  if (text->len < digits)
    return false;
  for (size_t i = 0; i < digits; i++) {
    if (text->data[i] < '0' || text->data[i] > '9')
      return false;
    number = number * 10 + (unsigned)(text->data[i] - '0');
  }
  text->data += digits;
  text->len -= digits;
  *ret_number = number;
  return true;
}

static bool take_char(struct dg_slice *text, char expected)
{
  if (text->len == 0 || text->data[0] != expected)
    return false;
  text->data++;
  text->len--;
  return true;
}

static bool take_year(struct dg_slice *text, struct civil *c)
{
  unsigned year;

  if (!take_number(text, 4, &year))
    return false;
  c->year = year;
  return true;
}

/* hh:mm:ss */
static bool take_clock(struct dg_slice *text, struct civil *c)
{
  return take_number(text, 2, &c->hour) && take_char(text, ':') &&
         take_number(text, 2, &c->minute) && take_char(text, ':') &&
         take_number(text, 2, &c->second);
}

bool dg_time_parse_rfc3339(struct dg_slice text, int64_t *ret_s, uint32_t *ret_ns)
{
  struct civil c;
  int64_t s;
  uint32_t ns = 0;

  if (!take_year(&text, &c) || !take_char(&text, '-') || !take_number(&text, 2, &c.month) ||
      !take_char(&text, '-') || !take_number(&text, 2, &c.day))
    return false;
  if (!take_char(&text, 'T') && !take_char(&text, 't') && !take_char(&text, ' '))
    return false;
  if (!take_clock(&text, &c) || !seconds_from_civil(&c, &s))
    return false;
  if (take_char(&text, '.')) {
    uint32_t weight = 100000000;
    size_t digits = 0;

    for (; text.len && text.data[0] >= '0' && text.data[0] <= '9'; digits++) {
      ns += (uint32_t)(text.data[0] - '0') * weight;
      weight /= 10;
      text.data++;
      text.len--;
    }
    if (digits == 0)
      return false;
  }
  if (!take_char(&text, 'Z') && !take_char(&text, 'z')) {
    unsigned hours, minutes;
    int64_t sign = take_char(&text, '-') ? 1 : take_char(&text, '+') ? -1 : 0;

    if (sign == 0 || !take_number(&text, 2, &hours) || !take_char(&text, ':') ||
        !take_number(&text, 2, &minutes) || hours > 23 || minutes > 59)
      return false;
    s += sign * ((int64_t)hours * 3600 + (int64_t)minutes * 60);
  }
  if (text.len != 0)
    return false;
  *ret_s = s;
  *ret_ns = ns;
  return true;
}

/* Writes `digits` decimal digits of number and returns the place after them. */
static char *put_number(char *out, unsigned number, unsigned digits)
{
  for (unsigned i = digits; i > 0; i--) {
    out[i - 1] = (char)('0' + number % 10);
    number /= 10;
  }
  return out + digits;
}

static char *put_clock(char *out, const struct civil *c)
{
  out = put_number(out, c->hour, 2);
  *out++ = ':';
  out = put_number(out, c->minute, 2);
  *out++ = ':';
  return put_number(out, c->second, 2);
}

size_t dg_time_format_rfc3339(char out[DG_RFC3339_SIZE], int64_t s, uint32_t ns, unsigned digits)
{
  struct civil c = civil_from_seconds(clamp_seconds(s));
  char *p = put_number(out, (unsigned)c.year, 4);

  *p++ = '-';
  p = put_number(p, c.month, 2);
  *p++ = '-';
  p = put_number(p, c.day, 2);
  *p++ = 'T';
  p = put_clock(p, &c);
  if (digits > 9)
    digits = 9;
  if (digits > 0) {
    *p++ = '.';
    for (unsigned i = digits; i < 9; i++)
      ns /= 10;
    p = put_number(p, ns, digits);
  }
  *p++ = 'Z';
  *p = '\0';
  return (size_t)(p - out);
}

static bool take_month_name(struct dg_slice *text, unsigned *ret_month)
{
  if (text->len < 3)
    return false;
  for (unsigned month = 0; month < 12; month++) {
    if (memcmp(month_names + 3 * month, text->data, 3) == 0) {
      text->data += 3;
      text->len -= 3;
      *ret_month = month + 1;
      return true;
    }
  }
  return false;
}

/* The day's name is not compared with the date: RFC 9110 asks nobody to. */
static bool skip_day_name(struct dg_slice *text)
{
  size_t letters = 0;

  while (letters < text->len && letters < 9 &&
         ((text->data[letters] >= 'a' && text->data[letters] <= 'z') ||
          (text->data[letters] >= 'A' && text->data[letters] <= 'Z')))
    letters++;
  if (letters < 3)
    return false;
  text->data += letters;
  text->len -= letters;
  return true;
}

bool dg_time_parse_http(struct dg_slice text, int64_t *ret_s)
{
  struct civil c;
  unsigned number;

  if (!skip_day_name(&text))
    return false;
  if (take_char(&text, ',')) {
    if (!take_char(&text, ' ') || !take_number(&text, 2, &c.day))
      return false;
    if (take_char(&text, ' ')) { /* 06 Nov 1994 */
      if (!take_month_name(&text, &c.month) || !take_char(&text, ' ') || !take_year(&text, &c))
        return false;
    } else { /* 06-Nov-94 */
      if (!take_char(&text, '-') || !take_month_name(&text, &c.month) || !take_char(&text, '-') ||
          !take_number(&text, 2, &number))
        return false;
      c.year = number < 70 ? 2000 + (int64_t)number : 1900 + (int64_t)number;
    }
    if (!take_char(&text, ' ') || !take_clock(&text, &c) || !take_char(&text, ' ') ||
        !take_char(&text, 'G') || !take_char(&text, 'M') || !take_char(&text, 'T'))
      return false;
  } else { /* asctime: Nov  6 08:49:37 1994 */
    if (!take_char(&text, ' ') || !take_month_name(&text, &c.month) || !take_char(&text, ' '))
      return false;
    if (take_char(&text, ' ') ? !take_number(&text, 1, &c.day) : !take_number(&text, 2, &c.day))
      return false;
    if (!take_char(&text, ' ') || !take_clock(&text, &c) || !take_char(&text, ' ') ||
        !take_year(&text, &c))
      return false;
  }
  return text.len == 0 && seconds_from_civil(&c, ret_s);
}

void dg_time_format_http(char out[DG_HTTP_DATE_SIZE], int64_t s)
{
  struct civil c;
  int64_t weekday;
  char *p = out;

  s = clamp_seconds(s);
  c = civil_from_seconds(s);
  weekday = (s / 86400 - (s % 86400 < 0) + 4) % 7; /* 1970-01-01 was a Thursday */
  if (weekday < 0)
    weekday += 7;
  memcpy(p, day_names + 3 * weekday, 3);
  p += 3;
  *p++ = ',';
  *p++ = ' ';
  p = put_number(p, c.day, 2);
  *p++ = ' ';
  memcpy(p, month_names + 3 * (c.month - 1), 3);
  p += 3;
  *p++ = ' ';
  p = put_number(p, (unsigned)c.year, 4);
  *p++ = ' ';
  p = put_clock(p, &c);
  memcpy(p, " GMT", 5);
}

bool dg_time_parse_basic(struct dg_slice text, int64_t *ret_s)
{
  struct civil c;

  return take_year(&text, &c) && take_number(&text, 2, &c.month) && take_number(&text, 2, &c.day) &&
         take_char(&text, 'T') && take_number(&text, 2, &c.hour) &&
         take_number(&text, 2, &c.minute) && take_number(&text, 2, &c.second) &&
         take_char(&text, 'Z') && text.len == 0 && seconds_from_civil(&c, ret_s);
}

void dg_time_format_basic(char out[DG_BASIC_DATE_SIZE], int64_t s)
{
  struct civil c = civil_from_seconds(clamp_seconds(s));
  char *p = put_number(out, (unsigned)c.year, 4);

  p = put_number(p, c.month, 2);
  p = put_number(p, c.day, 2);
  *p++ = 'T';
  p = put_number(p, c.hour, 2);
  p = put_number(p, c.minute, 2);
  p = put_number(p, c.second, 2);
  *p++ = 'Z';
  *p = '\0';
}

void dg_time_now(int64_t *ret_s, uint32_t *ret_ns)
{
  struct timespec now;

  (void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail with a valid clock */
  *ret_s = now.tv_sec;
  *ret_ns = (uint32_t)now.tv_nsec;
}

int64_t dg_time_now_s(void)
{
  int64_t s;
  uint32_t ns;

  dg_time_now(&s, &ns);
  return s;
}

uint64_t dg_time_mono_ms(void)
{
  struct timespec now;

  (void)clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}
