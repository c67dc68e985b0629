#include "common/pool.h"
#include "common/cond.h"
#include "common/mem.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

struct job {
    void (*fn)(void *);
    void *arg;
    struct job *next;
};

struct pool {
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t work, idle;
    struct job *first, **last;
    size_t waiting, running;
    bool ending;
    unsigned threads;
    char name[12];
    pthread_t *thread;
};

static void *worker(void *arg)
{
    struct pool *p = arg;
    pthread_setname_np(pthread_self(), p->name);
    pthread_mutex_lock(&p->lock);
    for (;;) {
        while (!p->first && !p->ending)
            pthread_cond_wait(&p->work, &p->lock);
        struct job *j = p->first;
        if (!j)
            break;
        p->first = j->next;
        if (!p->first)
            p->last = &p->first;
        p->waiting--;
        p->running++;
        pthread_mutex_unlock(&p->lock);
        j->fn(j->arg);
        free(j);
        pthread_mutex_lock(&p->lock);
        p->running--;
        if (p->running == 0 && !p->first)
            pthread_cond_broadcast(&p->idle);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

struct pool *pool_new(unsigned threads, const char *name)
{
    struct pool *p = mem_alloc(sizeof *p);
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->work, NULL);
    cond_init(&p->idle);
    p->last = &p->first;
    p->threads = threads;
    snprintf(p->name, sizeof p->name, "%s", name);
    p->thread = mem_calloc(threads, sizeof *p->thread);
    for (unsigned i = 0; i < threads; i++)
        if (pthread_create(&p->thread[i], NULL, worker, p) != 0)
            abort();
    return p;
}

void pool_run(struct pool *p, void (*fn)(void *), void *arg)
{
    struct job *j = mem_alloc(sizeof *j);
    *j = (struct job){fn, arg, NULL};
    pthread_mutex_lock(&p->lock);
    *p->last = j;
    p->last = &j->next;
    p->waiting++;
    pthread_cond_signal(&p->work);
    pthread_mutex_unlock(&p->lock);
}

size_t pool_waiting(struct pool *p)
{
    pthread_mutex_lock(&p->lock);
    size_t n = p->waiting;
    pthread_mutex_unlock(&p->lock);
    return n;
}

void pool_drain(struct pool *p)
{
    pthread_mutex_lock(&p->lock);
    while (p->first || p->running)
        pthread_cond_wait(&p->idle, &p->lock);
    pthread_mutex_unlock(&p->lock);
}

bool pool_drain_for(struct pool *p, unsigned ms)
{
    struct timespec until = cond_deadline(ms);
    pthread_mutex_lock(&p->lock);
    int err = 0;
    while ((p->first || p->running) && !err)
        err = pthread_cond_timedwait(&p->idle, &p->lock, &until);
    bool idle = !p->first && !p->running;
    pthread_mutex_unlock(&p->lock);
    return idle;
}

void pool_free(struct pool *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    p->ending = true;
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
    for (unsigned i = 0; i < p->threads; i++)
        pthread_join(p->thread[i], NULL);
    pthread_cond_destroy(&p->work);
    pthread_cond_destroy(&p->idle);
    pthread_mutex_destroy(&p->lock);
    free(p->thread);
    free(p);
}
