/* An invalidation as the stream says it. */
#include "fusefs/cache/replica.h"
#include "common/jsonx.h"

#include <errno.h>
#include <string.h>

int touch_from_json(const json_t *o, struct touch *ret)
{
    *ret = (struct touch){0};
    json_t *part;
    if (jsonx_u64(o, "seq", &ret->seq))
        return -EINVAL;
    if (jsonx_arr(o, "inodes", &part) == 0) {
        if (json_array_size(part) > OP_TOUCH_MAX)
            return -EINVAL;
        for (size_t i = 0; i < json_array_size(part); i++)
            ret->inodes[ret->n_inodes++] = (uint64_t)json_integer_value(json_array_get(part, i));
    }
    if (jsonx_arr(o, "names", &part) == 0) {
        if (json_array_size(part) > sizeof ret->names / sizeof *ret->names)
            return -EINVAL;
        for (size_t i = 0; i < json_array_size(part); i++) {
            CLEANUP_FREE char *name = NULL;
            size_t len;
            const json_t *n = json_array_get(part, i);
            if (jsonx_u64(n, "parent", &ret->names[i].parent) || jsonx_bytes(n, "name", &name, &len) || len > NAME_LEN_MAX)
                return -EINVAL;
            memcpy(ret->names[i].name, name, len + 1);
            ret->n_names++;
        }
    }
    if (jsonx_obj(o, "content", &part) == 0 &&
        (jsonx_u64(part, "ino", &ret->content_ino) || jsonx_u64(part, "version", &ret->content_version) ||
         jsonx_u64(part, "from", &ret->content_from) || jsonx_u64(part, "to", &ret->content_to) || jsonx_u64(part, "size", &ret->content_size) ||
         jsonx_u32(part, "chunkSize", &ret->content_chunk_size) || !chunk_size_valid(ret->content_chunk_size)))
        return -EINVAL;
    int err = ret->content_ino ? jsonx_bool(part, "quarantined", &ret->content_quarantined) : 0;
    if (!err || err == -ENOENT)
        err = jsonx_u64(o, "xattr", &ret->xattr_ino);
    return err && err != -ENOENT ? -EINVAL : 0;
}
