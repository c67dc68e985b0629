/* Moves the write-ahead log into the database on a thread of its own, so that no commit pays for it. Left to itself, SQLite does it within the
   commit that finds the log long: milliseconds, and two more fsyncs.

   Two passes: the first copies the bulk while writers go on, the second holds the write lock, copies the few frames that came meanwhile and waits for
   readers of old frames (at most READERS_MS), so that the next writer begins the log anew. Without the second, a busy log would grow for ever. */
#include "common/mem.h"
#include "gateway/adapters/meta_sqlite.h"

#include <errno.h>

#define FRAMES 4000 /* pages of log that are worth a pass: 16 MiB */
#define READERS_MS 50

struct sqlite_checkpointer {
    struct sqlite_meta *m;
    struct conn *c;
    pthread_t thread;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t wake;
    int at; /* frames */
    bool due, stop;
};

static int committed(void *arg, sqlite3 *db, const char *name, int frames)
{
    (void)db;
    (void)name;
    struct sqlite_checkpointer *p = arg;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&p->lock);
    if (frames < FRAMES)
        p->at = FRAMES; /* the log has begun anew */
    if (frames >= p->at && !p->due) {
        p->due = true;
        pthread_cond_signal(&p->wake);
    }
    return SQLITE_OK;
}

static void pass(struct sqlite_checkpointer *p)
{
    int frames = 0, copied = 0;
    sqlite3_wal_checkpoint_v2(p->c->db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
    {
        ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&p->m->write_lock);
        int rc = sqlite3_wal_checkpoint_v2(p->c->db, NULL, SQLITE_CHECKPOINT_RESTART, &frames, &copied);
        if (rc != SQLITE_BUSY)
            conn_errno(p->c, rc, "moving the log into the database");
        frames = rc == SQLITE_OK ? 0 : frames > 0 ? frames : FRAMES;
    }
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&p->lock);
    p->at = frames + FRAMES; /* frames: what readers kept from beginning anew */
    p->due = false;
}

static void *run(void *arg)
{
    struct sqlite_checkpointer *p = arg;
    for (;;) {
        {
            ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&p->lock);
            while (!p->due && !p->stop)
                pthread_cond_wait(&p->wake, &p->lock);
            if (p->stop)
                return NULL;
        }
        pass(p);
    }
}

int sqlite_checkpointer_start(struct sqlite_meta *m)
{
    struct conn *c;
    int err = conn_open(m->path, &c);
    if (err)
        return err;
    sqlite3_busy_timeout(c->db, READERS_MS);
    struct sqlite_checkpointer *p = mem_alloc(sizeof *p);
    *p = (struct sqlite_checkpointer){.m = m, .c = c, .at = FRAMES};
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    err = pthread_create(&p->thread, NULL, run, p);
    if (err) {
        conn_free(c);
        free(p);
        return -err;
    }
    sqlite3_wal_hook(m->writer->db, committed, p);
    m->checkpointer = p;
    return 0;
}

void sqlite_checkpointer_stop(struct sqlite_meta *m)
{
    struct sqlite_checkpointer *p = m->checkpointer;
    if (!p)
        return;
    {
        ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&p->lock);
        p->stop = true;
        pthread_cond_signal(&p->wake);
    }
    pthread_join(p->thread, NULL);
    sqlite3_wal_hook(m->writer->db, NULL, NULL);
    conn_free(p->c);
    pthread_mutex_destroy(&p->lock);
    pthread_cond_destroy(&p->wake);
    free(p);
    m->checkpointer = NULL;
}
