/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/s3/postform.h"

#include <string.h>

#include "common/hex.h"
#include "common/slice.h"
#include "core/s3/postpolicy.h"

#include "common/banned.h"

#define MAX_BOUNDARY     200
#define MAX_PART_HEADERS 8192

/*  PREAMBLE --delimiter--> AFTER --CRLF--> HEADERS --empty line--> FIELD or FILE
 *                            ^                                        |
 *                            +----------------delimiter---------------+
 *  after the file, or at "--" after a delimiter: EPILOGUE, which is ignored */
enum state { PREAMBLE, AFTER, HEADERS, FIELD, FILE_DATA, EPILOGUE };

struct field {
  char *name, *value;
  size_t value_len;
};

struct dg_postform {
  enum state state;
  GString *delimiter; /* CR LF "--" boundary */
  GString *held;      /* the start of a possible delimiter, from earlier input */
  GString *spill;     /* the same, when it turned out to be data */
  GString *line;      /* the line, or the two bytes after a delimiter */
  size_t headers_size, fields_size;
  char *part_name, *part_file_name;
  bool part_is_file;
  GString *value;
  GArray *fields; /* struct field */
  bool file_reached, file_ended;
  char *file_name;
  GString *key; /* with ${filename} replaced; NULL until asked for */
};

static int fail_form(struct dg_error *err, const char *what)
{
  return dg_fail(err, DG_E_MALFORMED_POST,
                 "The body of your POST request is not well-formed multipart/form-data: %s.", what);
}

static void clear_field(gpointer row)
{
  struct field *field = row;

  g_free(field->name);
  g_free(field->value);
}

/* ---- Header values: `form-data; name="a"; filename="b"` ---- */

/* The value of a parameter, unquoted; NULL if absent. */
static char *header_parameter(struct dg_slice header, const char *wanted)
{
  size_t at = dg_slice_find(header, ';', 0);

  while (at != SIZE_MAX && at < header.len) {
    g_autoptr(GString) value = g_string_new(NULL);
    struct dg_slice name;
    size_t equals;

    for (at++; at < header.len && (header.data[at] == ' ' || header.data[at] == '\t'); at++)
      ;
    equals = dg_slice_find(header, '=', at);
    if (equals == SIZE_MAX)
      return NULL;
    name = dg_slice_trim(dg_slice_of(header.data + at, equals - at));
    at = equals + 1;
    if (at < header.len && header.data[at] == '"') {
      for (at++; at < header.len && header.data[at] != '"'; at++) {
        /* Only a quote is escaped: a lone backslash is a Windows path. */
        if (header.data[at] == '\\' && at + 1 < header.len && header.data[at + 1] == '"')
          at++;
        g_string_append_c(value, header.data[at]);
      }
      at = dg_slice_find(header, ';', at);
    } else {
      size_t end = dg_slice_find(header, ';', at);

      dg_slice_append(value, dg_slice_trim(dg_slice_of(header.data + at,
                                                       (end == SIZE_MAX ? header.len : end) - at)));
      at = end;
    }
    if (dg_slice_equal_nocase(name, dg_slice_str(wanted)))
      return g_string_free(g_steal_pointer(&value), FALSE);
  }
  return NULL;
}

static bool starts_nocase(struct dg_slice text, const char *prefix)
{
  size_t len = strlen(prefix);

  return text.len >= len &&
         dg_slice_equal_nocase(dg_slice_of(text.data, len), dg_slice_str(prefix));
}

int dg_postform_new(struct dg_slice content_type, struct dg_postform **ret_form,
                    struct dg_error *err)
{
  g_autofree char *boundary = NULL;
  struct dg_postform *form;

  if (!starts_nocase(content_type, "multipart/form-data"))
    return dg_fail(err, DG_E_MALFORMED_POST,
                   "A POST to a bucket must be of type multipart/form-data.");
  boundary = header_parameter(content_type, "boundary");
  if (!boundary || !*boundary || strlen(boundary) > MAX_BOUNDARY || strpbrk(boundary, "\r\n"))
    return fail_form(err, "the Content-Type has no usable boundary");
  form = g_new0(struct dg_postform, 1);
  form->delimiter = g_string_new("\r\n--");
  g_string_append(form->delimiter, boundary);
  /* The first delimiter stands at the very start, without a CR LF. */
  form->held = g_string_new("\r\n");
  form->spill = g_string_new(NULL);
  form->line = g_string_new(NULL);
  form->value = g_string_new(NULL);
  form->fields = g_array_new(FALSE, FALSE, sizeof(struct field));
  g_array_set_clear_func(form->fields, clear_field);
  *ret_form = form;
  return 0;
}

void dg_postform_free(struct dg_postform *form)
{
  if (!form)
    return;
  g_string_free(form->delimiter, TRUE);
  g_string_free(form->held, TRUE);
  g_string_free(form->spill, TRUE);
  g_string_free(form->line, TRUE);
  g_string_free(form->value, TRUE);
  g_array_unref(form->fields);
  if (form->key)
    g_string_free(form->key, TRUE);
  g_free(form->part_name);
  g_free(form->part_file_name);
  g_free(form->file_name);
  g_free(form);
}

/* ---- Looking for the delimiter ---- */

/* Continues a delimiter begun in earlier input. Only its first byte is a CR, so
 * on a mismatch everything held is data. 1: the delimiter is complete; 0: more
 * input or data in *ret_data. */
static int continue_held(struct dg_postform *form, struct dg_slice *io_input,
                         struct dg_slice *ret_data)
{
  while (io_input->len && form->held->len < form->delimiter->len) {
    if (io_input->data[0] != form->delimiter->str[form->held->len]) {
      g_string_truncate(form->spill, 0);
      g_string_append_len(form->spill, form->held->str, (gssize)form->held->len);
      g_string_truncate(form->held, 0);
      *ret_data = dg_slice_of(form->spill->str, form->spill->len);
      return 0;
    }
    g_string_append_c(form->held, io_input->data[0]);
    *io_input = dg_slice_skip(*io_input, 1);
  }
  if (form->held->len < form->delimiter->len)
    return 0;
  g_string_truncate(form->held, 0);
  return 1;
}

/* Takes data up to the delimiter. 1: the delimiter was passed; 0: *ret_data, if
 * not empty, is data, and there may be more. */
static int take_data(struct dg_postform *form, struct dg_slice *io_input, struct dg_slice *ret_data)
{
  const char *hit, *tail;
  size_t len;

  *ret_data = DG_SLICE("");
  if (form->held->len)
    return continue_held(form, io_input, ret_data);
  hit = memmem(io_input->data, io_input->len, form->delimiter->str, form->delimiter->len);
  if (hit == io_input->data) {
    *io_input = dg_slice_skip(*io_input, form->delimiter->len);
    return 1;
  }
  if (hit) {
    *ret_data = dg_slice_of(io_input->data, (size_t)(hit - io_input->data));
    *io_input = dg_slice_skip(*io_input, ret_data->len);
    return 0;
  }
  /* Could the end be the start of a delimiter? */
  len = MIN(io_input->len, form->delimiter->len - 1);
  tail = memrchr(io_input->data + io_input->len - len, '\r', len);
  len = tail ? (size_t)(io_input->data + io_input->len - tail) : 0;
  if (len && memcmp(tail, form->delimiter->str, len) == 0)
    g_string_append_len(form->held, tail, (gssize)len);
  else
    len = 0;
  *ret_data = dg_slice_of(io_input->data, io_input->len - len);
  *io_input = dg_slice_skip(*io_input, io_input->len);
  return 0;
}

/* ---- Parts ---- */

static int parse_part_header(struct dg_postform *form, struct dg_slice line, struct dg_error *err)
{
  if (!starts_nocase(line, "content-disposition:"))
    return 0;
  if (form->part_name || form->part_file_name)
    return fail_form(err, "a part has two Content-Disposition headers");
  form->part_name = header_parameter(line, "name");
  form->part_file_name = header_parameter(line, "filename");
  return 0;
}

/* An empty line: what kind of part begins? */
static int begin_part(struct dg_postform *form, struct dg_error *err)
{
  if (!form->part_name || !*form->part_name)
    return fail_form(err, "a part has no name");
  form->part_is_file = g_ascii_strcasecmp(form->part_name, "file") == 0;
  g_string_truncate(form->value, 0);
  if (!form->part_is_file) {
    if (form->fields->len == DG_POSTFORM_MAX_FIELDS)
      return dg_fail(err, DG_E_ENTITY_TOO_LARGE, "a form of more than %d fields",
                     DG_POSTFORM_MAX_FIELDS);
    form->state = FIELD;
    return 0;
  }
  form->state = FILE_DATA;
  form->file_reached = true;
  if (form->part_file_name) {
    const char *slash = strrchr(form->part_file_name, '/');
    const char *backslash = strrchr(form->part_file_name, '\\');

    if (!slash || (backslash && backslash > slash))
      slash = backslash;
    form->file_name = g_strdup(slash ? slash + 1 : form->part_file_name);
  }
  return 0;
}

static int end_field(struct dg_postform *form, struct dg_error *err)
{
  struct field field = {0};

  if (dg_slice_present(dg_postform_field(form, form->part_name)))
    return dg_fail(err, DG_E_INVALID_ARGUMENT, "The form gives the field '%.100s' twice.",
                   form->part_name);
  field.name = g_steal_pointer(&form->part_name);
  field.value = g_strndup(form->value->str, form->value->len);
  field.value_len = form->value->len;
  g_array_append_val(form->fields, field);
  return 0;
}

static int add_size(struct dg_postform *form, size_t len, struct dg_error *err)
{
  form->fields_size += len;
  if (form->fields_size > DG_POSTFORM_MAX_FIELDS_BYTES)
    return dg_fail(err, DG_E_ENTITY_TOO_LARGE, "form fields of more than %u bytes",
                   DG_POSTFORM_MAX_FIELDS_BYTES);
  return 0;
}

/* A line of the part's head. */
static int take_header_line(struct dg_postform *form, struct dg_slice *io_input,
                            struct dg_error *err)
{
  size_t lf = dg_slice_find(*io_input, '\n', 0);
  size_t taken = lf == SIZE_MAX ? io_input->len : lf + 1;
  GString *line = form->line;
  int result;

  form->headers_size += taken;
  if (form->headers_size > MAX_PART_HEADERS)
    return fail_form(err, "a part's headers are too long");
  if (add_size(form, taken, err) < 0)
    return -1;
  g_string_append_len(line, io_input->data, (gssize)taken);
  *io_input = dg_slice_skip(*io_input, taken);
  if (lf == SIZE_MAX)
    return 0;
  g_string_truncate(line, line->len - 1);
  if (line->len == 0 || line->str[line->len - 1] != '\r')
    return fail_form(err, "a header line does not end in CR LF");
  g_string_truncate(line, line->len - 1);
  if (memchr(line->str, '\0', line->len))
    return fail_form(err, "a header holds a NUL byte");
  result = line->len ? parse_part_header(form, dg_slice_of(line->str, line->len), err)
                     : begin_part(form, err);
  g_string_truncate(line, 0);
  return result;
}

/* What follows a delimiter: CR LF, or "--" at the end of all parts. */
static int take_after(struct dg_postform *form, struct dg_slice *io_input, struct dg_error *err)
{
  while (io_input->len && form->line->len < 2) {
    char c = io_input->data[0];

    *io_input = dg_slice_skip(*io_input, 1);
    if (form->line->len == 0 && (c == ' ' || c == '\t')) /* padding is allowed */
      continue;
    g_string_append_c(form->line, c);
  }
  if (form->line->len < 2)
    return 0;
  if (strcmp(form->line->str, "--") == 0) {
    form->state = EPILOGUE;
  } else if (strcmp(form->line->str, "\r\n") == 0) {
    form->state = HEADERS;
    form->headers_size = 0;
    g_clear_pointer(&form->part_name, g_free);
    g_clear_pointer(&form->part_file_name, g_free);
  } else {
    return fail_form(err, "a boundary is followed by other text");
  }
  g_string_truncate(form->line, 0);
  return 0;
}

/* A delimiter ended what came before it. */
static int pass_delimiter(struct dg_postform *form, struct dg_error *err)
{
  enum state before = form->state;

  form->state = AFTER;
  if (before == FIELD)
    return end_field(form, err);
  if (before == FILE_DATA) {
    form->file_ended = true;
    form->state = EPILOGUE;
  }
  return 0;
}

/* Data in front of the first delimiter is dropped, a field's is collected. */
static int keep_data(struct dg_postform *form, struct dg_slice data, struct dg_error *err)
{
  if (add_size(form, data.len, err) < 0)
    return -1;
  if (form->state == FIELD)
    dg_slice_append(form->value, data);
  return 0;
}

int dg_postform_feed(struct dg_postform *form, struct dg_slice *io_input, struct dg_slice *ret_file,
                     struct dg_error *err)
{
  *ret_file = DG_SLICE("");
  while (io_input->len) {
    struct dg_slice data;
    int result = 0;

    switch (form->state) {
    case EPILOGUE:
      *io_input = dg_slice_skip(*io_input, io_input->len);
      break;
    case AFTER:
      result = take_after(form, io_input, err);
      break;
    case HEADERS:
      result = take_header_line(form, io_input, err);
      if (result == 0 && form->state == FILE_DATA)
        return 0; /* the fields are complete: let the caller judge them */
      break;
    case FILE_DATA:
      if (take_data(form, io_input, &data) == 0) {
        if (data.len) {
          *ret_file = data;
          return 0;
        }
      } else {
        result = pass_delimiter(form, err);
      }
      break;
    case PREAMBLE:
    case FIELD:
      if (take_data(form, io_input, &data) == 0)
        result = keep_data(form, data, err);
      else
        result = pass_delimiter(form, err);
      break;
    }
    if (result < 0)
      return -1;
  }
  return 0;
}

bool dg_postform_file_reached(const struct dg_postform *form)
{
  return form->file_reached;
}

int dg_postform_finish(struct dg_postform *form, struct dg_error *err)
{
  if (form->file_ended)
    return 0;
  if (!form->file_reached && form->state == EPILOGUE)
    return dg_fail(err, DG_E_INVALID_ARGUMENT,
                   "POST requires exactly one file upload per request.");
  return fail_form(err, "it ends before the closing boundary");
}

/* ---- Fields ---- */

struct dg_slice dg_postform_field(const struct dg_postform *form, const char *name)
{
  for (guint i = 0; i < form->fields->len; i++) {
    const struct field *field = &g_array_index(form->fields, struct field, i);

    if (g_ascii_strcasecmp(field->name, name) == 0)
      return dg_slice_of(field->value, field->value_len);
  }
  return DG_SLICE_NONE;
}

unsigned dg_postform_field_count(const struct dg_postform *form)
{
  return form->fields->len;
}

struct dg_pair dg_postform_field_at(const struct dg_postform *form, unsigned number)
{
  const struct field *field = &g_array_index(form->fields, struct field, number);

  return (struct dg_pair){dg_slice_str(field->name), dg_slice_of(field->value, field->value_len)};
}

struct dg_slice dg_postform_file_name(const struct dg_postform *form)
{
  return dg_slice_str(form->file_name ? form->file_name : "");
}

int dg_postform_key(struct dg_postform *form, struct dg_slice *ret_key, struct dg_error *err)
{
  static const char variable[] = "${filename}";

  if (!form->key) {
    struct dg_slice field = dg_postform_field(form, "key");
    const char *hit;

    if (field.len == 0)
      return dg_fail(err, DG_E_INVALID_ARGUMENT, "Bucket POST must contain a field named 'key'.");
    form->key = g_string_new(NULL);
    while ((hit = memmem(field.data, field.len, variable, sizeof variable - 1))) {
      size_t before = (size_t)(hit - field.data);

      g_string_append_len(form->key, field.data, (gssize)before);
      dg_slice_append(form->key, dg_postform_file_name(form));
      field = dg_slice_skip(field, before + sizeof variable - 1);
      if (form->key->len > DG_POSTFORM_MAX_FIELDS_BYTES)
        return dg_fail(err, DG_E_KEY_TOO_LONG, "a form's key with its file name");
    }
    dg_slice_append(form->key, field);
  }
  *ret_key = dg_slice_of(form->key->str, form->key->len);
  return 0;
}

unsigned dg_postform_success_status(const struct dg_postform *form)
{
  struct dg_slice status = dg_postform_field(form, "success_action_status");

  if (dg_slice_equal_str(status, "200"))
    return 200;
  return dg_slice_equal_str(status, "201") ? 201 : 204;
}

/* What a policy's condition on `name` is compared with. */
static struct dg_slice policy_value(void *receiver, const char *name)
{
  struct dg_postform *form = receiver;
  struct dg_slice key;
  struct dg_error ignored;

  if (g_ascii_strcasecmp(name, "key") == 0)
    return dg_postform_key(form, &key, &ignored) == 0 ? key : DG_SLICE_NONE;
  return dg_postform_field(form, name);
}

int dg_postform_policy_check(struct dg_postform *form, struct dg_slice bucket, int64_t now_s,
                             uint64_t *ret_min_bytes, uint64_t *ret_max_bytes, struct dg_error *err)
{
  struct dg_slice encoded = dg_postform_field(form, "policy");
  g_autofree char *text = NULL;
  struct dg_post_policy *policy = NULL;
  size_t len;
  int result = 0;

  if (!dg_slice_present(encoded))
    return dg_fail(err, DG_E_ACCESS_DENIED, "the form carries no policy");
  text = g_malloc(encoded.len + 1);
  if (!dg_base64_decode(encoded, text, encoded.len, &len))
    return dg_fail(err, DG_E_INVALID_ARGUMENT, "Invalid Policy: it is not valid base64.");
  if (dg_post_policy_parse(dg_slice_of(text, len), &policy, err) < 0)
    return -1;
  result = dg_post_policy_check(policy, bucket, policy_value, form, now_s, err);
  for (guint i = 0; result == 0 && i < form->fields->len; i++)
    result = dg_post_policy_covers(policy, g_array_index(form->fields, struct field, i).name, err);
  if (result == 0)
    dg_post_policy_size(policy, ret_min_bytes, ret_max_bytes);
  dg_post_policy_free(policy);
  return result;
}
