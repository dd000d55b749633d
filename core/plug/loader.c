/* SPDX-License-Identifier: Apache-2.0 */
/* Files on disk to modules. The only file that knows libltdl.
 *
 * libltdl opens with RTLD_LAZY: a missing symbol would kill the process at the
 * first call, long after start-up, and its lt_dlerror() says "file not found"
 * for nearly everything. So each file is first opened by plain dlopen() with
 * RTLD_NOW, whose message names the symbol; that handle is kept, which also
 * keeps the module mapped for good. */
#include "config.h"

#include "core/plug/plug.h"

#include <dlfcn.h>
#include <errno.h>
#include <ltdl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/banned.h"

struct dg_plug_table {
  char **dirs;
  GPtrArray *modules; /* struct dg_module * */
};

static unsigned lt_users;

struct dg_plug_table *dg_plug_table_new(const char *const *dirs)
{
  struct dg_plug_table *table = g_new0(struct dg_plug_table, 1);

  table->dirs = g_strdupv((char **)(uintptr_t)dirs);
  table->modules = g_ptr_array_new_with_free_func((GDestroyNotify)dg_module_free);
  if (lt_users++ == 0 && lt_dlinit() != 0)
    g_error("libltdl does not start: %s", lt_dlerror());
  return table;
}

void dg_plug_table_free(struct dg_plug_table *table)
{
  if (!table)
    return;
  g_ptr_array_unref(table->modules);
  g_strfreev(table->dirs);
  g_free(table);
  /* lt_dlexit() would unmap modules that were made resident; the process ends
   * soon anyway. */
  lt_users--;
}

void dg_plug_table_add(struct dg_plug_table *table, struct dg_module *module)
{
  g_ptr_array_add(table->modules, module);
}

/* ---- Where to look ----------------------------------------------------------- */

/* TOP/plugins, when this program runs from the build tree TOP. */
static char *build_tree_dir(void)
{
  g_autofree char *exe = g_file_read_link("/proc/self/exe", NULL);
  g_autofree char *dir = exe ? g_path_get_dirname(exe) : NULL;
  g_autofree char *base = dir ? g_path_get_basename(dir) : NULL;
  g_autofree char *top = NULL, *status = NULL;

  if (!dir)
    return NULL;
  if (!strcmp(base, ".libs")) { /* libtool's real program, behind its wrapper */
    char *parent = g_path_get_dirname(dir);

    g_free(dir);
    dir = parent;
  }
  top = g_path_get_dirname(dir);
  for (int level = 0; level < 2; level++) { /* core/ and tools/, then tests/unit/ */
    char *parent;

    g_free(status);
    status = g_build_filename(top, "config.status", NULL);
    if (g_file_test(status, G_FILE_TEST_EXISTS))
      return g_build_filename(top, "plugins", NULL);
    parent = g_path_get_dirname(top);
    g_free(top);
    top = parent;
  }
  return NULL;
}

static void add_dir(GPtrArray *dirs, const char *dir)
{
  char *absolute = g_canonicalize_filename(dir, NULL);

  if (g_ptr_array_find_with_equal_func(dirs, absolute, g_str_equal, NULL))
    g_free(absolute);
  else
    g_ptr_array_add(dirs, absolute);
}

char **dg_plug_search_path(const char *plugin_dir)
{
  GPtrArray *dirs = g_ptr_array_new();
  const char *from_env = getenv("DGP_PLUGIN_DIR");
  g_auto(GStrv) env_dirs = g_strsplit(from_env ? from_env : "", ":", -1);
  g_autofree char *build_tree = build_tree_dir();

  if (plugin_dir && *plugin_dir)
    add_dir(dirs, plugin_dir);
  for (char **dir = env_dirs; *dir; dir++)
    if (**dir)
      add_dir(dirs, *dir);
  if (build_tree)
    add_dir(dirs, build_tree);
  add_dir(dirs, PLUGINDIR);
  g_ptr_array_add(dirs, NULL);
  return (char **)g_ptr_array_free(dirs, FALSE);
}

/* One value of a libtool archive: dlname='backend-fs.so' */
static char *archive_value(const char *text, const char *name)
{
  g_autofree char *start = g_strdup_printf("\n%s='", name), *plain = NULL;
  const char *at = strstr(text, start), *end;

  if (at) {
    at += strlen(start);
    end = strchr(at, '\'');
    return end ? g_strndup(at, (gsize)(end - at)) : NULL;
  }
  plain = g_strdup_printf("\n%s=", name);
  at = strstr(text, plain);
  if (!at)
    return NULL;
  at += strlen(plain);
  return g_strndup(at, strcspn(at, "\n"));
}

/* The shared object a .la file stands for; other names stand for themselves. */
static char *real_file(const char *file)
{
  g_autofree char *text = NULL, *dlname = NULL, *installed = NULL, *dir = NULL, *beside = NULL;

  if (!g_str_has_suffix(file, ".la") || !g_file_get_contents(file, &text, NULL, NULL))
    return g_strdup(file);
  dlname = archive_value(text, "dlname");
  installed = archive_value(text, "installed");
  dir = g_path_get_dirname(file);
  if (!dlname || !*dlname)
    return g_strdup(file);
  if (installed && !strcmp(installed, "no"))
    return g_build_filename(dir, ".libs", dlname, NULL);
  beside = g_build_filename(dir, dlname, NULL);
  return g_steal_pointer(&beside);
}

/* DIR/NAME.la, DIR/NAME.so, and in a build tree DIR/NAME/NAME.la. */
static char *find_in_dir(const char *dir, const char *name)
{
  g_autofree char *la = g_strconcat(name, ".la", NULL), *so = g_strconcat(name, ".so", NULL);
  char *const candidates[] = {
    g_build_filename(dir, la, NULL),
    g_build_filename(dir, so, NULL),
    g_build_filename(dir, name, la, NULL),
  };
  char *found = NULL;

  for (size_t i = 0; i < G_N_ELEMENTS(candidates); i++) {
    if (!found && g_file_test(candidates[i], G_FILE_TEST_IS_REGULAR))
      found = g_strdup(candidates[i]);
    g_free(candidates[i]);
  }
  return found;
}

/* ---- Loading ------------------------------------------------------------------- */

/* What dlerror() says, without the file name it often begins with. */
static const char *load_error(const char *file)
{
  const char *text = dlerror();

  if (!text)
    return "unknown error";
  if (g_str_has_prefix(text, file))
    text += strlen(file) + strspn(text + strlen(file), ": ");
  return text;
}

static const char *load_remedy(const char *cause)
{
  if (strstr(cause, "undefined symbol"))
    return "link what defines it, and build with -Wl,-z,defs to see it at link time";
  if (strstr(cause, "cannot open shared object"))
    return "install the library it needs";
  if (strstr(cause, "ELF") || strstr(cause, "file too short"))
    return "build it for this machine";
  return "see ldd on that file";
}

/* Maps the file for good and finds its entry point. */
static int open_file(const char *file, dg_plugin_entry_fn *ret_entry, struct dg_error *err)
{
  lt_dladvise advice;
  lt_dlhandle handle;
  void *symbol;

  if (!dlopen(file, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE)) {
    const char *cause = load_error(file);

    return dg_fail(err, DG_E_CONFIG, "%s: cannot load: %.120s: %s", file, cause,
                   load_remedy(cause));
  }
  if (lt_dladvise_init(&advice) || lt_dladvise_local(&advice) || lt_dladvise_resident(&advice))
    return dg_fail(err, DG_E_INTERNAL, "%s: libltdl: %s", file, lt_dlerror());
  handle = lt_dlopenadvise(file, advice);
  (void)lt_dladvise_destroy(&advice);
  if (!handle)
    return dg_fail(err, DG_E_CONFIG, "%s: cannot load: %s", file, lt_dlerror());
  symbol = lt_dlsym(handle, "dg_plugin_entry");
  if (!symbol)
    return dg_fail(err, DG_E_CONFIG,
                   "%s: it exports no MODULE_LTX_dg_plugin_entry: name the file after the plugin "
                   "and define the entry with DG_PLUGIN_ENTRY()",
                   file);
  memcpy(ret_entry, &symbol, sizeof symbol);
  return 0;
}

int dg_plug_load_file(struct dg_plug_table *table, const char *file,
                      const struct dg_module **ret_module, struct dg_error *err)
{
  g_autofree char *absolute = g_canonicalize_filename(file, NULL);
  g_autofree char *real = real_file(absolute);
  struct dg_module *module;
  dg_plugin_entry_fn entry = NULL;

  for (guint i = 0; i < table->modules->len; i++) {
    module = table->modules->pdata[i];
    if (!strcmp(module->file, real)) {
      *ret_module = module;
      return 0;
    }
  }
  if (access(real, R_OK) < 0)
    return dg_fail(err, DG_E_CONFIG, "%s: %s", real, g_strerror(errno));
  if (open_file(real, &entry, err) < 0 || dg_module_new(entry(), real, &module, err) < 0)
    return -1;
  g_ptr_array_add(table->modules, module);
  *ret_module = module;
  return 0;
}

int dg_plug_load(struct dg_plug_table *table, const char *name,
                 const struct dg_module **ret_module, struct dg_error *err)
{
  g_autofree char *searched = NULL;
  const struct dg_module *module;

  for (guint i = 0; i < table->modules->len; i++) {
    module = table->modules->pdata[i];
    if (!strcmp(module->plugin.name, name)) {
      *ret_module = module;
      return 0;
    }
  }
  if (!*name || name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-")])
    return dg_fail(err, DG_E_CONFIG,
                   "'%s' is no plugin name: use lower-case letters, digits and dashes", name);
  for (char **dir = table->dirs; dir && *dir; dir++) {
    g_autofree char *file = find_in_dir(*dir, name);

    if (!file)
      continue;
    if (dg_plug_load_file(table, file, &module, err) < 0)
      return -1;
    if (strcmp(module->plugin.name, name) != 0)
      return dg_fail(err, DG_E_CONFIG, "%s: it calls itself '%s': name file and plugin alike",
                     file, module->plugin.name);
    *ret_module = module;
    return 0;
  }
  searched = table->dirs ? g_strjoinv(", ", table->dirs) : g_strdup("nowhere");
  return dg_fail(err, DG_E_CONFIG,
                 "plugin '%s' not found in %.150s: install it, or name its folder with "
                 "--plugin-dir",
                 name, searched);
}

/* ---- Listing ---------------------------------------------------------------------- */

static gint compare_names(gconstpointer a, gconstpointer b)
{
  return strcmp(*(char *const *)a, *(char *const *)b);
}

/* file or folder name -> plugin name, or NULL */
static char *plugin_name_of(const char *dir, const char *entry)
{
  g_autofree char *name = g_strdup(entry), *file = NULL;
  bool known = false;

  if (g_str_has_suffix(name, ".la") || g_str_has_suffix(name, ".so"))
    name[strlen(name) - 3] = '\0';
  for (uint32_t kind = 1; dg_kind_name(kind); kind++) {
    g_autofree char *prefix = g_strconcat(dg_kind_name(kind), "-", NULL);

    known = known || g_str_has_prefix(name, prefix);
  }
  file = known ? find_in_dir(dir, name) : NULL;
  return file ? g_steal_pointer(&name) : NULL;
}

char **dg_plug_names(struct dg_plug_table *table)
{
  GPtrArray *names = g_ptr_array_new();

  for (guint i = 0; i < table->modules->len; i++) {
    const struct dg_module *module = table->modules->pdata[i];

    g_ptr_array_add(names, g_strdup(module->plugin.name));
  }
  for (char **dir = table->dirs; dir && *dir; dir++) {
    GDir *entries = g_dir_open(*dir, 0, NULL);
    const char *entry;

    while (entries && (entry = g_dir_read_name(entries))) {
      char *name = plugin_name_of(*dir, entry);

      if (name && !g_ptr_array_find_with_equal_func(names, name, g_str_equal, NULL))
        g_ptr_array_add(names, name);
      else
        g_free(name);
    }
    if (entries)
      g_dir_close(entries);
  }
  g_ptr_array_sort(names, compare_names);
  g_ptr_array_add(names, NULL);
  return (char **)g_ptr_array_free(names, FALSE);
}
