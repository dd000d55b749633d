/* SPDX-License-Identifier: Apache-2.0 */
/* The admission chain: which block matches, and what it decides. */
#include "config.h"

#include "config-fixture.h"

#include "common/slice.h"
#include "core/access/admission.h"
#include "core/access/client.h"
#include "core/access/glob.h"
#include "core/access/public.h"
#include "request-text.h"

#include "common/banned.h"

#define SIGNED "Authorization: AWS4-HMAC-SHA256 Credential=x\n"

/* Evaluates the chain of a configuration for one request, sent from peer. */
static struct dg_admission_trace ask(const struct dg_snapshot *snapshot, const char *line,
                                     const char *headers, const char *peer)
{
  g_autofree char *head = g_strdup_printf("%s HTTP/1.1\nHost: localhost\n%s", line, headers);
  struct dg_admission_request request;
  struct dg_admission_trace trace;
  struct dg_target target = {0};
  struct request_text text;
  struct dg_error err = {0};

  request_text_init(&text, head);
  (void)g_strlcpy(text.request.peer, peer, sizeof text.request.peer);
  ck_assert_int_eq(dg_target_parse(&text.request, NULL, &target, &err), 0);
  dg_admission_request_fill(&text.request, &target, &request);
  dg_admission_evaluate(snapshot, &request, &trace);
  dg_target_clear(&target);
  request_text_clear(&text);
  return trace;
}

/* A chain of one block, `hit`, that denies what matches. */
static bool matches(const char *match, const char *line, const char *headers, const char *peer)
{
  g_autofree char *text = g_strdup_printf(
      CREDENTIALS "admission: {blocks: [{name: hit, match: {%s}, action: deny}]}\n", match);
  struct dg_snapshot *snapshot = config_loaded(text);
  struct dg_admission_trace trace = ask(snapshot, line, headers, peer);
  bool hit = trace.decision == DG_ADMISSION_DENY;

  ck_assert_str_eq(trace.matched, hit ? "hit" : "");
  ck_assert_int_eq(trace.block != NULL, hit);
  ck_assert(!trace.granted);
  dg_snapshot_unref(snapshot);
  return hit;
}

START_TEST(each_predicate_matches_what_it_names)
{
  static const struct {
    const char *match, *line, *headers, *peer;
    bool hit;
  } rows[] = {
      {"", "GET /", "", "192.0.2.1", true},
      {"method: [get, put]", "GET /b/k", "", "192.0.2.1", true},
      {"method: [get, put]", "PUT /b/k", "", "192.0.2.1", true},
      {"method: [get, put]", "HEAD /b/k", "", "192.0.2.1", false},
      {"source_ip: 192.0.2.1", "GET /b/k", "", "192.0.2.1", true},
      {"source_ip: 192.0.2.1", "GET /b/k", "", "192.0.2.2", false},
      {"source_ip: 192.0.2.0/30", "GET /b/k", "", "::ffff:192.0.2.3", true},
      {"source_ip: 192.0.2.0/30", "GET /b/k", "", "192.0.2.4", false},
      {"source_ip: 0.0.0.0/0", "GET /b/k", "", "2001:db8::1", false},
      {"source_ip_list: [10.0.0.0/8, '2001:db8::/32']", "GET /b/k", "", "2001:db8:1::1", true},
      {"source_ip_list: [10.0.0.0/8, '2001:db8::/32']", "GET /b/k", "", "2001:db9::1", false},
      {"source_ip: '::/0'", "GET /b/k", "", "", false}, /* unknown: in no range */
      {"bucket: Photos", "GET /photos/k", "", "192.0.2.1", true},
      {"bucket: photos", "GET /photos2/k", "", "192.0.2.1", false},
      {"bucket: photos", "GET /", "", "192.0.2.1", false},
      {"path_glob: 'a/*.zip'", "GET /b/a/x/y.zip", "", "192.0.2.1", true},
      {"path_glob: 'a/*.zip'", "GET /b/a%2Fx.zip", "", "192.0.2.1", true},
      {"path_glob: 'a/*.zip'", "GET /b/a/x.zip2", "", "192.0.2.1", false},
      {"path_glob: 'a/*'", "GET /b?list-type=2&prefix=a%2Fb", "", "192.0.2.1", true},
      {"path_glob: 'a/*'", "GET /b?list-type=2&prefix=c", "", "192.0.2.1", false},
      {"path_glob: 'a/*'", "GET /b", "", "192.0.2.1", false},
      {"path_glob: '*'", "GET /b", "", "192.0.2.1", true},
      {"authenticated: true", "GET /b/k", SIGNED, "192.0.2.1", true},
      {"authenticated: true", "GET /b/k?X-Amz-Signature=0", "", "192.0.2.1", true},
      {"authenticated: true", "GET /b/k", "Authorization: AWS a:b\n", "192.0.2.1", true},
      {"authenticated: true", "GET /b/k", "", "192.0.2.1", false},
      {"authenticated: false", "GET /b/k", "", "192.0.2.1", true},
      {"authenticated: false", "GET /b/k", SIGNED, "192.0.2.1", false},
      {"config_flag: maintenance_mode", "PUT /b/k", "", "192.0.2.1", false},
      {"config_flag: moon_phase", "PUT /b/k", "", "192.0.2.1", false},
      /* All of them must hold. */
      {"method: [get], bucket: b, path_glob: 'k*'", "GET /b/k1", "", "192.0.2.1", true},
      {"method: [get], bucket: b, path_glob: 'k*'", "GET /c/k1", "", "192.0.2.1", false},
      {"method: [get], bucket: b, path_glob: 'k*'", "GET /b/j1", "", "192.0.2.1", false},
  };

  for (size_t i = 0; i < G_N_ELEMENTS(rows); i++)
    ck_assert_msg(matches(rows[i].match, rows[i].line, rows[i].headers, rows[i].peer) ==
                      rows[i].hit,
                  "row %zu: {%s} and %s from %s", i, rows[i].match, rows[i].line, rows[i].peer);
}
END_TEST

START_TEST(a_maintenance_flag_holds_while_the_gate_is_armed)
{
  struct dg_snapshot *snapshot =
      config_loaded(CREDENTIALS "admission: {blocks: [{name: hit, match: {config_flag: "
                                "maintenance_mode}, action: {type: reject, status: 503}}]}\n");
  struct dg_admission_request request = {.method = "PUT", .maintenance = true};
  struct dg_admission_trace trace;

  dg_admission_evaluate(snapshot, &request, &trace);
  ck_assert_int_eq(trace.decision, DG_ADMISSION_REJECT);
  ck_assert_uint_eq(trace.block->reject_status, 503);
  dg_snapshot_unref(snapshot);
}
END_TEST

static const char chain[] = CREDENTIALS
    "storage:\n"
    "  filesystem: /tmp\n"
    "  buckets:\n"
    "    pub: {public_prefixes: [x/, docs/en/]}\n"
    "    whole: {public: true}\n"
    "admission:\n"
    "  blocks:\n"
    "    - {name: past, match: {path_glob: 'x/past*'}, action: continue}\n"
    "    - {name: shut, match: {path_glob: 'x/shut*'}, action: deny}\n"
    "    - {name: late, match: {path_glob: 'x/past-shut'}, action: deny}\n"
    "    - {name: gone, match: {path_glob: 'x/gone'}, action: {type: reject, status: 410}}\n"
    "    - {name: open, match: {bucket: logs, path_glob: 'open*'}, action: allow-anonymous}\n"
    "    - {name: both, match: {bucket: pub, path_glob: 'docs/*'}, action: allow-anonymous}\n";

START_TEST(the_first_match_decides_then_public_prefixes_then_authentication)
{
  static const struct {
    const char *line, *headers;
    enum dg_admission_action decision;
    const char *matched;
    bool granted, lists;
  } rows[] = {
      /* Blocks in their order. */
      {"GET /pub/x/past-shut", "", DG_ADMISSION_CONTINUE, "past", false, false},
      {"GET /pub/x/shut", "", DG_ADMISSION_DENY, "shut", false, false},
      {"GET /pub/x/shut", SIGNED, DG_ADMISSION_DENY, "shut", false, false},
      {"GET /pub/x/gone", "", DG_ADMISSION_REJECT, "gone", false, false},
      /* An operator's block lets a key be read, nothing else. */
      {"GET /logs/open1", "", DG_ADMISSION_ALLOW_ANONYMOUS, "open", true, false},
      {"HEAD /logs/open1", "", DG_ADMISSION_ALLOW_ANONYMOUS, "open", true, false},
      {"PUT /logs/open1", "", DG_ADMISSION_ALLOW_ANONYMOUS, "open", false, false},
      {"DELETE /logs/open1", "", DG_ADMISSION_ALLOW_ANONYMOUS, "open", false, false},
      {"GET /logs/open1?tagging", "", DG_ADMISSION_ALLOW_ANONYMOUS, "open", false, false},
      {"GET /logs?prefix=open", "", DG_ADMISSION_ALLOW_ANONYMOUS, "open", false, false},
      {"GET /logs/open1", SIGNED, DG_ADMISSION_CONTINUE, "", false, false},
      /* It takes nothing from a public prefix. */
      {"GET /pub?prefix=docs/en/", "", DG_ADMISSION_ALLOW_ANONYMOUS, "both", true, true},
      {"GET /pub?prefix=docs/de/", "", DG_ADMISSION_ALLOW_ANONYMOUS, "both", false, false},
      /* Public prefixes. */
      {"GET /pub/x/k", "", DG_ADMISSION_ALLOW_ANONYMOUS, "public-prefix:pub", true, true},
      {"HEAD /pub/x/k", "", DG_ADMISSION_ALLOW_ANONYMOUS, "public-prefix:pub", true, true},
      {"GET /pub/x/k", SIGNED, DG_ADMISSION_CONTINUE, "", false, false},
      {"GET /pub/x/k?X-Amz-Algorithm=a", "", DG_ADMISSION_CONTINUE, "", false, false},
      {"GET /pub/x-private/k", "", DG_ADMISSION_CONTINUE, "", false, false},
      {"GET /pub/x", "", DG_ADMISSION_CONTINUE, "", false, false},
      {"GET /pub/docs/de/k", "", DG_ADMISSION_ALLOW_ANONYMOUS, "both", true, false},
      {"PUT /pub/x/k", "", DG_ADMISSION_CONTINUE, "", false, false},
      {"POST /pub/x/k?uploads", "", DG_ADMISSION_CONTINUE, "", false, false},
      {"DELETE /pub/x/k", "", DG_ADMISSION_CONTINUE, "", false, false},
      {"GET /pub/x/k?acl", "", DG_ADMISSION_CONTINUE, "", false, false},
      {"GET /pub/x/k?uploadId=1", "", DG_ADMISSION_CONTINUE, "", false, false},
      {"GET /pub", "", DG_ADMISSION_ALLOW_ANONYMOUS, "public-prefix:pub", true, true},
      {"GET /pub?list-type=2&prefix=x", "", DG_ADMISSION_ALLOW_ANONYMOUS, "public-prefix:pub", true,
       true},
      {"GET /pub?prefix=x/a", "", DG_ADMISSION_ALLOW_ANONYMOUS, "public-prefix:pub", true, true},
      {"GET /pub?prefix=x-", "", DG_ADMISSION_CONTINUE, "", false, false},
      {"GET /pub?uploads", "", DG_ADMISSION_CONTINUE, "", false, false},
      {"GET /pub?location", "", DG_ADMISSION_CONTINUE, "", false, false},
      {"HEAD /pub", "", DG_ADMISSION_ALLOW_ANONYMOUS, "public-prefix:pub", true, true},
      {"GET /whole/any/key", "", DG_ADMISSION_ALLOW_ANONYMOUS, "public-prefix:whole", true, true},
      {"PUT /whole/any/key", "", DG_ADMISSION_CONTINUE, "", false, false},
      /* And nothing else. */
      {"GET /other/x/k", "", DG_ADMISSION_CONTINUE, "", false, false},
      {"GET /", "", DG_ADMISSION_CONTINUE, "", false, false},
  };
  struct dg_snapshot *snapshot = config_loaded(chain);

  for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
    struct dg_admission_trace trace = ask(snapshot, rows[i].line, rows[i].headers, "192.0.2.1");

    ck_assert_msg(trace.decision == rows[i].decision && !strcmp(trace.matched, rows[i].matched) &&
                      trace.granted == rows[i].granted &&
                      (trace.list_prefixes != NULL) == rows[i].lists,
                  "row %zu: %s: decision %d by '%s', granted %d", i, rows[i].line,
                  (int)trace.decision, trace.matched, trace.granted);
  }
  dg_snapshot_unref(snapshot);
}
END_TEST

START_TEST(patterns_cover_the_whole_text)
{
  static const struct {
    const char *glob, *text;
    bool hit;
  } rows[] = {
      {"abc", "abc", true},       {"abc", "abcd", false},     {"abc", "ab", false},
      {"*", "", true},            {"*", "a/b", true},         {"?", "", false},
      {"?", "/", true},           {"?", "\xc3\xa4", true},    {"??", "\xc3\xa4", false},
      {"a*b*c", "a--b--c", true}, {"a*b*c", "a--c--b", false}, {"*ab", "xaab", true},
      {"**/x", "a/b/x", true},    {"[a-c]x", "bx", true},     {"[a-c]x", "dx", false},
      {"[!a-c]x", "dx", true},    {"[^a-c]x", "ax", false},   {"[]]", "]", true},
      {"[a-]", "-", true},        {"\\*", "*", true},         {"\\*", "a", false},
      {"[\xc3\xa0-\xc3\xa5]", "\xc3\xa4", true},              {"a?c", "a\xff" "c", true},
      {"{a,b}", "a", false},      {"a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false},
  };

  for (size_t i = 0; i < G_N_ELEMENTS(rows); i++)
    ck_assert_msg(dg_glob_matches(rows[i].glob, dg_slice_str(rows[i].text)) == rows[i].hit,
                  "row %zu: '%s' and '%s'", i, rows[i].glob, rows[i].text);
}
END_TEST

/* ---- Who the client is ----------------------------------------------------------- */

#define BELIEVE CREDENTIALS "advanced: {trust_proxy_headers: true}\n"
#define TRUST                                                                          \
  CREDENTIALS "advanced: {trust_proxy_headers: true, trusted_proxy_cidrs: "            \
              "[10.0.0.0/8, 192.0.2.7, '2001:db8::/32']}\n"
#define FOR "X-Forwarded-For: "

START_TEST(the_client_is_who_trusted_proxies_say)
{
  static const struct {
    const char *config, *peer, *headers, *client;
  } rows[] = {
      /* Nobody is trusted unless the operator says so. */
      {CREDENTIALS, "10.0.0.1", FOR "198.51.100.1\nX-Real-IP: 198.51.100.2\n", "10.0.0.1"},
      {CREDENTIALS "advanced: {trusted_proxy_cidrs: 0.0.0.0/0}\n", "10.0.0.1",
       FOR "198.51.100.1\n", "10.0.0.1"},
      /* Everyone is. */
      {BELIEVE, "203.0.113.9", FOR "198.51.100.1, 10.0.0.2\n", "198.51.100.1"},
      {BELIEVE, "203.0.113.9", FOR "unknown, 10.0.0.2\nX-Real-IP: 198.51.100.2\n",
       "198.51.100.2"},
      {BELIEVE, "203.0.113.9", "X-Real-IP: [2001:DB8:0::2]:80\n", "2001:db8::2"},
      {BELIEVE, "203.0.113.9", "X-Real-IP: 10.0.0.0/8\n", "203.0.113.9"},
      {BELIEVE, "203.0.113.9", FOR "\n", "203.0.113.9"},
      {BELIEVE, "::ffff:203.0.113.9", "", "203.0.113.9"},
      /* The first from the right that is not trusted. */
      {TRUST, "10.0.0.1", FOR "198.51.100.1\n", "198.51.100.1"},
      {TRUST, "10.0.0.1", FOR "1.1.1.1, 198.51.100.1\n", "198.51.100.1"},
      {TRUST, "10.0.0.1", FOR "1.1.1.1, 198.51.100.1,192.0.2.7 ,\t10.9.9.9\n", "198.51.100.1"},
      {TRUST, "10.0.0.1", FOR "1.1.1.1, 198.51.100.1\nX-Other: 2.2.2.2\nx-forwarded-for: 10.2.2.2\n",
       "198.51.100.1"},
      {TRUST, "10.0.0.1", FOR "1.1.1.1\n" FOR "198.51.100.1\n", "198.51.100.1"},
      {TRUST, "::ffff:10.0.0.1", FOR "::ffff:198.51.100.1\n", "198.51.100.1"},
      {TRUST, "10.0.0.1", FOR "198.51.100.1:4711\n", "198.51.100.1"},
      {TRUST, "2001:db8::1", FOR "2001:db9::1\n", "2001:db9::1"},
      {TRUST, "2001:db8::1", FOR "[2001:db9::1]\n", "2001:db9::1"},
      {TRUST, "2001:db8::1", FOR "[2001:db9::1]:443\n", "2001:db9::1"},
      /* All are trusted: the farthest. */
      {TRUST, "10.0.0.1", FOR "10.3.3.3, 10.2.2.2\n", "10.3.3.3"},
      /* A stranger says what he likes. */
      {TRUST, "203.0.113.9", FOR "198.51.100.1\n", "203.0.113.9"},
      {TRUST, "192.0.2.8", FOR "198.51.100.1\n", "192.0.2.8"},
      {TRUST, "10.0.0.1", "X-Real-IP: 198.51.100.2\nForwarded: for=198.51.100.3\n", "10.0.0.1"},
      /* What is no address ends the row: whoever passed it on is the client. */
      {TRUST, "10.0.0.1", FOR "198.51.100.1, unknown\n", "10.0.0.1"},
      {TRUST, "10.0.0.1", FOR "198.51.100.1, , 10.2.2.2\n", "10.2.2.2"},
      {TRUST, "10.0.0.1", FOR "198.51.100.1, _hidden, 10.2.2.2\n", "10.2.2.2"},
      {TRUST, "10.0.0.1", FOR "198.51.100.1, 10.2.2.2/8\n", "10.0.0.1"},
      {TRUST, "10.0.0.1", FOR "198.51.100.1, 010.2.2.2.\n", "10.0.0.1"},
      {TRUST, "10.0.0.1", FOR "198.51.100.1, [10.2.2.2\n", "10.0.0.1"},
      {TRUST, "10.0.0.1", FOR "198.51.100.1, fe80::1%eth0\n", "10.0.0.1"},
      {TRUST, "10.0.0.1", FOR "198.51.100.1, 198.51.100.2 10.2.2.2\n", "10.0.0.1"},
      {TRUST, "10.0.0.1", FOR ",,,,\n", "10.0.0.1"},
      {TRUST, "10.0.0.1", FOR "]\n", "10.0.0.1"},
      {TRUST, "10.0.0.1", FOR "[]:1\n", "10.0.0.1"},
      {TRUST, "10.0.0.1", FOR ":\n", "10.0.0.1"},
      {TRUST, "", FOR "198.51.100.1\n", ""},
  };

  for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
    g_autofree char *head = g_strdup_printf("GET / HTTP/1.1\nHost: h\n%s", rows[i].headers);
    struct dg_snapshot *snapshot = config_loaded(rows[i].config);
    struct request_text text;

    request_text_init(&text, head);
    (void)g_strlcpy(text.request.peer, rows[i].peer, sizeof text.request.peer);
    dg_client_resolve(snapshot, &text.request);
    ck_assert_msg(!strcmp(dg_client_address(&text.request), rows[i].client),
                  "row %zu: %s, not %s", i, dg_client_address(&text.request), rows[i].client);
    request_text_clear(&text);
    dg_snapshot_unref(snapshot);
  }
}
END_TEST

START_TEST(a_row_of_proxies_without_end_is_not_followed)
{
  struct dg_snapshot *snapshot = config_loaded(TRUST);
  g_autoptr(GString) head = g_string_new("GET / HTTP/1.1\nHost: h\n" FOR "198.51.100.1");
  struct request_text text;

  for (int i = 0; i < 5000; i++)
    g_string_append(head, ", 10.0.0.2");
  g_string_append_c(head, '\n');
  request_text_init(&text, head->str);
  (void)g_strlcpy(text.request.peer, "10.0.0.1", sizeof text.request.peer);
  dg_client_resolve(snapshot, &text.request);
  ck_assert_str_eq(dg_client_address(&text.request), "10.0.0.2");
  request_text_clear(&text);
  dg_snapshot_unref(snapshot);
}
END_TEST

START_TEST(trusted_proxies_are_checked_when_they_are_read)
{
  struct dg_snapshot *snapshot;

  config_refused(CREDENTIALS "advanced: {trust_proxy_headers: true, trusted_proxy_cidrs: "
                             "[10.0.0.0/8, 10.0.0.0/33]}\n",
                 DG_E_CONFIG, "advanced.trusted_proxy_cidrs: '10.0.0.0/33' is neither");
  snapshot = config_loaded(BELIEVE);
  ck_assert(config_warned(snapshot, "every client can say that it is another"));
  dg_snapshot_unref(snapshot);
  g_setenv("DGP_TRUST_PROXY_HEADERS", "true", TRUE);
  g_setenv("DGP_TRUSTED_PROXY_CIDRS", "10.0.0.0/8,2001:db8::/32", TRUE);
  snapshot = config_loaded(CREDENTIALS);
  ck_assert(snapshot->trust_proxy_headers && snapshot->trusted_proxy_count == 2);
  dg_snapshot_unref(snapshot);
}
END_TEST

int main(void)
{
  TCase *tests = tcase_create("admission");

  tcase_add_test(tests, each_predicate_matches_what_it_names);
  tcase_add_test(tests, a_maintenance_flag_holds_while_the_gate_is_armed);
  tcase_add_test(tests, the_first_match_decides_then_public_prefixes_then_authentication);
  tcase_add_test(tests, patterns_cover_the_whole_text);
  tcase_add_test(tests, the_client_is_who_trusted_proxies_say);
  tcase_add_test(tests, a_row_of_proxies_without_end_is_not_followed);
  tcase_add_test(tests, trusted_proxies_are_checked_when_they_are_read);
  return config_run(tests);
}
