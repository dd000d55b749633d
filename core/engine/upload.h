/* SPDX-License-Identifier: Apache-2.0 */
/* Multipart uploads: a table in memory over a directory each on disk.
 *
 *   STATE/uploads/ID/upload.json   what the client asked for; the upload exists
 *                                  from its rename until its unlink
 *   STATE/uploads/ID/part-00001    a part's bytes and a trailer (md5, checksum); the
 *                                  trailer alone if the storage has the part
 *   STATE/uploads/ID/native.json   where the storage joins the parts (uploadnative.h);
 *                                  beside done.json: what is there is still to be dropped
 *   STATE/uploads/ID/tmp-XXXXXX    a part being sent; removed at start
 *   STATE/uploads/ID/done.json     the answer to Complete, for those who ask again
 *   STATE/uploads/drop-HEX.json    the uploads of a bucket are being dropped
 *
 * State:  OPEN -> COMPLETING -> DONE (kept a while) -> GONE
 *          ^---- on failure --'
 *          ^ '--> ABORTING ----------------------------> GONE
 *          '-- on failure --'
 *         any -> GONE, when the bucket is deleted
 *
 * Lock order: table mutex, then an upload's mutex, then the mutex of the count.
 * None is held while bytes move. */
#ifndef DG_CORE_ENGINE_UPLOAD_H
#define DG_CORE_ENGINE_UPLOAD_H

#include "core/engine/internal.h"

#define DG_PART_MAX 10000u
#define DG_REPLAY_S 900

/* One part at rest. */
struct dg_part {
  uint32_t part_no;
  uint32_t checksum_kind;
  uint32_t checksum_len;
  uint32_t crc32c; /* of the bytes at rest, checked when they are read again */
  uint64_t size_bytes;
  int64_t modified_s;
  uint8_t md5[16];
  uint8_t checksum[32];
  bool is_native; /* its bytes are at the storage, which calls it by its tag */
  char tag[DG_PART_TAG_MAX];
};

enum dg_upload_state {
  DG_UPLOAD_OPEN,
  DG_UPLOAD_COMPLETING,
  DG_UPLOAD_ABORTING,
  DG_UPLOAD_DONE,
  DG_UPLOAD_GONE
};

enum dg_native_state {
  DG_NATIVE_UNDECIDED,
  DG_NATIVE_BEGINNING,
  DG_NATIVE_BEGUN,
  DG_NATIVE_NEVER
};

struct dg_upload {
  gint refs;
  /* Constant. */
  char id[DG_UPLOAD_ID_LEN + 1];
  char *dir, *bucket, *key;
  struct dg_meta *meta;
  uint32_t checksum_kind;
  bool checksum_full_object;
  int64_t initiated_s;

  GMutex mutex; /* guards everything below */
  GCond changed;
  enum dg_upload_state state;
  uint64_t touched_mono_ms;
  uint32_t sender_count; /* parts being sent */
  bool parts_loaded;
  GTree *parts; /* part_no -> struct dg_part * */
  uint64_t file_bytes; /* of the parts that are files: their room, below */
  struct {
    enum dg_native_state state;
    char *part_sizes; /* what the object will tell of its parts (partnotes.h); NULL: nothing */
    char *backend, *bucket, *token; /* once BEGUN, constant */
    GHashTable *busy; /* numbers of parts that the storage is taking just now: a set */
  } native;
  /* DONE. */
  struct dg_put_result result;
  uint8_t request_sha256[32];
  int64_t done_s;
};

int dg_upload_table_new(struct dg_engine *engine, struct dg_upload_table **ret_table,
                        struct dg_error *err);
void dg_upload_table_free(struct dg_upload_table *table);
uint64_t dg_upload_table_open_count(struct dg_upload_table *table); /* O(1) */
/* Room on disk for bytes of parts, at rest and on their way, over all uploads.
 * bytes_max: 0 is no limit. DG_E_SLOW_DOWN: there is no more. Whoever takes it gives it
 * back, or leaves it to the upload's file_bytes with the part. */
int dg_upload_room_take(struct dg_upload_table *table, uint64_t bytes, uint64_t bytes_max,
                        struct dg_error *err);
void dg_upload_room_give(struct dg_upload_table *table, uint64_t bytes);
/* Without upload->mutex, when no part can come to rest any more: its files are removed. */
void dg_upload_room_leave(struct dg_upload_table *table, struct dg_upload *upload);
uint64_t dg_upload_table_part_bytes(struct dg_upload_table *table);
/* With upload->mutex: turns it DONE or GONE, and another one may be created. */
void dg_upload_end_locked(struct dg_upload_table *table, struct dg_upload *upload,
                          enum dg_upload_state state);
/* Every upload, each with a reference of the array's. Transferred. */
GPtrArray *dg_upload_table_all(struct dg_upload_table *table);
/* Out of the table and off the disk, once its state is DG_UPLOAD_GONE. Returns
 * the bytes freed. */
uint64_t dg_upload_remove(struct dg_upload_table *table, struct dg_upload *upload);

/* A new reference to the upload of that id, bucket and key; DG_E_NO_SUCH_UPLOAD. */
int dg_upload_find(struct dg_upload_table *table, struct dg_slice bucket, struct dg_slice key,
                   struct dg_slice id, struct dg_upload **ret_upload, struct dg_error *err);
void dg_upload_unref(struct dg_upload *upload); /* NULL is fine */
/* With upload->mutex: reads the parts' trailers, once. */
int dg_upload_load_parts_locked(struct dg_upload *upload, struct dg_error *err);
char *dg_upload_part_path(const struct dg_upload *upload, uint32_t part_no);
/* [worker] The bytes of a part that is a file, checked as they are read. */
int dg_part_drain(struct dg_engine *engine, const struct dg_call *call,
                  const struct dg_upload *upload, const struct dg_part *part, dg_sink_fn sink,
                  void *receiver, struct dg_error *err);
void dg_upload_touch_locked(struct dg_upload *upload);

/* ---- Deleted buckets: uploadbucket.c ---------------------------------------------- */

/* Around the deletion of a bucket, under its exclusive lock. bucket: as the
 * client named it. begin makes sure that a crash drops the uploads too (*ret_any:
 * there are some); end drops them if it was deleted. delete_code: DG_E_OK, or the
 * deletion's error; one that leaves open what happened makes end ask the backend.
 * [worker] */
int dg_upload_drop_begin(struct dg_engine *engine, const struct dg_call *call,
                         const struct dg_route *route, struct dg_slice bucket, bool *ret_any,
                         struct dg_error *err);
void dg_upload_drop_end(struct dg_engine *engine, const struct dg_call *call,
                        const struct dg_route *route, struct dg_slice bucket,
                        int32_t delete_code);
/* Before a bucket is created, without a lock: fails while it is unknown whether
 * an earlier deletion of that name was carried out. [worker] */
int dg_upload_drop_settle(struct dg_engine *engine, const struct dg_call *call,
                          const struct dg_route *route, struct dg_slice bucket,
                          struct dg_error *err);
/* Finishes what a crash interrupted, or a backend could not answer. is_start:
 * nobody writes notes yet, so half ones are removed. [worker] */
void dg_upload_drop_recover(struct dg_upload_table *table, struct dg_engine *engine,
                            bool is_start);

/* ---- On disk: uploadstore.c ----------------------------------------------------- */

struct dg_upload *dg_upload_new(const char *dir, const char *id);
int dg_upload_save(struct dg_upload *upload, struct dg_error *err);
int dg_upload_save_done(struct dg_upload *upload, struct dg_error *err);
int dg_upload_save_native(struct dg_upload *upload, struct dg_error *err);
void dg_upload_remove_native(const struct dg_upload *upload);
/* From its directory. False: there is no whole upload in it. */
bool dg_upload_load(struct dg_upload *upload);
/* The parts only, or all of it; upload.json goes first, so that a crash leaves
 * an orphan and no half upload. Returns the bytes freed. */
uint64_t dg_upload_remove_parts(const struct dg_upload *upload);
uint64_t dg_upload_remove_dir(const char *dir);
int dg_dir_sync(const char *dir, struct dg_error *err);
/* A small durable file that names a bucket. load: NULL if it is not whole; free
 * with g_free(). */
int dg_upload_note_save(const char *dir, const char *name, struct dg_slice bucket,
                        struct dg_error *err);
char *dg_upload_note_load(const char *dir, const char *name);

#define DG_PART_TRAILER 256u
void dg_part_encode(const struct dg_part *part, uint8_t trailer[DG_PART_TRAILER]);
bool dg_part_decode(const uint8_t trailer[DG_PART_TRAILER], struct dg_part *ret_part);

#endif
