/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/observe/process.h"

#include <dirent.h>
#include <glib.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "common/banned.h"

/* "VmHWM:   1234 kB" -> bytes; 0 if the line is missing. */
static uint64_t status_number(const char *status, const char *name)
{
  const char *line = strstr(status, name);

  return line ? g_ascii_strtoull(line + strlen(name), NULL, 10) : 0;
}

static uint64_t count_fds(void)
{
  DIR *dir = opendir("/proc/self/fd");
  uint64_t count = 0;

  if (!dir)
    return 0;
  while (readdir(dir))
    count++;
  (void)closedir(dir);
  return count > 3 ? count - 3 : 0; /* ".", "..", and the directory itself */
}

/* Field 22 of /proc/self/stat counts clock ticks from boot. */
static double start_time(void)
{
  g_autofree char *stat = NULL, *boot = NULL;
  g_auto(GStrv) fields = NULL;
  const char *after_name, *btime;

  if (!g_file_get_contents("/proc/self/stat", &stat, NULL, NULL) ||
      !g_file_get_contents("/proc/stat", &boot, NULL, NULL))
    return 0;
  after_name = strrchr(stat, ')'); /* the name may hold blanks */
  btime = strstr(boot, "\nbtime ");
  if (!after_name || !btime)
    return 0;
  fields = g_strsplit(after_name + 2, " ", -1);
  if (g_strv_length(fields) < 20)
    return 0;
  return (double)g_ascii_strtoull(btime + strlen("\nbtime "), NULL, 10) +
         (double)g_ascii_strtoull(fields[19], NULL, 10) / (double)sysconf(_SC_CLK_TCK);
}

void dg_process_facts(struct dg_process_facts *ret_facts)
{
  g_autofree char *status = NULL;
  struct rlimit limit;
  struct timespec cpu;

  memset(ret_facts, 0, sizeof *ret_facts);
  if (g_file_get_contents("/proc/self/status", &status, NULL, NULL)) {
    ret_facts->peak_rss_bytes = 1024 * status_number(status, "VmHWM:");
    ret_facts->rss_bytes = 1024 * status_number(status, "VmRSS:");
    ret_facts->virtual_bytes = 1024 * status_number(status, "VmSize:");
    ret_facts->threads = status_number(status, "Threads:");
  }
  if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu) == 0)
    ret_facts->cpu_s = (double)cpu.tv_sec + (double)cpu.tv_nsec / 1e9;
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
    ret_facts->max_fds = limit.rlim_cur;
  ret_facts->open_fds = count_fds();
  ret_facts->start_time_s = start_time();
}
