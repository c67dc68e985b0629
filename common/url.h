/* URLs of backends, as far as they are the same for all. Thread-safe. */
#ifndef CAIRN_COMMON_URL_H
#define CAIRN_COMMON_URL_H
/* The URL as it may be shown and logged: a password ("scheme://user:password@…") is "***". Caller frees. */
char *url_shown(const char *url);
#endif
