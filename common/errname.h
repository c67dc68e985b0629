/* Errno names as they travel in the driver's protocol ("ENOENT"). Linux values. */
#ifndef CAIRN_COMMON_ERRNAME_H
#define CAIRN_COMMON_ERRNAME_H
const char *errname_of(int err);       /* err > 0 or < 0; "EIO" for what has no name here */
int errname_parse(const char *name);   /* the negative errno; -EIO for an unknown name */
#endif
