#include "common/jsonx.h"
#include "common/mem.h"
#include "fusefs/cli/cli.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

int cli_fail(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fputs("cairn: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    return CLI_FAILED;
}

void cli_note(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
}

static void print_reason(struct remote *r, int err)
{
    const struct remote_problem *p = remote_problem();
    if (err == -EHOSTUNREACH && p->status == 0)
        fprintf(stderr, "The gateway at %s cannot be reached (%s). Is it running, and is the URL right?", remote_url(r), cli_name(p->detail));
    else if (err == -EHOSTUNREACH)
        fprintf(stderr, "The gateway at %s is busy or not ready (HTTP %ld). Try again in a moment.", remote_url(r), p->status);
    else if (p->status == 401)
        fprintf(stderr, "The sign-in at %s is not good any more. Sign in again: cairn login %s --user NAME", remote_url(r), remote_url(r));
    else if (p->detail[0])
        fprintf(stderr, "%s%s", cli_name(p->detail), strchr(".!?", p->detail[strlen(p->detail) - 1]) ? "" : ".");
    else
        fprintf(stderr, "%s.", strerror(-err));
    fputc('\n', stderr);
}

int cli_fail_remote(struct remote *r, int err, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fputs("cairn: ", stderr);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputs(": ", stderr);
    print_reason(r, err);
    return CLI_FAILED;
}

int cli_finish_output(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return CLI_DONE;
    return errno == EPIPE ? CLI_FAILED : cli_fail("the output cannot be written: %s.", strerror(errno));
}

int cli_print_json(const json_t *v)
{
    json_dumpf(v, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY);
    putchar('\n');
    return cli_finish_output();
}

const char *cli_name(const char *name)
{
    static _Thread_local char *ring[4];
    static _Thread_local unsigned next;
    char **slot = &ring[next++ % 4];
    free(*slot);
    *slot = mem_strdup(name ? name : "");
    for (char *p = *slot; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
    return *slot;
}

const char *cli_size(uint64_t bytes, char ret[32])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    double v = (double)bytes;
    size_t u = 0;
    while (v >= 1024 && u < 5) {
        v /= 1024;
        u++;
    }
    snprintf(ret, 32, u && v < 100 ? "%.1f %s" : "%.0f %s", v, units[u]);
    return ret;
}

const char *cli_text(const json_t *o, const char *key)
{
    const char *text = "";
    jsonx_str(o, key, &text);
    return text;
}

bool cli_is_away(const json_t *drive)
{
    return json_is_true(json_object_get(drive, "away"));
}

uint64_t cli_number(const json_t *o, const char *key)
{
    uint64_t n = 0;
    jsonx_u64(o, key, &n);
    return n;
}
