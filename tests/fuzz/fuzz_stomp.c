/* The STOMP parser: never reads beyond what it was given, and finds the same frames however the bytes are cut. */
#include "common/stomp.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

const struct fuzz_seed fuzz_seeds[] = {
    FUZZ_SEED("CONNECT\naccept-version:1.0,1.1,1.2\nheart-beat:10000,10000\nAuthorization:Bearer x.y.z\n\n\0"),
    FUZZ_SEED("\n\r\nSUBSCRIBE\r\nid:0\r\ndestination:/topic/file-changes\r\ndrive:home\r\nack:auto\r\n\r\n\0\n\n"),
    FUZZ_SEED("SEND\ncontent-length:5\nk\\cy:v\\n\\r\\\\\n\na\0b\0c\0DISCONNECT\nreceipt:77\n\n\0"),
    FUZZ_SEED("UNSUBSCRIBE\nid:0\n\nbody without length\0ACK\nid:1\n\n\0"),
};
const size_t fuzz_seeds_n = sizeof fuzz_seeds / sizeof *fuzz_seeds;

struct outcome {
    unsigned frames;
    size_t bytes;
    bool broken;
};

static void drain(struct stomp_parser *p, struct outcome *o)
{
    struct stomp_frame f;
    const char *why = NULL;
    int got;
    while (!o->broken && (got = stomp_next(p, &f, &why)) != 0) {
        if (got < 0) {
            FUZZ_MUST(why);
            o->broken = true;
            return;
        }
        o->frames++;
        FUZZ_MUST(f.command && f.command[0]);
        FUZZ_MUST(f.n_headers <= STOMP_HEADERS_MAX && f.body_len <= 1000);
        FUZZ_MUST(f.body[f.body_len] == 0);
        for (size_t i = 0; i < f.n_headers; i++)
            o->bytes += strlen(f.headers[i].name) + strlen(f.headers[i].value);
        o->bytes += f.body_len;
        stomp_frame_fini(&f);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum stomp_version v = size ? (enum stomp_version)(data[0] % 3) : STOMP_12;
    struct outcome whole = {0}, pieces = {0};
    struct stomp_parser p;
    stomp_parser_init(&p, 1000);
    p.version = v;
    stomp_feed(&p, data, size);
    drain(&p, &whole);
    stomp_parser_fini(&p);

    stomp_parser_init(&p, 1000);
    p.version = v;
    for (size_t at = 0, n = 1; at < size && !pieces.broken; at += n, n = 1 + (n * 7 + data[at - 1]) % 13) {
        n = n < size - at ? n : size - at;
        stomp_feed(&p, data + at, n);
        drain(&p, &pieces);
    }
    stomp_parser_fini(&p);
    FUZZ_MUST(whole.frames == pieces.frames && whole.bytes == pieces.bytes && whole.broken == pieces.broken);

    char text[64];
    size_t n = size < sizeof text - 1 ? size : sizeof text - 1;
    unsigned send, expect;
    memcpy(text, data, n);
    text[n] = 0;
    stomp_negotiate(text, &v);
    stomp_heartbeat(text, 10000, &send, &expect);
    return 0;
}
