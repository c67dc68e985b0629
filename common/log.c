#include "common/log.h"
#include "common/buf.h"
#include "common/clock.h"
#include "common/mem.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>

static _Atomic bool as_json;
static _Atomic int least_level = LOG_LEVEL_INFO;
static const char *const names[] = {"debug", "info", "warn", "error"};

void log_init(bool json, enum log_level least)
{
    as_json = json;
    least_level = (int)least;
}

int log_level_parse(const char *text, enum log_level *ret)
{
    for (int i = 0; i < 4; i++)
        if (strcmp(text, names[i]) == 0) {
            *ret = (enum log_level)i;
            return 0;
        }
    return -EINVAL;
}

static void append_escaped(struct buf *b, const char *s)
{
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\')
            buf_appendf(b, "\\%c", c);
        else if (c < 0x20 || c == 0x7f)
            buf_appendf(b, "\\u%04x", c);
        else if (c < 0x80)
            buf_append(b, s, 1);
        else
            buf_appendf(b, "\\u%04x", c); /* bytes, shown as Latin-1: a log line is always valid JSON */
    }
}

void log_write(enum log_level level, const char *trace, const char *fmt, ...)
{
    if ((int)level < least_level)
        return;
    int saved = errno;
    CLEANUP_BUF struct buf line = {0};
    char message[2048];
    va_list args;
    va_start(args, fmt);
    vsnprintf(message, sizeof message, fmt, args);
    va_end(args);
    if (as_json) {
        char at[CLOCK_TEXT];
        clock_format_rfc3339(clock_wall_ns(), at);
        buf_appendf(&line, "{\"ts\":\"%s\",\"level\":\"%s\",\"msg\":\"", at, names[level]);
        append_escaped(&line, message);
        buf_append_str(&line, "\"");
        if (trace && trace[0]) {
            buf_append_str(&line, ",\"traceId\":\"");
            append_escaped(&line, trace);
            buf_append_str(&line, "\"");
        }
        buf_append_str(&line, "}\n");
    } else {
        buf_appendf(&line, "cairn: %s%s\n", level >= LOG_LEVEL_WARN ? (level == LOG_LEVEL_WARN ? "warning: " : "error: ") : "",
                    message);
    }
    ssize_t written = write(STDERR_FILENO, line.data, line.len);
    (void)written; /* nowhere to say that standard error is gone */
    errno = saved;
}
