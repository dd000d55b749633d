/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/engine/ledgerfile.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/checksum.h"
#include "common/fault.h"
#include "common/oserror.h"
#include "common/slice.h"

#include "common/banned.h"

#define MAGIC UINT64_C(0x31524744454c4744) /* "DGLEDGR1" as a little machine writes it */
#define HEAD_BYTES 4096u
#define NOTE_BYTES 2048u /* two in a page, none across */
#define BOOT_ID_FILE "/proc/sys/kernel/random/boot_id"

/* On disk, in the machine's own byte order: another kind of machine finds another
 * magic and counts. */
struct head_page {
  uint64_t magic;
  uint32_t crc32c; /* of the page with zero here */
  uint32_t closed; /* in order: fsynced with all its notes */
  uint64_t run;
  uint8_t place_sha256[32];
  char boot_id[40]; /* "": unknown */
  uint32_t known, reserved;
  struct dg_use use;
  uint64_t ended[DG_LEDGER_PLACES];
};

struct note_page {
  uint64_t number;
  uint32_t crc32c;
  uint32_t key_len;
  struct dg_use before, after;
  char key[DG_LEDGER_KEY_MAX];
};

_Static_assert(sizeof(struct head_page) <= HEAD_BYTES, "the head is one page");
_Static_assert(sizeof(struct note_page) <= NOTE_BYTES, "a note has room for its key");

struct dg_ledger_file {
  char *path;
  int fd;
  struct head_page head; /* as last written */
};

static uint32_t crc_of(const void *page, size_t crc_at, size_t len)
{
  static const uint32_t zero;
  uint32_t crc = dg_crc32c(0, page, crc_at);

  crc = dg_crc32c(crc, &zero, sizeof zero);
  return dg_crc32c(crc, (const char *)page + crc_at + sizeof zero, len - crc_at - sizeof zero);
}

static uint32_t head_crc(const struct head_page *head)
{
  return crc_of(head, offsetof(struct head_page, crc32c), sizeof *head);
}

static uint32_t note_crc(const struct note_page *note)
{
  return crc_of(note, offsetof(struct note_page, crc32c),
                offsetof(struct note_page, key) + note->key_len);
}

static void read_boot_id(char boot_id[40])
{
  int fd = open(BOOT_ID_FILE, O_RDONLY | O_CLOEXEC);
  ssize_t len = fd < 0 ? -1 : read(fd, boot_id, 39);

  if (fd >= 0)
    (void)close(fd);
  if (len <= 0)
    len = 0;
  boot_id[len] = '\0';
  boot_id[strcspn(boot_id, "\n")] = '\0';
}

static int write_at(struct dg_ledger_file *file, const void *page, size_t len, off_t at,
                    struct dg_error *err)
{
  int number = dg_fault("engine.quota.write");
  ssize_t written;

  if (number)
    return dg_fail(err, dg_errno_code(number), "injected at engine.quota.write");
  do
    written = pwrite(file->fd, page, len, at);
  while (written < 0 && errno == EINTR);
  if (written == (ssize_t)len)
    return 0;
  return dg_fail(err, dg_errno_code(written < 0 ? errno : ENOSPC), "write '%s': %s", file->path,
                 written < 0 ? g_strerror(errno) : "cut short");
}

static off_t note_at(uint32_t place)
{
  return (off_t)HEAD_BYTES + (off_t)place * (off_t)NOTE_BYTES;
}

static int write_head(struct dg_ledger_file *file, const struct dg_ledger_head *head, bool closed,
                      struct dg_error *err)
{
  file->head.known = head->known;
  file->head.use = head->use;
  file->head.closed = closed;
  memcpy(file->head.ended, head->ended, sizeof file->head.ended);
  file->head.crc32c = head_crc(&file->head);
  return write_at(file, &file->head, sizeof file->head, 0, err);
}

/* ---- Reading what is there ------------------------------------------------------------ */

static bool believable(const struct head_page *found, const struct dg_ledger_file *file,
                       uint64_t run)
{
  return found->magic == MAGIC && found->crc32c == head_crc(found) && found->known &&
         found->run + 1 == run &&
         memcmp(found->place_sha256, file->head.place_sha256, 32) == 0 &&
         (found->closed || (file->head.boot_id[0] &&
                            memcmp(found->boot_id, file->head.boot_id, sizeof found->boot_id) == 0));
}

/* 1: a note; 0: none was ever written there; -1: it cannot be read. */
static int read_note(const struct dg_ledger_file *file, uint32_t place, struct note_page *page)
{
  ssize_t len;

  memset(page, 0, sizeof *page);
  do
    len = pread(file->fd, page, sizeof *page, note_at(place));
  while (len < 0 && errno == EINTR);
  if (len < 0)
    return -1;
  if (page->number == 0 && page->crc32c == 0 && page->key_len == 0)
    return 0;
  return page->key_len <= DG_LEDGER_KEY_MAX && page->crc32c == note_crc(page) ? 1 : -1;
}

/* All of it or nothing: true only when every note could be read. */
static bool read_notes(struct dg_ledger_file *file, const struct head_page *found, bool tell,
                       void (*note)(void *receiver, uint32_t place,
                                    const struct dg_ledger_note *note),
                       void *receiver)
{
  struct note_page page;

  for (uint32_t place = 0; place < DG_LEDGER_PLACES; place++) {
    int state = read_note(file, place, &page);

    if (state < 0)
      return false;
    if (state == 1 && tell && page.number > found->ended[place])
      note(receiver, place,
           &(struct dg_ledger_note){.number = page.number,
                                    .before = page.before,
                                    .after = page.after,
                                    .key = dg_slice_of(page.key, page.key_len)});
  }
  return true;
}

int dg_ledger_file_open(const struct dg_ledger_params *params, struct dg_ledger_head *ret_head,
                        void (*note)(void *receiver, uint32_t place,
                                     const struct dg_ledger_note *note),
                        void *receiver, struct dg_ledger_file **ret_file, struct dg_error *err)
{
  struct dg_ledger_file *file = g_new0(struct dg_ledger_file, 1);
  struct dg_ledger_head head = {0};
  struct head_page found = {0};

  file->path = g_strdup(params->path);
  file->fd = open(params->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (file->fd < 0) {
    (void)dg_fail(err, dg_errno_code(errno), "open '%s': %s", params->path, g_strerror(errno));
    g_free(file->path);
    g_free(file);
    return -1;
  }
  file->head.magic = MAGIC;
  file->head.run = params->run;
  dg_sha256(params->place, strlen(params->place), file->head.place_sha256);
  read_boot_id(file->head.boot_id);
  if (params->believe && pread(file->fd, &found, sizeof found, 0) == (ssize_t)sizeof found &&
      believable(&found, file, params->run) &&
      read_notes(file, &found, /* tell= */ false, NULL, NULL)) {
    (void)read_notes(file, &found, /* tell= */ true, note, receiver);
    head.known = true;
    head.use = found.use;
    memcpy(head.ended, found.ended, sizeof head.ended);
  } else if (ftruncate(file->fd, 0) < 0) {
    (void)dg_fail(err, dg_errno_code(errno), "truncate '%s': %s", params->path, g_strerror(errno));
    goto fail;
  }
  /* From here on it is this run's, and open. */
  if (write_head(file, &head, /* closed= */ false, err) < 0)
    goto fail;
  *ret_head = head;
  *ret_file = file;
  return 0;

fail:
  dg_ledger_file_remove(file);
  return -1;
}

/* ---- Writing ----------------------------------------------------------------------------- */

int dg_ledger_file_put_head(struct dg_ledger_file *file, const struct dg_ledger_head *head,
                            struct dg_error *err)
{
  return write_head(file, head, /* closed= */ false, err);
}

int dg_ledger_file_put_note(struct dg_ledger_file *file, uint32_t place,
                            const struct dg_ledger_note *note, struct dg_error *err)
{
  struct note_page page = {.number = note->number,
                           .key_len = (uint32_t)note->key.len,
                           .before = note->before,
                           .after = note->after};

  g_assert(place < DG_LEDGER_PLACES && note->key.len <= DG_LEDGER_KEY_MAX);
  if (note->key.len)
    memcpy(page.key, note->key.data, note->key.len);
  page.crc32c = note_crc(&page);
  return write_at(file, &page, offsetof(struct note_page, key) + note->key.len, note_at(place),
                  err);
}

static void file_free(struct dg_ledger_file *file)
{
  (void)close(file->fd);
  g_free(file->path);
  g_free(file);
}

void dg_ledger_file_keep(struct dg_ledger_file *file, const struct dg_ledger_head *head)
{
  struct dg_error err;

  if (!file)
    return;
  /* The notes first: a head that says `closed` speaks for them too. */
  if (fdatasync(file->fd) < 0 || write_head(file, head, /* closed= */ true, &err) < 0 ||
      fdatasync(file->fd) < 0)
    dg_ledger_file_remove(file);
  else
    file_free(file);
}

void dg_ledger_file_remove(struct dg_ledger_file *file)
{
  if (!file)
    return;
  /* Either is enough. */
  if (unlink(file->path) < 0 && ftruncate(file->fd, 0) < 0) {
    static const struct head_page nothing;
    struct dg_error err;

    (void)write_at(file, &nothing, sizeof nothing, 0, &err);
  }
  file_free(file);
}
