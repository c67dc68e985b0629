/* A list of ids that grows. All zero is an empty one. */
#ifndef CAIRN_COMMON_UUID_LIST_H
#define CAIRN_COMMON_UUID_LIST_H
#include "common/uuid.h"

#include <stddef.h>

struct uuid_list {
    struct uuid *ids;
    size_t n;
};
void uuid_list_add(struct uuid_list *l, const struct uuid *id);
bool uuid_list_has(const struct uuid_list *l, const struct uuid *id);
void uuid_list_sort(struct uuid_list *l); /* and each once, from then on */
void uuid_list_fini(struct uuid_list *l);
#endif
