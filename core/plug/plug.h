/* SPDX-License-Identifier: Apache-2.0 */
/* Plugins, from a file on disk to a handle the engine may call.
 *
 *   file --loader--> module --create--> instance (struct dg_backend, dg_codec,
 *                                                 dg_crypt)
 *
 * A *module* is a plugin's descriptor, checked and copied into structs of our
 * own size. An *instance* is one create() of it with one configuration.
 * Instances are called through backend.h, codec.h, crypt.h and stream.h only:
 * those wrappers check arguments, hold the mutex of SERIAL plugins, normalise
 * errors and count. */
#ifndef DG_CORE_PLUG_PLUG_H
#define DG_CORE_PLUG_PLUG_H

#include <glib.h>

#include <deltaglider/plugin.h>

/* ---- Modules --------------------------------------------------------------- */

struct dg_module {
  struct dg_plugin plugin; /* our size; ops points to the copy below */
  union {
    struct dg_backend_ops backend;
    struct dg_codec_ops codec;
    struct dg_crypt_ops crypt;
  } ops;
  char *file;              /* where it came from; "(built in)" if linked */
};

/* Checks a descriptor and copies it: ABI, kind, thread mode, required ops,
 * option table. file is for messages. DG_E_CONFIG names file, cause and
 * remedy. The descriptor must stay alive. ret_module is transferred. */
int dg_module_new(const struct dg_plugin *plugin, const char *file, struct dg_module **ret_module,
                  struct dg_error *err);
void dg_module_free(struct dg_module *module);

/* "backend", "codec" ...; NULL for an unknown kind. */
const char *dg_kind_name(uint32_t kind);

/* ---- The table of loaded modules ---------------------------------------------- */

/* Directories are searched in order for NAME.la and NAME.so. Loading happens
 * at startup only; modules stay mapped until the process ends. [startup] */
struct dg_plug_table;

/* dirs: NULL-terminated, absolute; copied. */
struct dg_plug_table *dg_plug_table_new(const char *const *dirs);
void dg_plug_table_free(struct dg_plug_table *table);

/* The usual search path: plugin_dir (may be NULL), DGP_PLUGIN_DIR (colons
 * between several), the build tree when the program runs from one, the
 * installed directory. The first hit wins. Free with g_strfreev(). */
char **dg_plug_search_path(const char *plugin_dir);

/* The module of that name ("backend-fs"), loaded on first use. Borrowed from
 * the table. DG_E_CONFIG names what was searched, or why the file was refused. */
int dg_plug_load(struct dg_plug_table *table, const char *name,
                 const struct dg_module **ret_module, struct dg_error *err);
/* The same from one file, whatever its folder. */
int dg_plug_load_file(struct dg_plug_table *table, const char *file,
                      const struct dg_module **ret_module, struct dg_error *err);
/* Adds a module that is linked into the program (tests, tools). Transferred. */
void dg_plug_table_add(struct dg_plug_table *table, struct dg_module *module);

/* Names of all plugins found on the search path, sorted, each once: loaded or
 * not. Free with g_strfreev(). */
char **dg_plug_names(struct dg_plug_table *table);

/* ---- Services offered to instances --------------------------------------------- */

/* Hooks the wiring sets once; every member may be NULL. Must outlive the
 * instances. */
struct dg_plug_services {
  void *receiver;
  /* [any] One message of an instance. */
  void (*log)(void *receiver, const char *instance, uint32_t level, const char *event,
              const char *message);
  /* [any] One finished op: error_code is 0 or DG_E_*. */
  void (*count)(void *receiver, const char *instance, const char *op, int32_t error_code);
  /* Absolute; each instance gets a folder below. NULL: none. */
  const char *cache_dir;
};

/* ---- Instances -------------------------------------------------------------------- */

struct dg_backend;
struct dg_codec;
struct dg_crypt;

/* Calls create(). module must outlive the instance; config is borrowed for the
 * call; services may be NULL. ret_ is transferred. [startup] */
int dg_backend_new(const struct dg_module *module, const char *instance_name,
                   const struct dg_config *config, const struct dg_plug_services *services,
                   struct dg_backend **ret_backend, struct dg_error *err);
void dg_backend_free(struct dg_backend *backend); /* [startup]; NULL is fine */

int dg_codec_new(const struct dg_module *module, const char *instance_name,
                 const struct dg_config *config, const struct dg_plug_services *services,
                 struct dg_codec **ret_codec, struct dg_error *err);
void dg_codec_free(struct dg_codec *codec); /* [startup]; NULL is fine */

int dg_crypt_new(const struct dg_module *module, const char *instance_name,
                 const struct dg_config *config, const struct dg_plug_services *services,
                 struct dg_crypt **ret_crypt, struct dg_error *err);
void dg_crypt_free(struct dg_crypt *crypt); /* [startup]; NULL is fine */

/* A backend that is no plugin but a layer over one: ops (copied) are called with
 * self under the same checks, by any number of threads. ops->destroy(self) runs
 * in dg_backend_free(). plugin_name is borrowed for life. Calls are not counted:
 * the layer below counts its own. */
struct dg_backend *dg_backend_wrap(const struct dg_backend_ops *ops, void *self,
                                   const char *instance_name, const char *plugin_name);
/* [startup] Tells what it is a layer over, which lives longer. */
void dg_backend_set_inner(struct dg_backend *layer, struct dg_backend *inner);

#endif
