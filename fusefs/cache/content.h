/* The local file is the file: the content of one cached inode, as a sparse backing file with a state per chunk
   (absent, clean, dirty, uploading), its base version and its chunk map. Reads fetch what is absent, writes make chunks dirty, finished
   chunks upload while the file is still being written, publish() commits.

   All functions are thread-safe and may block on the network unless they say otherwise. They return 0 or a byte count, or a negative errno. */
#ifndef CAIRN_FUSEFS_CACHE_CONTENT_H
#define CAIRN_FUSEFS_CACHE_CONTENT_H
#include "fusefs/remote/remote.h"
#include "fusefs/upload/opqueue.h"

struct store;   /* the cache folder: backing files, states, journal, uploader, eviction */
struct content; /* one inode's content; reference counted */

struct store_config {
    const char *dir;         /* the cache folder, made 0700; locked against a second user (-EBUSY) */
    uint64_t max_bytes;      /* --cache-size */
    struct remote *remote;
    struct opqueue *ops;
    bool writeback;          /* content_publish returns when everything is on the local disk; the commits follow in order */
    bool read_only;
    unsigned timeout_ms;     /* how long a call waits for a gateway that is away, then -EIO */
};
/* The journal id of a cache folder: made with it, kept in it. Called before remote_mount. Also tells the last batch number used. */
int store_prepare(const char *dir, struct uuid *ret_journal);
/* Opens the folder; content that was dirty after an unclean end is found again and committed in the background
   (on a stale base as a conflict, as always). */
int store_open(const struct store_config *cfg, struct store **ret);
void store_close(struct store *s); /* publishes what is dirty (bounded), flushes states. Every reference to a content has been given back */
struct store_status {
    uint64_t cached_bytes, dirty_bytes, dirty_files, uploading_bytes, uploaded_bytes;
};
void store_status(struct store *s, struct store_status *ret);

/* The content of inode `a->ino` as of attr `a`. A new reference; the same object for the same ino. Does no I/O beyond the local disk. */
struct content *content_get(struct store *s, const struct attr *a);
struct content *content_ref(struct content *c);
void content_unref(struct content *c);

/* An open file of a program, and its end. What is dirty with nothing open (late pages of a mapping, what a crash left, what could not be sent) is committed
   within a second, again and again; while something is open that is left to content_publish. Never block. */
void content_opened(struct content *c);
void content_closed(struct content *c);

/* Its last name was removed here: what is dirty when nothing is open any more is dropped instead of committed (unless content_publish is called after all). */
void content_unlinked(struct content *c);

/* -EACCES where the version is infected, also one that was found to be while it was open: until it is emptied, or has a new version. */
ssize_t content_read(struct content *c, void *p, size_t n, uint64_t off);
/* append: at the end of file as it is then; *off is set to where the bytes went. */
ssize_t content_write(struct content *c, const void *p, size_t n, uint64_t *off, bool append);
int content_truncate(struct content *c, uint64_t size);
int content_fallocate(struct content *c, int mode, uint64_t off, uint64_t len); /* mode 0, KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE; else -EOPNOTSUPP */
int64_t content_seek(struct content *c, uint64_t off, int whence);              /* SEEK_DATA, SEEK_HOLE */
/* Size and mtime as programs of this mount see them now: local ones while dirty. Never blocks on the network. ret_dirty may be NULL. */
void content_stat(struct content *c, uint64_t *ret_size, int64_t *ret_mtime, bool *ret_dirty);
/* mtime set by utimensat while dirty: it goes with the commit. Returns false when the content is clean (send a setattr). */
bool content_set_mtime(struct content *c, int64_t mtime);
/* Commits what is dirty: uploads the missing chunks, then one batch with `extra` operations (attributes waiting for close; may be none) in front of the commit. Returns
   when the gateway has it. ret_extra/ret_commit: results (may be NULL; else zeroed here, the caller ends them). last: the last writer is closing (the next commit is a new version).
   0 when clean: then `extra` alone is sent. An extra operation that fails does not keep the content from being committed: its error is in ret_extra. With writeback the
   results stay empty (seq 0): opqueue_on_result tells them. After an error everything is still dirty and is sent again later. */
int content_publish(struct content *c, const struct op *extra, size_t n_extra, struct op_result *ret_extra,
                    struct op_result *ret_commit, bool last);
/* A remote change: the newest version is now v with this size, or (quarantined) turned out to be infected. A clean content forgets its map from [from,to) on (chunks with the same hash stay);
   a dirty one stays on its base and will conflict. Never blocks on the network. Returns true if what readers see changes. */
bool content_remote_changed(struct content *c, const struct attr *a, uint64_t from, uint64_t to);
/* Nothing is known to be newest any more. A version that was newest may be one that the gateway has lost (PostgreSQL failed over): what is not in memory with a node is compared at its next content_get. */
void store_start_afresh(struct store *s);
/* And at once, for what is: `a` as of seq as_of is the newest, unless a later one is known here already. */
void content_revalidate(struct content *c, const struct attr *a, uint64_t as_of);
/* The lock is lost under which it was written: what is dirty now becomes a sibling when it is committed. */
void content_put_aside(struct content *c);
/* The inode it belongs to now (after a conflict: the sibling's), and its version. */
uint64_t content_ino(struct content *c);
uint64_t content_version(struct content *c);
/* For user.cairn.state: "clean", "dirty", "uploading", "conflict"; and progress 0–100. */
const char *content_state(struct content *c, int *ret_progress);
/* An old version, read-only: a content of its own that shares nothing writable. */
struct content *content_get_version(struct store *s, uint64_t ino, uint64_t version, uint64_t size, uint32_t chunk_size);
/* Fetches small files of a directory ahead: a hint, returns at once. */
void store_prefetch(struct store *s, const struct attr *attrs, size_t n);
#endif
