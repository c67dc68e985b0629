/* .versions: every version of every path, and the whole drive as it was at a time. Read-only.

   .versions/PATH/…  a path that is or was: of a directory, the names that it has or had; of a file, its versions, named NNNNNN_TIME_DEVICE
   .versions/@TIME/… the drive at the end of that second

   The nodes are this file's own, apart from the replica's: their ids have the lowest bit set, which no address of the replica's nodes has (and the root's id is 1 itself). */
#include "fusefs/driver/mount.h"
#include "common/clock.h"
#include "common/hash.h"
#include "common/jsonx.h"

#define DEAD_PAGE 1000u
#define FIXED_SECONDS 3600.0 /* what can never change */
#define PATH_SECONDS 0.0

enum kind { TOP, PATH, VERSION, SNAPSHOT };

struct hnode {
    char *key; /* what it is, as text: the same node for the same thing */
    enum kind kind;
    uint64_t nlookup;
    uint64_t ino;    /* TOP, SNAPSHOT, VERSION: the inode; PATH: the directory that the name is in */
    uint64_t at;     /* SNAPSHOT, VERSION: as of this seq */
    uint64_t dir;    /* PATH of a directory: its own inode, 0 for a file's path */
    char name[NAME_LEN_MAX + 1]; /* PATH */
    struct attr attr;
    UT_hash_handle hh;
};

struct history {
    struct mount *mount;
    pthread_mutex_t lock; /* guards the table and nlookup; a node's other fields never change */
    struct hnode *nodes;
    struct hnode *top;
};

bool history_owns(const struct mount *m, fuse_ino_t id)
{
    (void)m;
    return (id & 1) && id != FUSE_ROOT_ID;
}
static fuse_ino_t id_of(const struct hnode *n)
{
    return (fuse_ino_t)(uintptr_t)n | 1;
}
static struct hnode *hnode_of(fuse_ino_t id)
{
    return (struct hnode *)(uintptr_t)(id & ~(fuse_ino_t)1);
}

static uint64_t made_up_ino(const char *key)
{
    return hash_xxh3(key, strlen(key)) | (UINT64_C(1) << 63);
}

/* The node for key, nlookup raised; made from `like` where there is none. Takes over key. */
static struct hnode *hnode_get(struct history *h, char *key, const struct hnode *like)
{
    struct hnode *n;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&h->lock);
    HASH_FIND_STR(h->nodes, key, n);
    if (n) {
        free(key);
    } else {
        n = mem_alloc(sizeof *n);
        *n = *like;
        n->key = key;
        n->nlookup = 0;
        n->attr.ino = made_up_ino(key);
        n->attr.mode &= ~(uint32_t)0222;
        n->attr.nlink = S_ISDIR(n->attr.mode) ? 2 : 1;
        HASH_ADD_KEYPTR(hh, h->nodes, n->key, strlen(n->key), n);
    }
    n->nlookup++;
    return n;
}

void history_forget(struct mount *m, fuse_ino_t id, uint64_t nlookup)
{
    struct history *h = m->history;
    struct hnode *n = hnode_of(id);
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&h->lock);
    n->nlookup -= nlookup < n->nlookup ? nlookup : n->nlookup;
    if (n->nlookup)
        return;
    HASH_DEL(h->nodes, n);
    free(n->key);
    free(n);
}

struct history *history_new(struct mount *m)
{
    struct history *h = mem_alloc(sizeof *h);
    h->mount = m;
    pthread_mutex_init(&h->lock, NULL);
    struct hnode top = {.kind = TOP, .ino = m->info->root};
    top.attr = (struct attr){.mode = S_IFDIR | 0555, .mtime = m->started_ns, .ctime = m->started_ns, .atime = m->started_ns};
    h->top = hnode_get(h, mem_strdup("top"), &top); /* this reference is kept */
    return h;
}

void history_free(struct history *h)
{
    if (!h)
        return;
    struct hnode *n, *next;
    HASH_ITER(hh, h->nodes, n, next)
    {
        HASH_DEL(h->nodes, n);
        free(n->key);
        free(n);
    }
    pthread_mutex_destroy(&h->lock);
    free(h);
}

/* ---- look-up ---- */

static void reply_node(fuse_req_t req, struct mount *m, struct hnode *n, double seconds)
{
    struct fuse_entry_param e = {.ino = id_of(n), .generation = 1, .attr_timeout = seconds, .entry_timeout = seconds};
    mount_stat(m, &n->attr, &e.attr);
    if (fuse_reply_entry(req, &e) == -ENOENT)
        history_forget(m, e.ino, 1);
}

void history_lookup_top(fuse_req_t req)
{
    struct mount *m = mount_of(req);
    pthread_mutex_lock(&m->history->lock);
    m->history->top->nlookup++;
    pthread_mutex_unlock(&m->history->lock);
    reply_node(req, m, m->history->top, FIXED_SECONDS);
}

/* A name of a directory as of `at`. */
static int lookup_at(struct mount *m, uint64_t dir, const char *name, uint64_t at, struct attr *ret)
{
    uint64_t seq;
    bool found = false;
    int err;
    MOUNT_ASK(m, err, remote_lookup(m->remote, dir, name, at, &seq, &found, ret));
    return err ? err : found ? 0 : -ENOENT;
}

static int versions_of(struct mount *m, uint64_t dir, const char *name, json_t **ret)
{
    uint64_t seq;
    int err;
    MOUNT_ASK(m, err, remote_versions(m->remote, dir, name, &seq, ret));
    return err;
}

/* Calls each for every name that was in the directory and is no longer, until it returns false. */
static int dead_names(struct mount *m, uint64_t dir, bool (*each)(void *ctx, const struct remote_entry *e), void *ctx)
{
    CLEANUP_FREE char *after = mem_strdup("");
    bool more = true;
    while (more && after) {
        struct remote_page page = {0};
        int err;
        MOUNT_ASK(m, err, remote_dead(m->remote, dir, after, DEAD_PAGE, &page));
        if (err)
            return err;
        for (size_t i = 0; i < page.n && more; i++)
            more = each(ctx, &page.entries[i]);
        free(after);
        after = mem_strdup(page.next);
        remote_page_fini(&page);
    }
    return 0;
}

struct dead_search {
    const char *name;
    bool found;
    struct attr attr;
};
static bool is_wanted(void *ctx, const struct remote_entry *e)
{
    struct dead_search *s = ctx;
    if (strcmp(e->name, s->name) != 0)
        return true;
    s->found = true;
    s->attr = e->attr;
    return false;
}

/* A path: what has the name now, else what had it last. */
static int path_node(struct mount *m, uint64_t dir, const char *name, struct hnode **ret)
{
    struct attr a;
    int err = lookup_at(m, dir, name, 0, &a);
    if (err == -ENOENT) {
        struct dead_search s = {.name = name};
        err = dead_names(m, dir, is_wanted, &s);
        if (!err && !s.found)
            err = -ENOENT;
        a = s.attr;
    }
    if (!err && !S_ISDIR(a.mode) && !S_ISREG(a.mode))
        err = -ENOENT; /* what has no content has no versions */
    if (err)
        return err;
    struct hnode like = {.kind = PATH, .ino = dir, .dir = S_ISDIR(a.mode) ? a.ino : 0, .attr = a};
    like.attr.mode = S_IFDIR | 0555;
    strcpy(like.name, name);
    *ret = hnode_get(m->history, mem_printf("path %llu %llu %s", (unsigned long long)dir, (unsigned long long)like.dir, name), &like);
    return 0;
}

static int snapshot_root(struct mount *m, const char *time, struct hnode **ret)
{
    int64_t ns;
    uint64_t at = 0, seq;
    struct attr a;
    if (clock_parse_path(time, &ns))
        return -ENOENT;
    int err;
    MOUNT_ASK(m, err, remote_moment(m->remote, ns + 999999999, &at));
    if (!err && at == 0)
        err = -ENOENT; /* before the drive was */
    if (!err)
        MOUNT_ASK(m, err, remote_inode(m->remote, m->info->root, at, &seq, &a));
    if (err)
        return err;
    struct hnode like = {.kind = SNAPSHOT, .ino = a.ino, .at = at, .attr = a};
    *ret = hnode_get(m->history, mem_printf("at %llu %llu", (unsigned long long)at, (unsigned long long)a.ino), &like);
    return 0;
}

static void version_name(const json_t *row, char ret[NAME_LEN_MAX + 1])
{
    uint64_t number = 0;
    int64_t at = 0;
    const char *device = "";
    char time[CLOCK_TEXT];
    jsonx_u64(row, "version", &number);
    jsonx_i64(row, "at", &at);
    jsonx_str(row, "device", &device);
    clock_format_path(at, time);
    snprintf(ret, NAME_LEN_MAX + 1, "%06llu_%s_%.180s", (unsigned long long)number, time, device);
    for (char *c = ret; *c; c++)
        if (*c == '/')
            *c = '_';
}

static int version_node(struct mount *m, const struct hnode *path, const char *name, struct hnode **ret)
{
    CLEANUP_JSON json_t *rows = NULL;
    int err = versions_of(m, path->ino, path->name, &rows);
    if (err)
        return err;
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        char candidate[NAME_LEN_MAX + 1];
        uint64_t ino, number, seq;
        struct hnode like = {.kind = VERSION};
        version_name(row, candidate);
        if (strcmp(candidate, name) != 0 || jsonx_u64(row, "ino", &ino) || jsonx_u64(row, "version", &number))
            continue;
        MOUNT_ASK(m, err, remote_inode(m->remote, ino, number, &seq, &like.attr));
        if (err)
            return err;
        like.ino = ino;
        like.at = number;
        like.attr.version = number;
        jsonx_u64(row, "size", &like.attr.size);
        jsonx_i64(row, "mtime", &like.attr.mtime);
        *ret = hnode_get(m->history, mem_printf("version %llu %llu", (unsigned long long)ino, (unsigned long long)number), &like);
        return 0;
    }
    return -ENOENT;
}

static int snapshot_node(struct mount *m, const struct hnode *dir, const char *name, struct hnode **ret)
{
    struct hnode like = {.kind = SNAPSHOT, .at = dir->at};
    int err = lookup_at(m, dir->ino, name, dir->at, &like.attr);
    if (err)
        return err;
    like.ino = like.attr.ino;
    *ret = hnode_get(m->history, mem_printf("at %llu %llu", (unsigned long long)dir->at, (unsigned long long)like.ino), &like);
    return 0;
}

void history_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct mount *m = mount_of(req);
    const struct hnode *dir = hnode_of(parent);
    struct hnode *n = NULL;
    double seconds = PATH_SECONDS;
    int err;
    if (strlen(name) > NAME_LEN_MAX) {
        err = -ENAMETOOLONG;
    } else if (dir->kind == SNAPSHOT) {
        err = snapshot_node(m, dir, name, &n);
        seconds = FIXED_SECONDS;
    } else if (dir->kind == TOP && name[0] == '@') {
        err = snapshot_root(m, name + 1, &n);
    } else if (dir->kind == TOP) {
        err = path_node(m, dir->ino, name, &n);
    } else if (dir->dir) {
        err = path_node(m, dir->dir, name, &n);
    } else {
        err = version_node(m, dir, name, &n);
        seconds = FIXED_SECONDS;
    }
    if (err)
        fuse_reply_err(req, -err);
    else
        reply_node(req, m, n, seconds);
}

/* ---- what is read ---- */

void history_getattr(fuse_req_t req, fuse_ino_t id)
{
    struct stat st;
    mount_stat(mount_of(req), &hnode_of(id)->attr, &st);
    fuse_reply_attr(req, &st, FIXED_SECONDS);
}

/* What is cached of a version says nothing of whether it was found to be infected since. A gateway that is away is not waited for: then what is cached holds. */
static bool is_infected(struct mount *m, const struct hnode *n)
{
    struct remote_want w = {.ino = n->ino, .version = n->attr.version, .count = 1};
    CLEANUP(remote_read_fini) struct remote_read rd = {0};
    return n->attr.version && remote_read(m->remote, &w, 1, 0, &rd) == 0 && rd.maps[0].error == -EACCES;
}

void history_open(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
    struct mount *m = mount_of(req);
    const struct hnode *n = hnode_of(id);
    if ((fi->flags & O_ACCMODE) != O_RDONLY) {
        fuse_reply_err(req, EROFS);
        return;
    }
    if (is_infected(m, n)) {
        fuse_reply_err(req, EACCES);
        return;
    }
    struct handle *h = mem_alloc(sizeof *h);
    pthread_mutex_init(&h->lock, NULL);
    h->content = content_get_version(m->store, n->ino, n->attr.version, n->attr.size, n->attr.chunk_size);
    content_opened(h->content);
    fi->fh = (uint64_t)(uintptr_t)h;
    fi->keep_cache = 1;
    if (fuse_reply_open(req, fi) == -ENOENT)
        files_abandon(m, fi);
}

void history_opendir(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
    struct handle *h = mem_alloc(sizeof *h);
    pthread_mutex_init(&h->lock, NULL);
    h->listing.ino = id; /* until it is listed: which node it is */
    fi->fh = (uint64_t)(uintptr_t)h;
    if (fuse_reply_open(req, fi) == -ENOENT)
        dirs_free_handle(h);
}

struct names {
    struct listing_entry *entries;
    size_t n, room;
};
static void names_add(struct names *l, const char *name, uint32_t type)
{
    if (l->n == l->room) {
        l->room = l->room ? 2 * l->room : 64;
        l->entries = mem_realloc(l->entries, l->room * sizeof *l->entries);
    }
    l->entries[l->n++] = (struct listing_entry){UINT64_MAX >> 1, type, mem_strdup(name)};
}

static int living_names(struct mount *m, uint64_t dir, uint64_t at, bool paths, struct names *l)
{
    CLEANUP_FREE char *after = mem_strdup("");
    while (after) {
        struct remote_page page = {0};
        int err;
        MOUNT_ASK(m, err, remote_directory(m->remote, dir, at, after, DEAD_PAGE, &page));
        if (err == -ENOENT && paths)
            return 0; /* the directory itself is gone; what it had is among the dead */
        if (err)
            return err;
        for (size_t i = 0; i < page.n; i++) {
            uint32_t type = page.entries[i].attr.mode & S_IFMT;
            if (!paths || type == S_IFDIR || type == S_IFREG)
                names_add(l, page.entries[i].name, paths ? S_IFDIR : type);
        }
        free(after);
        after = mem_strdup(page.next);
        remote_page_fini(&page);
    }
    return 0;
}

static bool add_dead(void *ctx, const struct remote_entry *e)
{
    if (S_ISDIR(e->attr.mode) || S_ISREG(e->attr.mode))
        names_add(ctx, e->name, S_IFDIR);
    return true;
}

static int version_names(struct mount *m, const struct hnode *n, struct names *l)
{
    CLEANUP_JSON json_t *rows = NULL;
    int err = versions_of(m, n->ino, n->name, &rows);
    for (size_t i = 0; i < json_array_size(rows); i++) {
        char name[NAME_LEN_MAX + 1];
        version_name(json_array_get(rows, i), name);
        names_add(l, name, S_IFREG);
    }
    return err;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct listing_entry *)a)->name, ((const struct listing_entry *)b)->name);
}

static int list(struct mount *m, const struct hnode *n, struct listing *ret)
{
    struct names l = {0};
    int err;
    if (n->kind == SNAPSHOT) {
        err = living_names(m, n->ino, n->at, false, &l);
    } else if (n->kind == TOP || n->dir) {
        uint64_t dir = n->kind == TOP ? n->ino : n->dir;
        err = living_names(m, dir, 0, true, &l);
        if (!err)
            err = dead_names(m, dir, add_dead, &l);
    } else {
        err = version_names(m, n, &l);
    }
    if (l.n)
        qsort(l.entries, l.n, sizeof *l.entries, by_name);
    size_t kept = 0;
    for (size_t i = 0; i < l.n; i++) { /* a name can have died more than once, and live again */
        if (kept && strcmp(l.entries[kept - 1].name, l.entries[i].name) == 0)
            free(l.entries[i].name);
        else
            l.entries[kept++] = l.entries[i];
    }
    *ret = (struct listing){n->attr.ino, n->attr.ino, l.entries, kept};
    return err;
}

/* As many entries from `off` on as fit into buf[size]: their bytes, or a negative errno. */
static ssize_t fill(fuse_req_t req, struct handle *h, char *buf, size_t size, off_t off, bool plus)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&h->lock);
    if (!h->listed) {
        int err = list(mount_of(req), hnode_of((fuse_ino_t)h->listing.ino), &h->listing);
        h->listed = true;
        if (err)
            return err;
    }
    size_t used = 0;
    for (size_t at = (size_t)off; at < h->listing.n; at++) {
        const struct listing_entry *e = &h->listing.entries[at];
        struct fuse_entry_param param = {.attr.st_ino = e->ino, .attr.st_mode = e->mode};
        size_t n = plus ? fuse_add_direntry_plus(req, buf + used, size - used, e->name, &param, (off_t)at + 1)
                        : fuse_add_direntry(req, buf + used, size - used, e->name, &param.attr, (off_t)at + 1);
        if (n > size - used)
            break;
        used += n;
    }
    return (ssize_t)used;
}

void history_readdir(fuse_req_t req, size_t size, off_t off, struct fuse_file_info *fi, bool plus)
{
    CLEANUP_FREE char *buf = mem_alloc_raw(size);
    mount_reply_listing(req, buf, fill(req, handle_of(fi), buf, size, off, plus));
}

void history_readlink(fuse_req_t req, fuse_ino_t id)
{
    struct mount *m = mount_of(req);
    CLEANUP_FREE char *target = NULL;
    uint64_t seq;
    int err;
    MOUNT_ASK(m, err, remote_symlink(m->remote, hnode_of(id)->ino, &seq, &target));
    if (err)
        fuse_reply_err(req, -err);
    else
        fuse_reply_readlink(req, target);
}

void history_xattrs(fuse_req_t req, fuse_ino_t id, const char *name, size_t size)
{
    struct mount *m = mount_of(req);
    const struct hnode *n = hnode_of(id);
    CLEANUP_JSON json_t *rows = NULL;
    CLEANUP_BUF struct buf found = {0};
    uint64_t seq;
    bool any = !name;
    if (n->kind == SNAPSHOT || n->kind == VERSION) {
        int err;
        MOUNT_ASK(m, err, remote_xattrs(m->remote, n->ino, n->at, &seq, &rows));
        if (err) {
            fuse_reply_err(req, -err);
            return;
        }
    }
    for (size_t i = 0; i < json_array_size(rows); i++) {
        CLEANUP_FREE char *key = NULL, *value = NULL;
        size_t len;
        const json_t *row = json_array_get(rows, i);
        if (jsonx_bytes(row, "name", &key, NULL) || jsonx_bytes(row, "value", &value, &len))
            continue;
        if (!name) {
            buf_append(&found, key, strlen(key) + 1);
        } else if (strcmp(key, name) == 0) {
            buf_append(&found, value, len);
            any = true;
        }
    }
    if (!any)
        fuse_reply_err(req, ENODATA);
    else if (size == 0)
        fuse_reply_xattr(req, found.len);
    else if (found.len > size)
        fuse_reply_err(req, ERANGE);
    else
        fuse_reply_buf(req, found.data, found.len);
}
