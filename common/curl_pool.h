/* Handles of libcurl with their connections, kept for whoever comes next. */
#ifndef CAIRN_COMMON_CURL_POOL_H
#define CAIRN_COMMON_CURL_POOL_H
#include <curl/curl.h>
#include <pthread.h>
#include <stddef.h>

struct curl_pool {
    pthread_mutex_t lock; /* guards all below; never held across a network call */
    CURL **idle;          /* the last used is the last, and taken first: so few stay in use */
    size_t n, cap;
};
void curl_pool_init(struct curl_pool *p); /* initialises libcurl too, once in the process */
void curl_pool_fini(struct curl_pool *p); /* closes what is idle; none may be in use */
/* Any thread. A handle with no options set, its caller's until it is given back. Aborts where memory is out. */
CURL *curl_pool_take(struct curl_pool *p);
void curl_pool_give(struct curl_pool *p, CURL *c); /* its connection stays open */
void curl_pool_close_idle(struct curl_pool *p);    /* any thread; those in use stay */
#endif
