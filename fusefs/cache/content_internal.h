/* The content cache from inside: what store.c, content*.c, chunks.c, fetch.c, evict.c and the others share.

   Locks, in the order in which they may be taken together:
     content.publishing   one publisher per content; the only one that is held across network calls: whoever waits for it waits for just that commit
     content.lock         the content's fields and chunks; never held across the network, only for local disk calls that are short
     store.lock           the table of contents, their references, the lists
     store.fd_lock        which backing files are open
     state, journal       inside their modules
   A pinned chunk is not evicted, cut off or replaced: who wants that freezes the content, which keeps new calls out and waits for those that are in the
   backing file (local disk calls only, so that this is short). FETCHING is a claim, good while the chunk's gen stays: whoever gives the chunk new bytes meanwhile
   renews the gen, and the fetched ones are dropped. With FETCHING and a pin, fetched bytes are being written. */
#ifndef CAIRN_FUSEFS_CACHE_CONTENT_INTERNAL_H
#define CAIRN_FUSEFS_CACHE_CONTENT_INTERNAL_H
#include "common/chunk.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/pool.h"
#include "fusefs/cache/content.h"
#include "fusefs/cache/state.h"
#include "fusefs/upload/journal.h"
#include "fusefs/upload/uploader.h"
#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <uthash.h>
#include <utlist.h>

#define MAP_PAGE 1024u            /* chunks whose hashes are asked for at once */
#define SMALL_FILE (64u << 10)    /* fetched ahead by store_prefetch */
#define STORE_LATE_MS 300         /* what is dirty with nothing open waits so long: pages of a mapping may still come */
#define MAP_INLINE_MAX (1u << 20) /* bytes that may come along with a map */

enum { /* chunk.flags */
    CHUNK_MAPPED = 1,     /* hash and len are those of the base version */
    CHUNK_PRESENT = 2,    /* the backing file has its bytes: of `hash`, or newer if DIRTY. Without MAPPED: of a version before; to be compared with the map */
    CHUNK_DIRTY = 4,
    CHUNK_FETCHING = 8,   /* somebody fetches or verifies it */
    CHUNK_UNVERIFIED = 16,/* PRESENT as far as an unclean end left it: to be hashed before it is believed */
    CHUNK_JUNK = 32,      /* the backing file may have bytes here that are nobody's: cleared before anything relies on zeros */
    CHUNK_SENDING = 64,   /* an upload in the background is on its way */
};
struct chunk {
    struct hash hash; /* zero: a hole */
    uint32_t len;
    uint32_t gen;    /* unique in its content; new before and after every change of its bytes */
    uint32_t used;   /* store.tick of the last read or write */
    uint32_t held;   /* bytes that it counts for in store.cached */
    uint32_t unsent; /* likewise in store.unsent */
    uint16_t pins;   /* calls that use its bytes in the backing file right now */
    uint16_t writers; /* those of them that change it: what is read meanwhile is half of it */
    uint8_t flags;
    struct chunk_ref *stored; /* DIRTY, and the gateway has its bytes as they are: under this hash; owned */
};

struct content_key {
    uint64_t ino, of; /* of: 0 the newest content; else an old version, read-only */
};

/* What has been done since the base, beyond the chunks' own states. */
struct since_base {
    uint64_t shrunk_to;   /* the least size */
    uint64_t append_from; /* the size at the base */
    bool append;          /* nothing but appends */
};

struct content {
    struct content_key key; /* guarded by store.lock and lock: either suffices to read it */
    struct store *store;
    pthread_mutex_t publishing;
    pthread_mutex_t lock; /* guards all below up to the next blank line */
    pthread_cond_t changed;
    uint64_t version, base_size; /* of the base */
    uint32_t afresh;             /* store.afresh when the version was last compared with the newest */
    uint32_t in_vain;            /* how often a gateway was asked for its map or chunks for as long as a call waits, in vain; */
    uint64_t vain_chunk;         /* for which chunk, the last time, */
    int64_t vain_ms;             /* and when it was given up */
    uint64_t size;
    int64_t mtime;      /* local while dirty; 0: not known */
    uint32_t chunk_size; /* 0: has no content yet */
    struct chunk *chunks;
    uint64_t n_chunks; /* chunk_count(size) */
    bool dirty, has_mtime, mapping, frozen, conflict;
    _Atomic bool state_changed; /* state.db is behind */
    uint32_t busy, writing; /* sums of the chunks' pins and writers */
    uint32_t gens;
    uint64_t changes;       /* raised by each local change */
    struct since_base since;
    uint64_t replaces;      /* the version this same open file committed before */
    struct snapshot *unsure; /* what was sent without an answer; owned */
    bool recovered;          /* dirty since before a crash: it may have been committed just then */
    bool committing;
    bool infected;           /* the base is: nothing of it is read */
    bool aside;              /* what is dirty goes into a sibling */
    uint64_t read_next, ahead_until; /* sequential reads: the next offset; the first chunk not yet asked for */
    uint32_t read_run;
    uint64_t bytes;         /* sum of chunks' held */

    _Atomic bool nameless;
    _Atomic uint32_t opens, last_used; /* last_used: seconds of CLOCK_BOOTTIME */
    _Atomic int64_t due_ms;            /* dirty and nothing open: when to publish */
    unsigned back_off_ms;              /* publisher thread only */

    /* store.lock */
    uint32_t refs;
    bool detached; /* not in the table: its inode number is somebody else's there */
    bool in_dirty, in_idle;
    struct content *dirty_prev, *dirty_next, *idle_prev, *idle_next;
    UT_hash_handle hh;

    /* store.fd_lock */
    int fd; /* -1: not open */
    uint32_t fd_users;
    struct content *fd_prev, *fd_next;
};

struct pending_publish { /* writeback: commits that wait, in order */
    struct content *content; /* a reference */
    struct op *extra;        /* owned */
    size_t n_extra;
    bool last;
    struct pending_publish *next;
};

struct store {
    struct store_config cfg;
    char *dir;
    int lock_fd, dir_fd;
    struct remote *remote;
    struct state *state;
    struct journal *journal;
    struct uploader *uploader;
    struct pool *fetchers;
    uint64_t dirty_limit;       /* bytes that are dirty and not stored, before writers wait */
    _Atomic uint64_t dirty_max; /* the same now: less while the disk is full */

    pthread_mutex_t lock; /* guards all up to the blank line */
    pthread_cond_t wake, room, settled;
    struct content *table, *dirty_list, *idle_list; /* idle: no references, least recently used first */
    size_t n_idle, n_dirty;
    struct pending_publish *pending, **pending_last;
    bool closing, publisher_stop, wake_keeper;
    pthread_cond_t wake_publisher;
    struct attr *ahead; /* small files to be fetched ahead: a ring */
    size_t ahead_first, ahead_n;
    bool ahead_running;

    pthread_mutex_t fd_lock;
    struct content *fd_list; /* open backing files, least recently used first */
    size_t n_fds, fds_max;

    pthread_mutex_t evicting;
    pthread_mutex_t memory_lock;
    pthread_cond_t memory_free;
    uint64_t memory_used; /* buffers of fetches and uploads */

    _Atomic uint64_t cached, unsent; /* bytes in backing files; dirty ones that the gateway does not have */
    _Atomic uint32_t tick;
    _Atomic uint32_t afresh; /* how often the mount has started afresh */
    pthread_t keeper, publisher;
};

/* ---- store.c ---- */
void store_mark_dirty(struct content *c);  /* content.lock held */
void store_mark_clean(struct content *c);
int store_rekey(struct content *c, uint64_t ino); /* content.lock held: it is another inode's content from now on */
void store_forget(struct content *c);      /* its inode is gone: the object leaves the table and its backing file goes with it */
void store_take_ref(struct content *c); /* store.lock held */
struct content *store_find(struct store *s, struct content_key key); /* a reference, or NULL where it is not in memory */
struct content *store_make(struct store *s, struct content_key key, bool *ret_fresh); /* found, or made and *locked* (fresh) */
void *store_memory_take(struct store *s, size_t n); /* a buffer; waits while too much is in use. Nobody takes a second one */
void store_memory_give(struct store *s, void *p, size_t n);
void store_call_keeper(struct store *s);   /* something is to be evicted or saved */
void store_trim(struct store *s, size_t keep); /* idle contents out of memory */

/* ---- content.c ---- */
void content_load(struct content *c); /* what state.db knows of it; lock held, nobody else has it */

/* ---- files.c: backing files ---- */
#define BACKING_PATH 80
void backing_path(struct content_key key, char ret[BACKING_PATH]); /* below the cache folder */
int backing_make_dir(struct store *s, struct content_key key); /* the folder that it is in */
int backing_get(struct content *c); /* an open fd or negative errno; each is given back */
void backing_put(struct content *c);
void backing_close(struct content *c); /* when nobody uses it */
int backing_write(struct content *c, const void *p, size_t n, uint64_t off);
/* The same, and if the disk is full once more after half of what can be fetched again has gone. No content.lock held. */
int backing_write_or_evict(struct content *c, const void *p, size_t n, uint64_t off);
/* Up to n bytes; what lies behind the file's end reads as zeros. */
int backing_read(struct content *c, void *p, size_t n, uint64_t off);
int backing_punch(struct content *c, uint64_t off, uint64_t n);
int backing_resize(struct content *c, uint64_t size);

/* ---- chunks.c: the chunk table; content.lock held throughout ---- */
uint64_t chunk_start(const struct content *c, uint64_t n);
bool chunk_is_hole(const struct chunk *ch);      /* reads as zeros without I/O */
bool chunk_is_ready(const struct chunk *ch);     /* its bytes can be read from the backing file */
void chunks_resize(struct content *c, uint64_t size); /* new ones are holes of the base */
void chunks_reset(struct content *c, uint64_t size, uint32_t chunk_size); /* all unknown */
void chunk_account(struct content *c, uint64_t n); /* after a change of its flags, of `stored`, or of the file's size */
void chunk_renew(struct content *c, struct chunk *ch);
void chunk_set_present(struct content *c, uint64_t n);
void chunk_set_absent(struct content *c, uint64_t n, bool junk); /* junk: its bytes are still in the backing file */
void chunk_set_stored(struct content *c, uint64_t n, const struct chunk_ref *ref);
void chunk_set_clean(struct content *c, uint64_t n, const struct chunk_ref *ref);
int chunk_scrub(struct content *c, uint64_t n);  /* no junk in the backing file */
void chunks_stale(struct content *c, uint64_t first); /* from here on hashes are those of another version */
void chunks_take_map(struct content *c, const struct remote_map *m);
void chunk_set_dirty(struct content *c, uint64_t n);
bool content_wait(struct content *c); /* for a change of somebody else's; false when it took too long */
void content_lock(struct content *c); /* and waits while it is frozen */
void content_freeze(struct content *c); /* lock held, and given up meanwhile: nobody is in the backing file, nobody comes in until content_thaw */
void content_thaw(struct content *c);
void chunk_pin(struct content *c, uint64_t n);
void chunk_unpin(struct content *c, uint64_t n);

/* ---- fetch.c ---- */
/* It becomes what is newest, when that is another version: it has nothing unsent, and is not an old version. */
static inline bool content_may_follow(const struct content *c)
{
    return !c->dirty && !c->key.of;
}
/* Chunk n becomes a hole or ready (or is no longer there). content.lock is held, but given up meanwhile. timeout_ms: patience with a gateway that is away. */
int content_ensure(struct content *c, uint64_t n, unsigned timeout_ms);
int content_ensure_map(struct content *c, uint64_t n, unsigned timeout_ms); /* only its hash */
/* remote_read of one file, for as long as that; what the gateway says of its map is the result. */
int content_read_map(struct content *c, const struct remote_want *w, uint32_t inline_max, unsigned timeout_ms, struct remote_read *ret);
void content_fetch_later(struct content *c, uint64_t n);                    /* in the background; lock held */
void content_take_contents(struct content *c, const struct remote_map *m, const struct remote_read *rd);

/* ---- content_write.c ---- */
int content_begin_dirty(struct content *c, bool append); /* journals that the file is dirty; lock held */
int content_dirty_chunk(struct content *c, uint64_t n);  /* likewise its chunk */
void content_note_change(struct content *c);
void content_wait_thaw(struct content *c);
/* Writes (p NULL: clears) within chunk n; lock held, given up meanwhile. -EAGAIN: the end of the file has moved, so that it is no append any more, or there
   is nothing left to clear. */
int content_change_chunk(struct content *c, uint64_t n, uint32_t from, uint32_t to, const void *p, bool append);

/* ---- snapshot.c: the dirty state at one moment, and what became of it ---- */
struct send_item {
    uint64_t n;
    uint32_t gen; /* of the chunk when its bytes were read */
    bool stored;  /* the gateway had it before */
    int error;    /* -EAGAIN: cut off meanwhile, the snapshot is to be taken anew */
    struct uploaded up;
};
struct snapshot {
    uint64_t version, size, changes, replaces;
    int64_t mtime;
    struct since_base since;
    bool aside;
    uint32_t chunk_size;
    struct send_item *items; /* a dirty chunk each, n rising */
    size_t n;
};
struct snapshot *snapshot_take(struct content *c); /* content.lock held, given up meanwhile */
void snapshot_free(struct snapshot *sn);           /* NULL is nothing */
void snapshot_undo(struct content *c, const struct snapshot *sn); /* it was not committed; lock held */
/* It was, as this version of this inode: what has not changed since is clean. */
int snapshot_committed(struct content *c, const struct snapshot *sn, uint64_t version, uint64_t ino);
int snapshot_journal(struct content *c, uint64_t ino); /* what is dirty and on which base, written anew, as that inode's */
void snapshot_to_op(const struct content *c, const struct snapshot *sn, struct op *ret); /* the caller ends ret */
/* ---- content_send.c ---- */
void content_send_later(struct content *c, uint64_t n); /* in the background; lock held */
int content_send_all(struct content *c, struct snapshot *sn, unsigned flags, unsigned timeout_ms);
/* ---- content_publish.c, content_settle.c, content_rebase.c: content.publishing held ---- */
int content_commit(struct content *c, const struct op *extra, size_t n_extra, struct op_result *ret_extra, struct op_result *ret_commit,
                   bool last);
int content_rebase(struct content *c);
void rebase_path(struct content_key key, char ret[BACKING_PATH]); /* where bytes that are being moved stand */
/* Those n bytes (and what stands before them in their first chunk) into the backing file behind base_size. */
int rebase_move(struct content *c, int fd, uint64_t base_size, uint64_t n);
/* After a commit without an answer, or a crash: is the newest version what we sent (or have)? Then it is our base. */
int content_settle(struct content *c);

/* ---- recover.c ---- */
void store_recover(struct store *s, bool unclean);
/* ---- keeper.c: background ---- */
int store_threads_start(struct store *s);
void store_threads_stop(struct store *s);
void store_call_publisher(struct content *c); /* it is dirty with nothing open */
void store_publish_later(struct content *c, const struct op *extra, size_t n_extra, bool last);
void store_save(struct store *s, struct content *const *all, size_t n); /* their states to state.db, where they changed */
/* ---- evict.c ---- */
void store_make_room(struct store *s, uint64_t target); /* until no more than target is cached, or nothing can go */
/* The disk is full: makes room, or waits until some of what is dirty was sent and can go. 0: to be tried again. No content.lock held. */
int store_relieve(struct store *s);
int store_wait_unsent(struct store *s); /* until no more than dirty_max is unsent: -EIO, -ENOSPC after the time-out. No content.lock held */
void store_disk_has_room(struct store *s); /* asked now and then: once it is full no longer, more may wait again */
void store_check_room(struct store *s); /* before more is cached; no content.lock held */
#endif
