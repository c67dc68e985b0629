/* URLs of backends, as far as they are the same for all. Thread-safe. */
#ifndef CAIRN_COMMON_URL_H
#define CAIRN_COMMON_URL_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* The URL as it may be shown and logged: a password ("scheme://user:password@…") is "***". Caller frees. */
char *url_shown(const char *url);
/* Whether its host is this machine: no proxy is asked for that. */
bool url_is_loopback(const char *url);
/* Takes the percent-encoding out of p[0..n) (RFC 3986, 2.1; "+" is itself): into ret, which may be p and has room for n + 1. Returns the length, -1 where it is malformed. */
ssize_t url_decode(const char *p, size_t n, char *ret);

#define URL_HOST_MAX 256
struct url_address {
    char host[URL_HOST_MAX]; /* IPv6 without brackets */
    uint16_t port;
};
/* HOST[:PORT][,HOST[:PORT]…], IPv6 in brackets. Writes to text. Returns how many there are; 0: malformed, or more than max. */
size_t url_addresses(char *text, uint16_t default_port, struct url_address *ret, size_t max);
#endif
