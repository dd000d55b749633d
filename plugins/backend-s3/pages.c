/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "pages.h"

#include "run.h"

#include "common/banned.h"

void dg_s3_pages_begin(struct dg_s3_pages *pages, struct dg_s3 *s3, const struct dg_call *call,
                       struct dg_slice bucket, struct dg_slice prefix, struct dg_slice delimiter,
                       struct dg_slice start_after)
{
  *pages = (struct dg_s3_pages){.s3 = s3,
                                .call = call,
                                .bucket = bucket,
                                .prefix = prefix,
                                .delimiter = delimiter,
                                .start_after = start_after};
}

void dg_s3_pages_end(struct dg_s3_pages *pages)
{
  dg_s3_page_clear(&pages->page);
}

static int fetch(struct dg_s3_pages *pages, struct dg_error *err)
{
  struct dg_s3_page page = {0};
  struct dg_s3_request request;
  struct dg_s3_answer answer;
  int rc;

  dg_s3_request_init(&request, "GET", pages->bucket, DG_SLICE(""));
  dg_s3_request_query(&request, "list-type", DG_SLICE("2"));
  dg_s3_request_query(&request, "encoding-type", DG_SLICE("url"));
  if (pages->prefix.len)
    dg_s3_request_query(&request, "prefix", pages->prefix);
  if (pages->delimiter.len)
    dg_s3_request_query(&request, "delimiter", pages->delimiter);
  if (pages->page.token)
    dg_s3_request_query(&request, "continuation-token", dg_slice_str(pages->page.token));
  else if (pages->start_after.len)
    dg_s3_request_query(&request, "start-after", pages->start_after);
  if (pages->max_keys) {
    char text[16];

    (void)g_snprintf(text, sizeof text, "%u", pages->max_keys);
    dg_s3_request_query(&request, "max-keys", dg_slice_str(text));
  }
  dg_s3_answer_init(&answer);
  rc = dg_s3_run(pages->s3, pages->call, &request, &answer, err);
  if (rc == 0)
    rc = dg_s3_xml_page(dg_slice_of(answer.body->str, answer.body->len), &page, err);
  dg_s3_request_clear(&request);
  dg_s3_answer_clear(&answer);
  if (rc < 0)
    return -1;
  /* Who counts a bucket has no deadline to end this. */
  if (page.truncated && page.token && pages->page.token &&
      strcmp(page.token, pages->page.token) == 0) {
    dg_s3_page_clear(&page);
    return dg_fail(err, DG_E_IO, "a listing goes round: upstream gives the same token again");
  }
  pages->requests++;
  dg_s3_page_clear(&pages->page);
  pages->page = page;
  pages->at = 0;
  pages->begun = true;
  if (page.truncated && !page.token)
    return dg_fail(err, DG_E_IO, "a listing is cut without a token to go on with");
  return 0;
}

int dg_s3_pages_next(struct dg_s3_pages *pages, const struct dg_s3_entry **ret_entry,
                     struct dg_error *err)
{
  while (!dg_s3_pages_ready(pages)) {
    if (dg_s3_pages_ended(pages))
      return 0;
    if (fetch(pages, err) < 0)
      return -1;
  }
  *ret_entry = &g_array_index(pages->page.entries, struct dg_s3_entry, pages->at++);
  return 1;
}
