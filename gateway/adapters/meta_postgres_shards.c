/* The databases: the catalogue, which is the shard "main" as well, and the other shards that it names. */
#include "common/clock.h"
#include "common/cond.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/url.h"
#include "gateway/adapters/meta_postgres.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <uthash.h>

#define SHARDS_MAX 1024
#define ADDING_MS 200  /* who needs a shard that another thread is connecting to waits so long */
#define READ_MS 1000
#define ABSENT_MS 1000 /* one that could not be added is not tried again before */
#define TOLD_GAP_MS 10000 /* two ticks of a gateway */
#define BELIEVED_MS 5000 /* where a drive is; a drive that was moved is looked for at once, since its row is gone */

/* A drive that is being moved is in neither place for a moment. */
#define SEARCH_TRIES 500
#define SEARCH_NS 20000000

struct shard {
    char name[64];
    struct pg_pool *pool;
    _Atomic int64_t told_at, back_at; /* boot ms: told last; told for the first time, or again after it was away */
};
struct place {
    UT_hash_handle hh;
    struct uuid drive;
    size_t shard;
    int64_t until; /* boot ms */
};
struct pg_shards {
    struct shard shards[SHARDS_MAX]; /* only ever added to: [0] is the catalogue. Read without a lock, up to n */
    _Atomic size_t n;
    pthread_mutex_t adding; /* held while those that were added are read, and connected to; never by who needs one that is known */
    int64_t absent_until;   /* boot ms, under `adding` */
    int64_t read_until;     /* boot ms, under `adding`: they need not be read again before */
    int missing;            /* under `adding`: why one that the catalogue names is not known */
    pthread_mutex_t lock;   /* guards places */
    struct place *places;   /* nearly in the order of `until` */
};

struct pg_pool *pg_shards_catalogue(struct pg_shards *s)
{
    return s->shards[0].pool;
}

size_t pg_shards_count(struct pg_shards *s)
{
    return atomic_load(&s->n);
}

struct pg_pool *pg_shards_at(struct pg_shards *s, size_t i)
{
    return s->shards[i].pool;
}

void pg_shards_told(struct pg_shards *s, size_t i)
{
    int64_t now = clock_boot_ms(), before = atomic_exchange(&s->shards[i].told_at, now);
    if (!before || now - before > TOLD_GAP_MS)
        atomic_store(&s->shards[i].back_at, now);
}

bool pg_shards_settled(struct pg_shards *s, size_t i, unsigned ms)
{
    return clock_boot_ms() - atomic_load(&s->shards[i].back_at) >= ms;
}

/* ---- which there are ---- */

static size_t find_name(const struct pg_shards *s, const char *name)
{
    size_t i = 0, n = s->n;
    while (i < n && strcmp(s->shards[i].name, name) != 0)
        i++;
    return i < n ? i : SIZE_MAX;
}

static int add(struct pg_shards *s, const char *name, const char *url)
{
    size_t n = s->n;
    if (n == SHARDS_MAX)
        return -ENOSPC;
    struct pg_pool *pool = pg_pool_new(url);
    int err = n ? postgres_migrate(pool) : 0;
    if (err) { /* another time: its drives cannot be used now either way */
        CLEANUP_FREE char *shown = url_shown(url);
        log_error("shard %s (%s): %s", name, shown, strerror(-err));
        pg_pool_free(pool);
        return err;
    }
    snprintf(s->shards[n].name, sizeof s->shards[n].name, "%s", name);
    s->shards[n].pool = pool;
    atomic_store(&s->n, n + 1);
    return 0;
}

/* Adds those that the catalogue names and that are not known yet. `adding` is held, or nobody else has s. */
static int read_shards(struct pg_shards *s)
{
    int err;
    CLEANUP(postgres_scope_end) struct pg_conn *c = pg_conn_get(pg_shards_catalogue(s), &err);
    PG_QUERY(q, c, "SELECT name, url FROM shard ORDER BY name");
    s->missing = 0;
    while ((err = pg_step(&q)) == 1) {
        char name[64];
        pg_text(&q, name, sizeof name);
        CLEANUP_FREE char *url = pg_str(&q);
        int failed = find_name(s, name) == SIZE_MAX ? add(s, name, url) : 0; /* one that is away does not keep the others from work */
        s->missing = failed ? failed : s->missing;
    }
    s->read_until = clock_boot_ms() + READ_MS;
    return err;
}

int pg_shards_open(const char *url, struct pg_shards **ret)
{
    struct pg_shards *s = mem_alloc(sizeof *s);
    pthread_mutex_init(&s->adding, NULL);
    pthread_mutex_init(&s->lock, NULL);
    add(s, SHARD_MAIN, url);
    int err = postgres_migrate(pg_shards_catalogue(s));
    if (!err)
        err = read_shards(s);
    if (err) {
        pg_shards_free(s);
        return err;
    }
    *ret = s;
    return 0;
}

void pg_shards_free(struct pg_shards *s)
{
    if (!s)
        return;
    struct place *p, *next;
    HASH_ITER (hh, s->places, p, next) {
        HASH_DEL(s->places, p);
        free(p);
    }
    for (size_t i = 0; i < s->n; i++)
        pg_pool_free(s->shards[i].pool);
    pthread_mutex_destroy(&s->adding);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

/* One that was added since. A shard that is away keeps only those waiting that need it, and not for long. */
static int number_of_new(struct pg_shards *s, const char *name, size_t *ret)
{
    if (!mutex_lock_within(&s->adding, ADDING_MS))
        return -EHOSTUNREACH;
    int err = 0;
    *ret = find_name(s, name);
    if (*ret == SIZE_MAX && clock_boot_ms() >= s->absent_until) {
        err = read_shards(s);
        *ret = find_name(s, name);
        if (*ret == SIZE_MAX)
            s->absent_until = clock_boot_ms() + ABSENT_MS;
    }
    pthread_mutex_unlock(&s->adding);
    return *ret != SIZE_MAX ? 0 : err ? err : -EHOSTUNREACH;
}

int pg_shards_refresh(struct pg_shards *s)
{
    if (!mutex_lock_within(&s->adding, ADDING_MS))
        return -EHOSTUNREACH;
    int err = clock_boot_ms() < s->read_until ? 0 : read_shards(s);
    err = err ? err : s->missing;
    pthread_mutex_unlock(&s->adding);
    return err;
}

/* The shard's number, of a name that the catalogue gave. */
static int number_of(struct pg_shards *s, const char *name, size_t *ret)
{
    *ret = find_name(s, name);
    return *ret == SIZE_MAX ? number_of_new(s, name, ret) : 0;
}

struct pg_pool *pg_shards_named(struct pg_shards *s, const char *name)
{
    size_t i;
    return number_of(s, name, &i) ? NULL : s->shards[i].pool;
}

int postgres_shard_add(struct meta *m, const char *name, const char *url)
{
    if (strcmp(name, SHARD_MAIN) == 0)
        return -EEXIST;
    struct pg_pool *pool = pg_pool_new(url);
    int err = postgres_migrate(pool);
    pg_pool_free(pool);
    if (err)
        return err;
    PG_CATALOGUE(c, m);
    PG_QUERY(q, c, "INSERT INTO shard (name, url) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING");
    pg_put_text(&q, name);
    pg_put_text(&q, url);
    return pg_run_once(&q);
}

int postgres_shard_list(struct meta *m, int (*each)(void *ctx, const char *name, const char *url, uint64_t drives), void *ctx)
{
    PG_CATALOGUE(c, m);
    PG_QUERY(q, c,
             "SELECT s.name, s.url, (SELECT count(*) FROM placement p WHERE p.shard = s.name) "
             "FROM (SELECT '" SHARD_MAIN "' COLLATE \"C\" AS name, NULL AS url UNION ALL SELECT name, url FROM shard) s ORDER BY s.url IS NOT NULL, s.name");
    int err;
    while ((err = pg_step(&q)) == 1) {
        char name[64];
        pg_text(&q, name, sizeof name);
        CLEANUP_FREE char *url = pg_str(&q);
        if ((err = each(ctx, name, url ? url : pg_shards_catalogue(postgres_of(m)->shards)->url, pg_int(&q))) != 0)
            break;
    }
    return err;
}

/* ---- where a drive is ---- */

static int ask(struct pg_shards *s, const struct uuid *drive, char ret_name[64], bool *ret_moving)
{
    int err;
    CLEANUP(postgres_scope_end) struct pg_conn *c = pg_conn_get(pg_shards_catalogue(s), &err);
    PG_QUERY(q, c, "SELECT shard, moving_to IS NOT NULL FROM placement WHERE drive = $1");
    pg_put_id(&q, drive);
    err = pg_one(&q);
    if (err)
        return err;
    pg_text(&q, ret_name, 64);
    *ret_moving = pg_bool(&q);
    return 0;
}

static struct place *believed(struct pg_shards *s, const struct uuid *drive)
{
    struct place *p;
    HASH_FIND(hh, s->places, drive, sizeof *drive, p);
    return p;
}

/* Each that comes sends two away that are not believed any more: there are millions of drives. */
static void believe(struct pg_shards *s, const struct uuid *drive, size_t shard)
{
    int64_t now = clock_boot_ms();
    struct place *p = believed(s, drive);
    if (p)
        HASH_DEL(s->places, p);
    else
        p = mem_alloc(sizeof *p);
    *p = (struct place){.drive = *drive, .shard = shard, .until = now + BELIEVED_MS};
    HASH_ADD(hh, s->places, drive, sizeof p->drive, p);
    for (int i = 0; i < 2 && s->places->until <= now; i++) {
        struct place *old = s->places;
        HASH_DEL(s->places, old);
        free(old);
    }
}

struct pg_pool *pg_shards_of_drive(struct pg_shards *s, const struct uuid *drive, int *ret_err)
{
    *ret_err = 0;
    {
        ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock);
        struct place *p = believed(s, drive);
        if (p && clock_boot_ms() < p->until)
            return s->shards[p->shard].pool;
    }
    char name[64];
    bool moving;
    *ret_err = ask(s, drive, name, &moving);
    if (*ret_err)
        return NULL;
    size_t i;
    *ret_err = number_of(s, name, &i);
    if (*ret_err)
        return NULL;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock);
    believe(s, drive, i);
    return s->shards[i].pool;
}

struct pg_pool *pg_shards_last_of_drive(struct pg_shards *s, const struct uuid *drive, int *ret_err)
{
    *ret_err = 0;
    {
        ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock);
        struct place *p = believed(s, drive);
        if (p && p->until)
            return s->shards[p->shard].pool;
    }
    return pg_shards_of_drive(s, drive, ret_err);
}

void pg_shards_forget(struct pg_shards *s, const struct uuid *drive)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock);
    struct place *p = believed(s, drive);
    if (p)
        p->until = 0;
}

int pg_shards_search(struct pg_shards *s, const struct uuid *drive, struct pg_search *search)
{
    char name[64];
    bool moving;
    int err = ask(s, drive, name, &moving);
    if (err)
        return err == -ENOENT ? 0 : err;
    bool same = strcmp(name, search->shard) == 0;
    if (same && !moving)
        return 0;
    if (search->tries++ == SEARCH_TRIES)
        return -EHOSTUNREACH;
    if (same)
        nanosleep(&(struct timespec){.tv_nsec = SEARCH_NS}, NULL);
    memcpy(search->shard, name, sizeof name);
    pg_shards_forget(s, drive);
    return 1;
}

/* ---- where a new one goes ---- */

/* Counting is bounded: shards with thousands of drives count as equally full, and owners are spread over them by their hash. */
static int choose(struct pg_shards *s, const struct uuid *owner, char ret_name[64])
{
    int err;
    CLEANUP(postgres_scope_end) struct pg_conn *c = pg_conn_get(pg_shards_catalogue(s), &err);
    PG_QUERY(q, c,
             "SELECT s.name FROM (SELECT '" SHARD_MAIN "' COLLATE \"C\" AS name UNION ALL SELECT name FROM shard) s "
             "ORDER BY EXISTS (SELECT 1 FROM placement p WHERE p.owner = $1 AND p.shard = s.name) DESC, "
             "(SELECT count(*) FROM (SELECT 1 FROM placement p WHERE p.shard = s.name LIMIT 1000) counted), hashtextextended(s.name || $1::uuid::text, 0) LIMIT 1");
    pg_put_id(&q, owner);
    err = pg_one(&q);
    if (!err)
        pg_text(&q, ret_name, 64);
    return err;
}

int pg_shards_place(struct pg_shards *s, const struct uuid *owner, char ret_name[64], struct pg_pool **ret)
{
    strcpy(ret_name, SHARD_MAIN);
    int err = choose(s, owner, ret_name);
    if (err)
        return err;
    size_t i;
    err = number_of(s, ret_name, &i);
    if (!err)
        *ret = s->shards[i].pool;
    return err;
}
