/* SPDX-License-Identifier: Apache-2.0 */
/* The server's parts, wired: configuration, plugins, engine, front. [startup] */
#ifndef DG_CORE_APP_H
#define DG_CORE_APP_H

#include "core/cli.h"

struct dg_app;

/* Starts everything; serves when it returns 0. *ret_app is transferred. */
int dg_app_start(const struct dg_cli *cli, struct dg_app **ret_app, struct dg_error *err);

/* Housekeeping, from the main thread: sweeps what is due, warns about the
 * cache. Returns the milliseconds until the next call is worth making. */
uint32_t dg_app_tick(struct dg_app *app);

/* Reads the configuration again, and the certificates of the server's own TLS, from the
 * main thread. Requests from now on are served by the new one, those under way end with
 * what they began. A configuration that could not be started with is logged with its
 * reason, and the running one stays; so do certificates that cannot be used. */
void dg_app_reload(struct dg_app *app);

/* Lets what is in flight finish, up to grace_ms; returns the exit code.
 * Frees the app, unless a worker is stuck: then the process must _exit(). */
int dg_app_stop(struct dg_app *app, uint32_t grace_ms);

struct dg_log *dg_app_log(struct dg_app *app);

#endif
