#include "common/curl_pool.h"
#include "common/cleanup.h"
#include "common/mem.h"

#include <stdlib.h>

static void init_curl(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

void curl_pool_init(struct curl_pool *p)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, init_curl);
    *p = (struct curl_pool){.n = 0};
    pthread_mutex_init(&p->lock, NULL);
}

static CURL *take_idle(struct curl_pool *p)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&p->lock);
    return p->n ? p->idle[--p->n] : NULL;
}

void curl_pool_fini(struct curl_pool *p)
{
    curl_pool_close_idle(p);
    free(p->idle);
    pthread_mutex_destroy(&p->lock);
}

void curl_pool_close_idle(struct curl_pool *p)
{
    for (CURL *c; (c = take_idle(p));)
        curl_easy_cleanup(c);
}

CURL *curl_pool_take(struct curl_pool *p)
{
    CURL *c = take_idle(p);
    if (c)
        curl_easy_reset(c); /* keeps the connection */
    else if (!(c = curl_easy_init()))
        abort();
    return c;
}

void curl_pool_give(struct curl_pool *p, CURL *c)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&p->lock);
    if (p->n == p->cap) {
        p->cap = p->cap ? p->cap * 2 : 8;
        p->idle = mem_realloc(p->idle, p->cap * sizeof *p->idle);
    }
    p->idle[p->n++] = c;
}
