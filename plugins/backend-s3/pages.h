/* SPDX-License-Identifier: Apache-2.0 */
/* Upstream names in byte order, page after page. */
#ifndef DG_S3_PAGES_H
#define DG_S3_PAGES_H

#include "s3.h"
#include "xmlread.h"

struct dg_s3_pages {
  struct dg_s3 *s3;
  const struct dg_call *call;
  struct dg_slice bucket, prefix, delimiter, start_after; /* borrowed */
  struct dg_s3_page page;
  guint at;
  bool begun;
  uint32_t max_keys; /* of the next request; 0: as many as the upstream gives */
  uint32_t requests; /* so far */
};

/* Asks nothing yet. delimiter: "" or "/". */
void dg_s3_pages_begin(struct dg_s3_pages *pages, struct dg_s3 *s3, const struct dg_call *call,
                       struct dg_slice bucket, struct dg_slice prefix, struct dg_slice delimiter,
                       struct dg_slice start_after);
void dg_s3_pages_end(struct dg_s3_pages *pages);

/* [worker] 1 with the next entry, borrowed until the next call; 0 at the end;
 * -1 with err. */
int dg_s3_pages_next(struct dg_s3_pages *pages, const struct dg_s3_entry **ret_entry,
                     struct dg_error *err);

/* Can the next entry be had without asking the upstream? */
static inline bool dg_s3_pages_ready(const struct dg_s3_pages *pages)
{
  return pages->page.entries && pages->at < pages->page.entries->len;
}

/* Is there nothing left, as far as is known? */
static inline bool dg_s3_pages_ended(const struct dg_s3_pages *pages)
{
  return pages->begun && !dg_s3_pages_ready(pages) && !pages->page.truncated;
}

#endif
