/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "core/app.h"
#include "core/cli.h"
#include "core/observe/log.h"

#include "common/banned.h"

/* Below systemd's usual 30 s and Kubernetes' 30 s: we want to leave by ourselves. */
#define GRACE_MS 25000u

/* Every thread inherits the mask, so that only the main thread takes them. */
static void block_signals(sigset_t *set)
{
  (void)sigemptyset(set);
  (void)sigaddset(set, SIGTERM);
  (void)sigaddset(set, SIGINT);
  (void)sigaddset(set, SIGHUP);
  (void)pthread_sigmask(SIG_BLOCK, set, NULL);
}

/* Returns the signal that ends the server. */
static int wait_for_end(struct dg_app *app, const sigset_t *set)
{
  for (;;) {
    uint32_t wait_ms = dg_app_tick(app);
    struct timespec wait = {.tv_sec = wait_ms / 1000,
                            .tv_nsec = (long)(wait_ms % 1000) * 1000000L};
    int signal_number = sigtimedwait(set, NULL, &wait);

    if (signal_number == SIGHUP)
      dg_app_reload(app);
    else if (signal_number > 0)
      return signal_number;
  }
}

static int serve(const struct dg_cli *cli)
{
  struct dg_error err = {0};
  struct dg_app *app = NULL;
  sigset_t set;
  int result;

  block_signals(&set);
  if (dg_app_start(cli, &app, &err) < 0) {
    (void)fprintf(stderr, "deltaglider_proxy: %s\n", err.detail);
    return DG_EXIT_START;
  }
  (void)wait_for_end(app, &set);
  /* A second signal ends the process at once. */
  (void)pthread_sigmask(SIG_UNBLOCK, &set, NULL);
  result = dg_app_stop(app, GRACE_MS);
  if (result != DG_EXIT_OK)
    _exit(result); /* a thread is stuck: destructors would wait for it */
  return result;
}

int main(int argc, char **argv)
{
  struct dg_cli cli;
  int result = dg_cli_parse(argc, argv, &cli);

  if (result != 0)
    return result;
  return cli.command == DG_COMMAND_SERVE ? serve(&cli) : dg_cli_run(&cli);
}
