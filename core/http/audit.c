/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/http/audit.h"

#include "common/slice.h"
#include "core/access/client.h"
#include "core/config/config.h"
#include "core/http/front.h"
#include "core/observe/log.h"

#include "common/banned.h"

#define VALUE_MAX_BYTES 256u
#define PATH_MAX_BYTES 1024u

/* ` | name=value`; `-` stands for an empty one. */
static void add(GString *line, const char *name, struct dg_slice value, size_t max)
{
  g_string_append_printf(line, " | %s=%s", name, value.len ? "" : "-");
  for (size_t i = 0; i < value.len && i < max; i++) {
    unsigned char c = (unsigned char)value.data[i];

    if (c == '\n')
      g_string_append(line, "\\n");
    else if (c == '\r')
      g_string_append(line, "\\r");
    else if (c == '|' || c == '\\')
      g_string_append_printf(line, "\\%c", c);
    else if (c < 0x20 || c >= 0x7f) /* UTF-8, too: a cut may go through a character */
      g_string_append_printf(line, "\\x%02x", c);
    else
      g_string_append_c(line, (char)c);
  }
}

static void add_text(GString *line, const char *name, const char *text)
{
  add(line, name, dg_slice_str(text), VALUE_MAX_BYTES);
}

static void add_client(GString *line, const struct dg_exchange *x)
{
  add_text(line, "ip", dg_client_address(&x->request));
}

static void add_agent(GString *line, const struct dg_exchange *x)
{
  add(line, "ua", dg_request_header(&x->request, "user-agent"), VALUE_MAX_BYTES);
}

void dg_audit(const struct dg_exchange *x, const char *action)
{
  g_autoptr(GString) line = NULL;

  if (!dg_log_enabled(x->server->log, DG_LOG_INFO))
    return;
  line = g_string_new("AUDIT");
  add_text(line, "action", action);
  add_text(line, "user", x->identity.access_key);
  add_text(line, "target", dg_op_name(x->target.op));
  add_client(line, x);
  add_agent(line, x);
  add(line, "bucket", x->target.bucket, VALUE_MAX_BYTES);
  add(line, "path", x->target.key, PATH_MAX_BYTES);
  dg_log_line(x->server->log, DG_LOG_INFO, "audit", "%s", line->str);
}

static void alarm_line(const struct dg_exchange *x)
{
  const struct dg_identity *identity = &x->identity;
  g_autoptr(GString) line = g_string_new("SECURITY");
  struct dg_failure_source source;

  add_text(line, "event", identity->alarm);
  add_client(line, x);
  add(line, "bucket_key", dg_identity_source(identity, &x->request, &source), VALUE_MAX_BYTES);
  add_text(line, "trust_proxy", x->snapshot->trust_proxy_headers ? "true" : "false");
  g_string_append_printf(line, " | attempts=%u", identity->attempts);
  add_text(line, "reason", identity->failure ? identity->failure : "");
  add_agent(line, x);
  dg_log_line(x->server->log, DG_LOG_WARN, "security", "%s", line->str);
}

void dg_audit_identity(const struct dg_exchange *x)
{
  if (x->identity.alarm)
    alarm_line(x);
  if (x->identity.failure && !strcmp(x->identity.failure, "replay"))
    dg_audit(x, "replay_rejected");
  if (x->identity.failure && !strcmp(x->identity.failure, "form_post_denied"))
    dg_audit(x, "s3_post_denied");
}
