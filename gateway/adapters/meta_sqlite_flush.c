/* Commits that may reach the disk a little later (docs/decisions/0023), and what a machine that stopped meanwhile took with it.

   The log is one file: whatever is synced of it brings all commits before it along. So a commit that waits is on the disk with the next one that does not, or when this
   thread syncs the log, FLUSH_MS later. A process that is killed loses nothing of it; only the machine's end does. What is lost then is the newest commits, whole. */
#include "common/log.h"
#include "common/mem.h"
#include "gateway/adapters/meta_sqlite.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define FLUSH_MS 200
#define BOOT_ID "/proc/sys/kernel/random/boot_id"

struct sqlite_flusher {
    int log; /* of its own: were it opened anew each time, there might be no descriptor. SQLite's locks are on other files, so that closing it drops none */
    pthread_t thread;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t wake;
    bool due, stop;
};

static void *run(void *arg)
{
    struct sqlite_flusher *f = arg;
    for (;;) {
        {
            ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&f->lock);
            while (!f->due && !f->stop)
                pthread_cond_wait(&f->wake, &f->lock);
            if (!f->due)
                return NULL;
        }
        nanosleep(&(struct timespec){.tv_nsec = FLUSH_MS * 1000000L}, NULL);
        {
            ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&f->lock);
            if (!f->due)
                continue; /* another commit has synced it */
            f->due = false;
        }
        if (fdatasync(f->log)) { /* the kernel has forgotten what it could not write: only reading the disk anew tells what is there */
            log_error("the database's log cannot be synced: %s", strerror(errno));
            abort();
        }
    }
}

void sqlite_flusher_committed(struct sqlite_meta *m, enum sqlite_wal_end log)
{
    struct sqlite_flusher *f = m->flusher;
    if (!f || log == WAL_UNTOUCHED)
        return;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&f->lock);
    if (log == WAL_WRITTEN && !f->due)
        pthread_cond_signal(&f->wake);
    f->due = log == WAL_WRITTEN;
}

int sqlite_flusher_start(struct sqlite_meta *m)
{
    CLEANUP_FREE char *path = mem_printf("%s-wal", m->path);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600); /* the same file until the last connection is closed */
    if (fd < 0)
        return -errno;
    struct sqlite_flusher *f = mem_alloc(sizeof *f);
    f->log = fd;
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->wake, NULL);
    int err = pthread_create(&f->thread, NULL, run, f);
    if (err) {
        close(fd);
        free(f);
        return -err;
    }
    m->flusher = f;
    return 0;
}

void sqlite_flusher_stop(struct sqlite_meta *m)
{
    struct sqlite_flusher *f = m->flusher;
    if (!f)
        return;
    {
        ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&f->lock);
        f->stop = true;
        pthread_cond_signal(&f->wake);
    }
    pthread_join(f->thread, NULL);
    pthread_mutex_destroy(&f->lock);
    pthread_cond_destroy(&f->wake);
    close(f->log);
    free(f);
    m->flusher = NULL;
}

/* ---- generations ---- */

/* Which start of the machine this is; one that cannot be told is another each time. */
static void read_boot(char ret[UUID_TEXT])
{
    CLEANUP_CLOSE int fd = open(BOOT_ID, O_RDONLY | O_CLOEXEC);
    struct uuid fresh;
    if (fd >= 0 && read(fd, ret, UUID_TEXT - 1) == UUID_TEXT - 1) {
        ret[UUID_TEXT - 1] = 0;
        return;
    }
    uuid_new(&fresh);
    uuid_text(&fresh, ret);
}

static int known_boot(struct conn *c, char ret[UUID_TEXT])
{
    QUERY(q, c, "SELECT boot FROM lineage");
    int err = query_one(&q);
    if (!err)
        get_text(&q, ret, UUID_TEXT);
    return err;
}

int sqlite_generation_check(struct sqlite_meta *m)
{
    char boot[UUID_TEXT], known[UUID_TEXT] = "";
    read_boot(boot);
    WRITER(w, &m->base);
    int err = w.err ? w.err : known_boot(w.c, known);
    if (err == 0 && strcmp(boot, known) == 0)
        return 0;
    bool first = err == -ENOENT;
    if (err == 0) {
        err = conn_exec(w.c, "UPDATE drive SET prior_end = seq, seq = ((seq >> 40) + 1) << 40; DELETE FROM lineage");
        log_info("the machine was started anew: seqs go on in the next generation");
    }
    if (err == 0 || first) {
        QUERY(q, w.c, "INSERT INTO lineage (boot) VALUES (?1)");
        put_text(&q, boot);
        err = query_run(&q);
    }
    return writer_commit(&w, err);
}
