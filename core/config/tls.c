/* SPDX-License-Identifier: Apache-2.0 */
/* advanced.tls: the server's own TLS. Files are opened by who serves with them. */
#include <config.h>

#include <stdlib.h>

#include "core/config/internal.h"
#include "core/plug/options.h"

#include "common/banned.h"

static void pair_clear(void *pointer)
{
  struct dg_tls_pair *pair = pointer;

  g_free(pair->cert_path);
  g_free(pair->key_path);
}

GArray *dg_tls_pairs_new(void)
{
  GArray *pairs = g_array_new(FALSE, FALSE, sizeof(struct dg_tls_pair));

  g_array_set_clear_func(pairs, pair_clear);
  return pairs;
}

void dg_tls_config_clear(struct dg_tls_config *tls)
{
  pair_clear(&tls->main);
  g_free(tls->client_ca_path);
  if (tls->certificates)
    g_array_unref(tls->certificates);
}

/* DGP_TLS_ENABLED=true replaces the file's tls by what the environment says; with
 * anything else the other variables are without effect. */
static int apply_env(const struct dg_load *load, struct dg_config **options,
                     gboolean *ret_replaced, struct dg_error *err)
{
  const struct dg_option *table = dg_schema_options(DG_SECTION_TLS);
  struct dg_config *from_env = dg_config_new(table, "tls");

  for (const struct dg_option *o = table; o->name; o++)
    if (dg_load_env(load, from_env, o, dg_schema_env(DG_SECTION_TLS, o), err) < 0) {
      dg_config_free(from_env);
      return -1;
    }
  *ret_replaced = from_env->get_bool(from_env, "enabled");
  for (const struct dg_option *o = table; !*ret_replaced && o->name; o++)
    if (dg_config_is_set(from_env, o->name) && strcmp(o->name, "enabled") != 0)
      dg_load_warn(load->snapshot, "environment %s has no effect without DGP_TLS_ENABLED=true",
                   dg_schema_env(DG_SECTION_TLS, o));
  if (*ret_replaced) {
    dg_config_free(*options);
    *options = from_env;
  } else {
    dg_config_free(from_env);
  }
  return 0;
}

static int load_certificates(const struct dg_load *load, const struct dg_yaml *list,
                             struct dg_tls_config *tls, struct dg_error *err)
{
  if (list && list->type != DG_YAML_LIST)
    return dg_load_fail(load, list, err, "advanced.tls.certificates: a list is expected here");
  for (guint i = 0; list && i < list->values->len; i++) {
    const struct dg_yaml *map = list->values->pdata[i];
    g_autofree char *path = g_strdup_printf("advanced.tls.certificates[%u]", i);
    struct dg_config *options = dg_config_new(dg_schema_options(DG_SECTION_TLS_CERTIFICATE), path);
    struct dg_error cause = {0};
    struct dg_tls_pair pair;
    int result = dg_load_entry(load, DG_SECTION_TLS_CERTIFICATE, NULL, path, map, options, err);

    if (result == 0 && dg_config_finish(options, &cause) < 0)
      result = dg_load_fail(load, map, err, "%s: %s", path, cause.detail);
    if (result == 0) {
      pair.cert_path = g_strdup(options->get_text(options, "cert_path"));
      pair.key_path = g_strdup(options->get_text(options, "key_path"));
      g_array_append_val(tls->certificates, pair);
    }
    dg_config_free(options);
    if (result < 0)
      return -1;
  }
  return 0;
}

static int judge(const struct dg_load *load, const struct dg_yaml *map, struct dg_error *err)
{
  const struct dg_tls_config *tls = &load->snapshot->tls;
  g_autofree char *cause = NULL;

  if (!tls->main.cert_path != !tls->main.key_path)
    cause = g_strdup_printf("%s is set without %s: set both, or neither for a self-signed "
                            "certificate",
                            tls->main.cert_path ? "cert_path" : "key_path",
                            tls->main.cert_path ? "key_path" : "cert_path");
  else if (!tls->main.cert_path && tls->certificates->len > 0)
    cause = g_strdup("certificates are additional: cert_path and key_path must be set, too");
  if (cause)
    return map ? dg_load_fail(load, map, err, "advanced.tls: %s", cause)
               : dg_fail(err, DG_E_CONFIG, "environment DGP_TLS_*: %s", cause);
  if (tls->enabled && !tls->main.cert_path)
    dg_load_warn(load->snapshot, "advanced.tls has no cert_path: clients see a self-signed "
                                 "certificate for localhost, a new one at each start");
  if (!tls->enabled && map)
    dg_load_warn(load->snapshot, "advanced.tls is not enabled: connections are not encrypted");
  return 0;
}

static void fill(struct dg_tls_config *tls, const struct dg_config *options)
{
  tls->enabled = options->get_bool(options, "enabled");
  tls->main.cert_path = g_strdup(options->get_text(options, "cert_path"));
  tls->main.key_path = g_strdup(options->get_text(options, "key_path"));
  tls->client_ca_path = g_strdup(options->get_text(options, "client_ca_path"));
  tls->client_cert_required = !strcmp(options->get_text(options, "client_cert"), "required");
  tls->tls13_only = !strcmp(options->get_text(options, "min_version"), "1.3");
}

int dg_load_tls(const struct dg_load *load, struct dg_error *err)
{
  const struct dg_yaml *map = dg_load_part(load, DG_SECTION_ADVANCED, "tls");
  struct dg_config *options = dg_config_new(dg_schema_options(DG_SECTION_TLS), "tls");
  gboolean replaced = FALSE;
  int result = dg_load_entry(load, DG_SECTION_TLS, NULL, "advanced.tls", map, options, err);

  if (result == 0 && !load->params->lint)
    result = apply_env(load, &options, &replaced, err);
  if (result == 0)
    result = dg_config_finish(options, err);
  if (replaced)
    map = NULL;
  if (result == 0)
    fill(&load->snapshot->tls, options);
  if (result == 0)
    result = load_certificates(load, dg_load_entry_part(map, "certificates"),
                               &load->snapshot->tls, err);
  load->snapshot->tls_options = options;
  return result < 0 ? -1 : judge(load, map, err);
}
