#include "common/errname.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    int err;
    const char *name;
} table[] = {
    {ENOENT, "ENOENT"},       {EEXIST, "EEXIST"},   {ENOTDIR, "ENOTDIR"},           {EISDIR, "EISDIR"},
    {ENOTEMPTY, "ENOTEMPTY"}, {EINVAL, "EINVAL"},   {ENAMETOOLONG, "ENAMETOOLONG"}, {EPERM, "EPERM"},
    {EACCES, "EACCES"},       {EROFS, "EROFS"},     {EDQUOT, "EDQUOT"},             {ENOSPC, "ENOSPC"},
    {EFBIG, "EFBIG"},         {EXDEV, "EXDEV"},     {ELOOP, "ELOOP"},               {EMLINK, "EMLINK"},
    {ENODATA, "ENODATA"},     {ERANGE, "ERANGE"},   {E2BIG, "E2BIG"},               {EAGAIN, "EAGAIN"},
    {EBUSY, "EBUSY"},         {ESTALE, "ESTALE"},   {ECANCELED, "ECANCELED"},       {EIO, "EIO"},
    {EOPNOTSUPP, "EOPNOTSUPP"}, {EDEADLK, "EDEADLK"}, {ENOLCK, "ENOLCK"},           {ETIMEDOUT, "ETIMEDOUT"},
    {EHOSTUNREACH, "EHOSTUNREACH"}, {EBADMSG, "EBADMSG"}, {EMSGSIZE, "EMSGSIZE"},   {EOVERFLOW, "EOVERFLOW"},
    {EPROTO, "EPROTO"},       {ENOMEM, "ENOMEM"},   {ENOSYS, "ENOSYS"},             {EINTR, "EINTR"},
};

const char *errname_of(int err)
{
    err = abs(err);
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (table[i].err == err)
            return table[i].name;
    return "EIO";
}

int errname_parse(const char *name)
{
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strcmp(table[i].name, name) == 0)
            return -table[i].err;
    return -EIO;
}
