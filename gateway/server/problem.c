/* Problem documents (RFC 9457), and the one table from errno to HTTP. */
#include "common/errname.h"
#include "common/jsonx.h"
#include "common/log.h"
#include "common/mem.h"
#include "gateway/server/server.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

static const struct {
    int status;
    const char *title;
} titles[] = {
    {200, "OK"}, {201, "Created"}, {202, "Accepted"}, {204, "No Content"}, {206, "Partial Content"}, {301, "Moved Permanently"}, {302, "Found"},
    {303, "See Other"}, {304, "Not Modified"}, {307, "Temporary Redirect"}, {308, "Permanent Redirect"}, {400, "Bad Request"}, {401, "Unauthorized"},
    {403, "Forbidden"}, {404, "Not Found"}, {405, "Method Not Allowed"}, {406, "Not Acceptable"}, {408, "Request Timeout"}, {409, "Conflict"}, {410, "Gone"},
    {411, "Length Required"}, {412, "Precondition Failed"}, {413, "Content Too Large"}, {414, "URI Too Long"}, {415, "Unsupported Media Type"},
    {416, "Range Not Satisfiable"}, {417, "Expectation Failed"}, {421, "Misdirected Request"}, {422, "Unprocessable Content"}, {423, "Locked"},
    {426, "Upgrade Required"}, {428, "Precondition Required"}, {429, "Too Many Requests"}, {431, "Request Header Fields Too Large"},
    {500, "Internal Server Error"}, {501, "Not Implemented"}, {502, "Bad Gateway"}, {503, "Service Unavailable"}, {504, "Gateway Timeout"},
    {505, "HTTP Version Not Supported"}, {507, "Insufficient Storage"},
};

const char *http_status_title(int status)
{
    for (size_t i = 0; i < sizeof titles / sizeof *titles; i++)
        if (titles[i].status == status)
            return titles[i].title;
    return "Unknown";
}

static const struct {
    int err, status;
    const char *code;
} errors[] = {
    {ENOENT, 404, "not-found"},          {EEXIST, 409, "exists"},
    {ENOTEMPTY, 409, "not-empty"},       {ENOTDIR, 409, "not-a-directory"},
    {EISDIR, 409, "is-a-directory"},     {EXDEV, 409, "other-drive"},
    {ELOOP, 409, "loop"},                {EMLINK, 409, "too-many-links"},
    {EBUSY, 409, "busy"},                {ECANCELED, 409, "cancelled"},
    {ESTALE, 409, "stale"},              {EACCES, 403, "forbidden"},
    {EPERM, 403, "forbidden"},           {EROFS, 403, "read-only"},
    {EINVAL, 400, "invalid"},            {ENAMETOOLONG, 400, "name-too-long"},
    {EILSEQ, 400, "bad-encoding"},       {E2BIG, 413, "too-large"},
    {EFBIG, 413, "too-large"},           {EMSGSIZE, 413, "too-large"},
    {ERANGE, 416, "bad-range"},          {EBADMSG, 422, "bad-content"},
    {ENODATA, 404, "no-data"},           {EOPNOTSUPP, 501, "not-supported"},
    {ENOSYS, 501, "not-supported"},      {EDQUOT, 507, "quota-exceeded"},
    {ENOSPC, 507, "no-space"},           {EAGAIN, 503, "try-again"},
    {ENOMEM, 503, "overloaded"},         {ENOBUFS, 503, "overloaded"},
    {EMFILE, 503, "overloaded"},         {ENFILE, 503, "overloaded"},
    {ETIMEDOUT, 503, "timed-out"},       {ECONNREFUSED, 503, "backend-away"},
    {ECONNRESET, 503, "backend-away"},   {ENOTCONN, 503, "backend-away"},
    {EHOSTUNREACH, 503, "backend-away"}, {ESHUTDOWN, 503, "draining"},
    {EIO, 500, "io-error"},
};

static enum call_state fill(struct call *c, int status, const char *code, json_t *more, const char *fmt, va_list args)
{
    char detail[1024];
    vsnprintf(detail, sizeof detail, fmt, args);
    json_t *o = more ? more : json_object();
    json_object_set_new(o, "type", json_string("about:blank"));
    json_object_set_new(o, "title", json_string(http_status_title(status)));
    json_object_set_new(o, "status", json_integer(status));
    json_t *text = json_string(detail); /* NULL where it is not UTF-8: a name may be quoted in it */
    json_object_set_new(o, "detail", text ? text : json_string(code));
    json_object_set_new(o, "code", json_string(code));
    json_object_set_new(o, "traceId", json_string(c->trace_id));
    if (c->stream_free)
        c->stream_free(c->stream_ctx);
    c->stream = NULL;
    c->stream_free = NULL;
    call_json(c, status, o);
    c->content_type = "application/problem+json";
    return CALL_DONE;
}

enum call_state call_problem(struct call *c, int status, const char *code, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fill(c, status, code, NULL, fmt, args);
    va_end(args);
    return CALL_DONE;
}

enum call_state call_problem_with(struct call *c, int status, const char *code, json_t *more, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fill(c, status, code, more, fmt, args);
    va_end(args);
    return CALL_DONE;
}

enum call_state call_errno(struct call *c, int err, const char *what)
{
    int e = err < 0 ? -err : err, status = 500;
    const char *code = "internal";
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        if (errors[i].err == e) {
            status = errors[i].status;
            code = errors[i].code;
        }
    if (status >= 500 && status != 507)
        log_write(LOG_LEVEL_ERROR, c->trace_id, "%s: %s", what, strerror(e));
    if (status == 503)
        call_add_header(c, "Retry-After", "1");
    json_t *more = json_object();
    json_object_set_new(more, "errno", json_string(errname_of(e)));
    return call_problem_with(c, status, code, more, "%s: %s", what, strerror(e));
}
