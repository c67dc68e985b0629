#include "gateway/ports/meta.h"

#include <stdlib.h>

static void drop(char **s)
{
    free(*s);
    *s = NULL;
}

void user_row_fini(struct user_row *u)
{
    drop(&u->password_hash);
}

bool drive_row_follows(const struct drive_row *d, uint64_t cursor)
{
    uint64_t generation = d->seq >> 40, prior = d->prior_end >> 40, its = cursor >> 40;
    if (cursor < d->oldest_change || cursor > d->seq)
        return false;
    return cursor == 0 || its == generation || (its == prior && cursor <= d->prior_end);
}

void change_row_fini(struct change_row *c)
{
    drop(&c->touch);
}

void chunk_row_fini(struct chunk_row *c)
{
    drop(&c->bytes);
}

void upload_row_fini(struct upload_row *u)
{
    drop(&u->path);
    drop(&u->answer);
}
