/* What is said to mounts on their streams (docs/protocol.md); loop, except for streams_notice. */
#include "common/mem.h"
#include "gateway/api/json_out.h"
#include "gateway/api/streams_internal.h"

#include <string.h>

#define INVAL_MAX (512u << 10) /* a mount that is to be told more at once empties everything instead */

static void message_begin(struct buf *b, const char *type)
{
    b->len = 0;
    jout_open(b, NULL, '{');
    jout_str(b, "t", type);
}

static void stream_send(struct stream *st, const struct buf *b)
{
    if (st->ws)
        ws_send(st->ws, b->data, b->len); /* -ENOBUFS: the mount does not read; on_close follows */
}

static void message_end(struct stream *st, struct buf *b)
{
    jout_close(b, '}');
    stream_send(st, b);
}

/* Touches are gathered until the group is published: one message per stream and group. */
void stream_on_inval(void *ctx, void *stream_user, uint64_t seq, const char *touches)
{
    struct streams *s = ctx;
    struct stream *st = stream_user;
    if (st->inval.len)
        buf_append(&st->inval, ",", 1);
    buf_append_str(&st->inval, touches);
    st->inval_seq = seq;
    if (!st->listed) {
        st->listed = true;
        st->next_inval = s->invals;
        s->invals = st;
    }
}

void stream_flush_invals(struct streams *s)
{
    for (struct stream *st = s->invals, *next; st; st = next) {
        next = st->next_inval;
        st->listed = false;
        CLEANUP_BUF struct buf b = {0};
        if (st->inval.len > INVAL_MAX) {
            message_begin(&b, "reset");
            message_end(st, &b);
            st->inval.len = 0;
        }
        message_begin(&b, "inval");
        jout_u64(&b, "seq", st->inval_seq);
        jout_open(&b, "changes", '[');
        if (st->inval.len)
            buf_append(&b, st->inval.data, st->inval.len);
        jout_close(&b, ']');
        buf_fini(&st->inval);
        message_end(st, &b);
    }
    s->invals = NULL;
}

void stream_on_lease(void *ctx, void *stream_user, uint64_t beat, unsigned ms)
{
    (void)ctx;
    CLEANUP_BUF struct buf b = {0};
    message_begin(&b, "lease");
    jout_u64(&b, "id", beat);
    jout_u64(&b, "ms", ms);
    message_end(stream_user, &b);
}

void stream_welcome(struct stream *st, uint64_t seq)
{
    CLEANUP_BUF struct buf b = {0};
    message_begin(&b, "welcome");
    jout_u64(&b, "seq", seq);
    if (st->fresh)
        jout_bool(&b, "fresh", true);
    message_end(st, &b);
    if (st->since > seq) { /* it has seen what no longer happened */
        message_begin(&b, "reset");
        message_end(st, &b);
    }
}

/* ---- to streams of a drive, or of a user ---- */

void stream_unlocked(struct streams *s, const struct uuid *drive, uint64_t ino)
{
    CLEANUP_BUF struct buf b = {0};
    message_begin(&b, "unlocked");
    jout_u64(&b, "ino", ino);
    jout_close(&b, '}');
    for (struct stream *st = streams_of(s, drive), *next; st; st = next) {
        next = st->next_of_drive;
        stream_send(st, &b);
    }
}

struct notice {
    struct streams *streams;
    struct uuid user;
    char name[65]; /* instead of user, where not "" */
    struct buf text;
};

static void send_notice(void *arg)
{
    struct notice *n = arg;
    for (struct stream *st = n->streams->first, *next; st; st = next) {
        next = st->next;
        if (st->in && (n->name[0] ? strcmp(st->who.name, n->name) == 0 : uuid_equal(&st->who.user, &n->user)))
            stream_send(st, &n->text);
    }
    buf_fini(&n->text);
    free(n);
}

/* json: an object; `t` is put in front of its members. */
static void post_notice(struct streams *s, struct notice *n, const char *json)
{
    n->streams = s;
    buf_append_str(&n->text, strcmp(json, "{}") == 0 ? "{\"t\":\"notice\"" : "{\"t\":\"notice\",");
    buf_append_str(&n->text, json + 1);
    http_server_post(s->app->server, send_notice, n);
}

void streams_notice(struct streams *s, const struct uuid *user, const char *json)
{
    struct notice *n = mem_alloc(sizeof *n);
    n->user = *user;
    post_notice(s, n, json);
}

void streams_notice_name(struct streams *s, const char *user, const char *json)
{
    struct notice *n = mem_alloc(sizeof *n);
    snprintf(n->name, sizeof n->name, "%s", user);
    post_notice(s, n, json);
}
