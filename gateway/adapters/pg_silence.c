#include "gateway/adapters/pg_silence.h"
#include "common/clock.h"
#include "common/cond.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/url.h"
#include "gateway/adapters/pg_conn.h"

#include <errno.h>
#include <stdlib.h>

#define DOUBT_MS 2000
#define LOOK_S "2" /* per host; libpq takes no less */
#define SLOW_MS 1000 /* what fails sooner has been refused: somebody is there, or nobody has to wait */
#define PAUSE_MIN_MS 250
#define PAUSE_MAX_MS 2000

void pg_silence_init(struct pg_silence *s, const char *url)
{
    *s = (struct pg_silence){.url = url};
    pthread_mutex_init(&s->lock, NULL);
    cond_init(&s->wake);
}

void pg_silence_fini(struct pg_silence *s)
{
    pthread_mutex_lock(&s->lock);
    s->ending = true;
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->lock);
    if (s->joinable)
        pthread_join(s->thread, NULL);
    pthread_cond_destroy(&s->wake);
    pthread_mutex_destroy(&s->lock);
}

bool pg_is_silent(const struct pg_silence *s)
{
    return atomic_load(&s->silent);
}

void pg_heard(struct pg_silence *s)
{
    atomic_store(&s->heard, clock_boot_ms());
}

static bool heard_since(const struct pg_silence *s, int64_t then)
{
    return atomic_load(&s->heard) >= then;
}

static bool was_slow(int64_t began)
{
    return clock_boot_ms() - began >= SLOW_MS;
}

/* ---- the thread ---- */

static bool look(struct pg_silence *s)
{
    int64_t began = clock_boot_ms();
    PGconn *pq = pg_plain(s->url, LOOK_S);
    bool answered = PQstatus(pq) == CONNECTION_OK || !was_slow(began);
    PQfinish(pq);
    if (answered)
        pg_heard(s);
    return heard_since(s, began);
}

/* Under the lock: the thread ends with what it has found, and nobody says otherwise after it. */
static void set_silent(struct pg_silence *s, bool silent)
{
    if (atomic_exchange(&s->silent, silent) == silent)
        return;
    CLEANUP_FREE char *shown = url_shown(s->url);
    if (silent)
        log_warn("database: %s does not answer: nobody waits for it until it does", shown);
    else
        log_info("database: %s answers again", shown);
}

static void nap(struct pg_silence *s, unsigned ms)
{
    struct timespec until = cond_deadline(ms);
    while (!s->ending && pthread_cond_timedwait(&s->wake, &s->lock, &until) != ETIMEDOUT)
        ;
}

static void *look_until_it_answers(void *arg)
{
    struct pg_silence *s = arg;
    unsigned pause = PAUSE_MIN_MS;
    bool answered = false;
    pthread_mutex_lock(&s->lock);
    if (pg_is_silent(s))
        nap(s, pause);
    while (!s->ending && !answered) {
        pthread_mutex_unlock(&s->lock);
        answered = look(s);
        pthread_mutex_lock(&s->lock);
        set_silent(s, !answered);
        if (!answered)
            nap(s, pause);
        pause = 2 * pause < PAUSE_MAX_MS ? 2 * pause : PAUSE_MAX_MS;
    }
    s->looking = false;
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* silent: until the thread finds otherwise. */
static void have_it_looked_at(struct pg_silence *s, bool silent)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock);
    if (!s->looking) {
        if (s->joinable)
            pthread_join(s->thread, NULL); /* its last look is over */
        s->looking = s->joinable = pthread_create(&s->thread, NULL, look_until_it_answers, s) == 0;
    }
    if (s->looking && silent)
        set_silent(s, true);
}

/* ---- who needs the server ---- */

bool pg_waited(struct pg_silence *s, int64_t since)
{
    int64_t doubt = clock_boot_ms() - DOUBT_MS;
    if (!pg_is_silent(s) && since <= doubt && !heard_since(s, doubt))
        have_it_looked_at(s, false);
    return pg_is_silent(s);
}

void pg_not_let_in(struct pg_silence *s, int64_t since)
{
    if (was_slow(since) && !heard_since(s, since))
        have_it_looked_at(s, true);
}
