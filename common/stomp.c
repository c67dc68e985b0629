#include "common/stomp.h"
#include "common/mem.h"
#include "common/utf8.h"

#include <errno.h>
#include <string.h>

void stomp_frame_fini(struct stomp_frame *f)
{
    free(f->text);
    free(f->body);
    *f = (struct stomp_frame){0};
}

const char *stomp_get(const struct stomp_frame *f, const char *name)
{
    for (size_t i = 0; i < f->n_headers; i++)
        if (strcmp(f->headers[i].name, name) == 0)
            return f->headers[i].value;
    return NULL;
}

/* ---- reading ---- */

void stomp_parser_init(struct stomp_parser *p, size_t frame_max)
{
    *p = (struct stomp_parser){.version = STOMP_12, .frame_max = frame_max};
}

void stomp_parser_fini(struct stomp_parser *p)
{
    buf_fini(&p->in);
    stomp_frame_fini(&p->frame);
}

void stomp_feed(struct stomp_parser *p, const void *bytes, size_t n)
{
    buf_append(&p->in, bytes, n);
}

/* Unescapes in place. CONNECT and CONNECTED are exempt, so that 1.0 clients can log in (STOMP 1.2, "Value Encoding"). */
static int unescape(char *s, enum stomp_version v)
{
    char *out = s;
    for (; *s; s++) {
        if (*s != '\\') {
            *out++ = *s;
            continue;
        }
        switch (*++s) {
        case 'n': *out++ = '\n'; break;
        case 'c': *out++ = ':'; break;
        case '\\': *out++ = '\\'; break;
        case 'r':
            if (v != STOMP_12)
                return -EPROTO;
            *out++ = '\r';
            break;
        default: return -EPROTO;
        }
    }
    *out = 0;
    return 0;
}

static int parse_header(struct stomp_frame *f, char *line, enum stomp_version v, bool escaped, const char **why)
{
    char *colon = strchr(line, ':');
    *why = "a header has no name or no ':'";
    if (!colon || colon == line)
        return -EPROTO;
    *colon = 0;
    char *value = colon + 1;
    if (v == STOMP_10)
        value += strspn(value, " "); /* 1.0 shows its headers so */
    *why = "a header has an unknown escape";
    if (escaped && (unescape(line, v) || unescape(value, v)))
        return -EPROTO;
    *why = "too many headers";
    if (f->n_headers == STOMP_HEADERS_MAX)
        return -EPROTO;
    f->headers[f->n_headers++] = (struct stomp_header){line, value};
    return 0;
}

/* content-length: digits only; the first one counts. */
static int parse_length(struct stomp_parser *p, const char **why)
{
    const char *text = stomp_get(&p->frame, "content-length");
    p->has_length = text != NULL;
    if (!text)
        return 0;
    *why = "content-length is not a length, or too long";
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 9 || text[digits])
        return -EPROTO;
    p->frame.body_len = (size_t)strtoul(text, NULL, 10);
    return p->frame.body_len > p->frame_max ? -EPROTO : 0;
}

/* The first n bytes of `in` are the command and headers, the last line end included but not the empty line. */
static int parse_head(struct stomp_parser *p, size_t n, const char **why)
{
    struct stomp_frame *f = &p->frame;
    *why = "a header is not UTF-8, or has a NUL";
    if (memchr(p->in.data, 0, n) || !utf8_valid(p->in.data, n))
        return -EPROTO;
    f->text = mem_dup(p->in.data, n);
    bool connect = strncmp(f->text, "CONNECT", 7) == 0 || strncmp(f->text, "STOMP", 5) == 0;
    for (char *line = f->text, *end; *line; line = end + 1) {
        end = strchr(line, '\n');
        *end = 0;
        if (end > line && end[-1] == '\r' && (connect || p->version == STOMP_12))
            end[-1] = 0;
        if (!f->command) {
            f->command = line;
            continue;
        }
        int err = parse_header(f, line, p->version, !connect && p->version != STOMP_10, why);
        if (err)
            return err;
    }
    return parse_length(p, why);
}

/* Finds the empty line behind the headers: its start and the body's. */
static bool find_head(struct stomp_parser *p, size_t *ret_head, size_t *ret_body)
{
    const char *data = p->in.data;
    size_t at = p->scanned;
    for (;;) {
        const char *nl = at < p->in.len ? memchr(data + at, '\n', p->in.len - at) : NULL;
        if (!nl)
            break;
        size_t next = (size_t)(nl - data) + 1;
        p->scanned = next - 1; /* the line end that may be followed by the empty line */
        if (next < p->in.len && data[next] == '\n') {
            *ret_head = next;
            *ret_body = next + 1;
            return true;
        }
        if (next + 1 < p->in.len && data[next] == '\r' && data[next + 1] == '\n') {
            *ret_head = next;
            *ret_body = next + 2;
            return true;
        }
        if (next + 1 >= p->in.len)
            break; /* undecided: look at this line end again */
        at = next;
    }
    return false;
}

static int read_head(struct stomp_parser *p, const char **why)
{
    size_t skip = 0, head, body;
    while (skip < p->in.len && (p->in.data[skip] == '\n' || p->in.data[skip] == '\r'))
        skip++;
    if (skip) {
        buf_consume(&p->in, skip);
        p->scanned = 0;
    }
    if (!find_head(p, &head, &body)) {
        *why = "the headers are too long";
        return p->in.len > STOMP_HEADER_BYTES_MAX ? -EPROTO : 0;
    }
    *why = "the headers are too long";
    if (head > STOMP_HEADER_BYTES_MAX)
        return -EPROTO;
    int err = parse_head(p, head, why);
    if (err)
        return err;
    buf_consume(&p->in, body);
    p->scanned = 0;
    p->in_body = true;
    return 0;
}

/* 1: the body is complete in front of `in`, *ret_len bytes and a NUL. */
static int find_body(struct stomp_parser *p, size_t *ret_len, const char **why)
{
    if (p->has_length) {
        *ret_len = p->frame.body_len;
        if (p->in.len <= *ret_len)
            return 0;
        *why = "no NUL behind the body";
        return p->in.data[*ret_len] == 0 ? 1 : -EPROTO;
    }
    const char *nul = p->scanned < p->in.len ? memchr(p->in.data + p->scanned, 0, p->in.len - p->scanned) : NULL;
    p->scanned = p->in.len;
    *ret_len = nul ? (size_t)(nul - p->in.data) : p->in.len;
    *why = "the body is too long";
    if (*ret_len > p->frame_max)
        return -EPROTO;
    return nul ? 1 : 0;
}

int stomp_next(struct stomp_parser *p, struct stomp_frame *ret, const char **ret_why)
{
    if (!p->in_body) {
        int err = read_head(p, ret_why);
        if (err || !p->in_body)
            return err;
    }
    size_t len;
    int found = find_body(p, &len, ret_why);
    if (found <= 0)
        return found;
    p->frame.body = mem_dup(p->in.data, len);
    p->frame.body_len = len;
    *ret = p->frame;
    p->frame = (struct stomp_frame){0};
    buf_consume(&p->in, len + 1);
    p->in_body = false;
    p->scanned = 0;
    return 1;
}

/* ---- writing ---- */

void stomp_begin(struct buf *out, const char *command)
{
    buf_append_str(out, command);
    buf_append(out, "\n", 1);
}

static void append_escaped(struct buf *out, enum stomp_version v, bool escape, const char *s)
{
    for (; *s; s++) {
        const char *as = NULL;
        if (*s == '\n')
            as = "\\n";
        else if (*s == '\r' && v == STOMP_12)
            as = "\\r";
        else if (escape && *s == ':')
            as = "\\c";
        else if (escape && *s == '\\')
            as = "\\\\";
        if (!as)
            buf_append(out, s, 1);
        else if (escape)
            buf_append(out, as, 2);
    }
}

void stomp_header(struct buf *out, enum stomp_version v, bool escape, const char *name, const char *value)
{
    escape = escape && v != STOMP_10;
    append_escaped(out, v, escape, name);
    buf_append(out, ":", 1);
    append_escaped(out, v, escape, value);
    buf_append(out, "\n", 1);
}

void stomp_end(struct buf *out, const void *body, size_t n)
{
    if (n)
        buf_appendf(out, "content-length:%zu\n", n);
    buf_append(out, "\n", 1);
    buf_append(out, body, n);
    buf_append(out, "", 1);
}

/* ---- agreeing ---- */

static const char *const versions[] = {[STOMP_10] = "1.0", [STOMP_11] = "1.1", [STOMP_12] = "1.2"};

const char *stomp_version_text(enum stomp_version v)
{
    return versions[v];
}

int stomp_negotiate(const char *accept_version, enum stomp_version *ret)
{
    int best = -1;
    for (const char *s = accept_version ? accept_version : "1.0"; *s;) {
        size_t n = strcspn(s, ", ");
        for (int v = STOMP_10; v <= STOMP_12; v++)
            if (n == 3 && memcmp(s, versions[v], 3) == 0 && v > best)
                best = v;
        s += n;
        s += strspn(s, ", ");
    }
    if (best < 0)
        return -EPROTO;
    *ret = (enum stomp_version)best;
    return 0;
}

static int parse_ms(const char *s, size_t n, unsigned *ret)
{
    if (n == 0 || n > 9 || strspn(s, "0123456789") < n)
        return -EPROTO;
    *ret = (unsigned)strtoul(s, NULL, 10);
    return 0;
}

int stomp_heartbeat(const char *header, unsigned own_ms, unsigned *ret_send_ms, unsigned *ret_expect_ms)
{
    unsigned can = 0, wants = 0;
    if (header) {
        size_t comma = strcspn(header, ",");
        if (!header[comma] || parse_ms(header, comma, &can) || parse_ms(header + comma + 1, strlen(header + comma + 1), &wants))
            return -EPROTO;
    }
    *ret_send_ms = own_ms && wants ? (wants > own_ms ? wants : own_ms) : 0;
    *ret_expect_ms = own_ms && can ? (can > own_ms ? can : own_ms) : 0;
    return 0;
}
