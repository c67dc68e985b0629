/* Operations on a drive, the attributes they change, and what they answer: shared by the driver, which makes
   operations, and the gateway, which applies them. The JSON form is that of docs/protocol.md. */
#ifndef CAIRN_COMMON_OP_H
#define CAIRN_COMMON_OP_H

#include "common/chunk.h"
#include "common/hash.h"
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define NAME_LEN_MAX 255
#define SYMLINK_LEN_MAX 4095
#define XATTR_VALUE_MAX (64u << 10)

/* All times are nanoseconds since 1970. `mode` holds type and permission bits as in stat(2). */
struct attr {
    uint64_t ino;
    uint32_t mode;
    uint32_t nlink; /* directories: 2 + number of subdirectories */
    uint32_t uid, gid;
    uint64_t rdev; /* dev_t as major<<32 | minor */
    uint64_t size; /* bytes; symlink: length of the target */
    int64_t atime, mtime, ctime, btime;
    uint64_t version;    /* files: seq of the newest commit of content, 0: never written */
    uint32_t chunk_size; /* files: 0 while version is 0 */
    bool quarantined;    /* the newest content is infected: reads give EACCES */
};
json_t *attr_to_json(const struct attr *a);
int attr_from_json(const json_t *o, struct attr *ret); /* -EINVAL */

/* One chunk of a file's content. hash zero: a hole. */
struct chunk_ref {
    struct hash hash;
    uint32_t len; /* valid bytes; the rest up to the chunk's extent reads as zeros */
};
/* Chunk n of a file becomes ref. */
struct chunk_change {
    uint64_t n;
    struct chunk_ref ref;
};

enum op_kind {
    OP_CREATE = 1,  /* parent name ino mode uid gid rdev target (symlink); ino: from the client's range */
    OP_LINK,        /* ino → parent name */
    OP_UNLINK,      /* parent name; [ino]: refused with ESTALE if the name is another inode */
    OP_RMDIR,       /* parent name */
    OP_RENAME,      /* parent name → new_parent new_name, rename_flags; [ino], [target_base] */
    OP_SETATTR,     /* ino, set + values */
    OP_SETXATTR,    /* ino xattr value xattr_flags */
    OP_REMOVEXATTR, /* ino xattr */
    OP_COMMIT,      /* ino base size chunk_size changes …: a new version of a file's content */
    OP_PUT,         /* parent name ino(for a new file) mode …+ as COMMIT: create or replace the content of a name */
    OP_RESTORE,     /* ino, version: a new version with the content of an old one; [parent name]: as the content of that name, made if it is not there */
    OP_LOCK,        /* ino lock_type lock_start lock_end lock_owner lock_flock: EAGAIN where it conflicts */
    OP_LOCK_RELEASE_ALL, /* every lock of the actor's session: its owner is gone */
    OP_QUARANTINE,  /* ino version: its content is infected. Of the gateway itself: it has no JSON form, and so none can be sent */
};

/* OP_SETATTR `set` */
#define SET_MODE 1u
#define SET_UID 2u
#define SET_GID 4u
#define SET_ATIME 8u
#define SET_MTIME 16u
#define SET_ATIME_NOW 32u
#define SET_MTIME_NOW 64u

/* rename_flags: as renameat2(2) */
#define OP_RENAME_NOREPLACE 1u
#define OP_RENAME_EXCHANGE 2u

struct op {
    enum op_kind kind;
    uint64_t ino, parent, new_parent;
    char *name, *new_name; /* bytes, NUL-terminated, 1…255, no '/', not "." or ".."; owned */
    uint32_t mode, uid, gid, set;
    uint64_t rdev;
    char *target; /* symlink; owned */
    int64_t atime, mtime;
    uint32_t rename_flags;
    char *xattr; /* name; owned */
    char *value; /* owned, value_len bytes */
    size_t value_len;
    int xattr_flags; /* XATTR_CREATE, XATTR_REPLACE */
    /* COMMIT, PUT */
    bool has_base;
    uint64_t base;         /* the version this content was derived from; 0: the empty content of a new file */
    uint64_t size;         /* of the file from now on */
    uint64_t shrunk_to;    /* the least size since base: chunks beyond it are holes unless in changes; default size */
    bool append;           /* only appended since base: on a stale base the appended bytes go behind what is there */
    uint64_t append_from;  /* the size at base, where the appended bytes begin */
    bool aside;            /* always into a sibling: it was written under a lock that was lost */
    uint64_t replaces;     /* the version that this same open file committed before, 0 none: it gives way */
    bool has_mtime;        /* else the server's time */
    uint32_t chunk_size;
    struct chunk_change *changes; /* rising n; owned */
    size_t n_changes;
    bool whole;            /* PUT: changes is the whole content (nothing is inherited) */
    struct hash sha256;    /* of the whole content, checked by the gateway (it does not travel); zero: not known */
    bool exact;            /* PUT with a base (the gateway's own): refused where the name holds another version (ESTALE), or, base 0, where it holds
                              anything (EEXIST), instead of making a sibling */
    bool restored;         /* CREATE, PUT: brings back what was (the gateway's own): the change says so */
    uint64_t version;      /* RESTORE, QUARANTINE */
    uint64_t target_base;  /* RENAME over a file: the version its user last read there; 0: do not care */
    /* LOCK */
    int lock_type; /* F_RDLCK F_WRLCK F_UNLCK */
    uint64_t lock_start, lock_end, lock_owner; /* bytes inclusive; UINT64_MAX>>1 is "to the end" */
    bool lock_flock, lock_test; /* test: tells the conflicting lock, changes nothing */
};
void op_fini(struct op *op); /* frees what it owns and zeroes it */
json_t *op_to_json(const struct op *op);
/* Checks every field and length. -EINVAL, or the errno that the operation would give (-ENAMETOOLONG);
   ret_why (may be NULL) gets a static text. */
int op_from_json(const json_t *o, struct op *ret, const char **ret_why);

/* What an operation touched: the answer's new attributes, and other mounts' invalidations. */
#define OP_TOUCH_MAX 6
struct touched_name {
    uint64_t parent;
    char name[NAME_LEN_MAX + 1];
    uint64_t ino; /* what the name is now; 0: nothing */
};
struct op_result {
    int error;         /* 0 or negative errno; -ECANCELED: not applied because an earlier one of its batch failed */
    uint64_t seq;      /* of the operation, 0 if it failed (locks: of the drive) */
    uint64_t version;  /* COMMIT, PUT, RESTORE: the new version's number */
    uint64_t ino;      /* the inode it was about; with a conflict the sibling */
    uint32_t n_attrs;  /* inodes whose attributes changed, with the new ones */
    struct attr attrs[OP_TOUCH_MAX];
    uint32_t n_names;
    struct touched_name names[4];
    uint64_t content_ino;              /* file whose content changed, 0 none */
    uint64_t content_from, content_to; /* the bytes that changed, [from,to) */
    uint64_t conflict_parent;          /* a conflict sibling was made: its parent and name; else 0 */
    char conflict_name[NAME_LEN_MAX + 1];
    uint64_t xattr_ino;                /* inode whose xattrs changed, 0 none */
    /* LOCK conflict or test */
    int lock_type;
    uint64_t lock_start, lock_end;
    uint32_t lock_pid;
    bool unlocked; /* a lock was given up or weakened: those who wait may try again; ino 0: on any file. Not in the JSON form */
    struct hash *missing; /* error -ENODATA on COMMIT: chunks the drive does not have; owned */
    size_t n_missing;
};
void op_result_fini(struct op_result *r);
json_t *op_result_to_json(const struct op_result *r);
int op_result_from_json(const json_t *o, struct op_result *ret);
#endif
