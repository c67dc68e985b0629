/* One mount, and what its FUSE operations share. Private to the driver.

   A FUSE operation runs on one of libfuse's threads and may wait for the network; it never waits for another mount's acknowledgement of an invalidation, nor holds
   the replica's lock while it waits. */
#ifndef CAIRN_FUSEFS_DRIVER_MOUNT_H
#define CAIRN_FUSEFS_DRIVER_MOUNT_H
#define FUSE_USE_VERSION 312
#include "common/cleanup.h"
#include "common/mem.h"
#include "common/pool.h"
#include "fusefs/cache/content.h"
#include "fusefs/cache/replica.h"
#include "fusefs/driver/driver.h"
#include "fusefs/remote/remote.h"
#include "fusefs/sync/kernel.h"
#include "fusefs/sync/sync.h"
#include "fusefs/upload/opqueue.h"
#include <errno.h>
#include <fuse_lowlevel.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>

#define DRIVER_BLOCK 4096u

struct locks;   /* locks.c: who holds and who waits */
struct history; /* history.c: the nodes below .versions */

struct mount {
    struct driver_options options;
    unsigned timeout_ms;
    struct remote *remote;
    const struct remote_mount_info *info;
    struct opqueue *ops;
    struct replica *replica;
    struct kernel *kernel;
    struct sync *sync;
    struct store *store;
    struct locks *locks;
    struct history *history;
    struct fuse_session *session;
    struct pool *late;      /* one thread: attributes whose commit could not be sent at close */
    _Atomic bool stopping;
    _Atomic uint32_t lock_session; /* raised when all locks are lost */
    int64_t started_ns;
    pthread_mutex_t ino_lock; /* guards the range of inode numbers */
    uint64_t ino_next, ino_end;
};

/* An open file or directory. */
struct handle {
    struct node *node;
    struct content *content; /* a reference */
    int flags;
    _Atomic bool wrote;
    _Atomic bool made; /* the file was created with it */
    _Atomic bool locked; /* a lock was taken through it, in this session of locks: */
    _Atomic uint32_t lock_session;
    pthread_mutex_t lock; /* guards listing */
    struct listing listing;
    bool listed;
};
static inline struct handle *handle_of(const struct fuse_file_info *fi)
{
    return (struct handle *)(uintptr_t)fi->fh;
}

static inline struct mount *mount_of(fuse_req_t req)
{
    return fuse_req_userdata(req);
}
/* The node of a FUSE id that is no node below .versions. */
static inline struct node *node_of(struct mount *m, fuse_ino_t id)
{
    return replica_node(m->replica, id);
}

static inline void mount_unlock_replica(struct replica **r)
{
    replica_unlock(*r);
}
/* The replica's lock, until the end of the scope. */
#define ACQUIRE_REPLICA_FOR_CURRENT_SCOPE(m)                                                       \
    CLEANUP(mount_unlock_replica) struct replica *scope_replica = (m)->replica;                    \
    replica_lock(scope_replica)

/* ---- attrs.c ---- */
/* The attributes of a node as of now, what this mount has not sent yet included. 0, -ENOENT, -EIO… */
int mount_attr(struct mount *m, struct node *n, struct attr *ret);
/* Lays local, unsent content over a. Returns true if there was any. */
bool mount_overlay(struct mount *m, struct node *n, struct attr *a);
/* The operation that sets what waits for a node's commit (`set` 0: nothing does); it waits no longer. */
struct op mount_take_pending(struct mount *m, struct node *n);
/* Sends an operation as soon as the gateway can be reached again. */
void mount_send_late(struct mount *m, struct node *n, const struct op *op);
void mount_stat(const struct mount *m, const struct attr *a, struct stat *ret);
/* How long the kernel may keep attributes: 0 where nothing is trusted or content is unsent. */
double mount_attr_seconds(struct mount *m, bool unsent);
void mount_entry(struct mount *m, struct node *parent, struct node *n, const struct attr *a, struct fuse_entry_param *ret);

/* ---- names.c ---- */
/* Finds a name, asking the gateway where need be. 0: *ret_node (nlookup raised) and *ret; -ENOENT. */
int mount_lookup(struct mount *m, struct node *parent, const char *name, struct node **ret_node, struct attr *ret);
/* What the gateway says of a name, now. ret_node may be NULL, else nlookup is raised. -ENOENT: no such name; -EAGAIN: it has changed since that answer. */
int mount_ask_name(struct mount *m, struct node *parent, const char *name, struct node **ret_node, struct attr *ret);
/* Runs one operation; its result's error or -EIO. */
int mount_run(struct mount *m, const struct op *op, struct op_result *ret);
int mount_new_ino(struct mount *m, uint64_t *ret);
/* err = call, again and again while no gateway can be reached, for as long as a call of this mount waits; -EIO then. */
#define MOUNT_ASK(m, err, call)                                                                    \
    do {                                                                                           \
        struct remote_wait mount_ask_wait = {.timeout_ms = (m)->timeout_ms};                       \
        do                                                                                         \
            (err) = (call);                                                                        \
        while (remote_wait(&mount_ask_wait, (err)));                                               \
        if ((err) == -EHOSTUNREACH)                                                                \
            (err) = -EIO;                                                                          \
    } while (0)
/* The errno for a program: what could not be reached is EIO. */
static inline int mount_errno(ssize_t err)
{
    return err == -EHOSTUNREACH ? EIO : (int)-err;
}

/* ---- dirs.c ---- */
/* Who asks for one name of a directory after the other is given them all: true where that was done just now, so that the replica may know by now. */
bool mount_list_ahead(struct mount *m, struct node *dir);
int mount_list(struct mount *m, struct node *dir); /* makes the replica's listing of it complete */
/* Answers with entries: their bytes, or a negative errno. With the answer the handle may be gone: its lock, above all, is not held any more. */
void mount_reply_listing(fuse_req_t req, const char *buf, ssize_t used);
void dirs_free_handle(struct handle *h);

/* ---- files.c ---- */
struct content *mount_content(struct mount *m, struct node *n, const struct attr *a); /* a reference; kept by the node as well */
/* Returns when every name and attribute that was changed before is on the gateway's disk: 0 or -EIO. With write-back, which promises less, at once. */
int mount_sync_names(struct mount *m);
/* Commits what is unsent of a node's content. last: its last writer closes. */
int mount_publish(struct mount *m, struct node *n, struct content *c, bool last);

/* ---- locks.c ---- */
struct locks *locks_new(struct mount *m);
void locks_free(struct locks *l);
void locks_unlocked(void *ctx, uint64_t ino);  /* sync's on_unlocked; ctx is the mount */
void locks_session_lost(void *ctx);            /* sync's on_session_lost */
/* A lock was held through this handle and is lost: whatever is done through it gives EIO. */
static inline bool locks_lost(const struct mount *m, const struct handle *h)
{
    return h->locked && h->lock_session != m->lock_session;
}
void locks_close(struct mount *m, struct handle *h, uint64_t owner, bool release);

/* ---- history.c: .versions ---- */
struct history *history_new(struct mount *m);
void history_free(struct history *h);
#define HISTORY_NAME ".versions"
bool history_owns(const struct mount *m, fuse_ino_t id);
void history_lookup_top(fuse_req_t req);
void history_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void history_forget(struct mount *m, fuse_ino_t id, uint64_t nlookup);
void history_getattr(fuse_req_t req, fuse_ino_t id);
void history_open(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi);
void history_opendir(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi);
void history_readdir(fuse_req_t req, size_t size, off_t off, struct fuse_file_info *fi, bool plus);
void history_readlink(fuse_req_t req, fuse_ino_t id);
void history_xattrs(fuse_req_t req, fuse_ino_t id, const char *name, size_t size); /* name NULL: list */

/* ---- status.c ---- */
char *status_json(struct mount *m); /* the caller's */

/* The operations, each in the file of its group. */
void names_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void names_forget(fuse_req_t req, fuse_ino_t id, uint64_t nlookup);
void names_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets);
void names_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev);
void names_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void names_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name);
void names_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi);
void names_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t new_parent, const char *new_name);
void names_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void names_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void names_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent, const char *new_name, unsigned flags);
void names_readlink(fuse_req_t req, fuse_ino_t id);
void attrs_getattr(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi);
void attrs_setattr(fuse_req_t req, fuse_ino_t id, struct stat *attr, int valid, struct fuse_file_info *fi);
void attrs_statfs(fuse_req_t req, fuse_ino_t id);
void files_open(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi);
void files_read(fuse_req_t req, fuse_ino_t id, size_t size, off_t off, struct fuse_file_info *fi);
void files_write(fuse_req_t req, fuse_ino_t id, const char *buf, size_t size, off_t off, struct fuse_file_info *fi);
void files_flush(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi);
void files_release(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi);
void files_fsync(fuse_req_t req, fuse_ino_t id, int datasync, struct fuse_file_info *fi);
void files_fallocate(fuse_req_t req, fuse_ino_t id, int mode, off_t off, off_t len, struct fuse_file_info *fi);
void files_lseek(fuse_req_t req, fuse_ino_t id, off_t off, int whence, struct fuse_file_info *fi);
void files_copy(fuse_req_t req, fuse_ino_t in, off_t off_in, struct fuse_file_info *fi_in, fuse_ino_t out, off_t off_out,
                struct fuse_file_info *fi_out, size_t len, int flags);
/* Shared by create and open: makes a handle; ends one that the kernel never learned of. */
struct handle *files_handle(struct mount *m, struct node *n, const struct attr *a, int flags);
void files_abandon(struct mount *m, struct fuse_file_info *fi);
void dirs_opendir(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi);
void dirs_readdir(fuse_req_t req, fuse_ino_t id, size_t size, off_t off, struct fuse_file_info *fi);
void dirs_readdirplus(fuse_req_t req, fuse_ino_t id, size_t size, off_t off, struct fuse_file_info *fi);
void dirs_releasedir(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi);
void dirs_fsyncdir(fuse_req_t req, fuse_ino_t id, int datasync, struct fuse_file_info *fi);
void xattrs_set(fuse_req_t req, fuse_ino_t id, const char *name, const char *value, size_t size, int flags);
void xattrs_get(fuse_req_t req, fuse_ino_t id, const char *name, size_t size);
void xattrs_list(fuse_req_t req, fuse_ino_t id, size_t size);
void xattrs_remove(fuse_req_t req, fuse_ino_t id, const char *name);
void locks_getlk(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi, struct flock *lock);
void locks_setlk(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi, struct flock *lock, int sleep);
void locks_flock(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi, int op);
#endif
