#include "gateway/core/sightings.h"
#include "common/mem.h"
#include "gateway/core/order.h"

#include <uthash.h>

#define KEEP_MS (2 * INTEREST_FORGET_NS / 1000000) /* nobody reads the row by then */

struct key {
    struct uuid drive, gateway;
};

struct sighting {
    struct key key;
    int64_t until; /* the row's */
    int64_t at;    /* when it was first seen so */
    bool forgotten;
    UT_hash_handle hh;
};

struct sightings {
    struct sighting *all; /* in order of `at`, nearly */
};

struct sightings *sightings_new(void)
{
    return mem_alloc(sizeof(struct sightings));
}

static void drop(struct sightings *s, struct sighting *g)
{
    HASH_DEL(s->all, g);
    free(g);
}

void sightings_free(struct sightings *s)
{
    while (s && s->all)
        drop(s, s->all);
    free(s);
}

int64_t sightings_until(struct sightings *s, const struct uuid *drive, const struct interest_row *row, int64_t read_at, int64_t now, bool *ret_forget)
{
    struct key key = {*drive, row->gateway};
    struct sighting *g;
    for (int i = 0; i < 2 && s->all && now - s->all->at > KEEP_MS; i++)
        drop(s, s->all);
    HASH_FIND(hh, s->all, &key, sizeof key, g);
    if (!g || g->until != row->until) {
        if (g)
            HASH_DEL(s->all, g);
        else
            g = mem_alloc(sizeof *g);
        *g = (struct sighting){.key = key, .until = row->until, .at = read_at};
        HASH_ADD(hh, s->all, key, sizeof g->key, g);
    } else if (read_at < g->at) {
        g->at = read_at;
    }
    int64_t until = g->at + INTEREST_MS;
    *ret_forget = until <= now && !g->forgotten;
    g->forgotten |= *ret_forget;
    return until;
}

size_t sightings_count(const struct sightings *s)
{
    return HASH_COUNT(s->all);
}
