/* The parts of HTTP that decide what of a content is sent: Range and entity tags (RFC 9110 sections 13 and 14). */
#ifndef CAIRN_GATEWAY_API_CONDITIONAL_H
#define CAIRN_GATEWAY_API_CONDITIONAL_H
#include <stdbool.h>
#include <stdint.h>

enum range_kind {
    RANGE_ALL,  /* no Range, or one that is to be ignored: another unit, several ranges, bad syntax */
    RANGE_PART, /* [*ret_from, *ret_to) */
    RANGE_NONE, /* none of it is there: 416 */
};
enum range_kind range_parse(const char *header /* NULL: none */, uint64_t size, uint64_t *ret_from, uint64_t *ret_to);

/* Whether a list of entity tags (If-Match, If-None-Match) has this one (quoted), or is "*". weak: W/ is looked past. */
bool etag_listed(const char *header, const char *etag, bool weak);
#endif
