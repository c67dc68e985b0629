#include "common/uuid_list.h"
#include "common/mem.h"

#include <stdlib.h>
#include <string.h>

void uuid_list_add(struct uuid_list *l, const struct uuid *id)
{
    if ((l->n & (l->n - 1)) == 0) /* there is room up to the next power of two */
        l->ids = mem_realloc(l->ids, (l->n ? 2 * l->n : 1) * sizeof *l->ids);
    l->ids[l->n++] = *id;
}

bool uuid_list_has(const struct uuid_list *l, const struct uuid *id)
{
    for (size_t i = 0; i < l->n; i++)
        if (uuid_equal(&l->ids[i], id))
            return true;
    return false;
}

static int compare(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct uuid));
}

void uuid_list_sort(struct uuid_list *l)
{
    size_t kept = 0;
    if (l->n)
        qsort(l->ids, l->n, sizeof *l->ids, compare);
    for (size_t i = 0; i < l->n; i++)
        if (kept == 0 || !uuid_equal(&l->ids[kept - 1], &l->ids[i]))
            l->ids[kept++] = l->ids[i];
    l->n = kept;
}

void uuid_list_fini(struct uuid_list *l)
{
    free(l->ids);
    *l = (struct uuid_list){0};
}
