/* SPDX-License-Identifier: Apache-2.0 */
/* The main of a fuzz target in an ordinary build: runs it on files. */
#include "config.h"

#include "tests/fuzz/fuzz.h"

#include <glib.h>
#include <string.h>

#include "common/banned.h"

static unsigned replay(const char *path)
{
  GDir *dir = g_dir_open(path, 0, NULL);
  unsigned count = 0;
  const char *name;
  char *bytes;
  gsize len;

  if (dir == NULL) {
    uint8_t *exact;

    if (!g_file_get_contents(path, &bytes, &len, NULL)) {
      fprintf(stderr, "%s: cannot be read\n", path);
      exit(1);
    }
    /* Without the NUL that GLib adds, so that a sanitizer sees the end. */
    exact = g_memdup2(bytes, len);
    g_free(bytes);
    (void)LLVMFuzzerTestOneInput(exact, len);
    g_free(exact);
    return 1;
  }
  while ((name = g_dir_read_name(dir)) != NULL) {
    g_autofree char *child = g_build_filename(path, name, NULL);

    count += replay(child);
  }
  g_dir_close(dir);
  return count;
}

int main(int argc, char **argv)
{
  g_autofree char *program = g_path_get_basename(argv[0]);
  const char *name = program;
  unsigned count = 0;

  if (strncmp(name, "lt-", 3) == 0)
    name += 3;
  if (strncmp(name, "fuzz-", 5) == 0)
    name += 5;
  if (argc > 1) {
    for (int i = 1; i < argc; i++)
      count += replay(argv[i]);
  } else {
    g_autofree char *corpus = g_build_filename(FUZZ_CORPUS, name, NULL);

    count = replay(corpus);
  }
  printf("%s: %u inputs\n", name, count);
  return count > 0 ? 0 : 1;
}
