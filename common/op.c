#include "common/op.h"
#include "common/errname.h"
#include "common/jsonx.h"
#include "common/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

static const struct {
    enum op_kind kind;
    const char *name;
} kinds[] = {
    {OP_CREATE, "create"},   {OP_LINK, "link"},         {OP_UNLINK, "unlink"},           {OP_RMDIR, "rmdir"},
    {OP_RENAME, "rename"},   {OP_SETATTR, "setattr"},   {OP_SETXATTR, "setxattr"},       {OP_REMOVEXATTR, "removexattr"},
    {OP_COMMIT, "commit"},   {OP_PUT, "put"},           {OP_RESTORE, "restore"},         {OP_LOCK, "lock"},
    {OP_LOCK_RELEASE_ALL, "lock-release-all"},
};
#define N_KINDS (sizeof kinds / sizeof *kinds)

static void set_signed(json_t *o, const char *key, int64_t v)
{
    json_object_set_new_nocheck(o, key, json_integer(v));
}
static void set_str(json_t *o, const char *key, const char *v)
{
    json_object_set_new_nocheck(o, key, json_string_nocheck(v));
}
static void set_true(json_t *o, const char *key, bool v)
{
    if (v)
        json_object_set_new_nocheck(o, key, json_true());
}
static void set_name(json_t *o, const char *key, const char *v)
{
    if (v)
        jsonx_set_bytes(o, key, v, strlen(v));
}

/* ---- attributes ---- */

json_t *attr_to_json(const struct attr *a)
{
    json_t *o = json_object();
    jsonx_set_u64(o, "ino", a->ino);
    jsonx_set_u64(o, "mode", a->mode);
    jsonx_set_u64(o, "nlink", a->nlink);
    jsonx_set_u64(o, "uid", a->uid);
    jsonx_set_u64(o, "gid", a->gid);
    if (a->rdev)
        jsonx_set_u64(o, "rdev", a->rdev);
    jsonx_set_u64(o, "size", a->size);
    set_signed(o, "atime", a->atime);
    set_signed(o, "mtime", a->mtime);
    set_signed(o, "ctime", a->ctime);
    set_signed(o, "btime", a->btime);
    jsonx_set_u64(o, "version", a->version);
    jsonx_set_u64(o, "chunkSize", a->chunk_size);
    set_true(o, "quarantined", a->quarantined);
    return o;
}

/* A member that may be missing, but not of another type. */
#define OPTIONAL(expr)                                                                                                 \
    do {                                                                                                               \
        int optional_err = (expr);                                                                                     \
        if (optional_err && optional_err != -ENOENT)                                                                   \
            return -EINVAL;                                                                                            \
    } while (0)

int attr_from_json(const json_t *o, struct attr *ret)
{
    struct attr a = {0};
    if (!json_is_object(o) || jsonx_u64(o, "ino", &a.ino) || jsonx_u32(o, "mode", &a.mode) || jsonx_u32(o, "nlink", &a.nlink) ||
        jsonx_u32(o, "uid", &a.uid) || jsonx_u32(o, "gid", &a.gid) || jsonx_u64(o, "size", &a.size) ||
        jsonx_i64(o, "atime", &a.atime) || jsonx_i64(o, "mtime", &a.mtime) || jsonx_i64(o, "ctime", &a.ctime) ||
        jsonx_i64(o, "btime", &a.btime) || jsonx_u64(o, "version", &a.version) || jsonx_u32(o, "chunkSize", &a.chunk_size))
        return -EINVAL;
    OPTIONAL(jsonx_u64(o, "rdev", &a.rdev));
    OPTIONAL(jsonx_bool(o, "quarantined", &a.quarantined));
    if (a.chunk_size ? !chunk_size_valid(a.chunk_size) : a.version != 0)
        return -EINVAL; /* content has a geometry */
    *ret = a;
    return 0;
}

/* ---- operations ---- */

void op_fini(struct op *op)
{
    free(op->name);
    free(op->new_name);
    free(op->target);
    free(op->xattr);
    free(op->value);
    free(op->changes);
    *op = (struct op){0};
}

static void content_to_json(json_t *o, const struct op *op)
{
    if (op->has_base)
        jsonx_set_u64(o, "base", op->base);
    jsonx_set_u64(o, "size", op->size);
    jsonx_set_u64(o, "chunkSize", op->chunk_size);
    json_t *changes = json_array();
    for (size_t i = 0; i < op->n_changes; i++) {
        const struct chunk_change *c = &op->changes[i];
        json_t *row = json_array();
        char hex[HASH_HEX_LEN + 1];
        hash_hex(&c->ref.hash, hex);
        json_array_append_new(row, json_integer((json_int_t)c->n));
        json_array_append_new(row, hash_is_zero(&c->ref.hash) ? json_null() : json_string_nocheck(hex));
        json_array_append_new(row, json_integer(c->ref.len));
        json_array_append_new(changes, row);
    }
    json_object_set_new_nocheck(o, "changes", changes);
    if (op->shrunk_to < op->size)
        jsonx_set_u64(o, "shrunkTo", op->shrunk_to);
    set_true(o, "append", op->append);
    set_true(o, "aside", op->aside);
    if (op->append)
        jsonx_set_u64(o, "appendFrom", op->append_from);
    if (op->replaces)
        jsonx_set_u64(o, "replaces", op->replaces);
    if (op->has_mtime)
        set_signed(o, "mtime", op->mtime);
    set_true(o, "whole", op->whole);
}

static void setattr_to_json(json_t *o, const struct op *op)
{
    if (op->set & SET_MODE)
        jsonx_set_u64(o, "mode", op->mode);
    if (op->set & SET_UID)
        jsonx_set_u64(o, "uid", op->uid);
    if (op->set & SET_GID)
        jsonx_set_u64(o, "gid", op->gid);
    if (op->set & SET_ATIME_NOW)
        set_str(o, "atime", "now");
    else if (op->set & SET_ATIME)
        set_signed(o, "atime", op->atime);
    if (op->set & SET_MTIME_NOW)
        set_str(o, "mtime", "now");
    else if (op->set & SET_MTIME)
        set_signed(o, "mtime", op->mtime);
}

static void lock_to_json(json_t *o, const struct op *op)
{
    set_str(o, "type", op->lock_type == F_RDLCK ? "r" : op->lock_type == F_WRLCK ? "w" : "u");
    jsonx_set_u64(o, "start", op->lock_start);
    jsonx_set_u64(o, "end", op->lock_end);
    jsonx_set_u64(o, "owner", op->lock_owner >> 1); /* JSON integers are signed; the kernel's owners are hashes */
    set_true(o, "flock", op->lock_flock);
    set_true(o, "test", op->lock_test);
    jsonx_set_u64(o, "pid", op->uid);
}

json_t *op_to_json(const struct op *op)
{
    json_t *o = json_object();
    for (size_t i = 0; i < N_KINDS; i++)
        if (kinds[i].kind == op->kind)
            set_str(o, "op", kinds[i].name);
    if (op->ino)
        jsonx_set_u64(o, "ino", op->ino);
    if (op->parent)
        jsonx_set_u64(o, "parent", op->parent);
    set_name(o, "name", op->name);
    switch (op->kind) {
    case OP_CREATE:
        jsonx_set_u64(o, "mode", op->mode);
        jsonx_set_u64(o, "uid", op->uid);
        jsonx_set_u64(o, "gid", op->gid);
        if (op->rdev)
            jsonx_set_u64(o, "rdev", op->rdev);
        set_name(o, "target", op->target);
        break;
    case OP_RENAME:
        jsonx_set_u64(o, "newParent", op->new_parent);
        set_name(o, "newName", op->new_name);
        if (op->rename_flags)
            jsonx_set_u64(o, "flags", op->rename_flags);
        if (op->target_base)
            jsonx_set_u64(o, "targetBase", op->target_base);
        break;
    case OP_SETATTR:
        setattr_to_json(o, op);
        break;
    case OP_SETXATTR:
        set_name(o, "xattr", op->xattr);
        jsonx_set_bytes(o, "value", op->value, op->value_len);
        if (op->xattr_flags)
            jsonx_set_u64(o, "flags", (uint64_t)op->xattr_flags);
        break;
    case OP_REMOVEXATTR:
        set_name(o, "xattr", op->xattr);
        break;
    case OP_PUT:
        jsonx_set_u64(o, "mode", op->mode);
        jsonx_set_u64(o, "uid", op->uid);
        jsonx_set_u64(o, "gid", op->gid);
        content_to_json(o, op);
        break;
    case OP_COMMIT:
        content_to_json(o, op);
        break;
    case OP_RESTORE:
        jsonx_set_u64(o, "version", op->version);
        break;
    case OP_LOCK:
        lock_to_json(o, op);
        break;
    case OP_LINK:
    case OP_UNLINK:
    case OP_RMDIR:
    case OP_LOCK_RELEASE_ALL:
    case OP_QUARANTINE:
        break;
    }
    return o;
}

static int name_from_json(const json_t *o, const char *key, char **ret, const char **why)
{
    size_t len;
    int err = jsonx_bytes(o, key, ret, &len);
    *why = "a name is missing or has another type";
    if (err)
        return -EINVAL;
    if (len > NAME_LEN_MAX) {
        *why = "a name is over 255 bytes";
        return -ENAMETOOLONG;
    }
    *why = "a name is empty, has a '/' or NUL, or is '.' or '..'";
    if (len == 0 || strlen(*ret) != len || strchr(*ret, '/') || strcmp(*ret, ".") == 0 || strcmp(*ret, "..") == 0)
        return -EINVAL;
    return 0;
}

static int create_from_json(const json_t *o, struct op *op, const char **why)
{
    *why = "create needs mode, uid and gid as integers";
    if (jsonx_u32(o, "mode", &op->mode) || jsonx_u32(o, "uid", &op->uid) || jsonx_u32(o, "gid", &op->gid))
        return -EINVAL;
    OPTIONAL(jsonx_u64(o, "rdev", &op->rdev));
    *why = "mode has no known type";
    mode_t type = op->mode & S_IFMT;
    if ((op->mode & ~(unsigned)(S_IFMT | 07777)) ||
        (type != S_IFREG && type != S_IFDIR && type != S_IFLNK && type != S_IFIFO && type != S_IFSOCK && type != S_IFCHR && type != S_IFBLK))
        return -EINVAL;
    if (type != S_IFLNK)
        return 0;
    size_t len;
    *why = "a symbolic link needs a target of 1 to 4095 bytes without NUL";
    if (jsonx_bytes(o, "target", &op->target, &len) || len == 0 || strlen(op->target) != len)
        return -EINVAL;
    return len > SYMLINK_LEN_MAX ? -ENAMETOOLONG : 0;
}

static int time_from_json(const json_t *o, const char *key, struct op *op, unsigned bit, unsigned now_bit, int64_t *ret)
{
    const char *text;
    if (jsonx_str(o, key, &text) == 0) {
        if (strcmp(text, "now") != 0)
            return -EINVAL;
        op->set |= now_bit;
        return 0;
    }
    int err = jsonx_i64(o, key, ret);
    if (err == 0)
        op->set |= bit;
    return err == -ENOENT ? 0 : err;
}

static int setattr_from_json(const json_t *o, struct op *op, const char **why)
{
    static const struct {
        const char *key;
        unsigned bit;
    } numbers[] = {{"mode", SET_MODE}, {"uid", SET_UID}, {"gid", SET_GID}};
    uint32_t *const values[] = {&op->mode, &op->uid, &op->gid};
    *why = "setattr takes integers, and \"now\" for times";
    for (int i = 0; i < 3; i++) {
        int err = jsonx_u32(o, numbers[i].key, values[i]);
        if (err == 0)
            op->set |= numbers[i].bit;
        else if (err != -ENOENT)
            return err;
    }
    if (time_from_json(o, "atime", op, SET_ATIME, SET_ATIME_NOW, &op->atime) ||
        time_from_json(o, "mtime", op, SET_MTIME, SET_MTIME_NOW, &op->mtime) || !op->set)
        return -EINVAL;
    return 0;
}

static int xattr_from_json(const json_t *o, struct op *op, const char **why)
{
    size_t len;
    *why = "an xattr's name is 1 to 255 bytes";
    if (jsonx_bytes(o, "xattr", &op->xattr, &len) || len == 0 || strlen(op->xattr) != len)
        return -EINVAL;
    if (len > 255)
        return -ERANGE;
    if (op->kind == OP_REMOVEXATTR)
        return 0;
    *why = "setxattr needs a value of at most 64 KiB";
    if (jsonx_bytes(o, "value", &op->value, &op->value_len))
        return -EINVAL;
    if (op->value_len > XATTR_VALUE_MAX)
        return -E2BIG;
    uint32_t flags = 0;
    OPTIONAL(jsonx_u32(o, "flags", &flags));
    *why = "flags are 0, 1 (create) or 2 (replace)";
    if (flags > 2)
        return -EINVAL;
    op->xattr_flags = (int)flags;
    return 0;
}

static int changes_from_json(const json_t *o, struct op *op, const char **why)
{
    json_t *changes;
    *why = "changes is an array of [n, sha256 or null, length], n rising";
    if (jsonx_arr(o, "changes", &changes))
        return -EINVAL;
    op->n_changes = json_array_size(changes);
    op->changes = mem_calloc(op->n_changes, sizeof *op->changes);
    uint64_t count = chunk_count(op->size, op->chunk_size);
    for (size_t i = 0; i < op->n_changes; i++) {
        const json_t *row = json_array_get(changes, i);
        struct chunk_change *c = &op->changes[i];
        const json_t *n = json_array_get(row, 0), *hash = json_array_get(row, 1), *len = json_array_get(row, 2);
        if (json_array_size(row) != 3 || !json_is_integer(n) || !json_is_integer(len) || json_integer_value(n) < 0 ||
            json_integer_value(len) < 0 || json_integer_value(len) > op->chunk_size)
            return -EINVAL;
        c->n = (uint64_t)json_integer_value(n);
        c->ref.len = (uint32_t)json_integer_value(len);
        if (c->n >= count || (i && c->n <= op->changes[i - 1].n))
            return -EINVAL;
        if (json_is_null(hash))
            c->ref.len = 0;
        else if (!json_is_string(hash) || hash_parse(json_string_value(hash), &c->ref.hash) || c->ref.len == 0)
            return -EINVAL;
    }
    return 0;
}

static int content_from_json(const json_t *o, struct op *op, const char **why)
{
    *why = "size, chunkSize and base are integers in range";
    int err = jsonx_u64(o, "base", &op->base);
    op->has_base = err == 0;
    if ((err && err != -ENOENT) || jsonx_u64(o, "size", &op->size) || jsonx_u32(o, "chunkSize", &op->chunk_size) ||
        !chunk_size_valid(op->chunk_size))
        return -EINVAL;
    if (op->size > FILE_SIZE_MAX)
        return -EFBIG;
    op->shrunk_to = op->size;
    OPTIONAL(jsonx_u64(o, "shrunkTo", &op->shrunk_to));
    OPTIONAL(jsonx_bool(o, "append", &op->append));
    OPTIONAL(jsonx_bool(o, "aside", &op->aside));
    OPTIONAL(jsonx_u64(o, "appendFrom", &op->append_from));
    OPTIONAL(jsonx_u64(o, "replaces", &op->replaces));
    OPTIONAL(jsonx_bool(o, "whole", &op->whole));
    err = jsonx_i64(o, "mtime", &op->mtime);
    op->has_mtime = err == 0;
    if (err && err != -ENOENT)
        return -EINVAL;
    if (op->shrunk_to > op->size)
        op->shrunk_to = op->size;
    return changes_from_json(o, op, why);
}

static int lock_from_json(const json_t *o, struct op *op, const char **why)
{
    const char *type;
    *why = "lock needs type (r, w, u), start, end and owner";
    if (jsonx_str(o, "type", &type) || !strchr("rwu", type[0]) || strlen(type) != 1 || jsonx_u64(o, "start", &op->lock_start) ||
        jsonx_u64(o, "end", &op->lock_end) || jsonx_u64(o, "owner", &op->lock_owner) || op->lock_end < op->lock_start)
        return -EINVAL;
    op->lock_type = type[0] == 'r' ? F_RDLCK : type[0] == 'w' ? F_WRLCK : F_UNLCK;
    OPTIONAL(jsonx_bool(o, "flock", &op->lock_flock));
    OPTIONAL(jsonx_bool(o, "test", &op->lock_test));
    OPTIONAL(jsonx_u32(o, "pid", &op->uid));
    return 0;
}

static int rename_from_json(const json_t *o, struct op *op, const char **why)
{
    *why = "rename needs newParent";
    if (jsonx_u64(o, "newParent", &op->new_parent))
        return -EINVAL;
    int err = name_from_json(o, "newName", &op->new_name, why);
    if (err)
        return err;
    *why = "flags are 0, 1 (noreplace) or 2 (exchange)";
    OPTIONAL(jsonx_u32(o, "flags", &op->rename_flags));
    OPTIONAL(jsonx_u64(o, "targetBase", &op->target_base));
    return op->rename_flags > 2 ? -EINVAL : 0;
}

static bool needs_ino(enum op_kind k)
{
    return k != OP_UNLINK && k != OP_RMDIR && k != OP_RENAME && k != OP_LOCK_RELEASE_ALL;
}
static bool needs_name(enum op_kind k)
{
    return k == OP_CREATE || k == OP_LINK || k == OP_UNLINK || k == OP_RMDIR || k == OP_RENAME || k == OP_PUT;
}

static int fields_from_json(const json_t *o, struct op *op, const char **why)
{
    *why = "ino and parent are positive integers";
    OPTIONAL(jsonx_u64(o, "ino", &op->ino));
    if (needs_ino(op->kind) && op->ino == 0)
        return -EINVAL;
    if (needs_name(op->kind)) {
        if (jsonx_u64(o, "parent", &op->parent) || op->parent == 0)
            return -EINVAL;
        int err = name_from_json(o, "name", &op->name, why);
        if (err)
            return err;
    }
    switch (op->kind) {
    case OP_CREATE:
        return create_from_json(o, op, why);
    case OP_RENAME:
        return rename_from_json(o, op, why);
    case OP_SETATTR:
        return setattr_from_json(o, op, why);
    case OP_SETXATTR:
    case OP_REMOVEXATTR:
        return xattr_from_json(o, op, why);
    case OP_PUT:
        *why = "put takes mode, uid and gid as integers";
        OPTIONAL(jsonx_u32(o, "mode", &op->mode));
        OPTIONAL(jsonx_u32(o, "uid", &op->uid));
        OPTIONAL(jsonx_u32(o, "gid", &op->gid));
        return content_from_json(o, op, why);
    case OP_COMMIT:
        return content_from_json(o, op, why);
    case OP_RESTORE:
        *why = "restore needs a version, and parent and name both or neither";
        OPTIONAL(jsonx_u64(o, "parent", &op->parent));
        if (jsonx_u64(o, "version", &op->version))
            return -EINVAL;
        return op->parent ? name_from_json(o, "name", &op->name, why) : 0;
    case OP_LOCK:
        return lock_from_json(o, op, why);
    case OP_LINK:
    case OP_UNLINK:
    case OP_RMDIR:
    case OP_LOCK_RELEASE_ALL:
    case OP_QUARANTINE: /* has no name in `kinds` */
        break;
    }
    return 0;
}

int op_from_json(const json_t *o, struct op *ret, const char **ret_why)
{
    const char *ignored, *kind;
    if (!ret_why)
        ret_why = &ignored;
    struct op op = {0};
    *ret_why = "op is missing or unknown";
    if (jsonx_str(o, "op", &kind))
        return -EINVAL;
    for (size_t i = 0; i < N_KINDS; i++)
        if (strcmp(kinds[i].name, kind) == 0)
            op.kind = kinds[i].kind;
    if (!op.kind)
        return -EINVAL;
    int err = fields_from_json(o, &op, ret_why);
    if (err) {
        op_fini(&op);
        return err;
    }
    *ret = op;
    return 0;
}
