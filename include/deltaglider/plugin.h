/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The DeltaGlider plugin contract: everything a third party compiles against.
 *
 * A plugin is a shared module that exports one symbol, defined with
 * DG_PLUGIN_ENTRY(), which returns a static `struct dg_plugin`. The server
 * copies that struct and the ops table behind it into zeroed structs of its
 * own size, so a plugin built on an older minor version reads as NULL where
 * it has nothing to say.
 *
 * LIFECYCLE
 *
 *   dlopen -> entry() -> create() -> ops ... -> destroy() -> (stays mapped)
 *
 * THREADS, as tagged on each function
 *
 *   [startup]  the main thread, while no other thread runs
 *   [worker]   a worker thread; may block
 *   [any]      any thread; must not block
 *
 * OWNERSHIP: *borrowed* for the call, *transferred* to the receiver, *shared*
 * under a reference count. Memory is freed by the side that allocated it.
 *
 * ERRORS: a function returns 0, or -1 with `err` filled by dg_fail(). Outputs
 * are named ret_ and stay untouched on failure.
 *
 * STRINGS are `struct dg_slice`: length-counted, not NUL-terminated, unless a
 * comment says otherwise.
 *
 * CHANGES
 *   1.0  first version (unstable until the 1.0 release of the server)
 *   1.1  crypts; backends: head_both, seal_natively, DG_CAP_NATIVE_SEAL, and
 *        get() cuts a range that runs past the end; options: patterns;
 *        probe() tells outages and refused credentials from other errors
 *   1.2  backends: share, lease_take, lease_renew, lease_give, lease_list
 *   1.3  backends: uploads that the storage joins itself (upload_begin, _part,
 *        _complete, _abort, DG_CAP_NATIVE_UPLOAD, dg_commit_result.tag,
 *        DG_META_PLAIN)
 *   1.4  backends: copies that the storage makes itself (copy, DG_CAP_NATIVE_COPY)
 *   1.5  codes for storage whose own encryption keys fail (DG_E_KMS_*), that refuses
 *        us (DG_E_BACKEND_DENIED), and for others' buckets (DG_E_BUCKET_TAKEN)
 *   1.6  backends: notes beside the objects (note_put, note_get, note_remove,
 *        DG_CAP_NOTES), and the parts of what the storage joined (locate_part,
 *        DG_CAP_LOCATE_PART)
 */
#ifndef DELTAGLIDER_PLUGIN_H
#define DELTAGLIDER_PLUGIN_H

#ifndef DG_ABI_UNSTABLE
#error "The plugin ABI is not frozen yet: define DG_ABI_UNSTABLE to build against it"
#endif

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DG_ABI_MAJOR 1
#define DG_ABI_MINOR 6

#if defined(__GNUC__)
#define DG_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define DG_EXPORT __attribute__((visibility("default")))
#else
#define DG_PRINTF(fmt, args)
#define DG_EXPORT
#endif

/* ---- Slices, ranges, errors ---------------------------------------------- */

/* A borrowed view of bytes. Frozen: passed by value. */
struct dg_slice {
  const char *data;
  size_t len;
};

#ifdef __cplusplus
#define DG_SLICE(literal) (dg_slice{(literal), sizeof(literal) - 1})
#else
#define DG_SLICE(literal) ((struct dg_slice){(literal), sizeof(literal) - 1})
#endif

/* Bytes [offset, offset + length). length == DG_TO_END: up to the end.
 * Frozen: passed by value. */
struct dg_range {
  uint64_t offset;
  uint64_t length;
};
#define DG_TO_END UINT64_MAX

/* Error codes. Each has one row in core/s3/errors.def, which maps it to an
 * HTTP status, an S3 code and a text for clients. Never renumber. */
#define DG_E_OK 0
#define DG_E_INTERNAL 1            /* anything without a code of its own */
#define DG_E_IO 2                  /* the storage failed */
#define DG_E_NO_SUCH_KEY 3
#define DG_E_NO_SUCH_BUCKET 4
#define DG_E_NO_SUCH_UPLOAD 5
#define DG_E_BUCKET_EXISTS 6       /* BucketAlreadyOwnedByYou */
#define DG_E_BUCKET_NOT_EMPTY 7
#define DG_E_INVALID_BUCKET_NAME 8
#define DG_E_INVALID_ARGUMENT 9
#define DG_E_INVALID_REQUEST 10
#define DG_E_MALFORMED_XML 11
#define DG_E_BAD_DIGEST 12
#define DG_E_INVALID_DIGEST 13
#define DG_E_INVALID_PART 14
#define DG_E_INVALID_PART_ORDER 15
#define DG_E_ENTITY_TOO_LARGE 16
#define DG_E_ENTITY_TOO_SMALL 17
#define DG_E_KEY_TOO_LONG 18
#define DG_E_METADATA_TOO_LARGE 19
#define DG_E_INVALID_RANGE 20
#define DG_E_PRECONDITION_FAILED 21
#define DG_E_NOT_MODIFIED 22
#define DG_E_ACCESS_DENIED 23
#define DG_E_SIGNATURE_MISMATCH 24
#define DG_E_TIME_SKEWED 25
#define DG_E_EXPIRED_TOKEN 26      /* presigned URL past its expiry */
#define DG_E_AUTH_MALFORMED 27     /* AuthorizationHeaderMalformed */
#define DG_E_AUTH_QUERY 28         /* AuthorizationQueryParametersError */
#define DG_E_NOT_IMPLEMENTED 29
#define DG_E_METHOD_NOT_ALLOWED 30
#define DG_E_SLOW_DOWN 31          /* throttled: try again later */
#define DG_E_UNAVAILABLE 32        /* backend unreachable */
#define DG_E_TIMEOUT 33
#define DG_E_NO_SPACE 34           /* ENOSPC, EDQUOT: InsufficientStorage */
#define DG_E_READ_ONLY 35          /* EROFS */
#define DG_E_CORRUPT 36            /* stored bytes do not match their digest */
#define DG_E_CANCELLED 37          /* the call's cancel flag was raised */
#define DG_E_UNSUPPORTED 38        /* the plugin lacks this operation */
#define DG_E_CONFIG 39             /* a bad option value */
#define DG_E_CHECKSUM_MISMATCH 40  /* x-amz-checksum-*: BadDigest */
#define DG_E_MISSING_LENGTH 41     /* MissingContentLength */
#define DG_E_INCOMPLETE_BODY 42
#define DG_E_REPLAY 43
#define DG_E_QUOTA 44
#define DG_E_CONFLICT 45           /* ConditionalRequestConflict, 409 */
#define DG_E_PAYLOAD_MISMATCH 46   /* XAmzContentSHA256Mismatch */
#define DG_E_NO_SUCH_TAG_SET 47
#define DG_E_NO_SUCH_BUCKET_POLICY 48
#define DG_E_MALFORMED_POST 49     /* MalformedPOSTRequest */
#define DG_E_REQUEST_TIMEOUT 50
#define DG_E_LIMIT 51              /* a bound on hostile input was reached */
#define DG_E_BACKEND_DOWN 52       /* the server holds requests back from this backend */
/* Since 1.5. The storage encrypts, and cannot use the key that it was told to. */
#define DG_E_KMS_DISABLED 53
#define DG_E_KMS_NOT_FOUND 54
#define DG_E_KMS_DENIED 55         /* its policy keeps our credentials from the key */
#define DG_E_KMS_UNUSABLE 56       /* about to be deleted, of the wrong kind ... */
#define DG_E_BACKEND_DENIED 57     /* the storage refuses our credentials, or what we ask for: not
                                      the client's AccessDenied */
#define DG_E_BUCKET_TAKEN 58       /* BucketAlreadyExists: somebody else has it */
#define DG_E_MAX 59

/* Lives on the caller's stack; never NULL, never grows, never allocates.
 * `detail` is for operators. Clients see it only with the few codes about their
 * own input that errors.def marks (DG_E_INVALID_ARGUMENT ...): a plugin puts no
 * paths or secrets into those. */
struct dg_error {
  int32_t code;
  char detail[252];
};

/* Fills err and returns -1, so that `return dg_fail(...)` reads as one step. */
DG_PRINTF(3, 4)
static inline int dg_fail(struct dg_error *err, int32_t code, const char *format, ...)
{
  va_list args;

  err->code = code;
  va_start(args, format);
  (void)vsnprintf(err->detail, sizeof err->detail, format, args);
  va_end(args);
  return -1;
}

/* ---- One call ------------------------------------------------------------ */

/* What every op knows about the request it serves. Borrowed for the call, and
 * by a reader or writer for as long as that lives. */
struct dg_call {
  uint32_t struct_size;
  uint32_t reserved;
  struct dg_slice request_id;  /* for log lines */
  uint64_t deadline_mono_ms;   /* CLOCK_MONOTONIC; 0: none */
  const int32_t *cancelled;    /* NULL, or set non-zero when the client left; read it
                                  atomically between chunks */
};

/* ---- Readers and writers -------------------------------------------------
 *
 * Every layer (backend, crypt, codec, hash) is one of these two shapes, so a
 * GET and a PUT are chains built once. The engine pulls or pushes one bounded
 * chunk per task; calls on one object never overlap but may come from
 * different worker threads. */

struct dg_reader;
struct dg_writer;

struct dg_reader_ops {
  uint32_t struct_size, reserved;
  /* [worker] Reads up to capacity bytes. *ret_len == 0 means the end; a short
   * read before the end is allowed. */
  int (*read)(struct dg_reader *reader, void *buffer, size_t capacity, size_t *ret_len,
              struct dg_error *err);
  /* [worker] Optional. The rest of the stream as bytes of a plain local file,
   * when nothing remains to be transformed. *ret_fd is transferred (close it).
   * Only before the first read. DG_E_UNSUPPORTED when it is not so. */
  int (*file_range)(struct dg_reader *reader, int32_t *ret_fd, uint64_t *ret_offset,
                    uint64_t *ret_length, struct dg_error *err);
  /* [worker] Frees the reader. */
  void (*close)(struct dg_reader *reader);
};

/* Embedded first in the implementation's own struct. */
struct dg_reader {
  const struct dg_reader_ops *ops;
};

struct dg_item;
struct dg_meta;
struct dg_commit_result;

struct dg_writer_ops {
  uint32_t struct_size, reserved;
  /* [worker] Takes all of it or fails. */
  int (*write)(struct dg_writer *writer, const void *data, size_t len, struct dg_error *err);
  /* [worker] Makes everything written durable and visible under `item`, with
   * `meta`, replacing what is there, all or nothing. The item may differ from
   * the one given at open if the backend has DG_CAP_LATE_NAME. Frees the
   * writer, success or not: after a failure the old object is intact. */
  int (*commit)(struct dg_writer *writer, const struct dg_item *item, const struct dg_meta *meta,
                struct dg_commit_result *ret_result, struct dg_error *err);
  /* [worker] Drops everything written and frees the writer. */
  void (*abort)(struct dg_writer *writer);
  /* [worker] Optional (DG_CAP_READ_BACK). A reader over what was written so
   * far, before commit; the writer stays usable once the reader is closed. */
  int (*read_back)(struct dg_writer *writer, struct dg_reader **ret_reader, struct dg_error *err);
};

struct dg_writer {
  const struct dg_writer_ops *ops;
};

/* Random access to bytes at rest. [worker]; parallel calls are allowed.
 * Fails rather than reading short. Given to codecs by the engine. */
struct dg_source {
  uint32_t struct_size, reserved;
  void *self;
  uint64_t size_bytes;
  int (*read_at)(void *self, uint64_t offset, void *buffer, size_t len, struct dg_error *err);
};

/* ---- Stored items and their metadata ------------------------------------- */

/* How an object is stored. Values are part of the contract. */
#define DG_VARIANT_PASSTHROUGH 1u /* the bytes themselves */
#define DG_VARIANT_DELTA 2u       /* a delta against the deltaspace's reference */
#define DG_VARIANT_REFERENCE 3u   /* that reference; its key is the deltaspace prefix:
                                     empty, or ending in '/' */

/* Names one stored thing. The backend turns it into a path or an upstream key
 * (`X`, `X.delta`, `PREFIXreference.bin`), escaping what its layout cannot
 * hold. */
struct dg_item {
  struct dg_slice bucket;
  struct dg_slice key; /* as the client wrote it, 1..1024 bytes of UTF-8 */
  uint32_t variant;    /* DG_VARIANT_* */
  uint32_t flags;      /* DG_ITEM_*, for commit() and remove() */
};

/* With DG_CAP_IF_ABSENT: commit only if the item does not exist, else fail with
 * DG_E_PRECONDITION_FAILED and leave what is there. */
#define DG_ITEM_IF_ABSENT 1u
/* Since 1.6. remove() of what a look under the same lock has not found: it counts only if
 * the backend may have begun to store it, and waits for an answer no more. Else it may
 * fail with DG_E_NO_SUCH_KEY without another look. */
#define DG_ITEM_UNSEEN 2u

struct dg_pair {
  struct dg_slice name;
  struct dg_slice value;
};

/* An object's metadata. Slices are NUL-terminated for convenience (not
 * counted in len) and owned by the meta object; an empty slice means absent.
 * A backend fills one through the host's meta services; an engine reads it. */
struct dg_meta {
  uint32_t struct_size;
  uint32_t variant;            /* DG_VARIANT_* */
  uint64_t file_size;          /* plaintext bytes of the object */
  uint64_t stored_size;        /* bytes at rest of this item; set by the backend */
  int64_t created_at_s;        /* seconds since 1970 UTC */
  uint32_t created_at_ns;
  uint32_t flags;              /* DG_META_* below */
  uint64_t delta_size;         /* delta only: plaintext delta bytes */
  struct dg_slice tool;
  struct dg_slice original_name;
  struct dg_slice file_sha256; /* 64 hex, or empty if unknown */
  struct dg_slice md5;         /* 32 hex, or empty if unknown */
  struct dg_slice multipart_etag; /* with its quotes */
  struct dg_slice content_type;
  struct dg_slice source_name; /* reference only */
  struct dg_slice ref_path;    /* delta only */
  struct dg_slice ref_sha256;  /* delta only */
  struct dg_slice delta_cmd;   /* delta only, cosmetic */
  struct dg_slice unmanaged_etag; /* unmanaged only: hex, without quotes */
  struct dg_slice validator;   /* opaque bytes that change whenever the stored item does */
  const struct dg_pair *user;  /* client metadata, names without x-amz-meta- */
  uint32_t user_count;
  uint32_t extension_count;
  const struct dg_pair *extensions; /* our own fields, which DeltaGlider Proxy ignores:
                                       cache-control, checksum-crc32, dgx1-sha256 ... */
};

/* The extension that tells the sizes of a multipart object's parts, or names the note
 * that does (core/engine/partsizes.h has the form). It may be long; a backend that has
 * no room for it leaves it out rather than refuse the object. */
#define DG_EXTENSION_PART_SIZES "part-sizes"

#define DG_META_UNMANAGED 1u /* no usable DeltaGlider metadata: served as is, whatever its name. A
                                VCDIFF that lost its metadata is corrupt instead */
#define DG_META_CORRUPT 2u   /* metadata present but unreadable: listed never, served never */
#define DG_META_PLAIN 4u     /* since 1.3, with UNMANAGED: this server stored it, by upload_*(). Its
                                bytes are plain, whatever they begin with */

/* Text fields for dg_host.meta_set(). */
#define DG_FIELD_TOOL 1u
#define DG_FIELD_ORIGINAL_NAME 2u
#define DG_FIELD_FILE_SHA256 3u
#define DG_FIELD_MD5 4u
#define DG_FIELD_MULTIPART_ETAG 5u
#define DG_FIELD_CONTENT_TYPE 6u
#define DG_FIELD_SOURCE_NAME 7u
#define DG_FIELD_REF_PATH 8u
#define DG_FIELD_REF_SHA256 9u
#define DG_FIELD_DELTA_CMD 10u
#define DG_FIELD_UNMANAGED_ETAG 11u
#define DG_FIELD_VALIDATOR 12u

#define DG_PART_TAG_MAX 136u

struct dg_commit_result {
  uint32_t struct_size, reserved;
  uint64_t stored_size;
  /* Since 1.3. upload_part only: what upload_complete() names the part by. Printable
   * ASCII and a NUL. */
  char tag[DG_PART_TAG_MAX];
};

/* ---- Options ------------------------------------------------------------- */

#define DG_OPT_STRING 1u
#define DG_OPT_BOOL 2u
#define DG_OPT_INT 3u      /* dg_config.get_int */
#define DG_OPT_SIZE 4u     /* bytes; accepts KiB, MiB, GiB, TiB; get_int */
#define DG_OPT_DURATION 5u /* milliseconds; accepts ms, s, m, h, d; get_int */
#define DG_OPT_PATH 6u
#define DG_OPT_DOUBLE 7u
#define DG_OPT_ENUM 8u     /* choices: "a|b|c" in .choices; get_text. One with on and off takes
                              true, false and their like for them */
#define DG_OPT_SECRET 9u   /* never printed; may come from a file */

/* One row of a plugin's configuration, ended by name == NULL. From this table
 * come validation, the environment, the schema, redaction and the manual. */
struct dg_option {
  const char *name;
  uint32_t type;       /* DG_OPT_* */
  uint32_t required;   /* non-zero: must be given */
  const char *dflt;    /* default as YAML text; NULL: none */
  const char *choices; /* DG_OPT_ENUM: "a|b|c". Since 1.1, DG_OPT_STRING and SECRET: NULL, or a POSIX
                          extended regular expression that begins with '^' and that values match */
  int64_t min, max;    /* DG_OPT_INT, SIZE, DURATION; both 0: no limit */
  const char *help;    /* one sentence */
};

/* The parsed options of one instance. Borrowed for create(). Every declared
 * option has a value: the file's, or its default. Unknown names return the
 * fallback zero. [startup] */
struct dg_config {
  uint32_t struct_size, reserved;
  const void *self;
  const char *instance_name;
  const char *(*get_text)(const struct dg_config *config, const char *name); /* NULL: not set */
  int64_t (*get_int)(const struct dg_config *config, const char *name);
  double (*get_double)(const struct dg_config *config, const char *name);
  int32_t (*get_bool)(const struct dg_config *config, const char *name);
};

/* ---- Host services ------------------------------------------------------- */

#define DG_LOG_ERROR 1u
#define DG_LOG_WARN 2u
#define DG_LOG_INFO 3u
#define DG_LOG_DEBUG 4u

/* What the server offers a plugin. Given to create(); valid until destroy()
 * returns. Check abi_minor before using anything later than 1.0. */
struct dg_host {
  uint32_t struct_size;
  uint16_t abi_major, abi_minor;
  void *self;
  /* [any] event is a stable dotted name, message is `key=value ...`. */
  void (*log)(const struct dg_host *host, uint32_t level, const char *event, const char *message);
  /* Absolute path of a directory this instance may fill with rebuildable
   * files, mode 0700. May be NULL in tests. */
  const char *cache_dir;
  /* [any] Sets a text field (DG_FIELD_*): copies value into meta's own memory. */
  int (*meta_set)(struct dg_meta *meta, uint32_t field, struct dg_slice value,
                  struct dg_error *err);
  /* [any] Appends one pair of client metadata, or of extensions. */
  int (*meta_add_user)(struct dg_meta *meta, struct dg_slice name, struct dg_slice value,
                       struct dg_error *err);
  int (*meta_add_extension)(struct dg_meta *meta, struct dg_slice name, struct dg_slice value,
                            struct dg_error *err);
  /* [any] Crash and error injection for tests: returns 0, or an errno the
   * named step must fail with, or does not return. Always 0 in production. */
  int32_t (*fault)(const struct dg_host *host, const char *step);
};

/* ---- Backends: where bytes lie ------------------------------------------- */

#define DG_CAP_PUT_ATOMIC (UINT64_C(1) << 0) /* a reader sees the old object or the new one */
#define DG_CAP_DURABLE (UINT64_C(1) << 1)    /* committed means it survives power loss */
#define DG_CAP_LATE_NAME (UINT64_C(1) << 2)  /* commit may name another item than open did */
#define DG_CAP_READ_BACK (UINT64_C(1) << 3)  /* writers implement read_back; abort is cheap */
#define DG_CAP_VALIDATOR (UINT64_C(1) << 4)  /* metas carry a validator; validate() works */
#define DG_CAP_LOCAL_FILE (UINT64_C(1) << 5) /* readers implement file_range */
/* Commits obey DG_ITEM_IF_ABSENT, also against other servers on the same
 * storage, wherever the storage itself can. */
#define DG_CAP_IF_ABSENT (UINT64_C(1) << 6)
#define DG_CAP_NATIVE_SEAL (UINT64_C(1) << 7) /* the storage can encrypt by itself: seal_natively() */
#define DG_CAP_NATIVE_UPLOAD (UINT64_C(1) << 8) /* the storage can join parts: upload_*() */
#define DG_CAP_NATIVE_COPY (UINT64_C(1) << 9)   /* the storage can copy: copy() */
#define DG_CAP_NOTES (UINT64_C(1) << 10)        /* it keeps notes: note_*() */
#define DG_CAP_LOCATE_PART (UINT64_C(1) << 11)  /* it may know the parts of an object: locate_part() */

/* One call per entry, in ascending byte order of name. Return non-zero to
 * stop the listing early (not an error). Everything is borrowed. */
struct dg_bucket_row {
  uint32_t struct_size, reserved;
  struct dg_slice name;
  int64_t created_at_s;
};
typedef int32_t (*dg_bucket_row_fn)(void *receiver, const struct dg_bucket_row *row);

#define DG_ROW_OBJECT 1u
#define DG_ROW_PREFIX 2u /* a common prefix, ending with the delimiter */

/* A listing in ascending byte order of user keys. An object stored in two
 * variants (after a crash) yields two adjacent rows of the same key; the
 * engine chooses. References are never listed unless asked for. */
struct dg_list_request {
  uint32_t struct_size;
  uint32_t flags;                /* DG_LIST_* */
  struct dg_slice bucket;
  struct dg_slice prefix;        /* may be empty, may end inside a segment */
  struct dg_slice delimiter;     /* may be empty; any string */
  struct dg_slice start_after;   /* only names sorting strictly after it. If it is itself a common
                                    prefix (ends with the delimiter), skip everything below it */
  uint64_t max_rows;             /* how many rows the caller means to take; 0: unknown. A hint: what
                                    is fetched beyond them is wasted */
};
#define DG_LIST_REFERENCES 1u    /* also yield reference items, with key = deltaspace prefix */
#define DG_LIST_NO_META 2u       /* rows need no metadata: meta may be NULL */

struct dg_list_row {
  uint32_t struct_size;
  uint32_t type;                 /* DG_ROW_* */
  struct dg_slice key;           /* user key, or common prefix */
  const struct dg_meta *meta;    /* DG_ROW_OBJECT only */
};
typedef int32_t (*dg_list_row_fn)(void *receiver, const struct dg_list_row *row);

/* A lease that lies in a bucket. Everything is borrowed for the call. */
struct dg_lease_row {
  uint32_t struct_size;
  uint32_t flags;                /* DG_LEASE_LAPSED */
  struct dg_slice prefix;        /* the deltaspace it is about */
};
#define DG_LEASE_LAPSED 1u       /* its time is over: whoever held it died, or left it so */
/* Returns non-zero to stop early (not an error). */
typedef int32_t (*dg_lease_row_fn)(void *receiver, const struct dg_lease_row *row);

/* A note's id: 1 to so many of [0-9a-z-]; and how long it may be, in bytes. */
#define DG_NOTE_ID_MAX 64u
#define DG_NOTE_MAX 65536u

/* An upload's name in the storage; a string, its NUL included. */
#define DG_UPLOAD_TOKEN_MAX 1024u

/* One part of an upload that is to be completed. */
struct dg_upload_piece {
  uint32_t struct_size;
  uint32_t part_no;    /* ascending */
  struct dg_slice tag; /* from its commit */
};

struct dg_backend_ops {
  uint32_t struct_size, reserved;
  uint64_t caps; /* DG_CAP_* promises; the conformance suite tests each */

  /* [startup] Borrows config for the call, host for the instance's life. */
  int (*create)(const struct dg_host *host, const struct dg_config *config, void **ret_self,
                struct dg_error *err);
  void (*destroy)(void *self); /* [startup] after the last op; NULL is fine */

  /* [worker] Buckets. Errors: DG_E_BUCKET_EXISTS, DG_E_NO_SUCH_BUCKET,
   * DG_E_BUCKET_NOT_EMPTY (references alone do not count: they go too). */
  int (*bucket_create)(void *self, const struct dg_call *call, struct dg_slice bucket,
                       struct dg_error *err);
  int (*bucket_delete)(void *self, const struct dg_call *call, struct dg_slice bucket,
                       struct dg_error *err);
  int (*bucket_head)(void *self, const struct dg_call *call, struct dg_slice bucket,
                     struct dg_error *err);
  int (*bucket_list)(void *self, const struct dg_call *call, dg_bucket_row_fn row, void *receiver,
                     struct dg_error *err);

  /* [worker] Fills meta (given empty) for one item. DG_E_NO_SUCH_KEY. */
  int (*head)(void *self, const struct dg_call *call, const struct dg_item *item,
              struct dg_meta *meta, struct dg_error *err);
  /* [worker] Metadata and a reader over `range` of the stored bytes, from one
   * consistent version. A range that runs past the end is cut there; one that
   * begins past the last byte fails with DG_E_INVALID_RANGE, unless it begins at
   * the end and asks for nothing or DG_TO_END. */
  int (*get)(void *self, const struct dg_call *call, const struct dg_item *item,
             struct dg_range range, struct dg_meta *meta, struct dg_reader **ret_reader,
             struct dg_error *err);
  /* [worker] Opens a writer. size_hint: exact plaintext size, or DG_TO_END.
   * DG_E_NO_SUCH_BUCKET when the bucket is missing: a put never makes one. */
  int (*put)(void *self, const struct dg_call *call, const struct dg_item *item,
             uint64_t size_hint, struct dg_writer **ret_writer, struct dg_error *err);
  /* [worker] Removes one item durably. DG_E_NO_SUCH_KEY when absent. */
  int (*remove)(void *self, const struct dg_call *call, const struct dg_item *item,
                struct dg_error *err);
  /* [worker] One page or more, until row() returns non-zero. */
  int (*list)(void *self, const struct dg_call *call, const struct dg_list_request *request,
              dg_list_row_fn row, void *receiver, struct dg_error *err);
  /* [worker] Replaces an item's metadata, atomically, bytes untouched.
   * NULL: the engine rewrites the object. */
  int (*set_meta)(void *self, const struct dg_call *call, const struct dg_item *item,
                  const struct dg_meta *meta, struct dg_error *err);
  /* [worker] DG_CAP_VALIDATOR. *ret_same: non-zero if the stored item still
   * has this validator. Cheap: one stat or one HEAD. */
  int (*validate)(void *self, const struct dg_call *call, const struct dg_item *item,
                  struct dg_slice validator, int32_t *ret_same, struct dg_error *err);
  /* [worker] Is the storage usable now? DG_E_ACCESS_DENIED: it refuses our
   * credentials; DG_E_UNAVAILABLE, DG_E_TIMEOUT: it cannot be reached. Requests are
   * held back then. DG_E_CONFIG: no waiting will mend it. Anything else: it answers,
   * but with errors. */
  int (*probe)(void *self, const struct dg_call *call, struct dg_error *err);
  /* [worker] Optional. head() of an object's passthrough and of its delta in
   * one step, for storage where each look is a round trip. Fills the metas
   * (given empty) of those that are there: *ret_found is a set of
   * DG_FOUND_*, 0 when there is neither, which is no failure. */
  int (*head_both)(void *self, const struct dg_call *call, struct dg_slice bucket,
                   struct dg_slice key, struct dg_meta *passthrough, struct dg_meta *delta,
                   uint32_t *ret_found, struct dg_error *err);
  /* Since 1.1. [startup] DG_CAP_NATIVE_SEAL: from now on every write (put,
   * upload, copy) carries these request headers, by which the storage encrypts
   * what it stores. Pairs are borrowed for the call. Called at most once. */
  int (*seal_natively)(void *self, const struct dg_pair *pairs, uint32_t count,
                       struct dg_error *err);

  /* Since 1.2. Several servers on one storage: all five or none.
   *
   * A lease gives one server the right to change a deltaspace: prefix is what a
   * reference's key would be. After share(), commit(), remove() and set_meta()
   * take effect only under the lease of the item's deltaspace: while it holds,
   * or never. What was sent under it and got no answer may still take effect as
   * long as it holds. Where it has run out, or was not taken, they fail.
   *
   * [startup] From now on other servers write here too. DG_E_UNSUPPORTED when
   * the storage cannot keep them apart: detail says what it lacks. bucket_delete
   * then leaves references alone, and fails with DG_E_BUCKET_NOT_EMPTY. */
  int (*share)(void *self, const struct dg_call *call, struct dg_error *err);
  /* [worker] Takes the lease for ttl_ms, once, without waiting. DG_E_CONFLICT:
   * another server has it. *ret_flags: DG_LEASE_LAPSED if it was taken over from
   * one that never gave it back. */
  int (*lease_take)(void *self, const struct dg_call *call, struct dg_slice bucket,
                    struct dg_slice prefix, uint32_t ttl_ms, uint32_t *ret_flags,
                    struct dg_error *err);
  /* [worker] Makes it last for ttl_ms from now. DG_E_CONFLICT: it is lost. */
  int (*lease_renew)(void *self, const struct dg_call *call, struct dg_slice bucket,
                     struct dg_slice prefix, uint32_t ttl_ms, struct dg_error *err);
  /* [worker] Gives it back. *ret_wait_ms: 0 when this server no longer has it.
   * Else something that was sent under it may still take effect: it is kept, and
   * is to be given back again after so long. keep: non-zero to forget it and leave
   * it where it is, until its time is over. */
  int (*lease_give)(void *self, const struct dg_call *call, struct dg_slice bucket,
                    struct dg_slice prefix, int32_t keep, uint32_t *ret_wait_ms,
                    struct dg_error *err);
  /* [worker] The leases of all servers in a bucket. */
  int (*lease_list)(void *self, const struct dg_call *call, struct dg_slice bucket,
                    dg_lease_row_fn row, void *receiver, struct dg_error *err);

  /* Since 1.3. [worker] DG_CAP_NATIVE_UPLOAD: an object that comes in parts, in any
   * order, and that the storage joins. All four name the same item. The object
   * becomes DG_META_UNMANAGED and DG_META_PLAIN: it has no digests, the ETag and the
   * date are the storage's. It keeps the content type, the user pairs and the
   * extensions of begin's meta; DG_E_UNSUPPORTED when it cannot. An upload outlives
   * the instance. *ret_token: DG_UPLOAD_TOKEN_MAX bytes of the caller's. */
  int (*upload_begin)(void *self, const struct dg_call *call, const struct dg_item *item,
                      const struct dg_meta *meta, char *ret_token, struct dg_error *err);
  /* A writer of exactly size_bytes. Its commit makes them part part_no (1..10000), in
   * the place of an earlier one, and tells the tag; of the meta it is given, only
   * file_size and md5 count. An abort, or a failed commit, leaves the earlier part or,
   * if the storage's answer was lost, either. DG_E_NO_SUCH_UPLOAD, now or at commit. */
  int (*upload_part)(void *self, const struct dg_call *call, const struct dg_item *item,
                     struct dg_slice token, uint32_t part_no, uint64_t size_bytes,
                     struct dg_writer **ret_writer, struct dg_error *err);
  /* The parts named become the object, all or nothing, and others are dropped. Fills
   * meta (given empty) as head() would then. Once done it can be repeated: that
   * succeeds as long as the object is there. DG_E_INVALID_PART (also from a storage that
   * leaves no part out), DG_E_ENTITY_TOO_SMALL, DG_E_NO_SUCH_UPLOAD. The item's
   * DG_ITEM_IF_ABSENT is obeyed as at a commit, and so is a lease. */
  int (*upload_complete)(void *self, const struct dg_call *call, const struct dg_item *item,
                         struct dg_slice token, const struct dg_upload_piece *pieces,
                         uint32_t count, struct dg_meta *meta, struct dg_error *err);
  /* Drops the upload and its parts. DG_E_NO_SUCH_UPLOAD when there is none. */
  int (*upload_abort)(void *self, const struct dg_call *call, const struct dg_item *item,
                      struct dg_slice token, struct dg_error *err);

  /* Since 1.4. [worker] DG_CAP_NATIVE_COPY: the bytes of `from`, a passthrough, as they
   * lie there, under the name of `to`, another passthrough, all or nothing like a commit.
   * With meta's metadata; if that is DG_META_UNMANAGED, it becomes an object as
   * upload_complete() makes them. validator: of the version of `from` that is meant, else
   * DG_E_PRECONDITION_FAILED. DG_E_UNSUPPORTED: not this one (too large, marked as
   * sealed ...), and nothing was done: the host carries the bytes. */
  int (*copy)(void *self, const struct dg_call *call, const struct dg_item *from,
              struct dg_slice validator, const struct dg_item *to, const struct dg_meta *meta,
              struct dg_error *err);

  /* Since 1.6. [worker] DG_CAP_NOTES: small texts of the host's own in a bucket, for
   * what an object's metadata has no room for. A note is in no listing, keeps no bucket
   * from being deleted, and goes with it. None needs a lease, and none is ever changed.
   *
   * Stores 1..DG_NOTE_MAX bytes, durably, all or nothing. DG_E_NO_SUCH_BUCKET. */
  int (*note_put)(void *self, const struct dg_call *call, struct dg_slice bucket,
                  struct dg_slice id, struct dg_slice text, struct dg_error *err);
  /* buffer: DG_NOTE_MAX bytes of the caller's. DG_E_NO_SUCH_KEY. */
  int (*note_get)(void *self, const struct dg_call *call, struct dg_slice bucket,
                  struct dg_slice id, char *buffer, size_t *ret_len, struct dg_error *err);
  /* Succeeds also when there is none. */
  int (*note_remove)(void *self, const struct dg_call *call, struct dg_slice bucket,
                     struct dg_slice id, struct dg_error *err);

  /* Since 1.6. [worker] DG_CAP_LOCATE_PART: which of a passthrough's stored bytes came as
   * part part_no (1..10000), as far as the storage knows. validator: of the version that
   * is meant, else DG_E_PRECONDITION_FAILED, or DG_E_NO_SUCH_KEY. DG_E_INVALID_RANGE: it
   * has no such part. DG_E_UNSUPPORTED: the storage does not tell. */
  int (*locate_part)(void *self, const struct dg_call *call, const struct dg_item *item,
                     struct dg_slice validator, uint32_t part_no, struct dg_range *ret_range,
                     struct dg_error *err);
};
#define DG_FOUND_PASSTHROUGH 1u
#define DG_FOUND_DELTA 2u

/* ---- Codecs: how versions shrink ------------------------------------------ */

#define DG_CAP_PARALLEL_WINDOWS (UINT64_C(1) << 0) /* encode_window calls may overlap */
#define DG_CAP_VERIFIED_WINDOWS (UINT64_C(1) << 1) /* own deltas verify window by window */

/* A reference prepared for matching: opaque, immutable, used by any number of
 * encoders and decoders at once. */
struct dg_codec_ref;
struct dg_encoder;
struct dg_decoder;

struct dg_codec_ref_params {
  uint32_t struct_size;
  uint32_t flags;          /* DG_CODEC_REF_* */
  int32_t fd;              /* a plain local file that holds the reference; borrowed for the call,
                              the codec maps it (or dups) */
  int32_t reserved;
  uint64_t offset;         /* where the reference begins in fd; a multiple of 4096 */
  uint64_t size_bytes;
  uint8_t sha256[32];      /* of the reference: the cache key of anything persisted */
  const char *cache_dir;   /* where a built index may be kept, or NULL */
};
#define DG_CODEC_REF_DECODE_ONLY 1u /* no index needed */

struct dg_encode_params {
  uint32_t struct_size;
  uint32_t flags;          /* DG_ENCODE_* */
  uint64_t target_size;    /* exact */
};
#define DG_ENCODE_IDENTITY 1u /* the target is the reference itself: ref is NULL, and each window
                                 becomes one copy */

struct dg_encode_summary {
  uint32_t struct_size, reserved;
  uint64_t window_count;
  uint64_t header_size;    /* bytes that stand before the first window */
  uint64_t windows_size;   /* sum of all windows */
};

struct dg_decode_params {
  uint32_t struct_size, reserved;
  const struct dg_source *delta; /* borrowed until decode_close */
  uint64_t target_size;          /* from the object's metadata */
  uint8_t target_sha256[32];     /* likewise; all zero if unknown */
  uint8_t header_sha256[32];     /* SHA-256 of the delta's own header as recorded at PUT;
                                    all zero if unknown: then no window counts as verified */
};

struct dg_decode_info {
  uint32_t struct_size;
  uint32_t verified;       /* non-zero: every byte a range reader returns was checked against a
                              digest bound to header_sha256. Zero: the caller verifies the whole */
  uint32_t seekable;       /* non-zero: a range costs only the windows that cover it */
  uint32_t reserved;
  uint64_t window_count;
  uint64_t largest_window; /* bytes of target */
};

struct dg_codec_ops {
  uint32_t struct_size, reserved;
  uint64_t caps;
  int (*create)(const struct dg_host *host, const struct dg_config *config, void **ret_self,
                struct dg_error *err); /* [startup] */
  void (*destroy)(void *self);         /* [startup] */

  /* [worker] Maps the reference, builds its index or loads it from cache_dir.
   * ref_bytes() tells anonymous memory held, for the cache budget. */
  int (*ref_open)(void *self, const struct dg_call *call, const struct dg_codec_ref_params *params,
                  struct dg_codec_ref **ret_ref, struct dg_error *err);
  uint64_t (*ref_bytes)(const struct dg_codec_ref *ref); /* [any] */
  void (*ref_close)(struct dg_codec_ref *ref);           /* [worker] */

  /* [worker] One encoder per object. Windows are numbered from 0; every window
   * but the last holds exactly window_size() bytes of target. */
  int (*encode_open)(void *self, const struct dg_call *call, const struct dg_codec_ref *ref,
                     const struct dg_encode_params *params, struct dg_encoder **ret_encoder,
                     struct dg_error *err);
  uint64_t (*encode_window_size)(const struct dg_encoder *encoder); /* [any] */
  /* [worker] Encodes one window into memory the encoder owns; *ret_data stays
   * valid until encode_release() of the same window. Parallel calls with
   * different numbers are allowed with DG_CAP_PARALLEL_WINDOWS, begun in
   * ascending order (one may wait for those before it); else windows come in
   * order, one at a time. An empty target has one empty window. */
  int (*encode_window)(struct dg_encoder *encoder, uint64_t number, const void *target, size_t len,
                       const void **ret_data, size_t *ret_len, struct dg_error *err);
  void (*encode_release)(struct dg_encoder *encoder, uint64_t number); /* [worker] */
  /* [worker] After the last window: the header that stands before window 0.
   * *ret_header belongs to the encoder until encode_close(). */
  int (*encode_finish)(struct dg_encoder *encoder, const uint8_t target_sha256[32],
                       struct dg_encode_summary *ret_summary, const void **ret_header,
                       struct dg_error *err);
  void (*encode_close)(struct dg_encoder *encoder); /* [worker] any time; NULL is fine */

  /* [worker] Reads the delta's header, checks it against params. */
  int (*decode_open)(void *self, const struct dg_call *call, const struct dg_codec_ref *ref,
                     const struct dg_decode_params *params, struct dg_decode_info *ret_info,
                     struct dg_decoder **ret_decoder, struct dg_error *err);
  /* [worker] A reader over a range of the target (within its size). Several
   * may live at once; all end before decode_close(). */
  int (*decode_range)(struct dg_decoder *decoder, struct dg_range range,
                      struct dg_reader **ret_reader, struct dg_error *err);
  void (*decode_close)(struct dg_decoder *decoder); /* [worker] */
};

/* ---- Crypts: how bodies are sealed ------------------------------------------
 *
 * A crypt stands between the engine and a backend and turns plaintext bodies
 * into sealed ones and back. Names, sizes, digests and client metadata stay
 * readable, and always speak of the plaintext.
 *
 * A sealed item says so in its metadata by *marks*: the user pairs
 * DG_MARK_ALGORITHM and DG_MARK_KEY_ID, and extensions whose names begin with
 * DG_MARK_PREFIX. The host keeps them from everyone but the crypt: they never
 * reach a client, never come from one, and never travel with a copy.
 *
 * A crypt never guesses: whatever does not verify is an error. Bytes are
 * authentic before they leave a reader. */

#define DG_MARK_ALGORITHM "dg-encrypted"       /* user pair: what the body is */
#define DG_MARK_KEY_ID "dg-encryption-key-id"  /* user pair: which key; may be absent */
#define DG_MARK_PREFIX "crypt-"                /* extensions */

#define DG_CAP_SEALS_NATIVELY (UINT64_C(1) << 0) /* the storage seals: native_headers() says how, and
                                                    bodies pass untouched */

struct dg_seal_params {
  uint32_t struct_size;
  uint32_t variant;       /* DG_VARIANT_* the body will be committed as */
  uint64_t plain_size;    /* exact, or DG_TO_END when unknown */
};

struct dg_unseal_params {
  uint32_t struct_size, reserved;
  const struct dg_meta *meta; /* of the item, marks included; borrowed for the call */
  uint64_t plain_size;        /* as sealed() told */
  struct dg_range plain;      /* the bytes wanted; within plain_size, length resolved */
  void *receiver;
  /* [worker] A reader (transferred) over a range of the stored bytes, all of one
   * version. Only during the call. What locate() gave for the same plaintext
   * range is at hand already; anything else costs another request. */
  int (*fetch)(void *receiver, struct dg_range stored, struct dg_reader **ret_reader,
               struct dg_error *err);
};

struct dg_crypt_ops {
  uint32_t struct_size, reserved;
  uint64_t caps;

  /* [startup] config's instance name is that of the backend: key ids may be
   * derived from it. Keys are wiped from memory when no longer needed. */
  int (*create)(const struct dg_host *host, const struct dg_config *config, void **ret_self,
                struct dg_error *err);
  void (*destroy)(void *self); /* [startup] after the last op; NULL is fine */

  /* The rest is NULL with DG_CAP_SEALS_NATIVELY, but native_headers(). */

  /* [any] Does this metadata carry marks that this crypt knows, whatever the
   * key? Then *ret_plain_size is how many plaintext bytes its stored_size bytes
   * hold; DG_TO_END if no body has that length. */
  int32_t (*sealed)(void *self, const struct dg_meta *meta, uint64_t *ret_plain_size);
  /* [any] Bytes at rest of a body that seal() would write now. */
  uint64_t (*sealed_size)(void *self, uint32_t variant, uint64_t plain_size);
  /* [any] Where a plaintext range lies in such a body, so that the stored bytes
   * can be asked for together with the metadata. May run past its end. */
  struct dg_range (*locate)(void *self, uint32_t variant, struct dg_range plain);
  /* [worker] A writer that takes plaintext and hands the sealed body to inner
   * (transferred on success); its commit and abort are passed on to inner, the
   * metadata as given. marks (empty) is filled: the host adds them to that
   * metadata. */
  int (*seal)(void *self, const struct dg_call *call, const struct dg_seal_params *params,
              struct dg_writer *inner, struct dg_meta *marks, struct dg_writer **ret_writer,
              struct dg_error *err);
  /* [worker] A reader over a range of the plaintext. DG_E_CORRUPT: the body does
   * not verify; DG_E_INTERNAL: the key is not the one it needs. */
  int (*unseal)(void *self, const struct dg_call *call, const struct dg_unseal_params *params,
                struct dg_reader **ret_reader, struct dg_error *err);

  /* [startup] DG_CAP_SEALS_NATIVELY: the headers for the backend's
   * seal_natively(). *ret_pairs belongs to self. */
  int (*native_headers)(void *self, const struct dg_pair **ret_pairs, uint32_t *ret_count,
                        struct dg_error *err);
};

/* ---- The plugin itself ---------------------------------------------------- */

#define DG_KIND_BACKEND 1u /* struct dg_backend_ops */
#define DG_KIND_CODEC 2u   /* struct dg_codec_ops */
#define DG_KIND_CRYPT 3u   /* struct dg_crypt_ops */
#define DG_KIND_AUTH 4u    /* reserved: who may log in */
#define DG_KIND_META 5u    /* reserved: where control state lives */
#define DG_KIND_NOTIFY 6u  /* reserved: who is told */

#define DG_THREADS_PARALLEL 1u /* ops may overlap */
#define DG_THREADS_SERIAL 2u   /* the host holds a mutex around every op */

struct dg_plugin {
  uint32_t struct_size;
  uint16_t abi_major, abi_minor;
  uint32_t kind;    /* DG_KIND_* */
  uint32_t threads; /* DG_THREADS_*; 0 is refused */
  const char *name; /* "backend-fs": the kind, a dash, lower-case letters, digits, dashes */
  const char *version;
  const char *summary;             /* one line */
  const struct dg_option *options; /* ends at name == NULL; may be NULL */
  const void *ops;                 /* struct dg_backend_ops ..., by kind */
};

typedef const struct dg_plugin *(*dg_plugin_entry_fn)(void);

/* DG_PLUGIN_ENTRY(backend_null, plugin): module is the plugin's name with '-'
 * turned into '_', as libltdl does. */
#define DG_PLUGIN_ENTRY(module, plugin)                                   \
  DG_EXPORT const struct dg_plugin *module##_LTX_dg_plugin_entry(void);   \
  DG_EXPORT const struct dg_plugin *module##_LTX_dg_plugin_entry(void)    \
  {                                                                       \
    return &(plugin);                                                     \
  }

#ifdef __cplusplus
}
#endif
#endif /* DELTAGLIDER_PLUGIN_H */
