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
