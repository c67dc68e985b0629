#include "gateway/api/user_names.h"
#include "common/mem.h"

#include <string.h>

const char *user_names_get(struct user_names *u, struct app *app, const struct uuid *id)
{
    for (size_t i = u->n; i > 0; i--)
        if (uuid_equal(&u->known[i - 1].id, id))
            return u->known[i - 1].name;
    struct user_row row = {0};
    u->known = mem_realloc(u->known, (u->n + 1) * sizeof *u->known);
    struct known_user *k = &u->known[u->n++];
    *k = (struct known_user){.id = *id, .name = "?"};
    if (app->meta->ops->user_by_id(app->meta, id, &row) == 0) {
        memcpy(k->name, row.name, sizeof k->name);
        user_row_fini(&row);
    }
    return k->name;
}

void user_names_fini(struct user_names *u)
{
    free(u->known);
    *u = (struct user_names){0};
}
