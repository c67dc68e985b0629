/* What went wrong, once: from libcurl and from problem documents to errnos, and a text for people. */
#include "common/errname.h"
#include "common/jsonx.h"
#include "fusefs/remote/http.h"

#include <errno.h>
#include <string.h>

static _Thread_local struct remote_problem last;

const struct remote_problem *remote_problem(void)
{
    return &last;
}

static void copy_text(char *to, size_t room, const char *from)
{
    size_t n = strnlen(from, room - 1);
    memcpy(to, from, n);
    to[n] = 0;
}

static void set_problem(long status, const char *code, const char *detail)
{
    last.status = status;
    last.silent_ms = 0;
    copy_text(last.code, sizeof last.code, code);
    copy_text(last.detail, sizeof last.detail, detail);
}

int problem_from_curl(CURLcode code, const char *detail, unsigned silent_ms)
{
    switch (code) {
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_BAD_CONTENT_ENCODING:
        set_problem(0, "bad-answer", detail);
        return -EPROTO;
    case CURLE_URL_MALFORMAT:
        set_problem(0, "bad-url", detail);
        return -EINVAL;
    case CURLE_OUT_OF_MEMORY:
        set_problem(0, "no-memory", detail);
        return -ENOMEM;
    default:
        set_problem(0, "unreachable", detail);
        last.silent_ms = silent_ms;
        return -EHOSTUNREACH;
    }
}

static int errno_of_status(long status)
{
    static const struct {
        long status;
        int err;
    } table[] = {
        {400, -EINVAL},      {401, -EACCES},       {403, -EACCES},       {404, -ENOENT},       {405, -EOPNOTSUPP}, {409, -EEXIST},
        {410, -ESTALE},      {411, -EINVAL},       {412, -ESTALE},       {413, -EMSGSIZE},     {414, -ENAMETOOLONG}, {415, -EINVAL},
        {416, -ERANGE},      {422, -EBADMSG},      {423, -EBUSY},        {429, -EHOSTUNREACH}, {500, -EIO},         {501, -EOPNOTSUPP},
        {502, -EHOSTUNREACH}, {503, -EHOSTUNREACH}, {504, -EHOSTUNREACH}, {507, -ENOSPC},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (table[i].status == status)
            return table[i].err;
    return status >= 400 && status < 600 ? -EIO : -EPROTO;
}

int problem_from_answer(const struct http_answer *a)
{
    int err = errno_of_status(a->status);
    CLEANUP_JSON json_t *o = a->body.len ? jsonx_parse(a->body.data, a->body.len, NULL) : NULL;
    const char *name, *code = "", *detail = "";
    jsonx_str(o, "code", &code);
    if (jsonx_str(o, "detail", &detail))
        jsonx_str(o, "title", &detail);
    set_problem(a->status, code, detail);
    /* A gateway that is away is waited for, whatever a proxy in front of it wrote. */
    if (err != -EHOSTUNREACH && jsonx_str(o, "errno", &name) == 0)
        err = errname_parse(name);
    return err;
}

int problem_protocol(const char *what)
{
    set_problem(0, "bad-answer", what);
    return -EPROTO;
}
