/* The port to a virus scanner.

   A `struct scanner` may be used by any worker thread; calls block. The content goes by in pieces: no more of it is in memory than its source holds. */
#ifndef CAIRN_GATEWAY_PORTS_SCANNER_H
#define CAIRN_GATEWAY_PORTS_SCANNER_H
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum scan_verdict {
    SCAN_CLEAN,
    SCAN_INFECTED,
    SCAN_TOO_LARGE, /* the scanner does not take as much: nothing is known of it */
};
#define SCAN_SIGNATURE_MAX 128

/* Where the content comes from: the next piece, valid until the next call. Its length; 0 at the end; a negative errno, which ends the scan and is what it returns. */
struct scan_source {
    int64_t (*next)(void *ctx, const void **ret);
    void *ctx;
};

struct scanner {
    const struct scanner_ops *ops;
};
struct scanner_ops {
    /* 0: *ret is decided, and ret_signature what was found ("" where nothing was). -EHOSTUNREACH: the scanner is away; -ETIMEDOUT: it took too long; -EIO: it could
       not scan this, or said what is not understood; -ECANCELED: *stop (may be NULL) became true. */
    int (*scan)(struct scanner *s, const struct scan_source *source, const atomic_bool *stop, enum scan_verdict *ret, char ret_signature[SCAN_SIGNATURE_MAX]);
    /* 0 if it answers. */
    int (*ping)(struct scanner *s);
    void (*free)(struct scanner *s);
};
/* url: clamd:unix:PATH, or clamd://HOST[:PORT] (3310). "none", or NULL: *ret is NULL. -EINVAL and a message on stderr for a bad one, -ENOTSUP for an unknown scheme. Connects to nothing. */
int scanner_open(const char *url, struct scanner **ret);
int scanner_clamd_open(const char *url, struct scanner **ret);
/* NULL, or what is wrong with the url. */
const char *scanner_url_wrong(const char *url);
#endif
