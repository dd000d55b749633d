/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "names.h"

#include <errno.h>
#include <sys/xattr.h>

#include <openssl/evp.h>

#include "common/banned.h"

static const char delta_suffix[] = ".delta";
#define DELTA_SUFFIX_LEN (sizeof delta_suffix - 1)
static const char reference_name[] = "reference.bin";

/* Longest key is 1024 bytes; every byte may grow threefold, plus signs. */
#define WORK_BYTES (3u * 1024u + 64u)

struct work {
  size_t len;
  char text[WORK_BYTES];
};

static bool ends_with_delta(struct dg_slice segment)
{
  return segment.len >= DELTA_SUFFIX_LEN &&
         memcmp(segment.data + segment.len - DELTA_SUFFIX_LEN, delta_suffix, DELTA_SUFFIX_LEN) == 0;
}

static bool is_reference_name(struct dg_slice segment)
{
  return segment.len == sizeof reference_name - 1 &&
         memcmp(segment.data, reference_name, segment.len) == 0;
}

static bool escape_at(const char *text, size_t len, size_t at)
{
  return text[at] == '%' && at + 2 < len && g_ascii_isxdigit(text[at + 1]) &&
         g_ascii_isxdigit(text[at + 2]);
}

bool dg_fs_name_has_escape(const char *name, size_t len)
{
  const char *end = name + len, *at = name;

  while ((at = memchr(at, '%', (size_t)(end - at)))) {
    if (escape_at(name, len, (size_t)(at - name)))
      return true;
    at++;
  }
  return false;
}

static void put(struct work *work, const char *text, size_t len)
{
  if (len > sizeof work->text - work->len - 1)
    len = sizeof work->text - work->len - 1;
  memcpy(work->text + work->len, text, len);
  work->len += len;
}

static void put_escaped(struct work *work, char byte)
{
  static const char hex[] = "0123456789ABCDEF";
  char text[3] = {'%', hex[(uint8_t)byte >> 4], hex[(uint8_t)byte & 15]};

  put(work, text, sizeof text);
}

/* The segment as a name, without suffix or sign; *ret_changed if it differs
 * from the segment. */
static void escape(struct dg_slice segment, enum dg_fs_role role, struct work *work,
                   bool *ret_changed)
{
  size_t suffix_dot = SIZE_MAX;

  work->len = 0;
  *ret_changed = true;
  if (segment.len == 0) {
    put(work, role == DG_FS_ROLE_DIR ? "%2F" : "%00", 3);
    return;
  }
  if (role != DG_FS_ROLE_DELTA && is_reference_name(segment))
    suffix_dot = sizeof reference_name - 1 - strlen(".bin");
  if (ends_with_delta(segment))
    suffix_dot = segment.len - DELTA_SUFFIX_LEN;
  *ret_changed = false;
  for (size_t i = 0; i < segment.len; i++) {
    if ((i == 0 && segment.data[0] == '.') || i == suffix_dot ||
        escape_at(segment.data, segment.len, i)) {
      put_escaped(work, segment.data[i]);
      *ret_changed = true;
    } else {
      put(work, segment.data + i, 1);
    }
  }
}

static void digest_name(struct dg_slice segment, enum dg_fs_role role, struct work *work)
{
  static const char hex[] = "0123456789abcdef";
  uint8_t digest[EVP_MAX_MD_SIZE];
  unsigned digest_len = 0;

  (void)EVP_Digest(segment.data, segment.len, digest, &digest_len, EVP_sha256(), NULL);
  work->len = 0;
  put(work, "%00", 3);
  for (unsigned i = 0; i < digest_len; i++) {
    char pair[2] = {hex[digest[i] >> 4], hex[digest[i] & 15]};

    put(work, pair, sizeof pair);
  }
  if (role == DG_FS_ROLE_DIR)
    put(work, "%2F", 3);
}

static void add_name(struct dg_fs_names *names, const struct work *work, enum dg_fs_role role,
                     enum dg_fs_accept accept)
{
  char *name = names->name[names->count];

  memcpy(name, work->text, work->len);
  name[work->len] = '\0';
  if (role == DG_FS_ROLE_DELTA)
    memcpy(name + work->len, delta_suffix, sizeof delta_suffix);
  names->accept[names->count++] = accept;
}

/* Could DeltaGlider Proxy have stored the segment under its own name, with
 * the meaning it has for us? Then a file of that name may be it. */
static bool literal_possible(struct dg_slice segment, enum dg_fs_role role, size_t room)
{
  if (segment.len == 0 || segment.data[0] == '.' || segment.len > room)
    return false;
  if (role == DG_FS_ROLE_DIR)
    return true;
  return !ends_with_delta(segment) && (role == DG_FS_ROLE_DELTA || !is_reference_name(segment));
}

void dg_fs_names(const struct dg_fs *fs, struct dg_slice segment, enum dg_fs_role role,
                 struct dg_fs_names *ret_names)
{
  size_t room = fs->name_max - (role == DG_FS_ROLE_DELTA ? DELTA_SUFFIX_LEN : 0);
  const char *sign = role == DG_FS_ROLE_DIR ? "%2F" : "%00";
  struct work work;
  bool changed;

  ret_names->count = 0;
  if (role == DG_FS_ROLE_REFERENCE) {
    work.len = 0;
    put(&work, reference_name, sizeof reference_name - 1);
    add_name(ret_names, &work, role, DG_FS_PLAIN);
    put(&work, sign, 3);
    add_name(ret_names, &work, role, DG_FS_MARKED);
    return;
  }
  escape(segment, role, &work, &changed);
  if (work.len > room) {
    digest_name(segment, role, &work);
    changed = true;
  }
  add_name(ret_names, &work, role, changed ? DG_FS_MARKED : DG_FS_PLAIN);
  put(&work, sign, 3);
  if (work.len > room) {
    digest_name(segment, role, &work);
    put(&work, sign, 3);
  }
  add_name(ret_names, &work, role, DG_FS_MARKED);
  if (changed && literal_possible(segment, role, room)) {
    work.len = 0;
    put(&work, segment.data, segment.len);
    add_name(ret_names, &work, role, DG_FS_LITERAL);
  }
}

bool dg_fs_name_leads_to(const struct dg_fs *fs, struct dg_slice segment, enum dg_fs_role role,
                         const char *disk)
{
  struct dg_fs_names names;

  dg_fs_names(fs, segment, role, &names);
  for (unsigned i = 0; i < names.count; i++)
    if (names.accept[i] == DG_FS_MARKED && strcmp(names.name[i], disk) == 0)
      return true;
  return false;
}

enum dg_fs_role dg_fs_file_role(const char *disk, size_t len, struct dg_slice *ret_segment)
{
  struct dg_slice name = {disk, len};

  *ret_segment = name;
  if (is_reference_name(name))
    return DG_FS_ROLE_REFERENCE;
  if (ends_with_delta(name) && len > DELTA_SUFFIX_LEN) {
    ret_segment->len -= DELTA_SUFFIX_LEN;
    return DG_FS_ROLE_DELTA;
  }
  return DG_FS_ROLE_FILE;
}

bool dg_fs_mark_read(const struct dg_fs *fs, int fd, const char *disk, enum dg_fs_role role,
                     char mark[static DG_FS_MARK_BYTES], struct dg_slice *ret_segment)
{
  ssize_t len = fgetxattr(fd, DG_FS_XATTR_NAME, mark, DG_FS_MARK_BYTES - 1);
  struct dg_slice segment;

  if (len < 0)
    return false;
  mark[len] = '\0';
  segment = (struct dg_slice){mark, (size_t)len};
  if (memchr(mark, '/', segment.len) || memchr(mark, '\0', segment.len) ||
      !dg_fs_name_leads_to(fs, segment, role, disk))
    return false;
  *ret_segment = segment;
  return true;
}
