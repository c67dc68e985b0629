/* Directories: listings with attributes. */
#include "fusefs/driver/mount.h"

#define LIST_PAGE 2048u
#define LIST_AHEAD_AFTER 2u

/* A name of which something newer is known, or seems to be (stamps are hashed), cannot be taken from the page; without it the listing would not be whole. */
static int ask_again(struct mount *m, struct node *dir, const char *name)
{
    struct attr a;
    int err = -EAGAIN;
    for (int tries = 0; tries < 10 && err == -EAGAIN; tries++)
        err = mount_ask_name(m, dir, name, NULL, &a);
    return err == -ENOENT ? 0 : err;
}

static int take_page(struct mount *m, struct node *dir, const struct remote_page *page)
{
    int err = 0;
    replica_fill_attr(m->replica, dir, page->seq, &page->attr);
    for (size_t i = 0; i < page->n && !err; i++)
        if (!replica_fill_name(m->replica, dir, page->entries[i].name, page->seq, &page->entries[i].attr, NULL))
            err = ask_again(m, dir, page->entries[i].name);
    return err;
}

/* One pass over all pages. -EAGAIN: something in it changed meanwhile. */
static int list_once(struct mount *m, struct node *dir)
{
    CLEANUP_FREE char *after = mem_strdup("");
    uint64_t first = 0;
    for (;;) {
        struct remote_page page = {0};
        int err;
        MOUNT_ASK(m, err, remote_directory(m->remote, dir->ino, 0, after, LIST_PAGE, &page));
        if (err)
            return err;
        err = take_page(m, dir, &page);
        if (!first)
            first = page.seq;
        free(after);
        after = mem_strdup(page.next);
        remote_page_fini(&page);
        if (err)
            return err;
        if (!after)
            return replica_fill_complete(m->replica, dir, first) ? 0 : -EAGAIN;
    }
}

bool mount_list_ahead(struct mount *m, struct node *dir)
{
    replica_lock(m->replica);
    bool now = !dir->complete && ++dir->cold_lookups == LIST_AHEAD_AFTER;
    replica_unlock(m->replica);
    struct remote_page page = {0};
    if (!now || remote_directory(m->remote, dir->ino, 0, "", LIST_PAGE, &page)) /* tried once: the look-up itself does the waiting */
        return false;
    if (take_page(m, dir, &page) == 0 && !page.next)
        replica_fill_complete(m->replica, dir, page.seq);
    remote_page_fini(&page);
    replica_lock(m->replica);
    if (dir->complete)
        dir->cold_lookups = 0;
    replica_unlock(m->replica);
    return true;
}

int mount_list(struct mount *m, struct node *dir)
{
    int err = sync_fresh(m->sync);
    for (int tries = 0; !err && tries < 20; tries++) {
        struct listing l;
        if (replica_listing(m->replica, dir, &l)) {
            listing_fini(&l);
            return 0;
        }
        err = list_once(m, dir);
        if (err == -EAGAIN)
            err = 0;
    }
    return err;
}

void dirs_opendir(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
    struct mount *m = mount_of(req);
    if (history_owns(m, id)) {
        history_opendir(req, id, fi);
        return;
    }
    struct handle *h = mem_alloc(sizeof *h);
    pthread_mutex_init(&h->lock, NULL);
    h->node = node_of(m, id);
    replica_use(m->replica, h->node);
    fi->fh = (uint64_t)(uintptr_t)h;
    int err = sync_fresh(m->sync);
    if (!err && sync_trusted(m->sync))
        fi->keep_cache = fi->cache_readdir = 1;
    if (err)
        fuse_reply_err(req, -err);
    if (err || fuse_reply_open(req, fi) == -ENOENT) {
        replica_leave(m->replica, h->node);
        dirs_free_handle(h);
    }
}

void dirs_free_handle(struct handle *h)
{
    listing_fini(&h->listing);
    pthread_mutex_destroy(&h->lock);
    free(h);
}

/* A listing that goes on changing under the reader is given as it is known. */
static int snapshot(struct mount *m, struct handle *h)
{
    for (int tries = 0; tries < 5; tries++) {
        int err = mount_list(m, h->node);
        if (err)
            return err;
        listing_fini(&h->listing);
        if (replica_listing(m->replica, h->node, &h->listing)) {
            h->listed = true;
            return 0;
        }
    }
    return -EIO;
}

/* Entry `off` of a handle: "." and ".." first. */
static const struct listing_entry *entry_at(struct handle *h, size_t off, struct listing_entry *dots)
{
    if (off >= h->listing.n + 2)
        return NULL;
    if (off >= 2)
        return &h->listing.entries[off - 2];
    *dots = (struct listing_entry){off == 0 ? h->listing.ino : h->listing.parent, S_IFDIR, off == 0 ? (char *)(uintptr_t) "." : (char *)(uintptr_t) ".."};
    return dots;
}

/* Adds one entry with its attributes. Returns its size, more than room where it does not fit. */
static size_t add_plus(fuse_req_t req, struct mount *m, struct handle *h, const struct listing_entry *e, off_t next, char *p, size_t room)
{
    struct fuse_entry_param param = {.attr.st_ino = e->ino, .attr.st_mode = e->mode};
    size_t need = fuse_add_direntry_plus(req, NULL, 0, e->name, NULL, 0);
    if (need > room)
        return need;
    struct node *n = NULL;
    struct attr a;
    if (e->name[0] != '.' || (strcmp(e->name, ".") != 0 && strcmp(e->name, "..") != 0)) {
        if (replica_lookup(m->replica, h->node, e->name, &n, &a) == 1)
            mount_entry(m, h->node, n, &a, &param); /* the kernel looks up by itself what is not known (ino 0) */
    }
    return fuse_add_direntry_plus(req, p, room, e->name, &param, next);
}

/* As many entries from `off` on as fit into buf[size]: their bytes, or a negative errno. */
static ssize_t fill(fuse_req_t req, struct handle *h, char *buf, size_t size, off_t off, bool plus)
{
    struct mount *m = mount_of(req);
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&h->lock);
    int err = off == 0 || !h->listed ? snapshot(m, h) : 0;
    if (err)
        return err;
    size_t used = 0;
    struct listing_entry dots;
    const struct listing_entry *e;
    for (size_t at = (size_t)off; (e = entry_at(h, at, &dots)); at++) {
        struct stat st = {.st_ino = e->ino, .st_mode = e->mode};
        size_t n = plus ? add_plus(req, m, h, e, (off_t)at + 1, buf + used, size - used)
                        : fuse_add_direntry(req, buf + used, size - used, e->name, &st, (off_t)at + 1);
        if (n > size - used)
            break;
        used += n;
    }
    return (ssize_t)used;
}

void mount_reply_listing(fuse_req_t req, const char *buf, ssize_t used)
{
    if (used < 0)
        fuse_reply_err(req, (int)-used);
    else
        fuse_reply_buf(req, buf, (size_t)used);
}

static void read_dir(fuse_req_t req, size_t size, off_t off, struct fuse_file_info *fi, bool plus)
{
    CLEANUP_FREE char *buf = mem_alloc_raw(size);
    mount_reply_listing(req, buf, fill(req, handle_of(fi), buf, size, off, plus));
}

void dirs_readdir(fuse_req_t req, fuse_ino_t id, size_t size, off_t off, struct fuse_file_info *fi)
{
    if (history_owns(mount_of(req), id))
        history_readdir(req, size, off, fi, false);
    else
        read_dir(req, size, off, fi, false);
}

void dirs_readdirplus(fuse_req_t req, fuse_ino_t id, size_t size, off_t off, struct fuse_file_info *fi)
{
    if (history_owns(mount_of(req), id))
        history_readdir(req, size, off, fi, true);
    else
        read_dir(req, size, off, fi, true);
}

void dirs_releasedir(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
    struct mount *m = mount_of(req);
    struct handle *h = handle_of(fi);
    if (!history_owns(m, id))
        replica_leave(m->replica, h->node);
    dirs_free_handle(h);
    fuse_reply_err(req, 0);
}

/* Names are with the gateway when the call that made them returns, and on its disk when this does. */
void dirs_fsyncdir(fuse_req_t req, fuse_ino_t id, int datasync, struct fuse_file_info *fi)
{
    (void)id;
    (void)datasync;
    (void)fi;
    fuse_reply_err(req, mount_errno(mount_sync_names(mount_of(req))));
}
